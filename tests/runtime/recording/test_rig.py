"""Recordings of several cameras and bundles: `edgetl run --record` and `edgetl replay`, lane by lane."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from mcap.reader import make_reader
from recording_support import SlowFile, frame_of, noise, read_all, result, rig_header
from rig_support import RateCamera, rig_of
from runtime_support import DETECT, HEADS, make_manifest, output_specs, write_clip, write_test_bundle

from edgetl.cli import main
from edgetl.commands import replay as replay_command
from edgetl.commands import run as run_command
from edgetl_runtime.bundle import open_bundle, write_manifest
from edgetl_runtime.errors import InputError
from edgetl_runtime.health import Event
from edgetl_runtime.recording import recorder as recorder_module
from edgetl_runtime.recording.compare import compare
from edgetl_runtime.recording.format import RIG, header_of
from edgetl_runtime.recording.header import make_rig_header, recorded_bundle, recorded_camera
from edgetl_runtime.recording.reader import Recorded
from edgetl_runtime.recording.sink import RecordRounds
from edgetl_runtime.rig.round import Absent, RigEvent, Round

ALONE = Path(__file__).with_name("alone.mcap")
"""Four frames of 32x24 with --track --threshold 0.3, of the bundle with every kind of head, written by edgetl as it was
before recordings of several cameras. It can't be made again."""


