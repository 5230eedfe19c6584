"""edgetl run on live sources: streams that are cut, shared memory, rendered driving, and options refused early."""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rtsp_server import RtspServer
from runtime_support import needs_codes
from v4l2_support import FakeDriver, FakeKernel, jpeg

from edgetl.commands import run as run_command
from edgetl_runtime.cameras import KINDS, _v4l2_kernel
from edgetl_runtime.cameras._shared_layout import path_of
from edgetl_runtime.cameras.shared_frames import SharedFrames
from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.prove import draw_code


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.run(parser.parse_args([str(a) for a in arguments]))


def test_a_stream_that_is_cut_goes_on_and_shows_no_password(
    shared_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "o.jsonl"
    with RtspServer(login="driver:hush-hush") as server:
        stop = threading.Event()

        def cut() -> None:
            while not stop.wait(0.7):
                server.cut()

        cutter = threading.Thread(target=cut)
        cutter.start()
        document = call(shared_bundle, server.url, "--max-frames", 40, "--jsonl", lines)
        stop.set()
        cutter.join()
    assert document["processed"] == 40
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    ids = [row["frame_id"] for row in rows if "event" not in row]
    assert len(ids) == 40 and ids == sorted(set(ids))
    events = [row["event"] for row in rows if "event" in row]
    assert "disconnected" in {event["condition"] for event in events}
    assert any("reconnected" in note for note in document["notes"])
    everything = json.dumps(document) + lines.read_text() + str(capsys.readouterr())
    assert "hush" not in everything and "127.0.0.1" in everything


def test_a_stream_that_stays_away_ends_the_run_with_one_line(shared_bundle: Path) -> None:
    with RtspServer() as server:
        threading.Timer(1.0, server.stop).start()
        with pytest.raises(CameraError, match=r"has been gone for \d s and \d+ tries"):
            call(shared_bundle, server.url, "--give-up-s", 1)


def test_frames_of_another_process_are_run(shared_bundle: Path, tmp_path: Path) -> None:
    name = f"test-{tmp_path.name}"[:60]
    path_of(name).unlink(missing_ok=True)
    stop = threading.Event()
    with SharedFrames(name, (64, 96)) as writer:

        def produce() -> None:
            number = 0
            while not stop.wait(0.01):
                writer.write(np.full((64, 96, 3), number % 250, np.uint8), frame_id=number)
                number += 1

        thread = threading.Thread(target=produce)
        thread.start()
        document = call(shared_bundle, f"shm:{name}", "--max-frames", 10)
        stop.set()
        thread.join()
    assert document["processed"] == 10 and document["age_ms"]["p50_ms"] < 1000


@needs_codes
def test_the_age_of_results_is_proven_by_what_the_camera_sees(shared_bundle: Path, tmp_path: Path) -> None:
    """Pictures that are 60 ms old when they are handed over: no stamp can know, the proof does."""
    name = f"prove-{tmp_path.name}"[:60]
    path_of(name).unlink(missing_ok=True)
    stop = threading.Event()
    with SharedFrames(name, (240, 320)) as writer:

        def produce() -> None:
            number = 0
            while not stop.wait(0.03):
                image = np.full((240, 320, 3), 90, np.uint8)
                image[20:180, 30:190] = draw_code(time.monotonic_ns() - 60_000_000, 160)[..., None]
                writer.write(image, frame_id=number)
                number += 1

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            document = call(shared_bundle, f"shm:{name}", "--max-frames", 40, "--prove", "source")
        finally:
            stop.set()
            thread.join()
    proof = document["proof"]
    assert proof["read"] >= 3 and proof["held"] <= 1, "shared memory keeps the newest only"
    assert 60 <= proof["before_stamp"]["p50_ms"] < 500
    assert proof["to_result"]["p50_ms"] > proof["before_stamp"]["p50_ms"]
    assert any("proof of freshness: picture to stamp" in note for note in document["notes"])


def test_faults_a_ladder_and_their_record(shared_bundle: Path, clip: Path, tmp_path: Path, capsys: Any) -> None:
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text("deadline_ms: 0.001\ndown_after_s: 0.05\nsteps: [{skip: 2}, {engine: openvino}]\n")
    document = call(
        shared_bundle, clip, "--realtime", "--inject", "nan@2,duplicate@6", "--ladder", ladder, "--jsonl",
        tmp_path / "o.jsonl",
    )  # fmt: skip
    counts = document["health"]["counts"]
    assert counts["not_finite"] == 1 and counts["ladder"] >= 1
    assert document["captured"] == document["processed"] + document["dropped"] + document["failed"]
    error = capsys.readouterr().err
    assert "fault     not_finite: the network's 'scores' are not finite" in error
    assert "step 1 of 2, one frame in 2: results are later than 0.001 ms" in error
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert {row["event"]["condition"] for row in rows if "event" in row} >= {"not_finite", "ladder"}


def test_rendered_driving_is_run(shared_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = call(
        shared_bundle, "roadworld:night:2", "--max-frames", 3, "--camera-size", "128x72", "--camera-fps", 20
    )
    assert document["processed"] == 3
    assert "roadworld:night:2 128x72 at 20/s" in capsys.readouterr().err


def test_a_v4l2_camera_is_run_and_what_it_lost_is_counted(
    shared_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeDriver({"MJPG": {(72, 128): (20.0,)}})
    sequence = 0

    def come() -> None:
        nonlocal sequence
        time.sleep(0.02)
        sequence += 5
        fake.deliver(jpeg(np.full((72, 128, 3), sequence, np.uint8)), sequence=sequence)

    fake.on_idle = come
    monkeypatch.setattr(_v4l2_kernel, "LinuxKernel", lambda: FakeKernel(video7=fake))
    document = call(shared_bundle, "/dev/video7", "--max-frames", 5, "--camera-format", "MJPG", "--camera-fps", 10)
    assert document["processed"] == 5 and document["lost"] >= 4 * 4
    assert any("end of the frame" in note for note in document["notes"])
    assert any("rate 10 asked, 20 found" in note for note in document["notes"])
    assert "/dev/video7 128x72 at 20/s" in capsys.readouterr().err
    assert fake.open_files == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["rtsp://127.0.0.1:1/x", "--give-up-s", "-1"], InputError, "--give-up-s must be 0 or more"),
        (["rtsp://127.0.0.1:1/x", "--give-up-s", "nan"], InputError, "--give-up-s must be 0 or more"),
        (["rtsp://127.0.0.1:1/x", "--camera-size", "640x480"], CameraError, "V4L2 camera only"),
        (["rtsp://127.0.0.1:1/x", "--camera-format", "MJPG"], CameraError, "V4L2 camera only"),
        (["roadworld:day", "--camera-format", "MJPG"], InputError, "V4L2 camera only"),
        (["roadworld:day", "--inject", "crash@5"], InputError, "kinds: stall"),
        (["roadworld:day", "--stall-s", "0"], InputError, "--stall-s must be 0.01 or more"),
        (["roadworld:day", "--ladder", "/nowhere.yaml"], InputError, "can't read the ladder"),
        (["roadworld:day", "--collect", "/nowhere"], InputError, "this bundle has none"),
        (["roadworld:dusk"], InputError, "choose one of day"),
        (["roadworld:day:x"], InputError, "write it like"),
    ],
)
def test_what_a_source_cannot_do_is_refused_before_anything_is_loaded(
    shared_bundle: Path, options: list[str], error: type[Exception], message: str
) -> None:
    start = time.monotonic()
    with pytest.raises(error, match=message):
        call(shared_bundle, *options)
    assert time.monotonic() - start < 15.0


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{cameras: [front]}", "no camera 'front'; leave it out: it is of several cameras"),
        ("{engine: openvino, bundle: road}", "no bundle 'road'; leave it out: there is one bundle only"),
    ],
)
def test_a_ladder_of_one_camera_names_no_others(shared_bundle: Path, tmp_path: Path, step: str, message: str) -> None:
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text(f"deadline_ms: 50\nsteps: [{step}]\n")
    with pytest.raises(InputError) as caught:
        call(shared_bundle, "roadworld:day", "--ladder", ladder)
    assert message in str(caught.value)


def test_help_and_errors_name_every_kind() -> None:
    for kind in ("/dev/video0", "rtsp://", "https://", "shm:NAME", "appsink", "video file", "folder of images"):
        assert kind in KINDS and kind in run_command.SOURCES
    assert "roadworld:DOMAIN" in run_command.SOURCES
