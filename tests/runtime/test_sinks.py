"""Sinks: nothing in the way is overwritten, files are complete when they have their name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from runtime_support import DETECT, scene, small_disk

from edgetl_runtime.errors import InputError
from edgetl_runtime.health import Event
from edgetl_runtime.result import Detections, Frame, Result
from edgetl_runtime.sinks import JsonLinesSink, VideoSink, WindowSink, close_all


def result(frame_id: int = 0) -> Result:
    found = Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32), np.array([1]))
    return Result(frame_id, "cam", 10, 2_000_010, {"detect": found}, (8, 8))


def frame(frame_id: int) -> Frame:
    return Frame(scene(8, 8), frame_id, "cam", 10)


def test_events_stand_between_the_results(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "r.jsonl", (DETECT,))
    sink.write(result(0), frame(0), None)
    sink.event(Event(7, "cam", "dark", began=True, state="degraded", detail="covered"))
    sink.close()
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert rows[1] == {
        "event": {
            "t_ns": 7,
            "camera_id": "cam",
            "condition": "dark",
            "began": True,
            "state": "degraded",
            "detail": "covered",
        }
    }


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "r.jsonl", (DETECT,))
    for i in range(3):
        sink.write(result(i), frame(i), None)
        lines = (tmp_path / "r.jsonl").read_text().splitlines()
        assert [json.loads(line)["frame_id"] for line in lines] == list(range(i + 1))
    sink.close()
    sink.close()
    row = json.loads(lines[0])
    assert row["age_ms"] == 2.0
    assert row["detections"] == [{"label": "pedestrian", "class": 1, "score": 0.5, "box_xyxy": [1, 2, 3, 4]}]


def test_video_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "o.mp4", fps=30)
    for i in range(6):
        sink.write(result(i), frame(i), scene(90, 160, i))
    sink.write(result(6), frame(6), scene(45, 80, 6))
    assert not (tmp_path / "o.mp4").exists()
    sink.close()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 7
    assert int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)) == 160


@pytest.mark.parametrize(("fps", "found"), [(12.5, 12.5), (0.0, 30.0)])
def test_a_rate_that_is_unknown_is_assumed(tmp_path: Path, fps: float, found: float) -> None:
    sink = VideoSink(tmp_path / "o.mp4", fps=fps)
    sink.write(result(0), frame(0), scene(90, 160, 0))
    sink.close()
    assert cv2.VideoCapture(str(tmp_path / "o.mp4")).get(cv2.CAP_PROP_FPS) == found


def test_a_drive_of_which_frames_were_dropped_plays_as_fast_as_it_was(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "o.mp4", fps=30)
    for i in range(6):
        taken = replace(result(i), media_time_s=None, t_capture_ns=10**12 + i * 250_000_000)
        sink.write(taken, frame(i), scene(90, 160, i))
    sink.close()
    capture, shown = cv2.VideoCapture(str(tmp_path / "o.mp4")), []
    while capture.read()[0]:
        shown.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    assert shown == pytest.approx([0, 250, 500, 750, 1000, 1250], abs=1)


def test_no_picture_no_file(tmp_path: Path) -> None:
    VideoSink(tmp_path / "o.mp4", fps=30).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["o.mp4", "o.jsonl"])
def test_what_exists_is_kept_unless_forced(tmp_path: Path, name: str) -> None:
    def make(force: bool) -> JsonLinesSink | VideoSink:
        path = tmp_path / name
        if name.endswith("mp4"):
            return VideoSink(path, fps=30, force=force)
        return JsonLinesSink(path, (DETECT,), force=force)

    (tmp_path / name).write_text("precious")
    with pytest.raises(InputError, match="--force"):
        make(False)
    assert (tmp_path / name).read_text() == "precious"
    sink = make(True)
    sink.write(result(), frame(0), scene(16, 16))
    sink.close()
    assert b"precious" not in (tmp_path / name).read_bytes()


def test_names_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.mp4"):
        VideoSink(tmp_path / "o.gif", fps=30)
    with pytest.raises(InputError, match="does not exist"):
        JsonLinesSink(tmp_path / "none" / "o.jsonl", ())
    with pytest.raises(InputError, match="no plain file"):
        JsonLinesSink(tmp_path, (), force=True)


def test_a_window_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="display"):
        WindowSink("test")


def test_lines_that_the_disk_does_not_take_are_one_clear_error_at_the_end_too(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "r.jsonl", (DETECT,))
    with small_disk(1000):
        with pytest.raises(InputError, match=r"can't write .*r\.jsonl: File too large"):
            for i in range(20):
                sink.write(result(i), frame(i), None)
        with pytest.raises(InputError, match=r"can't write .*r\.jsonl: File too large"):
            sink.close()
        sink.close()
    lines = (tmp_path / "r.jsonl").read_text().splitlines(keepends=True)
    assert lines and [json.loads(line)["frame_id"] for line in lines] == list(range(len(lines)))


def test_a_video_that_the_disk_does_not_take_is_told_and_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "o.mp4").write_text("precious")
    sink = VideoSink(tmp_path / "o.mp4", fps=30, force=True)
    noise = np.random.default_rng(0)
    with small_disk(20_000):
        for i in range(30):
            sink.write(result(i), frame(i), noise.integers(0, 255, (90, 160, 3), np.uint8))
        with pytest.raises(InputError, match="could not be written to its end"):
            sink.close()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"] and (tmp_path / "o.mp4").read_text() == "precious"


def test_a_video_that_another_process_wrote_meanwhile_is_kept(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "o.mp4", fps=30)
    sink.write(result(0), frame(0), scene(90, 160, 0))
    (tmp_path / "o.mp4").write_text("precious")
    with pytest.raises(InputError, match=r"written by another process meanwhile; this video is .*o\.\d+\.mp4"):
        sink.close()
    sink.close()
    assert (tmp_path / "o.mp4").read_text() == "precious"
    (other,) = (path for path in tmp_path.iterdir() if path.name != "o.mp4")
    assert cv2.VideoCapture(str(other)).get(cv2.CAP_PROP_FRAME_COUNT) == 1


def test_a_video_clears_away_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / ".o.999999999.tmp.mp4").write_text("half a video")
    sink = VideoSink(tmp_path / "o.mp4", fps=30)
    sink.write(result(0), frame(0), scene(90, 160, 0))
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]


@pytest.mark.parametrize(
    ("size_hw", "gone", "says"), [((1, 160), False, "160x1 pixels"), ((90, 160), True, "No such file or directory")]
)
def test_a_video_that_can_not_begin_says_why(tmp_path: Path, size_hw: tuple[int, int], gone: bool, says: str) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    sink = VideoSink(folder / "o.mp4", fps=30)
    if gone:
        folder.rmdir()
    with pytest.raises(InputError, match=says):
        sink.write(result(0), frame(0), np.zeros((*size_hw, 3), np.uint8))
    sink.close()
    assert gone or list(folder.iterdir()) == []


def test_all_are_closed_where_one_can_not_be() -> None:
    class Stuck:
        closed = False

        def __init__(self, error: Exception | None) -> None:
            self.error = error

        def close(self) -> None:
            self.closed = True
            if self.error is not None:
                raise self.error

    sinks = [Stuck(None), Stuck(InputError("the disk is full")), Stuck(None)]
    with pytest.raises(InputError, match="the disk is full"):
        close_all(sinks)
    assert all(sink.closed for sink in sinks)
