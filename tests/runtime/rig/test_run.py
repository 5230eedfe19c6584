"""edgetl run with several cameras and bundles: documents, lines, and what is refused before any work."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import threading
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rig_support import adds_up
from runtime_support import HEADS, write_test_bundle

from edgetl.commands import rig as rig_command
from edgetl.commands import run as run_command
from edgetl_runtime.cameras.shared_frames import SharedFrames
from edgetl_runtime.errors import CameraError, EdgetlError, InputError
from edgetl_runtime.update.pointer import POINTER_NAME


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.run(parser.parse_args([str(a) for a in arguments]))


def rows_of(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [r for r in rows if "event" not in r], [r["event"] for r in rows if "event" in r]


def test_two_films_and_two_bundles(
    shared_bundle: Path, shared_many: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.jsonl"
    document = call(
        shared_bundle, clip, "--also-camera", f"right={clip}", "--also-bundle", f"many={shared_many}", "--jsonl", out,
        "--camera-name", "left",
    )  # fmt: skip
    json.dumps(document)
    assert (document["captured"], document["processed"], document["dropped"], document["failed"]) == (24, 24, 0, 0)
    assert {"stages", "age_ms", "rss_mb", "states", "health", "golden", "variant", "heads", "signature"} <= set(
        document
    )
    assert set(document["cameras"]) == {"left", "right"} and set(document["bundles"]) == {"tiny", "many"}
    assert adds_up(document) and document["rounds"] >= 12 and document["skew_ms"]["count"] >= 1
    assert document["golden"]["frames"] == 2 and document["bundles"]["many"]["golden"]["frames"] == 1
    assert set(document["heads"]) == {"tiny/detect", "many/detect", "many/ground", "many/light"}
    rows, _ = rows_of(out)
    assert len(rows) == 48
    for camera in ("left", "right"):
        for bundle in ("tiny", "many"):
            own = [r for r in rows if (r["camera_id"], r["bundle"]) == (camera, bundle)]
            assert [r["frame_id"] for r in own] == list(range(12))
            assert [r["round"] for r in own] == sorted({r["round"] for r in own})
            assert all(("masks" in r) == (bundle == "many") for r in own)
    for number in {r["round"] for r in rows}:
        of_round = [r for r in rows if r["round"] == number]
        stamps = [r["t_capture_ns"] for r in of_round]
        assert {r["skew_ms"] for r in of_round} == {round((max(stamps) - min(stamps)) / 1e6, 3)}
    told = capsys.readouterr()
    assert told.out == "" and "right" in told.err and "skew p99" in told.err and f"wrote {out}" in told.err


def test_injected_faults_are_the_first_cameras_and_bundles(
    shared_bundle: Path, shared_many: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.jsonl"
    document = call(
        shared_bundle, clip, "--realtime", "--also-camera", f"right={clip}", "--also-bundle", f"many={shared_many}",
        "--inject", "duplicate@4,nan@6", "--jsonl", out, "--skip-golden",
    )  # fmt: skip
    assert adds_up(document)
    assert document["cameras"]["main"]["health"]["counts"] == {"duplicate": 1}
    assert document["cameras"]["right"]["health"]["counts"] == {}
    assert document["bundles"]["tiny"]["failed"] == 1 and document["bundles"]["many"]["failed"] == 0
    assert document["health"]["counts"]["duplicate"] == 1 and document["golden"] == {"frames": 0}
    _, events = rows_of(out)
    assert {(e["camera_id"], e["bundle"]) for e in events if e["condition"] == "duplicate"} == {("main", None)}
    assert {e["bundle"] for e in events if e["condition"] == "not_finite"} == {"tiny"}
    err = capsys.readouterr().err
    assert "main: duplicate: frame 4 came again" in err and "NOT replayed" in err
    assert sum("golden samples were not" in n or "golden" in n for n in document["notes"]) == 2


def test_objects_keep_their_numbers_on_each_camera(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    only = write_test_bundle(tmp_path / "masks.bundle", heads=HEADS[1:])
    out = tmp_path / "o.jsonl"
    call(
        shared_bundle, clip, "--also-camera", f"b={clip}", "--also-bundle", f"masks={only}", "--track", "--jsonl", out,
        "--threshold", 0.3,
    )  # fmt: skip
    rows, _ = rows_of(out)
    seen: dict[str, list[list[int]]] = {"main": [], "b": []}
    for row in rows:
        if row["bundle"] == "tiny":
            seen[row["camera_id"]].append([d["track_id"] for d in row["detections"]])
    assert seen["main"] == seen["b"], "the same film gives the same numbers: cameras don't mix"
    assert len(seen["b"]) == 12 and any(set(a) & set(b) for a, b in itertools.pairwise(seen["b"]))
    assert not any("detections" in r for r in rows if r["bundle"] == "masks")
    with pytest.raises(InputError, match="nothing to track"):
        call(only, clip, "--also-camera", f"b={clip}", "--track")
    with pytest.raises(InputError, match="nothing to place"):
        call(only, clip, "--also-camera", f"b={clip}", "--calibration", "b=front.yaml")


def test_enough_frames_and_sigterm_end_it(shared_bundle: Path, tmp_path: Path) -> None:
    patient = ("--stall-s", 20)  # a busy machine is not what is tested
    options = ("--also-camera", "b=roadworld:night:2", "--camera-size", "128x72", "--camera-fps", 30, *patient)
    document = call(shared_bundle, "roadworld:day:1", *options, "--max-frames", 9)
    assert document["processed"] == 9 and adds_up(document) and not document["interrupted"]
    assert {r["health"]["state"] for r in document["cameras"].values()} == {"ok"}
    lines = tmp_path / "o.jsonl"

    def end() -> None:
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s and not (lines.exists() and lines.read_text().count("frame_id") > 4):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end).start()
    document = call(shared_bundle, "roadworld:day:1", *options, "--jsonl", lines)
    assert document["interrupted"] and document["processed"] > 4 and adds_up(document)


def test_a_camera_that_comes_later_is_taken_in(shared_bundle: Path, tmp_path: Path, capsys: Any) -> None:
    lines, names = tmp_path / "o.jsonl", [f"edgetl-{uuid.uuid4().hex}" for _ in range(2)]
    sources = [f"shm:{name}" for name in names]
    options = ("--also-camera", f"late={sources[1]}", "--stall-s", 20, "--jsonl", lines)

    def results_of(camera: str) -> int:
        text = lines.read_text() if lines.exists() else ""
        return sum("frame_id" in line and f'"{camera}"' in line for line in text.splitlines())

    def write(main: SharedFrames, stack: ExitStack) -> None:
        noise, number, both, until_s = np.random.default_rng(0), 0, [main], time.monotonic() + 60
        while time.monotonic() < until_s and results_of("late") < 3:
            if len(both) == 1 and results_of("main") > 2:
                both.append(stack.enter_context(SharedFrames(names[1], (72, 128))))
            for frames in both:
                frames.write(noise.integers(0, 255, (72, 128, 3), np.uint8), frame_id=number)
            number += 1
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    with ExitStack() as stack:
        main = stack.enter_context(SharedFrames(names[0], (72, 128)))
        with pytest.raises(CameraError, match=names[1]):
            call(shared_bundle, sources[0], *options)
        thread = threading.Thread(target=write, args=(main, stack))
        thread.start()
        document = call(shared_bundle, sources[0], *options, "--begin-without", "--force")
        thread.join()
    assert document["interrupted"] and adds_up(document)
    assert document["cameras"]["late"]["processed"] >= 3 <= document["cameras"]["main"]["processed"]
    told = capsys.readouterr().err
    assert f"late <- {sources[1]}, which is not there yet: " in told
    assert f"note: late: {sources[1]}: was not there at the start, came after " in told and "reconnected" not in told
    assert document["health"]["counts"]["absent"] == 1 and "disconnected" not in document["health"]["counts"]


def test_sigterm_while_it_starts_closes_what_is_open(
    shared_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told_to_stop(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(rig_command, "start_rig_recording", told_to_stop)
    film = tmp_path / "o.mp4"
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            call(shared_bundle, clip, "--also-camera", f"b={clip}", "--out", film, "--jsonl", tmp_path / "o.jsonl")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [p.name for p in tmp_path.iterdir()] == ["o.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prove"], "--prove can't be used"),
        (["--collect", "x"], "--collect needs the training domain's statistics, and this bundle has none"),
        (["--out", "x.gif"], r"must end in \.mp4 or be a folder that exists, found x\.gif"),
        (["--out", "none/x.mp4"], "the folder none does not exist"),
        (["--bind", "0.0.0.0"], "--bind and --token are of --web"),
        (["--web", "70000"], "a port is from 0 to 65535"),
        (["--jsonl", "/proc/o.jsonl"], r"can't write /proc/o\.jsonl: No such file"),
        (["--ladder", "none.yaml"], "can't read the ladder"),
        (["--also-camera", "right"], "--also-camera must be like left="),
        (["--also-camera", "=x"], "a name of --also-camera has letters"),
        (["--also-camera", "main=x"], "two cameras are called main"),
        (["--camera-name", "a b"], "a name of --camera-name has letters"),
        (["--gather-ms", "-1"], "from 0 to 1000 ms, found -1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    shared_bundle: Path, clip: Path, tmp_path: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        call(shared_bundle, clip, "--also-camera", f"other={clip}", *options)
    assert not list(tmp_path.iterdir())


def test_a_ladder_leaves_a_camera_out(shared_bundle: Path, clip: Path, tmp_path: Path, capsys: Any) -> None:
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text("deadline_ms: 0.001\ndown_after_s: 0.05\nsteps: [{cameras: [main]}, {engine: openvino}]\n")
    document = call(shared_bundle, clip, "--also-camera", f"right={clip}", "--realtime", "--ladder", ladder)
    assert adds_up(document) and document["health"]["counts"]["ladder"] >= 1
    assert document["cameras"]["right"]["dropped"] > document["cameras"]["main"]["dropped"]
    assert "all: ladder: step 1 of 2, main only: results are later than 0.001 ms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("{cameras: [main, rear]}", "no camera 'rear'; there are main, right"),
        ("{engine: openvino}", "openvino may mean tiny or many; add bundle: NAME"),
        ("{engine: openvino, bundle: big}", "no bundle 'big'; there are tiny, many"),
        ("{variant: int4, bundle: many}", "int4"),
    ],
)
def test_a_ladders_names_are_checked_before_anything_runs(
    shared_bundle: Path, shared_many: Path, clip: Path, tmp_path: Path, steps: str, message: str
) -> None:
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text(f"deadline_ms: 50\nsteps: [{steps}]\n")
    others = ("--also-camera", f"right={clip}", "--also-bundle", f"many={shared_many}")
    with pytest.raises(EdgetlError) as caught:
        call(shared_bundle, clip, *others, "--ladder", ladder)
    assert message in str(caught.value)


def test_names_are_asked_for_where_they_are_needed(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two bundles are called tiny") as caught:
        call(shared_bundle, clip, "--also-bundle", shared_bundle)
    assert "--also-bundle other=" in str(caught.value.remedy)
    with pytest.raises(InputError, match="--camera-name is of several cameras"):
        call(shared_bundle, clip, "--camera-name", "left")
    with pytest.raises(InputError, match="--gather-ms is of several cameras"):
        call(shared_bundle, clip, "--gather-ms", 3)
    source = tmp_path / "film.mp4"
    source.write_bytes(clip.read_bytes())
    with pytest.raises(InputError, match="is a source itself"):
        call(shared_bundle, clip, "--also-camera", f"b={source}", "--jsonl", source, "--force")
    assert source.read_bytes() == clip.read_bytes()


def test_a_store_is_of_one_camera(shared_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / POINTER_NAME).write_text("{}")
    for words in ([tmp_path, "0", "--also-camera", "left=1"], [shared_bundle, "0", "--also-bundle", f"b={tmp_path}"]):
        with pytest.raises(InputError, match=r"is a store of `edgetl update`, which runs one bundle on one camera"):
            call(*words)
