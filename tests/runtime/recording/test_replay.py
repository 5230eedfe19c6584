"""`edgetl run --record` and `edgetl replay`: equal for the same bundle, a readable difference for another one."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from mcap.records import Message
from mcap.stream_reader import StreamReader
from recording_support import frame_of, header, noise, read_all, result
from runtime_support import DETECT, HEADS, FakeCamera, make_manifest, scene, tiny_model, write_clip, write_test_bundle

from edgetl.cli import main
from edgetl.commands import replay as replay_command
from edgetl.commands import run as run_command
from edgetl_runtime.bundle import open_bundle, write_manifest
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import BundleError, EngineError, InputError, MissingPackage
from edgetl_runtime.loop import run as run_loop
from edgetl_runtime.recording import replay as replay_module
from edgetl_runtime.recording.format import header_of
from edgetl_runtime.recording.header import make_header
from edgetl_runtime.recording.reader import Recording
from edgetl_runtime.recording.replay import replay
from edgetl_runtime.recording.sink import RecordSink
from edgetl_runtime.result import Result
from edgetl_runtime.spec import at_threshold


def call(command: object, *arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    return command.run(parser.parse_args([str(a) for a in arguments]))  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def drive(shared_many: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the clip with every kind of head, for tests that only read it."""
    path = tmp_path_factory.mktemp("drive") / "drive.mcap"
    call(run_command, shared_many, clip, "--record", path, "--threshold", 0.3)
    return path


def other_bundle(folder: Path) -> Path:
    """A detector whose scores are all 0.2 higher, and so finds more."""
    write_test_bundle(folder)
    tiny_model(folder / "model.fp32.onnx", bias=0.2)
    write_manifest(folder, make_manifest(folder, heads=(DETECT,)))
    return folder


