"""Frames for labelling: only while the domain is shifted, spaced, within the budget, and found again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from runtime_support import scene, small_disk

from edgetl_runtime.collect import INDEX, CollectSink
from edgetl_runtime.errors import InputError
from edgetl_runtime.health import Event
from edgetl_runtime.result import Frame, Result

START_NS, START_UNIX_S = time.monotonic_ns(), time.time()


def shifted(began: bool) -> Event:
    return Event(0, "cam", "shifted", began=began, state="degraded" if began else "ok", detail="")


def give(sink: CollectSink, number: int, *, seconds: float, shift: float | None = 0.999) -> None:
    stamp = START_NS + int(seconds * 1e9)
    frame = Frame(scene(90, 160, number), number, "cam", stamp)
    sink.write(Result(number, "cam", stamp, stamp, {}, (90, 160), shift=shift, health="degraded"), frame, None)
    while not sink._queue.empty():
        time.sleep(0.002)
    time.sleep(0.02)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*.jpg"))


def test_only_strange_frames_while_the_domain_is_shifted(tmp_path: Path) -> None:
    sink = CollectSink(tmp_path / "new", budget_mb=10, session="s")
    give(sink, 0, seconds=0)
    sink.event(shifted(True))
    give(sink, 1, seconds=1)
    give(sink, 2, seconds=1.5)
    give(sink, 3, seconds=2.5, shift=0.5)
    give(sink, 4, seconds=3, shift=None)
    give(sink, 5, seconds=3.5)
    sink.event(Event(0, "cam", "dark", began=True, state="degraded", detail=""))
    give(sink, 6, seconds=5)
    sink.event(shifted(False))
    give(sink, 7, seconds=7)
    sink.close()
    sink.close()
    assert names(tmp_path / "new") == [f"s-{i:08d}.jpg" for i in (1, 5, 6)]
    rows = [json.loads(line) for line in (tmp_path / "new" / INDEX).read_text().splitlines()]
    assert [row["frame_id"] for row in rows] == [1, 5, 6] and rows[0]["shift"] == 0.999
    assert abs(rows[0]["t_capture_unix_s"] - (START_UNIX_S + 1)) < 0.5
    picture = cv2.imread(str(tmp_path / "new" / rows[0]["file"]))
    assert np.abs(picture.astype(int) - scene(90, 160, 1)).mean() < 3
    assert sink.notes == [f"kept 3 frames for labelling in {tmp_path / 'new'}"]


def test_the_budget_counts_what_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "old.jpg").write_bytes(bytes(95_000))
    sink = CollectSink(tmp_path, budget_mb=0.1, session="s")
    sink.event(shifted(True))
    for i in range(20):
        give(sink, i, seconds=2.0 * i)
    sink.close()
    assert 0 < sink.kept < 20
    assert sum(p.stat().st_size for p in tmp_path.glob("*.jpg")) <= 100_000
    assert sink.notes[1] == "no more frames are kept: the budget of 0.1 MB is used up"


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write to"):
        CollectSink(tmp_path / "file", budget_mb=1)


def test_a_disk_that_fails_ends_the_collecting_and_not_the_run(tmp_path: Path) -> None:
    sink = CollectSink(tmp_path / "gone", budget_mb=1, session="s")
    sink.event(shifted(True))
    for path in (tmp_path / "gone").iterdir():
        path.unlink()
    (tmp_path / "gone").rmdir()
    give(sink, 0, seconds=0)
    give(sink, 1, seconds=5)
    sink.close()
    assert sink.kept == 0 and "no more frames are kept" in sink.notes[0]


def test_a_full_disk_is_a_note_and_leaves_no_half_written_frame(tmp_path: Path) -> None:
    sink = CollectSink(tmp_path, budget_mb=1, session="s")
    sink.event(shifted(True))
    with small_disk(1000):
        give(sink, 0, seconds=0)
        sink.close()
    assert [p.name for p in tmp_path.iterdir()] == [INDEX] and "File too large" in sink.notes[0]


def test_an_index_that_does_not_take_its_line_is_a_note(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_bytes(bytes(50_000))
    sink = CollectSink(tmp_path, budget_mb=1, session="s")
    sink.event(shifted(True))
    with small_disk(50_000):
        give(sink, 0, seconds=0)
        sink.close()
        sink.close()
    assert "no more frames are kept: [Errno 27] File too large" in sink.notes[-1]


def test_a_run_of_the_same_second_keeps_what_the_one_before_kept(tmp_path: Path) -> None:
    for level in (10, 200):
        sink = CollectSink(tmp_path, budget_mb=1, session="s")
        frame = Frame(np.full((8, 8, 3), level, np.uint8), 7, "cam", START_NS)
        sink.offer(Result(7, "cam", START_NS, START_NS, {}, (8, 8), shift=0.999), frame)
        sink.close()
    assert names(tmp_path) == ["s-00000007.2.jpg", "s-00000007.jpg"]
    rows = [json.loads(line) for line in (tmp_path / INDEX).read_text().splitlines()]
    levels = [cv2.imread(str(tmp_path / row["file"])).mean() for row in rows]
    assert levels[0] < 20 and levels[1] > 190


def test_of_a_file_the_time_in_it_counts_however_fast_it_is_read(tmp_path: Path) -> None:
    sink = CollectSink(tmp_path, budget_mb=1, session="s")
    for number in range(6):
        frame = Frame(scene(8, 8), number, "clip", START_NS + number)
        result = Result(number, "clip", START_NS + number, START_NS, {}, (8, 8), shift=0.999, media_time_s=number / 2)
        sink.offer(result, frame)
        while not sink._queue.empty():
            time.sleep(0.002)
        time.sleep(0.02)
    sink.close()
    assert names(tmp_path) == [f"s-{i:08d}.jpg" for i in (0, 2, 4)]
