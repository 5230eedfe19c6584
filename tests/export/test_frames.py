"""Which frames may serve for calibration."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl_export.frames import check_frames, scenes
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.spec import Preprocess

SIZE_HW = (64, 96)
Frame = NDArray[np.uint8]


def squares(count: int) -> list[Frame]:
    """Grey frames with one bright square each, at another place."""
    frames = [np.full((1, *SIZE_HW, 3), 60, np.uint8) for _ in range(count)]
    for i, frame in enumerate(frames):
        y, x = divmod(i * 24, 72)
        frame[0, y : y + 24, x : x + 24] = (250, 40, 200)
    return frames


def noise(count: int, size_hw: tuple[int, int] = SIZE_HW) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (1, *size_hw, 3), np.uint8) for _ in range(count)]


def letterboxed(files: list[Path], size_hw: tuple[int, int]) -> list[Frame]:
    letterbox = Letterbox(Preprocess(size_hw=size_hw, mean=(0, 0, 0), std=(1, 1, 1)))
    return [letterbox(cv2.imread(str(file)))[0].copy() for file in files]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_frames_of_different_scenes_pass(count: int) -> None:
    check_frames(squares(count), SIZE_HW)


def test_no_frames() -> None:
    with pytest.raises(InputError, match="no calibration frames"):
        check_frames([], SIZE_HW)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (np.zeros((1, 64, 64, 3), np.uint8), r"found uint8 \(1, 64, 64, 3\)"),
        (np.zeros((64, 96, 3), np.uint8), r"found uint8 \(64, 96, 3\)"),
        (np.zeros((1, 64, 96, 3), np.float32), r"found float32 \(1, 64, 96, 3\)"),
    ],
)
def test_a_frame_of_another_form_is_named(wrong: Frame, found: str) -> None:
    frames = [*squares(2), wrong]
    with pytest.raises(InputError, match=r"number 3: expected uint8 \(1, 64, 96, 3\), " + found):
        check_frames(frames, SIZE_HW)
    with pytest.raises(InputError, match=r"frame c\.jpg:"):
        check_frames(frames, SIZE_HW, names=["a.jpg", "b.jpg", "c.jpg"])


@pytest.mark.parametrize("size_hw", [(32, 32), SIZE_HW, (352, 640)])
def test_noise_is_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="4 of 4 calibration frames are random noise"):
        check_frames(noise(4, size_hw), size_hw)


def test_one_frame_of_noise_among_others_is_named() -> None:
    with pytest.raises(InputError, match="1 of 4 calibration frames are random noise, number 4 first"):
        check_frames([*squares(3), *noise(1)], SIZE_HW)


def test_texture_and_a_dark_sensor_are_no_noise() -> None:
    """Gravel has as little contrast in means as noise; a covered lens shows grain of a level or two."""
    size_hw = (352, 640)
    rng = np.random.default_rng(1)
    gravel = [np.asarray(cv2.GaussianBlur(f[0], (0, 0), 1.5), np.uint8)[None] for f in noise(2, size_hw)]
    means = cv2.resize(gravel[0][0], (8, 8), interpolation=cv2.INTER_AREA)
    assert gravel[0].std() > 10 > 4 * means.std()
    grain = [rng.integers(3, 6, (1, *size_hw, 3), np.uint8) for _ in range(2)]
    check_frames([*gravel, *grain], size_hw)


def test_one_picture_many_times() -> None:
    with pytest.raises(InputError, match="all 5 calibration frames show one scene"):
        check_frames(squares(1) * 5, SIZE_HW)
    with pytest.raises(InputError, match="all 3 calibration frames show one scene"):
        check_frames([np.full((1, *SIZE_HW, 3), 90, np.uint8)] * 3, SIZE_HW)
    with pytest.raises(InputError, match="the one calibration frame shows one scene"):
        check_frames(squares(1), SIZE_HW)


def test_nearly_all_of_one_scene() -> None:
    """One other frame in twenty makes no second scene of the set; one in five does."""
    first, second = squares(2)
    with pytest.raises(InputError, match="19 of 20 calibration frames show one scene"):
        check_frames([*[first] * 19, second], SIZE_HW)
    check_frames([*[first] * 4, second], SIZE_HW)


def test_a_chain_of_small_steps_is_one_scene_whatever_the_brightness() -> None:
    ramp = np.linspace(0, 200, 96, dtype=np.float32)
    drive = [np.tile(np.roll(ramp, 2 * i) * (0.5 + i / 40), (64, 1)) for i in range(20)]
    ends = np.corrcoef(drive[0].ravel(), drive[-1].ravel())[0, 1]
    assert ends < 0.5, "the ends have little in common"
    assert scenes(drive).tolist() == [0] * 20
    assert scenes([drive[0], drive[-1], drive[1]]).tolist() == [0, 1, 0]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "pattern", "size_hw"),
    [
        ("bdd/images/day_train", "*.jpg", (352, 640)),
        ("bdd/images/night_val", "*.jpg", (352, 640)),
        ("camvid/images/train", "*", (352, 480)),
        ("gtsrb/train", "*/*", (32, 32)),
    ],
)
def test_real_sets_pass(real_data: Path, folder: str, pattern: str, size_hw: tuple[int, int]) -> None:
    files = sorted((real_data / folder).glob(pattern))
    check_frames(letterboxed(files[:: len(files) // 64][:64], size_hw), size_hw)


@pytest.mark.real_data
@pytest.mark.parametrize("start", [0, 2])
def test_one_second_of_a_clip_is_refused(real_data: Path, start: int) -> None:
    clips = sorted((real_data / "videos").glob("*.mp4"))
    assert clips
    letterbox = Letterbox(Preprocess(size_hw=(176, 320), mean=(0, 0, 0), std=(1, 1, 1)))
    for clip in clips:
        capture = cv2.VideoCapture(str(clip))
        frames = [letterbox(image)[0].copy() for ok, image in (capture.read() for _ in range(75)) if ok]
        second = frames[25 * start : 25 * start + 25]
        if len(second) == 25:
            with pytest.raises(InputError, match="all 25 calibration frames show one scene"):
                check_frames(second, (176, 320))