def test_run_says_where_it_records(
    shared_many: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.mcap"
    document = call(run_command, shared_many, clip, "--record", path)
    shown = capsys.readouterr().err
    assert f"recording to {tmp_path / 'd.part.mcap'}, which becomes d.mcap" in shown and f"wrote {path}" in shown
    assert document["notes"] == [] and document["processed"] == 12
    about = document["recording"]
    assert (about["path"], about["finished"], about["results"], about["frames"]) == (str(path), True, 12, 12)
    recording = read_all(path)[1]
    assert list(recording.header.lanes) == [("clip.mp4", "tiny")]
    (of,) = recording.header.bundles.values()
    assert of.heads == HEADS and of.variant == "fp32"
    assert abs(recording.header.offset_ns + time.monotonic_ns() - time.time_ns()) < 1e9
    assert recording.status.stages["publish"]["count"] > 0, "the run's own ledger"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_replay_is_equal_bit_for_bit(shared_many: Path, clip: Path, tmp_path: Path, engine: str) -> None:
    path = tmp_path / "d.mcap"
    ran = call(run_command, shared_many, clip, "--record", path, "--engine", engine, "--deadline-ms", 500)
    document = call(replay_command, path, shared_many)
    json.dumps(document)
    assert document["exit_status"] == 0 and document["ok"] and document["whole"]
    assert (document["compared"], document["equal"], document["differing"]) == (12, 12, [])
    assert {"captured", "processed", "dropped", "failed", "stages", "age_ms", "rss_mb", "states"} <= set(document)
    assert (document["captured"], document["processed"]) == (ran["captured"], ran["processed"])
    assert document["states"] == ran["states"] and document["age_ms"]["count"] == 12
    assert (document["engine"], document["variant"]) == (engine, "fp32") and document["notes"] == []


def test_the_recorded_threshold_is_used_and_another_differs(drive: Path, shared_many: Path) -> None:
    assert call(replay_command, drive, shared_many)["equal"] == 12
    document = call(replay_command, drive, shared_many, "--threshold", 0.9)
    assert document["exit_status"] == 1 and document["equal"] < 12
    assert all(d["heads"]["detect"]["boxes_removed"] for d in document["differing"] if "detect" in d["heads"])


def test_drops_and_stamps_are_the_recorded_ones(shared_bundle: Path, tmp_path: Path) -> None:
    bundle, path = open_bundle(shared_bundle), tmp_path / "d.mcap"
    camera = FakeCamera([scene(90, 160, i) for i in range(40)], delay_s=0.003)
    engine = load_bundle_engine(bundle)
    sink = RecordSink(path, make_header(bundle, camera, engine, variant="fp32"))
    ran: list[Result] = []

    def slow(result: Result) -> None:
        ran.append(result)
        time.sleep(0.01)

    summary = run_loop(bundle, camera, engine=engine, sinks=[sink], on_result=slow)
    assert summary.dropped > 5
    again: list[Result] = []
    with Recording(path) as recording:
        report = replay(recording, bundle, load_bundle_engine(bundle), on_result=again.append)
    assert report.equal == report.compared == len(ran) == summary.processed
    assert (report.captured, report.dropped) == (summary.captured, summary.dropped)
    for name in ("frame_id", "t_capture_ns", "dropped_before"):
        assert [getattr(r, name) for r in again] == [getattr(r, name) for r in ran]


def test_another_bundle_gives_a_difference_that_people_can_read(
    shared_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.mcap"
    call(run_command, shared_bundle, clip, "--record", path)
    other = other_bundle(tmp_path / "other.bundle")
    capsys.readouterr()
    status = main(["replay", str(path), str(other), "--json"])
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert status == 1 and document["equal"] == 0 and len(document["differing"]) == document["compared"] == 12
    first = document["differing"][0]
    assert first["frame_id"] == 0 and first["heads"]["detect"]["largest_score_change"] == pytest.approx(0.2, abs=1e-5)
    assert "note: this is another bundle than the recorded run's: manifest" in shown.err
    assert "frame 0: detect: largest score change 0.2" in shown.err
    assert "... and 2 frames more" in shown.err
    assert "12 of 12 results DIFFER from the recording, 0 are equal" in shown.err


def test_a_bundle_whose_labels_were_exchanged_differs(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = msgspec.structs.replace(DETECT, labels=DETECT.labels[::-1])
    other = write_test_bundle(tmp_path / "turned.bundle", heads=(turned, *HEADS[1:]))
    document = call(replay_command, drive, other)
    assert (document["exit_status"], document["equal"]) == (1, 0)
    assert "detect: has other labels: the first that differs was vehicle, is light" in capsys.readouterr().err


def test_one_head_more_is_said(drive: Path, shared_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = call(replay_command, drive, shared_bundle)
    assert document["exit_status"] == 1
    assert "ground: is in the recording only" in capsys.readouterr().err


def test_a_replay_writes_video_and_lines_with_the_recorded_times(
    drive: Path, shared_many: Path, tmp_path: Path
) -> None:
    out, lines = tmp_path / "r.mp4", tmp_path / "r.jsonl"
    call(replay_command, drive, shared_many, "--out", out, "--jsonl", lines)
    assert int(cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    recorded = [r.result for r in read_all(drive)[0]]
    assert [r["t_publish_ns"] for r in rows] == [r.t_publish_ns for r in recorded]


def test_lines_have_the_recorded_state(shared_bundle: Path, tmp_path: Path) -> None:
    path, lines = tmp_path / "d.mcap", tmp_path / "r.jsonl"
    of = result(0, state="late", health="stale", valid_until_ns=7)
    sink = RecordSink(path, header(heads=HEADS))
    sink.write(of, frame_of(of), None)
    sink.close()
    call(replay_command, path, shared_bundle, "--jsonl", lines)
    row = json.loads(lines.read_text())
    assert (row["state"], row["health"], row["valid_until_ns"]) == ("late", "stale", 7)


def test_other_conditions_than_then_are_said(
    drive: Path, shared_many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = call(replay_command, drive, shared_many, "--engine", "openvino")
    said = "fp32 on openvino (fp32), recorded with fp32 on onnxruntime (fp32)"
    assert said in document["notes"] and f"note: {said}" in capsys.readouterr().err


def test_so_many_differences_are_kept_and_all_are_counted(
    drive: Path, shared_many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "MAX_LISTED", 3)
    document = call(replay_command, drive, shared_many, "--threshold", 0.9)
    assert len(document["differing"]) == 3 < document["compared"] - document["equal"]


def test_the_recorded_number_of_threads_is_used(
    shared_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "d.mcap", list[int]()
    call(run_command, shared_bundle, clip, "--record", path, "--threads", 2)

    def load(bundle: Any, *, threads: int, **options: Any) -> Any:
        asked.append(threads)
        return load_bundle_engine(bundle, threads=threads, **options)

    monkeypatch.setattr("edgetl_runtime.engines.load_bundle_engine", load)
    assert call(replay_command, path, shared_bundle)["equal"] == 12 and asked == [2]


def test_a_bundle_without_the_signature_that_is_asked_for_is_refused(drive: Path, shared_many: Path) -> None:
    with pytest.raises(BundleError, match="is not signed"):
        call(replay_command, drive, shared_many, "--require-signature")


def test_max_frames_is_no_damage(drive: Path, shared_many: Path) -> None:
    document = call(replay_command, drive, shared_many, "--max-frames", 3)
    assert (document["compared"], document["whole"], document["notes"]) == (3, True, [])


def test_a_cut_file_is_replayed_up_to_the_cut(drive: Path, shared_many: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.part.mcap"
    cut.write_bytes(drive.read_bytes()[:-200])
    document = call(replay_command, cut, shared_many)
    assert document["exit_status"] == 0 and document["compared"] == 12 and not document["whole"]
    assert "was not finished" in document["notes"][0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--variant", "int8"], EngineError),
        (["--engine", "none"], EngineError),
        (["--threshold", "2"], InputError),
        (["--out", "x.gif"], InputError),
        (["--out", "x.mp4", "--jsonl", "./x.mp4"], InputError),
    ],
    ids=str,
)
def test_what_can_not_be_replayed(
    drive: Path, shared_many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], error: type
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        call(replay_command, drive, shared_many, *options)
    assert list(tmp_path.iterdir()) == []


def test_the_recording_is_not_overwritten(drive: Path, shared_many: Path) -> None:
    before = drive.read_bytes()
    with pytest.raises(InputError, match="is the recording itself"):
        call(replay_command, drive, shared_many, "--jsonl", drive, "--force")
    assert drive.read_bytes() == before


def test_no_frame_is_one_clear_line(drive: Path, shared_many: Path, tmp_path: Path) -> None:
    data = drive.read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) // 20])
    with pytest.raises(InputError, match="holds no frame that can be replayed"):
        call(replay_command, tmp_path / "cut.mcap", shared_many)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--record", "d.mp4"], "must end in .mcap"),
        (["--record", "d.part.mcap"], "must end in .mcap"),
        (["--record", "none/d.mcap"], "does not exist"),
        (["--record", "d.mcap", "--record-budget-mb", "-1"], "0 .* or more, found -1"),
        (["--record", "d.mcap", "--record-budget-mb", "nan"], "0 .* or more, found nan"),
        (["--record", "d.mcap", "--record-budget-mb", "inf"], "0 .* or more, found inf"),
        (["--record-budget-mb", "5"], "--record FILE"),
    ],
    ids=str,
)
def test_run_refuses_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        call(run_command, "no.bundle", "no.mp4", *options)
    assert list(tmp_path.iterdir()) == []


def test_run_names_the_extra_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingPackage, match=r"edgetl\[vehicle\]"):
        call(run_command, "no.bundle", "no.mp4", "--record", tmp_path / "d.mcap")
    assert list(tmp_path.iterdir()) == []


def test_the_budget_is_said_in_the_notes(shared_bundle: Path, tmp_path: Path) -> None:
    folder = noisy_images(tmp_path / "images", 20)
    path = tmp_path / "d.mcap"
    document = call(run_command, shared_bundle, folder, "--record", path, "--record-budget-mb", 1)
    assert document["processed"] == 20 and "the budget of 1 MB is used up" in document["notes"][0]
    assert path.stat().st_size <= 1_000_000
    replayed = call(replay_command, path, shared_bundle)
    assert replayed["equal"] == replayed["compared"] >= 2 and "budget" in replayed["notes"][0]


def noisy_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:03}.png"), noise((180, 320), i))
    return folder


def edgetl(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgetl.cli", *(str(a) for a in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_kill_9_leaves_all_but_the_last_second(shared_many: Path, tmp_path: Path) -> None:
    clip, path, part = write_clip(tmp_path / "long.mp4", frames=900), tmp_path / "d.mcap", tmp_path / "d.part.mcap"
    process = edgetl("run", shared_many, clip, "--record", path, "--realtime")
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 50_000):
            time.sleep(0.05)
        time.sleep(5.0)
        killed_ns = time.time_ns()
        process.send_signal(signal.SIGKILL)
        _, shown = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL and not path.exists()
    assert f"recording to {part}" in shown
    read, recording = read_all(part)
    offset_ns = recording.header.offset_ns
    assert killed_ns - (read[-1].result.t_publish_ns + offset_ns) < 4e9, "0.9 s, and what a busy machine adds"
    assert "was not finished" in recording.notes[0]
    messages = 0
    with part.open("rb") as stream:  # what another tool makes of it
        try:
            for record in StreamReader(stream).records:
                messages += isinstance(record, Message)
        except Exception:
            pass
    assert messages >= 3 * len(read)
    document = call(replay_command, part, shared_many)
    assert document["exit_status"] == 0 and document["equal"] == len(read) > 30


def test_a_full_disk_in_earnest(shared_bundle: Path, tmp_path: Path) -> None:
    folder, path = noisy_images(tmp_path / "images", 60), tmp_path / "d.mcap"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))

    process = edgetl(
        "run", shared_bundle, folder, "--record", path, "--json", "--realtime", preexec_fn=limit, env=dict(os.environ)
    )
    out, shown = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    document = json.loads(out)
    assert document["processed"] + document["dropped"] == 60 and "the disk is full" in document["notes"][0]
    assert shown.count("the disk is full") == 2, "at once, and at the end"
    assert not path.exists() and (tmp_path / "d.part.mcap").stat().st_size <= 6_000_000
    assert document["recording"]["path"].endswith("d.part.mcap") and not document["recording"]["finished"]
    replayed = call(replay_command, tmp_path / "d.part.mcap", shared_bundle)
    assert replayed["exit_status"] == 0 and replayed["equal"] == replayed["compared"] > 3


