"""roadworld as a live camera: the same pictures for the same seed, stamped when shown, and gone when closed."""

from __future__ import annotations

import os
import time
from itertools import islice, pairwise

import numpy as np
import pytest

from edgetl.roadworld import feed, render_clip
from edgetl.roadworld.calibrate import calibration_of
from edgetl.roadworld.live import RoadworldCamera, calibration_of_source, parse_source
from edgetl.roadworld.sample import clip_camera
from edgetl_runtime.cameras import interrupt
from edgetl_runtime.errors import CameraError, InputError

SMALL = (72, 128)


def test_it_shows_the_clip_of_its_seed_at_its_rate() -> None:
    camera = RoadworldCamera("night", seed=3, size_hw=SMALL, fps=20.0)
    frames, due_s = [], [0.0]
    for _ in range(8):
        frame = camera.read()
        assert frame is not None
        assert frame.t_capture_ns >= (due_s[-1] - 0.001) * 1e9, "never ahead of its schedule"
        frames.append(frame)
        due_s.append(camera._due_s)
    camera.close()
    wanted = islice(render_clip(3, seconds=feed.DRIVE_S, fps=20.0, size_hw=SMALL, domain="night"), 8)
    for frame, picture in zip(frames, wanted, strict=True):
        assert np.array_equal(frame.image, picture.image)
    assert [f.frame_id for f in frames] == list(range(8))
    assert all(b - a > 0.0499 for a, b in pairwise(due_s[1:]))
    assert frames[-1].t_capture_ns <= time.monotonic_ns()
    assert (camera.live, camera.camera_id, camera.frame_count) == (True, "roadworld:night:3", None)
    assert camera.read() is None


def test_drives_follow_each_other_seen_by_one_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "DRIVE_S", 0.2)
    shown = list(islice(feed.drives(7, "day", SMALL, 10.0), 5))
    for seed, start, count in ((7, 0, 2), (8, 2, 2), (9, 4, 1)):
        clip = islice(
            render_clip(seed, seconds=0.2, fps=10.0, size_hw=SMALL, domain="day", camera=clip_camera(7, SMALL)), count
        )
        for got, picture in zip(shown[start : start + count], clip, strict=True):
            assert np.array_equal(got, picture.image)


@pytest.mark.parametrize(("domain", "seed"), [("day", 7), ("fog", 8)])
def test_its_calibration_is_that_of_its_pictures(domain: str, seed: int) -> None:
    picture = next(iter(render_clip(seed, seconds=0.2, fps=10.0, size_hw=SMALL, domain=domain)))
    known = calibration_of_source(f"roadworld:{domain}:{seed}", SMALL)
    assert known == calibration_of(picture)
    assert known != calibration_of_source(f"roadworld:{domain}:{seed + 1}", SMALL)


def test_closing_ends_the_renderer_and_interrupt_ends_a_read() -> None:
    camera = RoadworldCamera("day", size_hw=SMALL)
    assert interrupt(camera)
    start = time.monotonic()
    assert camera.read() is None
    camera.close()
    camera.close()
    assert time.monotonic() - start < 10.0
    with pytest.raises(ProcessLookupError):
        os.kill(camera._process.pid, 0)


def test_a_renderer_that_dies_is_an_error() -> None:
    camera = RoadworldCamera("day", size_hw=SMALL)
    assert camera.read() is not None
    camera._process.kill()
    with pytest.raises(CameraError, match="its renderer ended"):
        for _ in range(50):
            camera.read()
    camera.close()


@pytest.mark.parametrize(
    ("source", "found"),
    [("roadworld:night", ("night", 0)), ("roadworld:fog:12", ("fog", 12)), ("roadworld:day:0", ("day", 0))],
)
def test_sources_are_parsed(source: str, found: tuple[str, int]) -> None:
    assert parse_source(source) == found


@pytest.mark.parametrize(
    "source", ["roadworld:", "roadworld:dusk", "roadworld:day:", "roadworld:day:x", "roadworld:day:-1"]
)
def test_wrong_sources_say_what_is_right(source: str) -> None:
    with pytest.raises(InputError, match=r"choose one of day|write it like"):
        parse_source(source)


@pytest.mark.parametrize("wrong", [{"fps": 0.0}, {"fps": 1e9}, {"seed": -1}, {"size_hw": (1, 1)}])
def test_wrong_requests_are_refused_before_anything_starts(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        RoadworldCamera("day", **wrong)  # type: ignore[arg-type]
