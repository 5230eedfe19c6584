"""edgetl run --foxglove: where it says to connect, and what is refused early."""

from __future__ import annotations

import argparse
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from foxglove_support import Client

from edgetl.commands import run as run_command
from edgetl_runtime.errors import InputError, MissingPackage
from edgetl_runtime.foxglove import LAYOUT, FoxgloveRounds, FoxgloveSink


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.run(parser.parse_args([str(a) for a in arguments]))


def test_run_says_where_it_is_and_shows_the_run(
    shared_bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []
    ready, subscribed = threading.Event(), threading.Event()
    inner = FoxgloveSink.announce

    def announce(sink: FoxgloveSink) -> None:
        inner(sink)
        ports.append(sink.port)
        ready.set()
        assert subscribed.wait(60), "the run is over in half a second"

    monkeypatch.setattr(FoxgloveSink, "announce", announce)
    found: list[Any] = []

    def look() -> None:
        assert ready.wait(60)
        with Client(ports[0]) as client:
            client.learn(7)
            client.subscribe("/edgetl/result", "/camera/image")
            subscribed.set()
            found.append(client.collect({"/edgetl/result", "/camera/image"}))

    looker = threading.Thread(target=look)
    looker.start()
    arguments = ("--realtime", "--foxglove", 0, "--threshold", 0)
    document = call(shared_bundle, clip, *arguments)
    looker.join()
    assert document["processed"] and found[0]["/edgetl/result"].message["detections"]
    told = capsys.readouterr().err
    assert re.search(rf"Foxglove: open the connection ws://127\.0\.0\.1:{ports[0]}, import the layout ", told)
    assert str(LAYOUT) in told and LAYOUT.exists()


def test_a_rig_is_shown_by_camera_and_bundle(
    shared_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []
    ready, subscribed = threading.Event(), threading.Event()
    inner = FoxgloveRounds.announce

    def announce(sink: FoxgloveRounds) -> None:
        inner(sink)
        ports.append(sink.port)
        ready.set()
        assert subscribed.wait(60), "the run is over in half a second"

    monkeypatch.setattr(FoxgloveRounds, "announce", announce)
    found: list[Any] = []
    topics = {"/main/tiny/edgetl/result", "/rear/other/edgetl/result", "/rear/camera/image"}

    def look() -> None:
        assert ready.wait(60)
        with Client(ports[0]) as client:
            client.learn(26)
            client.subscribe(*topics)
            subscribed.set()
            found.append(client.collect(topics))

    looker = threading.Thread(target=look)
    looker.start()
    layout = tmp_path / "panels.json"
    document = call(
        *(shared_bundle, clip, "--also-camera", f"rear={clip}", "--also-bundle", f"other={shared_bundle}"),
        *("--realtime", "--foxglove", 0, "--foxglove-layout", layout),
    )
    looker.join()
    assert document["processed"] and found[0]["/rear/other/edgetl/result"].message["camera_id"] == "rear"
    told = capsys.readouterr().err
    assert f"ws://127.0.0.1:{ports[0]}" in told and f"import the layout {layout}" in told
    assert "/rear/other/edgetl/result.age_ms" in layout.read_text()


@pytest.mark.parametrize("rig", [False, True])
def test_a_run_that_is_refused_leaves_the_layout(shared_bundle: Path, clip: Path, tmp_path: Path, rig: bool) -> None:
    layout = tmp_path / "panels.json"
    layout.write_text("kept")
    late = ("--also-camera", f"b={clip}", "--calibration", "b=gone.yaml") if rig else ("--calibration", "gone.yaml")
    with pytest.raises(InputError, match=r"gone\.yaml"):
        call(shared_bundle, clip, "--foxglove", 0, "--foxglove-layout", layout, "--force", *late)
    assert layout.read_text() == "kept" and list(tmp_path.iterdir()) == [layout]


def test_a_layout_is_not_replaced_unasked(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    layout = tmp_path / "panels.json"
    call(shared_bundle, clip, "--foxglove", 0, "--foxglove-layout", layout, "--max-frames", 1)
    assert layout.read_bytes() == LAYOUT.read_bytes()
    with pytest.raises(InputError, match=r"panels\.json"):
        call(shared_bundle, clip, "--foxglove", 0, "--foxglove-layout", layout)


def test_the_port_may_be_left_out() -> None:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    assert parser.parse_args(["b", "s", "--foxglove"]).foxglove == 8765
    assert parser.parse_args(["b", "s"]).foxglove is None


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--foxglove", 0, "--bind", "0.0.0.0"), r"asks nobody for a token, so it doesn't listen on 0\.0\.0\.0"),
        (("--foxglove", 0, "--bind", "127.0.0.1"), "--bind and --token are of --web"),
        (("--foxglove", 70000), "from 0 to 65535"),
        (("--foxglove-layout", "l.json"), "--foxglove-layout is of --foxglove"),
    ],
)
def test_run_refuses(shared_bundle: Path, clip: Path, tmp_path: Path, flags: tuple[object, ...], text: str) -> None:
    lines = tmp_path / "o.jsonl"
    lines.write_text("kept")
    with pytest.raises(InputError, match=text):
        call(shared_bundle, clip, *flags, "--jsonl", lines, "--force")
    assert lines.read_text() == "kept"


def test_without_the_sdk_the_extra_is_named(shared_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foxglove", None)
    with pytest.raises(MissingPackage, match=r"edgetl\[vehicle\]"):
        call(shared_bundle, clip, "--foxglove", 0)