def test_frames_are_kept_without_loss(shared_bundle: Path, tmp_path: Path) -> None:
    folder, path = noisy_images(tmp_path / "images", 3), tmp_path / "d.mcap"
    call(run_command, shared_bundle, folder, "--record", path)
    for i, found in enumerate(read_all(path)[0]):
        assert found.frame is not None and found.frame.name == f"{i:03}.png"
        np.testing.assert_array_equal(found.frame.image, noise((180, 320), i))


def test_what_a_file_says_does_not_steer_the_terminal(
    shared_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = result(0, outputs={"detect": result().outputs["detect"]}, embedding=None, name="\x1b[2J")
    path = tmp_path / "d.mcap"
    sink = RecordSink(path, header(machine="\x1b]0;x\x07", bundle="a\nb", fps=-1.0, heads=(DETECT,)))
    sink.write(of, frame_of(of), None)
    sink.close()
    document = call(replay_command, path, shared_bundle, "--out", tmp_path / "r.mp4")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\x07" not in shown and "recorded on another machine" in shown
    assert document["exit_status"] == 1 and (tmp_path / "r.mp4").exists()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 20_000), (20_000, 1), (3, 5)])
def test_pictures_of_odd_sizes_are_replayed_or_refused(
    shared_bundle: Path, tmp_path: Path, size_hw: tuple[int, int]
) -> None:
    of = result(0, size_hw=size_hw)
    path = tmp_path / "d.mcap"
    sink = RecordSink(path, header(heads=HEADS))
    sink.write(of, frame_of(of), None)
    sink.close()
    assert call(replay_command, path, shared_bundle)["compared"] == 1