def call(command: object, *arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    return command.run(parser.parse_args([str(a) for a in arguments]))  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shorter than `clip`, and of another size."""
    return write_clip(tmp_path_factory.mktemp("clip") / "other.mp4", frames=9, height=120, width=192)


@pytest.fixture(scope="module")
def drive(
    shared_many: Path, shared_bundle: Path, clip: Path, other_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two cameras and two bundles with tracks, for tests that only read it."""
    path = tmp_path_factory.mktemp("drive") / "drive.mcap"
    rig = ("--camera-name", "left", "--also-camera", f"right={other_clip}", "--also-bundle", f"boxes={shared_bundle}")
    document = call(run_command, shared_many, clip, *rig, "--track", "--threshold", 0.3, "--record", path)
    about = document["recording"]
    assert (about["path"], about["finished"], about["results"], about["frames"]) == (str(path), True, 42, 21)
    assert document["notes"] == []
    return path


def by_lane(found: list[Recorded]) -> dict[tuple[str, str], list[Recorded]]:
    lanes: dict[tuple[str, str], list[Recorded]] = defaultdict(list)
    for each in found:
        lanes[each.camera, each.bundle].append(each)
    return lanes


def test_all_of_it_is_in_one_file(drive: Path) -> None:
    found, recording = read_all(drive)
    header = recording.header
    assert header.version == RIG and list(header.cameras) == ["left", "right"]
    assert list(header.bundles) == ["tiny", "boxes"] and header_of(header.as_texts()) == header
    assert all(b.track and b.threshold == 0.3 and b.engine == "onnxruntime" for b in header.bundles.values())
    assert header.bundles["tiny"].manifest_sha256 != header.bundles["boxes"].manifest_sha256
    assert [h.name for h in header.bundles["tiny"].heads] == [h.name for h in HEADS]
    lanes = by_lane(found)
    assert {lane: len(rows) for lane, rows in lanes.items()} == {
        ("left", "tiny"): 12, ("left", "boxes"): 12, ("right", "tiny"): 9, ("right", "boxes"): 9
    }  # fmt: skip
    for (camera, _), rows in lanes.items():
        assert [r.result.frame_id for r in rows] == list(range(len(rows)))
        assert {r.result.camera_id for r in rows} == {camera}
        assert {r.frame.image.shape for r in rows if r.frame} == {(180, 320, 3) if camera == "left" else (120, 192, 3)}
    for one, two in zip(lanes["left", "tiny"], lanes["left", "boxes"], strict=True):
        assert one.frame is not None and two.frame is not None
        assert one.frame.image.base is not None and np.shares_memory(one.frame.image, two.frame.image), "kept once"
    status = recording.status
    assert (status.results, status.frames, status.captured) == (42, 21, 42) and recording.whole
    assert {c: {b: r.captured for b, r in of.items()} for c, of in status.lanes.items()} == {
        "left": {"tiny": 12, "boxes": 12}, "right": {"tiny": 9, "boxes": 9}
    }  # fmt: skip
    assert recording.rounds >= 12


def test_other_tools_read_it_by_camera_and_bundle(drive: Path) -> None:
    messages: dict[str, list[Any]] = defaultdict(list)
    schemas: dict[str, str] = {}
    with drive.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            messages[channel.topic].append(message)
            assert schema is not None
            schemas[channel.topic] = schema.name
    counts = {topic: len(rows) for topic, rows in messages.items()}
    assert counts["/left/camera/image"] == 12 and counts["/right/camera/image"] == 9
    assert schemas["/left/camera/image"] == "foxglove.RawImage"
    for camera, bundle in itertools.product(("left", "right"), ("tiny", "boxes")):
        lane = f"/{camera}/{bundle}"
        assert counts[f"{lane}/edgetl/result"] == counts[f"{lane}/camera/boxes"] == counts[f"/{camera}/camera/image"]
        assert schemas[f"{lane}/camera/boxes"] == "foxglove.ImageAnnotations" and counts[f"{lane}/edgetl/ledger"] >= 1
        ledger = json.loads(messages[f"{lane}/edgetl/ledger"][-1].data)
        assert ledger["captured"] == counts[f"{lane}/edgetl/result"]
    rounds = [json.loads(m.data) for m in messages["/edgetl/round"]]
    assert [r["number"] for r in rounds] == list(range(len(rounds)))
    for name, count in (("left", 12), ("right", 9)):
        assert [r["frames"][name]["frame_id"] for r in rounds if name in r["frames"]] == list(range(count))
    assert {r["absent"]["right"]["why"] for r in rounds if "right" in r["absent"]} <= {"ended", "no new frame yet"}
    for row in rounds:
        stamps = [f["t_capture_ns"] for f in row["frames"].values()]
        assert row["skew_ms"] == round((max(stamps) - min(stamps)) / 1e6, 3)


def test_schemas_stand_in_the_file_once(drive: Path) -> None:
    with drive.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    assert len(summary.schemas) == len({s.name for s in summary.schemas.values()}) == 9
    assert len(summary.channels) == 2 + 4 * 4 + 4


@pytest.mark.parametrize("named", [True, False])
def test_a_replay_is_equal_bit_for_bit_in_every_lane(
    drive: Path, shared_many: Path, shared_bundle: Path, named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (f"tiny={shared_many}", f"boxes={shared_bundle}") if named else (shared_bundle, shared_many)
    document = call(replay_command, drive, *given)
    json.dumps(document)
    assert document["exit_status"] == 0 and document["ok"] and document["whole"] and document["notes"] == []
    assert (document["compared"], document["equal"], document["captured"]) == (42, 42, 42)
    assert document["rounds"] >= 12 and set(document["bundles"]) == {"tiny", "boxes"}
    for camera, count in (("left", 12), ("right", 9)):
        for bundle in ("tiny", "boxes"):
            row = document["lanes"][camera][bundle]
            assert (row["compared"], row["equal"], row["dropped"], row["failed"]) == (count, count, 0, 0)
    assert "boxes on right: 9 of 9 results are equal" in capsys.readouterr().err


def test_another_engine_is_the_recorded_one_again(shared_many: Path, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    call(run_command, shared_many, clip, "--also-camera", f"b={clip}", "--engine", "openvino", "--record", path)
    document = call(replay_command, path, shared_many)
    assert (document["engine"], document["compared"], document["equal"]) == ("openvino", 24, 24)


def test_tracks_are_those_of_each_camera(drive: Path) -> None:
    """What is compared above has objects that keep their numbers, and each camera has numbers of its own."""
    lanes = by_lane(read_all(drive)[0])
    for camera in ("left", "right"):
        numbers = [r.result.detections.track_ids for r in lanes[camera, "boxes"]]
        known = [set(n.tolist()) - {-1} for n in numbers if n is not None]
        assert any(a & b for a, b in itertools.pairwise(known)) and min(set().union(*known)) == 0


def changed_threshold(folder: Path) -> Path:
    """The bundle with boxes alone, and one label's threshold higher."""
    write_test_bundle(folder)
    heads = (msgspec.structs.replace(DETECT, thresholds=(0.5, 0.5, 0.99)),)
    write_manifest(folder, make_manifest(folder, heads=heads, outputs=output_specs((DETECT,))))
    return folder


def test_one_changed_threshold_is_named_by_camera_bundle_and_frame(
    shared_many: Path, shared_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d.mcap"
    rig = ("--also-camera", f"right={clip}", "--also-bundle", f"boxes={shared_bundle}")
    call(run_command, shared_many, clip, *rig, "--record", path)
    other = changed_threshold(tmp_path / "other.bundle")
    capsys.readouterr()
    status = main(["replay", str(path), f"tiny={shared_many}", f"boxes={other}", "--json"])
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert status == 1 and {d["bundle"] for d in document["differing"]} == {"boxes"}
    assert {d["camera"] for d in document["differing"]} == {"main", "right"}
    first = document["differing"][0]
    assert first["heads"]["detect"]["boxes_removed"][0]["label"] == "light"
    removed = len(first["heads"]["detect"]["boxes_removed"])
    where = f"boxes on {first['camera']}, frame {first['frame_id']}"
    assert f"{where}: detect: {removed} removed (light" in shown.err
    assert "note: boxes: this is another bundle than the recorded run's" in shown.err
    assert all(row["tiny"]["equal"] == 12 for row in document["lanes"].values())
    assert "tiny on right: 12 of 12 results are equal" in shown.err and "results DIFFER" in shown.err


def test_a_missing_bundle_is_said_and_may_be_left_out(drive: Path, shared_many: Path, shared_bundle: Path) -> None:
    with pytest.raises(InputError, match="results of tiny, boxes, and no bundle was given for boxes") as caught:
        call(replay_command, drive, shared_many)
    assert caught.value.remedy == "add boxes=BUNDLE, or --partial to replay without"
    document = call(replay_command, drive, shared_bundle, "--partial")
    assert (document["compared"], document["equal"], document["exit_status"]) == (21, 21, 0)
    assert document["notes"] == ["21 results of tiny were not replayed"]
    assert set(document["bundles"]) == {"boxes"}


def test_a_newer_bundle_is_known_by_its_name(shared_many: Path, clip: Path, tmp_path: Path) -> None:
    signs, path = write_test_bundle(tmp_path / "signs.bundle", name="signs"), tmp_path / "d.mcap"
    call(run_command, shared_many, clip, "--also-bundle", signs, "--record", path)
    newer = write_test_bundle(tmp_path / "newer.bundle", name="signs", heads=HEADS)
    document = call(replay_command, path, newer, "--partial")
    assert set(document["bundles"]) == {"signs"} and document["compared"] == 12


def test_bundles_that_could_be_any_are_asked_for(
    drive: Path, shared_bundle: Path, shared_many: Path, tmp_path: Path
) -> None:
    another = write_test_bundle(tmp_path / "x.bundle", name="x")
    with pytest.raises(InputError, match=r"has the bundles tiny, boxes, and .*x\.bundle may be any of them"):
        call(replay_command, drive, shared_many, another)
    with pytest.raises(InputError, match="two bundles are given for boxes"):
        call(replay_command, drive, shared_bundle, f"boxes={shared_bundle}")
    odd = tmp_path / "a=b.bundle"
    odd.symlink_to(shared_bundle)
    assert call(replay_command, drive, odd, shared_many)["equal"] == 42


def test_lines_have_the_bundle_and_a_video_is_of_one_lane(
    drive: Path, shared_many: Path, shared_bundle: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "r.jsonl"
    call(replay_command, drive, shared_many, shared_bundle, "--jsonl", lines)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    recorded = read_all(drive)[0]
    assert [(r["camera_id"], r["bundle"], r["t_publish_ns"]) for r in rows] == [
        (r.camera, r.bundle, r.result.t_publish_ns) for r in recorded
    ]
    with pytest.raises(InputError, match="a video is of one camera and one bundle, and this is a replay of 4"):
        call(replay_command, drive, shared_many, shared_bundle, "--out", tmp_path / "r.mp4")


def test_a_recording_of_before_reads_and_replays(shared_many: Path) -> None:
    found, recording = read_all(ALONE)
    header = recording.header
    assert list(header.lanes) == [("images", "tiny")] and recording.whole and recording.rounds == 0
    assert header.bundles["tiny"].track and header.bundles["tiny"].threshold == 0.3
    assert [r.result.frame_id for r in found] == [0, 1, 2, 3] and all(r.frame is not None for r in found)
    document = call(replay_command, ALONE, shared_many)
    assert document["compared"] == 4 and document["failed"] == 0
    assert [d for d in document["differing"] if d["fields"]] == [], "rounding may differ between machines, ids never"


def edgetl(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgetl.cli", *(str(a) for a in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_kill_9_in_mid_recording_still_reads(shared_many: Path, shared_bundle: Path, tmp_path: Path) -> None:
    films = [write_clip(tmp_path / f"{name}.mp4", frames=900, height=90, width=160) for name in "ab"]
    path, part = tmp_path / "d.mcap", tmp_path / "d.part.mcap"
    rig = ("--also-camera", f"right={films[1]}", "--also-bundle", f"boxes={shared_bundle}")
    process = edgetl("run", shared_many, films[0], *rig, "--realtime", "--track", "--record", path)
    try:
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s and not (part.exists() and part.stat().st_size > 60_000):
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL and not path.exists()
    found, recording = read_all(part)
    assert "was not finished" in recording.notes[0] and len(by_lane(found)) == 4
    document = call(replay_command, part, shared_many, shared_bundle)
    assert document["exit_status"] == 0 and document["equal"] == len(found) > 40 and not document["whole"]


def a_round(number: int, *, cameras: tuple[str, ...] = ("left", "right"), size_hw: tuple[int, int] = (18, 32)) -> Round:
    """A round in which bundle b fails on every third frame of the camera on the right."""
    frames, results, failures = {}, {}, {}
    for camera in cameras:
        of = result(number, size_hw=size_hw, camera_id=camera)
        frames[camera] = frame_of(of, noise(size_hw, number + (1000 if camera == "right" else 0)))
        fails = camera == "right" and number % 3 == 0
        results[camera] = {"a": of} if fails else {"a": of, "b": of}
        failures[camera] = {"b": "no number"} if fails else {}
    absent = {name: Absent("stale", "stalled: no frame") for name in ("left", "right") if name not in cameras}
    return Round(number, frames, results, failures, absent, 1.25)


def test_everything_of_a_round_comes_back(tmp_path: Path) -> None:
    path, header = tmp_path / "d.mcap", rig_header()
    sink = RecordRounds(path, header)
    rounds = [a_round(i, cameras=("left",) if i == 4 else ("left", "right")) for i in range(7)]
    for made in rounds:
        sink.write(made)
        sink.event(RigEvent("left", None, Event(7, "left", "dark", began=True, state="degraded", detail="covered")))
        sink.event(RigEvent(None, "b", Event(8, "", "engine", began=True, state="fault", detail="broken")))
    sink.close()
    found, recording = read_all(path)
    assert recording.header == header and recording.notes == [] and (recording.events, recording.rounds) == (14, 7)
    sent = [(c, b, of, made) for made in rounds for c, rows in made.results.items() for b, of in rows.items()]
    assert [(r.camera, r.bundle) for r in found] == [(c, b) for c, b, _, _ in sent]
    for (camera, _, of, made), each in zip(sent, found, strict=True):
        assert compare(of, each.result, HEADS) is None and each.frame is not None
        np.testing.assert_array_equal(each.frame.image, made.frames[camera].image)
    with path.open("rb") as stream:
        rows = list(make_reader(stream).iter_messages(topics=["/edgetl/event", "/edgetl/round"]))
    events = [json.loads(m.data) for _, c, m in rows if c.topic == "/edgetl/event"]
    assert {(e["camera_id"], e["bundle"]) for e in events} == {("left", None), (None, "b")}
    told = [json.loads(m.data) for _, c, m in rows if c.topic == "/edgetl/round"]
    told.sort(key=lambda r: r["number"])
    assert told[3]["failures"] == {"right": {"b": "no number"}} and told[2]["failures"] == {}
    assert told[4]["absent"] == {"right": {"state": "stale", "why": "stalled: no frame"}}


def test_a_round_of_failures_alone_is_told_and_leaves_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    sink = RecordRounds(path, rig_header())
    sink.write(a_round(0, cameras=("left",)))
    of = result(1, camera_id="left")
    sink.write(Round(1, {"left": frame_of(of)}, {"left": {}}, {"left": {"a": "broken"}}, {}, 0.0))
    sink.close()
    found, recording = read_all(path)
    assert (len(found), sink.frames, recording.rounds) == (2, 1, 2)


def test_steps_of_a_ladder_are_in_the_notes(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    sink = RecordRounds(path, rig_header())
    sink.write(a_round(0))
    sink.event(RigEvent(None, None, Event(7, "", "ladder", began=True, state="degraded", detail="step 1 of 2, int8")))
    sink.close()
    (note,) = read_all(path)[1].notes
    assert "took steps of its ladder" in note


def test_a_slow_disk_costs_whole_rounds_of_frames_and_never_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size_hw = (90, 160)
    monkeypatch.setattr(recorder_module, "MAX_QUEUED_BYTES", 4 * 90 * 160 * 3)  # two rounds
    monkeypatch.setattr(recorder_module, "MAX_QUEUED", 40)  # of four lanes: ten rounds
    monkeypatch.setattr(recorder_module, "FLUSH_S", 0)
    path = tmp_path / "d.mcap"
    output = SlowFile(path)
    sink = RecordRounds(path, rig_header(), output=output)
    output.delay_s = 0.1
    rounds = [a_round(i, size_hw=size_hw) for i in range(40)]
    took_s = []
    for made in rounds:
        t0 = time.perf_counter()
        sink.write(made)
        took_s.append(time.perf_counter() - t0)
        assert sink._queue.qsize() <= 10
        time.sleep(0.005)
    output.delay_s = 0.0
    sink.close()
    assert statistics.median(took_s) < 0.05, "most rounds come while the disk is busy"
    sent = sum(len(r) for made in rounds for r in made.results.values())
    assert sink.results + sink.results_left_out == sent and sink.frames + sink.frames_left_out == 80
    assert sink.results_left_out > 0 and sink.frames_left_out > 0
    found, recording = read_all(path)
    assert len(found) == sink.results and "disk was too slow" in recording.notes[0]
    for number in {r.result.frame_id for r in found}:
        assert len({r.frame is None for r in found if r.result.frame_id == number}) == 1


def test_the_budget_is_kept(tmp_path: Path) -> None:
    path, budget = tmp_path / "d.mcap", 1_000_000
    said: list[str] = []
    sink = RecordRounds(path, rig_header(), budget_bytes=budget, say=said.append)
    for i in range(60):
        sink.write(a_round(i, size_hw=(90, 160)))
        time.sleep(0.002)
    sink.close()
    assert budget / 2 < path.stat().st_size <= budget and "the budget of 1 MB is used up" in said[0]
    found, recording = read_all(path)
    assert recording.whole and len(found) == sink.results > 0


def test_drops_of_live_cameras_are_counted_by_lane(shared_bundle: Path, tmp_path: Path) -> None:
    bundle, path = open_bundle(shared_bundle), tmp_path / "d.mcap"
    cameras = {"fast": RateCamera(200, 60), "slow": RateCamera(40, 12)}
    with rig_of({"b": shared_bundle}, cameras) as rig:
        run = recorded_bundle(bundle, rig.networks["b"].engine, variant="fp32")
        header = make_rig_header({n: recorded_camera(c) for n, c in cameras.items()}, {"b": run})
        sink = RecordRounds(path, header)
        sink.begin(rig)
        for made in rig:
            sink.write(made)
            time.sleep(0.01)
    sink.close()
    document: Any = rig.summary().as_json()
    assert document["cameras"]["fast"]["dropped"] > 5
    replayed = call(replay_command, path, shared_bundle)
    assert replayed["equal"] == replayed["compared"] == document["processed"]
    for name in cameras:
        row, ran = replayed["lanes"][name]["b"], document["cameras"][name]
        assert (row["captured"], row["dropped"]) == (ran["captured"], ran["dropped"])


def test_names_that_look_alike_in_topics_are_refused_before_anything_is_loaded(
    shared_many: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (write_test_bundle(tmp_path / n, name=name) for n, name in (("a", "my net/1"), ("b", "my_net_1")))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="the bundles 'my net/1' and 'my_net_1' are both my_net_1 in topics"):
        call(run_command, a, clip, "--also-bundle", b, "--record", "d.mcap")
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(InputError, match="is the source itself"):
        call(run_command, shared_many, clip, "--also-camera", f"b={tmp_path / 'x.mcap'}", "--record", "x.mcap")
    call(run_command, a, clip, "--also-camera", f"b={clip}", "--max-frames", 2, "--record", "d.mcap")
    assert {r.bundle for r in read_all(tmp_path / "d.mcap")[0]} == {"my net/1"}
    assert call(replay_command, "d.mcap", a)["exit_status"] == 0
