"""The recorder: everything comes back, the loop never waits, and whatever ends it leaves a file to read."""

from __future__ import annotations

import json
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import NonSeekingReader, make_reader
from recording_support import FullFile, SlowFile, frame_of, header, noise, read_all, result
from runtime_support import HEADS, snapshot_of

from edgetl_runtime.errors import InputError, MissingPackage
from edgetl_runtime.health import Event
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.recording import recorder as recorder_module
from edgetl_runtime.recording.compare import compare
from edgetl_runtime.recording.format import RecordingStatus
from edgetl_runtime.recording.sink import RecordSink
from edgetl_runtime.result import Result

EVENT = Event(7, "cam", "dark", began=True, state="degraded", detail="covered")


def record(path: Path, count: int, *, size_hw: tuple[int, int] = (90, 160), **options: Any) -> list[Result]:
    sink = RecordSink(path, header(), **options)
    written = [result(i, size_hw=size_hw) for i in range(count)]
    for of in written:
        sink.write(of, frame_of(of), None)
    sink.close()
    return written


@pytest.mark.parametrize("count", [1, 3, 40])
def test_everything_comes_back(tmp_path: Path, count: int) -> None:
    path = tmp_path / "d.mcap"
    ledger = Ledger()
    ledger.add("infer", 3.0)
    sink = RecordSink(path, header())
    sink.watch(lambda: snapshot_of(ledger=ledger, failed=2))
    written = [result(i) for i in range(count)]
    for of in written:
        sink.write(of, frame_of(of), None)
        sink.event(EVENT)
    assert path.exists() is False and (tmp_path / "d.part.mcap").exists()
    sink.close()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["d.mcap"] and sink.notes == []
    read, recording = read_all(path)
    assert recording.header == header() and recording.whole and recording.notes == []
    assert recording.events == count
    for of, found in zip(written, read, strict=True):
        assert compare(of, found.result, HEADS) is None
        assert found.frame is not None
        np.testing.assert_array_equal(found.frame.image, noise(of.size_hw, of.frame_id))
        assert (found.frame.frame_id, found.frame.t_capture_ns) == (of.frame_id, of.t_capture_ns)
        assert found.frame.media_time_s == of.media_time_s
    status = recording.status
    dropped = sum(of.dropped_before for of in written)
    assert (status.results, status.frames, status.failed) == (count, count, 2)
    assert (status.captured, status.dropped) == (count + dropped, dropped)
    assert status.stages["infer"]["p50_ms"] == 3.0


