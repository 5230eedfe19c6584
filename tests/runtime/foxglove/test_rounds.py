"""Rigs over a real connection: topics by camera and bundle, pictures once, a layout that fits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from foxglove_support import WAIT_S, Client
from rig_support import RateCamera, rig_of
from runtime_support import CLASSIFY, DETECT, HEADS, until
from test_layout import texts

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import InputError
from edgetl_runtime.foxglove import LAYOUT, FoxgloveRounds, rig_layout
from edgetl_runtime.health import Event
from edgetl_runtime.rig.rig import Rig
from edgetl_runtime.rig.round import RigEvent, Round

KINDS = {"camera/boxes", *(f"edgetl/{name}" for name in ("result", "event", "ledger", "log", "objects"))}
CAMERAS = ("front-left", "rear")
LANES = ("front_left/road", "front_left/all_v1_2", "rear/road", "rear/all_v1_2")


@contextmanager
def shown(
    bundles: dict[str, Path], cameras: dict[str, Any]
) -> Iterator[tuple[Rig, FoxgloveRounds, Client, Iterator[Round]]]:
    """A rig, its sink and one who is connected; whoever iterates drives the rig."""
    heads = {name: open_bundle(path).manifest.heads for name, path in bundles.items()}
    with rig_of(bundles, cameras) as rig:
        sink = FoxgloveRounds(list(cameras), heads, port=0)

        def drive() -> Iterator[Round]:
            end_s = time.monotonic() + WAIT_S
            for made in rig:
                sink.write(made)
                yield made
                assert time.monotonic() < end_s

        try:
            with Client(sink.port) as client:
                sink.begin(rig)
                yield rig, sink, client, drive()
        finally:
            sink.close()
            sink.close()


def collect(client: Client, wanted: set[str], driven: Iterator[Round]) -> tuple[dict[str, Any], list[Round]]:
    """The first message of each topic, and the rounds that it took."""
    found: dict[str, Any] = {}
    rounds = []
    for made in driven:
        rounds.append(made)
        while True:
            try:
                arrived = client.receive(0.001)
            except TimeoutError:
                break
            found.setdefault(arrived.topic, arrived)
        if wanted <= set(found):
            break
    return found, rounds


def test_each_lane_has_its_topics_and_each_camera_one_picture(shared_bundle: Path, shared_many: Path) -> None:
    bundles = {"road": shared_bundle, "all v1.2": shared_many}
    cameras = {name: RateCamera(20.0, phase_s=0.02 * i) for i, name in enumerate(CAMERAS)}
    topics = {f"/{lane}/{kind}" for lane in LANES for kind in KINDS}
    pictures = {"/front_left/camera/image", "/rear/camera/image"}
    with shown(bundles, cameras) as (_, sink, client, driven):
        client.learn(len(topics | pictures))
        assert set(client.channels) == topics | pictures
        told = {f"/{lane}/edgetl/{kind}" for lane in LANES for kind in ("result", "ledger")} | pictures
        told |= {f"/{lane}/camera/boxes" for lane in LANES}
        client.subscribe(*sorted(told))
        found, rounds = collect(client, told, driven)
        ledger = client.collect({"/rear/road/edgetl/ledger"})["/rear/road/edgetl/ledger"].message
        assert sink.notes == []
    assert told <= set(found)
    for name, safe in (("front-left", "front_left"), ("rear", "rear")):
        captured = {made.frames[name].t_capture_ns for made in rounds if name in made.frames}
        for bundle in ("road", "all_v1_2"):
            row = found[f"/{safe}/{bundle}/edgetl/result"].message
            assert row["camera_id"] == name and row["t_capture_ns"] in captured
            assert ("masks" in row) == (bundle == "all_v1_2")
        drawn = [found[f"/{safe}/{topic}"] for topic in ("camera/image", "road/camera/boxes", "all_v1_2/camera/boxes")]
        offsets = [{one.message.timestamp.ToNanoseconds() - t for t in captured} for one in drawn]
        assert offsets[0] & offsets[1] & offsets[2], "a picture and its boxes have one stamp"
        assert found[f"/{safe}/camera/image"].message.frame_id == f"{name}_optical_frame"
    assert ledger["processed"] > 0 and ledger["health"] == "ok" and ledger["stages"]["infer"]["count"] > 0


def test_with_one_bundle_its_name_is_no_part_of_topics() -> None:
    sink = FoxgloveRounds(["a", "b"], {"road": (CLASSIFY,)}, port=0)
    with Client(sink.port) as client:
        client.learn(10)
        assert {topic for topic in client.channels if "image" in topic} == {"/a/camera/image", "/b/camera/image"}
        assert "/a/edgetl/result" in client.channels and not any("road" in topic for topic in client.channels)
    sink.close()


def test_events_are_told_on_the_lanes_that_they_are_of(shared_bundle: Path) -> None:
    topics = ("/a/edgetl/log", "/b/edgetl/log")
    event = Event(time.monotonic_ns(), "a", "dark", began=True, state="degraded", detail="covered")
    whole = Event(time.monotonic_ns(), "", "ladder", began=True, state="degraded", detail="step 1")
    with shown({"road": shared_bundle}, {"a": RateCamera(20.0), "b": RateCamera(20.0)}) as (_, sink, client, _):
        client.learn(14)
        client.subscribe(*topics)
        until(lambda: all(lane.channels["/edgetl/log"].has_sinks() for lane in sink._lanes), WAIT_S)
        sink.event(RigEvent("a", None, event))
        sink.event(RigEvent(None, None, whole))
        found = [client.receive() for _ in range(3)]
    told = sorted((arrived.topic, arrived.message.message) for arrived in found)
    assert told == [(topics[0], "dark: covered"), (topics[0], "ladder: step 1"), (topics[1], "ladder: step 1")]


def test_a_frame_that_no_bundle_made_anything_of_is_shown(shared_bundle: Path) -> None:
    with shown({"road": shared_bundle}, {"a": RateCamera(20.0)}) as (rig, sink, client, _):
        client.learn(7)
        client.subscribe("/a/camera/image", "/a/edgetl/result")
        until(sink._pictures["a"]._channel.has_sinks, WAIT_S)
        made = next(iter(rig))
        sink.write(Round(9, made.frames, {"a": {}}, {"a": {"road": "it broke"}}, {}, 0.0))
        assert client.receive().topic == "/a/camera/image"


def test_a_port_that_is_taken_and_names_that_collide_are_refused() -> None:
    sink = FoxgloveRounds(["a"], {"road": HEADS}, port=0)
    with pytest.raises(InputError, match="can't listen on port"):
        FoxgloveRounds(["a"], {"road": HEADS}, port=sink.port)
    sink.close()
    with pytest.raises(InputError, match="both a_b in topics"):
        FoxgloveRounds(["a-b", "a_b"], {"road": HEADS}, port=0)
    with pytest.raises(InputError, match="asks nobody for a token"):
        FoxgloveRounds(["a"], {"road": HEADS}, port=0, bind="0.0.0.0")


@pytest.mark.parametrize(
    ("cameras", "bundles", "tabs"),
    [
        (("a",), ("road", "signs"), ["all", "a road", "a signs"]),
        (("front-left", "rear", "side"), ("road",), ["all", "front-left", "rear", "side"]),
        (("a", "b"), ("x", "y"), ["all", "a x", "a y", "b x", "b y"]),
    ],
)
def test_a_layout_names_topics_that_there_are(
    cameras: tuple[str, ...], bundles: tuple[str, ...], tabs: list[str]
) -> None:
    document = json.loads(rig_layout(cameras, bundles))
    panels = document["configById"]
    top = panels[document["layout"]]
    assert [tab["title"] for tab in top["tabs"]] == tabs and top["activeTabIdx"] == 0
    standing = [text for tab in top["tabs"] for text in texts({"layout": tab["layout"]}) if "!" in text]
    assert sorted([*standing, document["layout"]]) == sorted(panels), "every panel stands somewhere, once"
    named = {text.partition(".")[0] for text in texts(panels) if text.startswith("/")}
    sink = FoxgloveRounds(cameras, dict.fromkeys(bundles, (DETECT,)), port=0)
    with Client(sink.port) as client:
        client.learn(len(cameras) + 6 * len(cameras) * len(bundles))
        assert named <= set(client.channels) and named > {t for t in client.channels if t.endswith("/result")}
    sink.close()
    pictures = [panels[text] for text in texts({"layout": top["tabs"][0]["layout"]}) if "!" in text]
    assert [panel["foxglovePanelTitle"] for panel in pictures] == list(cameras)
    assert all(len(panel["imageMode"]["annotations"]) == len(bundles) for panel in pictures)


def test_the_layout_of_one_camera_is_left_as_it_is() -> None:
    before = LAYOUT.read_bytes()
    rig_layout(["a"], ["x", "y"])
    assert LAYOUT.read_bytes() == before