def test_tracks_are_recorded_and_replayed_bit_for_bit(shared_many: Path, clip: Path, tmp_path: Path) -> None:
    path, lines = tmp_path / "d.mcap", tmp_path / "d.jsonl"
    call(run_command, shared_many, clip, "--record", path, "--track", "--threshold", 0.3, "--jsonl", lines)
    rows = [json.loads(line)["detections"] for line in lines.read_text().splitlines()]
    assert any(box["track_id"] is not None for row in rows for box in row)
    (recorded,) = read_all(path)[1].header.bundles.values()
    assert recorded.track
    assert recorded.heads == tuple(at_threshold(h, 0.3) for h in HEADS), "what counts, not what is decoded"
    document = call(replay_command, path, shared_many)
    assert (document["compared"], document["equal"]) == (12, 12) and document["notes"] == []
    assert document["stages"]["track"]["count"] == 12
    with Recording(path) as again:
        bundle = open_bundle(shared_many)
        report = replay(again, bundle, load_bundle_engine(bundle), threshold=0.3)
    assert report.equal < 12 and "tracks are in the recording only" in report.differing[0].lines()[0]


def test_a_header_without_the_key_is_of_a_run_without_tracks() -> None:
    texts = header().as_texts()
    del texts["track"]
    assert header_of(texts) == header(track=False)