def test_other_tools_read_it(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    written = record(path, 5)
    offset_ns = header().offset_ns
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    with path.open("rb") as stream:
        rows = list(make_reader(stream, validate_crcs=True).iter_messages(topics="/edgetl/result"))
    with path.open("rb") as stream:
        texts = next(m for m in make_reader(stream).iter_metadata() if m.name == "edgetl.recording").metadata
    assert summary is not None and summary.statistics is not None
    assert summary.statistics.message_count == 5 * 3 + 1
    topics = [c.topic for c in summary.channels.values()]
    assert set(topics) == {
        "/camera/image",
        "/camera/boxes",
        "/edgetl/result",
        "/edgetl/event",
        "/edgetl/status",
        "/edgetl/ledger",
        "/edgetl/log",
        "/edgetl/objects",
    }
    assert [json.loads(m.data)["frame_id"] for _, _, m in rows] == list(range(5))
    assert [m.log_time for _, _, m in rows] == [of.t_publish_ns + offset_ns for of in written]
    schema = rows[0][0]
    assert schema is not None and schema.encoding == "jsonschema" and json.loads(schema.data)["type"] == "object"
    assert texts["bundle"] == "tiny" and json.loads(texts["offset_ns"]) == offset_ns


def test_events_are_lines_of_a_log_and_the_ledger_is_there_to_plot(tmp_path: Path) -> None:
    from test_foxglove import decode

    ledger = Ledger()
    ledger.add("infer", 3.0)
    sink = RecordSink(tmp_path / "d.mcap", header())
    sink.watch(lambda: snapshot_of(ledger=ledger, dropped=4, newest=result()))
    sink.write(of := result(), frame_of(of), None)
    sink.event(EVENT)
    sink.close()
    found: dict[str, tuple[Any, Any]] = {}
    with (tmp_path / "d.mcap").open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            found[channel.topic] = (schema, message)
    schema, message = found["/edgetl/log"]
    assert message.log_time == EVENT.t_ns + header().offset_ns
    line = decode(schema.data, schema.name, message.data)
    assert (line.message, line.name, line.level) == ("dark: covered", "cam", 3)
    schema, message = found["/edgetl/ledger"]
    document = json.loads(message.data)
    assert document["dropped"] == 4 and document["stages"]["infer"]["p999_ms"] == 3.0 and document["age_ms"] > 0
    assert set(document) == set(json.loads(schema.data)["properties"])
    assert "/edgetl/objects" not in found  # nothing has a place


def test_pictures_decode_with_the_files_own_schema(tmp_path: Path) -> None:
    from test_foxglove import decode

    record(tmp_path / "d.mcap", 2)
    with (tmp_path / "d.mcap").open("rb") as stream:
        rows = list(make_reader(stream).iter_messages(topics="/camera/image"))
    for i, (schema, channel, message) in enumerate(rows):
        assert schema is not None and channel.message_encoding == schema.encoding == "protobuf"
        image = decode(schema.data, schema.name, message.data)
        assert image.data == noise((90, 160), i).tobytes()


def test_a_slow_disk_costs_frames_and_never_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_QUEUED_BYTES", 200_000)  # four pictures
    monkeypatch.setattr(recorder_module, "MAX_QUEUED", 30)
    monkeypatch.setattr(recorder_module, "FLUSH_S", 0)  # every result its own chunk: the disk is asked each time
    path = tmp_path / "d.mcap"
    output = SlowFile(path)
    sink = RecordSink(path, header(), output=output)
    output.delay_s = 0.1
    took_s, waiting = [], []
    sent = 60
    frames = [frame_of(result(i)) for i in range(sent)]
    for i in range(sent):
        of = result(i)
        if i % 10 == 9:
            time.sleep(0.05)
        t0 = time.perf_counter()
        sink.write(of, frames[i], None)
        took_s.append(time.perf_counter() - t0)
        waiting.append(sink._put_bytes - sink._taken_bytes)
    output.delay_s = 0.0
    sink.close()
    assert statistics.median(took_s) < 0.05, "most results come while the disk is busy"
    assert sink.frames_left_out > sink.results_left_out > 0
    assert 0 < max(waiting) <= 200_000, "the memory of what waits is bounded"
    assert sink.results + sink.results_left_out == sent == sink.frames + sink.frames_left_out
    assert f"{sink.frames_left_out} frames, {sink.results_left_out} results" in sink.notes[0]
    read, recording = read_all(path)
    assert len(read) == sink.results and sum(r.frame is not None for r in read) == sink.frames
    assert recording.status.frames_left_out == sink.frames_left_out
    assert "disk was too slow" in recording.notes[0]
    for found in read:
        if found.frame is not None:
            np.testing.assert_array_equal(found.frame.image, frames[found.result.frame_id].image)


def test_a_file_as_source_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_QUEUED_BYTES", 100_000)
    monkeypatch.setattr(recorder_module, "MAX_QUEUED", 3)
    record(tmp_path / "d.mcap", 50, patient=True)
    read, recording = read_all(tmp_path / "d.mcap")
    assert len(read) == 50 and all(r.frame is not None for r in read) and recording.notes == []


def test_one_frame_larger_than_the_queue_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_QUEUED_BYTES", 10)
    record(tmp_path / "d.mcap", 1)
    assert read_all(tmp_path / "d.mcap")[0][0].frame is not None


@pytest.mark.parametrize("room", [30_000, 300_000, 1_000_000])
def test_a_full_disk_ends_the_recording_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(recorder_module, "FLUSH_S", 0.005)
    path = tmp_path / "d.mcap"
    said: list[str] = []
    output = FullFile(path)
    output.room = room
    sink = RecordSink(path, header(), output=output, say=said.append)
    written = [result(i) for i in range(60)]
    for of in written:
        sink.write(of, frame_of(of), None)
        time.sleep(0.002)
    sink.close()
    assert not path.exists() and (tmp_path / "d.part.mcap").stat().st_size == output._whole <= room
    (note,) = sink.notes
    assert "the disk is full" in note and "d.part.mcap" in note and said == [note]
    read, recording = read_all(tmp_path / "d.part.mcap")
    assert "was not finished" in recording.notes[0]
    assert (len(read) > 0) == (room > 100_000)
    for of, found in zip(written, read, strict=False):
        assert compare(of, found.result, HEADS) is None and found.frame is not None


def test_no_room_for_the_header_is_an_error_at_start(tmp_path: Path) -> None:
    output = FullFile(tmp_path / "d.mcap")
    output.room = 10
    with pytest.raises(InputError, match="No space left"):
        RecordSink(tmp_path / "d.mcap", header(), output=output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("budget", [500_000, 1_000_000, 3_000_000])
def test_the_budget_is_kept_and_the_file_is_whole(tmp_path: Path, budget: int) -> None:
    path = tmp_path / "d.mcap"
    said: list[str] = []
    sink = RecordSink(path, header(), budget_bytes=budget, say=said.append)
    for i in range(200):
        of = result(i)
        sink.write(of, frame_of(of), None)
        time.sleep(0.001)
    sink.close()
    assert budget / 2 < path.stat().st_size <= budget
    assert f"the budget of {budget / 1e6:g} MB is used up" in sink.notes[0] and said == sink.notes
    assert str(path) in sink.notes[0]
    read, recording = read_all(path)
    assert recording.whole and len(read) == sink.results > 0
    assert "budget" in recording.status.stopped and "budget" in recording.notes[0]


def test_a_budget_that_nothing_fits_in_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    path.write_text("of a run before")
    sink = RecordSink(path, header(), budget_bytes=100_000, force=True)
    sink.write(result(0), frame_of(result(0)), None)
    sink.close()
    assert sink.notes == ["recording ended after 0 results: the budget of 0.1 MB is used up; nothing of it is kept"]
    assert not sink.finished and not sink.as_json()["finished"]
    assert [p.name for p in tmp_path.iterdir()] == ["d.mcap"] and path.read_text() == "of a run before"


def test_a_bug_in_the_recorder_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = RecordSink(tmp_path / "d.mcap", header())

    def fail(*args: object, images: bool) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sink._writer, "add_round", fail)
    for i in range(3):
        of = result(i)
        sink.write(of, frame_of(of), None)
        sink.event(EVENT)
    sink.close()
    assert "RuntimeError: a bug" in sink.notes[0]


def test_nothing_seen_leaves_nothing(tmp_path: Path) -> None:
    RecordSink(tmp_path / "d.mcap", header()).close()
    assert list(tmp_path.iterdir()) == []


def test_every_second_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    sink = RecordSink(path, header())
    of = result(0)
    sink.write(of, frame_of(of), None)
    deadline = time.monotonic() + 10
    found: list[Any] = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.1)
        found = read_all(sink.part)[0]
    assert len(found) == 1
    statuses = 0
    with sink.part.open("rb") as stream:
        reader = NonSeekingReader(stream)
        try:
            for _, channel, message in reader.iter_messages(log_time_order=False):
                if channel.topic == "/edgetl/status":
                    statuses += json.loads(message.data)["results"] == 1
        except Exception:
            pass
    assert statuses >= 1
    sink.close()


