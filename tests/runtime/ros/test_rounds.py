"""Rigs as one node, heard by another process that knows rosbags and Zenoh only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig_support import RateCamera, rig_of
from ros_support import PATIENCE_S, Listener, boxes, options, result_of, router
from runtime_support import DETECT

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import InputError
from edgetl_runtime.rig.rig import Rig
from edgetl_runtime.rig.round import Round
from edgetl_runtime.ros import Intrinsics, Ros2Rounds

CAMERAS = ("front-left", "rear")
LANES = ("front_left/road", "front_left/all_v1_2", "rear/road", "rear/all_v1_2")
KNOWN = Intrinsics((90, 160), (100.0, 0.0, 79.5, 0.0, 100.0, 44.5, 0.0, 0.0, 1.0))


@contextmanager
def heard(
    bundles: dict[str, Path], cameras: dict[str, Any], **more: Any
) -> Iterator[tuple[Rig, Ros2Rounds, Listener, Callable[..., list[Round]]]]:
    """A rig, its sink, who listens, and what drives the rig until something came."""
    heads = {name: open_bundle(path).manifest.heads for name, path in bundles.items()}
    with router() as address, Listener(address) as listener, rig_of(bundles, cameras) as rig:
        sink = Ros2Rounds(list(cameras), heads, prefix="car", options=options(address), **more)

        def drive(*wanted: Callable[[dict[str, Any]], bool]) -> list[Round]:
            rounds, end_s = [], time.monotonic() + PATIENCE_S
            for made in rig:
                sink.write(made)
                rounds.append(made)
                if all(listener.found(want) for want in wanted):
                    return rounds
                assert time.monotonic() < end_s
            return rounds

        try:
            sink.begin(rig)
            yield rig, sink, listener, drive
        finally:
            sink.close()
            sink.close()


def of(topic: str) -> Callable[[dict[str, Any]], bool]:
    """Messages of this topic below PREFIX."""
    return lambda line: line.get("key", "").startswith(f"0/car/{topic}/")


def stamp_ns(line: dict[str, Any]) -> int:
    stamp = line["message"]["header"]["stamp"]
    return int(stamp["sec"] * 10**9 + stamp["nanosec"])


def test_one_node_has_all_lanes_and_pictures_come_once_for_each_camera(shared_bundle: Path, shared_many: Path) -> None:
    bundles = {"road": shared_bundle, "all v1.2": shared_many}
    cameras = {name: RateCamera(20.0, phase_s=0.02 * i) for i, name in enumerate(CAMERAS)}
    parts = [*(f"{lane}/detections" for lane in LANES)]
    parts += [f"{name}/{what}" for name in ("front_left", "rear") for what in ("image/compressed", "camera_info")]
    with heard(bundles, cameras, pictures_per_s=30.0, intrinsics={"rear": KNOWN}) as (_, sink, listener, drive):
        assert sink.topics == [f"/car/{lane}/detections" for lane in LANES]
        rounds = drive(*map(of, parts))
        images = {name: listener.found(of(f"{name}/image/compressed")) for name in ("front_left", "rear")}
        infos = {name: listener.found(of(f"{name}/camera_info"))[0]["message"] for name in ("front_left", "rear")}
        boxes = {lane: listener.found(of(f"{lane}/detections")) for lane in LANES}
        tokens = [line["token"].split("/") for line in listener.found(lambda line: line.get("alive") is True)]
    assert all(line["same"] for lines in (*images.values(), *boxes.values()) for line in lines)
    topics = {parts[9].replace("%", "/") for parts in tokens if parts[5] == "MP"}
    assert topics == {"/diagnostics", *(f"/car/{p}" for p in parts), *(f"/car/{lane}/places" for lane in LANES)}
    assert [parts[8] for parts in tokens if parts[5] == "NN"] == ["edgetl"] and len({p[2] for p in tokens}) == 1
    assert len({p[4] for p in tokens}) == len(tokens) and {p[3] for p in tokens} == {"0"}
    offset_ns = time.time_ns() - time.monotonic_ns()
    for name, safe in (("front-left", "front_left"), ("rear", "rear")):
        captured = [made.frames[name].t_capture_ns + offset_ns for made in rounds if name in made.frames]
        for lines in (boxes[f"{safe}/road"], boxes[f"{safe}/all_v1_2"], images[safe]):
            assert {line["message"]["header"]["frame_id"] for line in lines} == {f"{safe}_optical_frame"}
            stamps = [stamp_ns(line) for line in lines]
            assert stamps == sorted(set(stamps)), "a picture comes once, and so does each result"
            assert all(min(abs(stamp - t) for t in captured) < 5_000_000 for stamp in stamps)
        assert {stamp_ns(line) for line in images[safe]} <= {stamp_ns(line) for line in boxes[f"{safe}/road"]} | {
            stamp_ns(line) for line in boxes[f"{safe}/all_v1_2"]
        }
    assert [float.fromhex(v) for v in infos["rear"]["k"]] == list(KNOWN.k)
    assert {float.fromhex(v) for v in infos["front_left"]["k"]} == {0.0}


def test_diagnostics_have_the_rig_and_each_lane_whether_results_come_or_not(shared_bundle: Path) -> None:
    cameras = {"a": RateCamera(20.0), "b": RateCamera(20.0, stuck_at=0, camera_id="/dev/video7")}
    with heard({"road": shared_bundle}, cameras) as (rig, _, listener, drive):
        before = listener.messages("diagnostics")[0]["message"]["status"]
        drive(lambda line: "b/road" in str(line.get("message")) and "a/road" not in told(line)[0]["message"])
        rig.networks["road"].lanes["b"].health.set("engine", "it broke")
        broken = listener.wait(lambda line: "it broke" in str(line.get("message")))[0]
    names = ["edgetl: all cameras", "edgetl: a/road", "edgetl: b/road"]
    assert [status["name"] for status in before] == [status["name"] for status in told(broken)] == names
    assert {status["level"] for status in before} <= {2, 3}, "stale; an error where the machine took its time"
    assert any(text in before[1]["message"] for text in ("no result yet", "the loop has not turned"))
    whole, fine, silent = told(broken)
    assert broken["same"] and silent["level"] == 2 and silent["hardware_id"] == "/dev/video7"
    assert "no result yet" in silent["message"] and "engine: it broke" in silent["message"]
    assert whole["level"] == 2 and "b/road" in whole["message"]
    values = {pair["key"]: pair["value"] for pair in whole["values"]}
    assert int(values["rounds"]) > 0 and (values["cameras"], values["bundles"]) == ("2", "1")
    assert float(values["total p99 [ms], last 10 s"]) > 0
    of_lane = {pair["key"]: pair["value"] for pair in fine["values"]}
    assert int(of_lane["processed"]) > 0 and of_lane["camera"] == "a" and of_lane["bundle"] == "road"
    assert float(of_lane["infer p50 [ms], last 10 s"]) > 0, "the lane's own ledger"


def test_a_camera_that_the_ladder_leaves_out_makes_no_rig_stale(
    shared_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = {"a": RateCamera(20.0), "b": RateCamera(20.0, stuck_at=0)}
    with heard({"road": shared_bundle}, cameras) as (rig, _, listener, drive):
        drive(lambda line: told(line)[0]["message"] == "not ok: b/road")
        monkeypatch.setattr(rig, "keeps", lambda camera: camera == "a")
        rounds = drive(lambda line: told(line)[0]["message"] == "ok")
        assert rounds and listener.messages("diagnostics")


def told(line: dict[str, Any]) -> list[dict[str, Any]]:
    """The statuses in a line of diagnostics; a good one where it is another."""
    if "/diagnostics/" not in line.get("key", ""):
        return [{"message": "a/road"}]
    status: list[dict[str, Any]] = line["message"]["status"]
    return status


def test_a_frame_that_no_bundle_made_anything_of_is_shown(shared_bundle: Path) -> None:
    with heard({"road": shared_bundle}, {"a": RateCamera(20.0)}, pictures_per_s=30.0) as (rig, sink, listener, _):
        made = next(iter(rig))
        failed = Round(9, made.frames, {"a": {}}, {"a": {"road": "it broke"}}, {}, 0.0)
        end_s = time.monotonic() + PATIENCE_S
        while not listener.found(of("a/image/compressed")):
            assert time.monotonic() < end_s
            sink.write(failed)
            time.sleep(0.05)
        assert not listener.found(of("a/detections"))


def test_a_subscriber_that_hangs_holds_the_rig_up_for_nobody(shared_bundle: Path) -> None:
    cameras = {name: RateCamera(20.0, size_hw=(720, 1280)) for name in CAMERAS}
    many = result_of(boxes(140))[0]
    with heard({"road": shared_bundle}, cameras, pictures_per_s=30.0) as (_, sink, listener, drive):
        frames = drive(of("rear/image/compressed"))[-1].frames
        results = {name: {"road": many} for name in CAMERAS}
        made = Round(9, {name: next(iter(frames.values())) for name in CAMERAS}, results, {}, {}, 0.0)
        os.kill(listener.process.pid, signal.SIGSTOP)
        slowest_s = 0.0
        try:
            for _ in range(350):  # 40 MB of boxes, more than the sockets on the way take
                begun_s = time.monotonic()
                sink.write(made)
                slowest_s = max(slowest_s, time.monotonic() - begun_s)
        finally:
            listener.process.kill()  # what it was in the middle of is nobody's
    assert slowest_s < 4  # one that waits for the other side does so for 5 s, then Zenoh closes the link


def test_a_session_that_broke_does_not_end_the_rig(shared_bundle: Path) -> None:
    with heard({"road": shared_bundle}, {"a": RateCamera(20.0)}) as (rig, sink, _, _):
        sink._node.close()
        sink.write(next(iter(rig)))
        assert sink.notes == ["ros2: 1 results could not be published"]


@pytest.mark.parametrize(
    ("cameras", "bundles", "prefix", "why"),
    [
        (("a-b", "a_b"), ("x",), "car", "the cameras 'a-b' and 'a_b' are both a_b in topics"),
        (("a",), ("x.1", "x 1"), "car", "the bundles 'x.1' and 'x 1' are both x_1 in topics"),
        (("a",), ("x",), "a b", "a ROS topic is like"),
    ],
)
def test_names_that_collide_are_refused(
    cameras: tuple[str, ...], bundles: tuple[str, ...], prefix: str, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        Ros2Rounds(cameras, dict.fromkeys(bundles, (DETECT,)), prefix=prefix)
