"""Times of pictures in an mp4 that OpenCV wrote."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl_runtime.mp4 import is_whole, set_times

GAPS_MS = (100, 100, 40, 300, 100, 1000, 33, 34)


def written(path: Path, count: int, fps: float = 30.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (64, 48))
    for i in range(count):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return path


def read(path: Path) -> tuple[list[float], list[int]]:
    """When each picture is shown, in milliseconds, and how light it is."""
    capture, times, lights = cv2.VideoCapture(str(path)), [], []
    while True:
        ok, picture = capture.read()
        if not ok:
            return times, lights
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
        lights.append(round(float(picture.mean())))


def test_pictures_are_shown_as_far_apart_as_they_were_taken(tmp_path: Path) -> None:
    path = written(tmp_path / "v.mp4", 9)
    before = read(path)
    assert before[0] == pytest.approx([i * 1000 / 30 for i in range(9)], abs=1)
    times_ms = np.concatenate([[0], np.cumsum(GAPS_MS)])
    assert set_times(path, [10**15 + int(t) * 10**6 for t in times_ms], 30.0)
    found, lights = read(path)
    assert found == pytest.approx(list(times_ms), abs=1) and lights == before[1]
    assert is_whole(path)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 9
    assert 9 / capture.get(cv2.CAP_PROP_FPS) == pytest.approx(sum(GAPS_MS) / 1e3 + 1 / 30, rel=0.02)


def test_a_clock_that_does_not_rise_stands_for_the_usual_gap(tmp_path: Path) -> None:
    path = written(tmp_path / "v.mp4", 4, fps=10.0)
    assert set_times(path, [5_000_000_000, 5_400_000_000, 1_000_000_000, 1_000_000_000], 10.0)
    assert read(path)[0] == pytest.approx([0, 400, 500, 600], abs=1)


def test_a_steady_rate_and_other_counts_leave_the_file_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "v.mp4", 9)
    content = path.read_bytes()
    jitter = [i * 33_333_333 + (-1) ** i * 5_000_000 for i in range(9)]
    assert not set_times(path, jitter, 30.0)
    assert not set_times(path, [i * 10**9 for i in range(8)], 30.0), "not that many pictures"
    assert not set_times(path, [0], 30.0)
    assert not set_times(path, [i * 10**16 for i in range(9)], 30.0), "years have no place in 32 bits"
    assert path.read_bytes() == content


def test_an_index_of_another_form_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "v.mp4", 9)
    content, rng = path.read_bytes(), random.Random(0)
    times = [i * 10**8 for i in range(9)]
    start = content.index(b"moov") - 4
    for _ in range(300):
        at, length = rng.randrange(start + 8, len(content) - 4), rng.choice((0, 7, 2**31, 2**32 - 1))
        path.write_bytes(content[:at] + struct.pack(">I", length) + content[at + 4 :])
        set_times(path, times, 30.0)
    path.write_bytes(content[: start + 200])
    assert not set_times(path, times, 30.0) and not is_whole(path)
    path.write_bytes(content)
    os.truncate(path, start)
    assert not set_times(path, times, 30.0) and not is_whole(path)