def test_names_and_what_is_in_the_way(tmp_path: Path) -> None:
    for name in ("d.mp4", "d.part.mcap", "none/d.mcap"):
        with pytest.raises(InputError):
            RecordSink(tmp_path / name, header())
    for taken in ("d.mcap", "d.part.mcap"):
        (tmp_path / taken).write_text("precious")
        with pytest.raises(InputError, match="--force"):
            RecordSink(tmp_path / "d.mcap", header())
        assert (tmp_path / taken).read_text() == "precious"
        record(tmp_path / "d.mcap", 1, force=True)
        assert len(read_all(tmp_path / "d.mcap")[0]) == 1
        (tmp_path / "d.mcap").unlink()


def test_force_keeps_what_a_killed_run_left(tmp_path: Path) -> None:
    """A service that starts again has --force, and what it was recording when it fell is what people want to see."""
    path, part, killed = (tmp_path / f"d{end}" for end in (".mcap", ".part.mcap", ".killed.mcap"))
    for fell in (3, 2):
        record(part.with_name("x.mcap"), fell)
        part.with_name("x.mcap").rename(part)
        record(path, 1, force=True)
        assert len(read_all(killed)[0]) == fell and len(read_all(path)[0]) == 1
        assert not part.exists()
    record(path, 1, force=True)
    assert len(read_all(killed)[0]) == 2, "nothing was killed since"


def test_force_does_not_take_the_file_of_a_run_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    first = RecordSink(path, header())
    for i in range(3):
        first.write(result(i), frame_of(result(i)), None)
    with pytest.raises(InputError, match=r"another run is recording to .*d\.part\.mcap"):
        RecordSink(path, header(), force=True)
    first.close()
    assert first.finished and len(read_all(path)[0]) == 3
    record(path, 1, force=True)
    assert len(read_all(path)[0]) == 1


def test_without_zstandard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingPackage, match=r"edgetl\[vehicle\]"):
        RecordSink(tmp_path / "d.mcap", header())
    assert list(tmp_path.iterdir()) == []


def test_no_thread_is_left(tmp_path: Path) -> None:
    record(tmp_path / "d.mcap", 2)
    assert "recorder" not in [t.name for t in threading.enumerate()]


def test_a_status_is_empty_by_default() -> None:
    assert RecordingStatus(t_ns=0).stopped == ""
