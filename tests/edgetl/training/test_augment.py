"""Augmentation: labels follow the pixels, nothing readable is mirrored, one seed gives one view."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgetl.data import VOID, MaskLayer, Sample, read_dataset
from edgetl.training.augment import AugmentConfig, Sides, View, augmented_view, sided_classes, whole_view
from edgetl_runtime.errors import InputError

PLAIN = AugmentConfig(
    mount=0, brightness=0, contrast=0, saturation=0, balance=0, blur=0, motion=0, noise=0, night=0, fog=0, jpeg=0,
    pad_value=0,
)  # fmt: skip
LAYER = MaskLayer("things", ("ground", "thing"))
NAMES = tuple(f.name for f in dataclasses.fields(View))


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A black image with one pure red rectangle, which is class 1 of a mask and the only box."""
    image, mask = np.zeros((180, 320, 3), np.uint8), np.zeros((180, 320), np.uint8)
    image[60:120, 100:200] = (0, 0, 255)
    mask[60:120, 100:200] = 1
    cv2.imwrite(str(tmp_path / "frame.png"), image)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    box = np.array([[100 / 320, 60 / 180, 200 / 320, 120 / 180]], np.float32)
    return Sample(
        tmp_path / "frame.png", box, np.array([0]), np.array([False]), "g", category=2, masks=(tmp_path / "mask.png",)
    )


def crop(sample: Sample, seed: int = 0, **changes: object) -> View:
    options: dict[str, object] = {
        "crop_hw": (128, 192),
        "network_hw": (192, 320),
        "sided": Sides(),
        "config": PLAIN,
        "rng": np.random.default_rng(seed),
    }
    return augmented_view(sample, **{**options, **changes})  # type: ignore[arg-type]


def equal(a: View, b: View) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in NAMES)


@pytest.mark.parametrize("mount", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_follow_the_pixels(sample: Sample, seed: int, mount: float) -> None:
    config = dataclasses.replace(PLAIN, mount=mount)
    view = crop(sample, seed, config=config, layers=(LAYER,))
    assert view.image.shape == (128, 192, 3)
    assert view.image.flags.c_contiguous
    assert view.category == 2
    red = view.image[:, :, 2] > 127
    assert (red != (view.masks[0] == 1)).mean() < 0.02
    if not red.any():
        assert len(view.boxes) == 0 or view.ignore.all()
        return
    where = np.argwhere(red)
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0) + 1
    np.testing.assert_allclose(view.boxes[0], [left, top, right, bottom], atol=1.6 if not mount else 2.5)


@pytest.mark.parametrize("mount", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_a_mirrored_view_is_the_view_mirrored(sample: Sample, seed: int, mount: float) -> None:
    """To the pixel: a box that is one off would be learnt so."""
    config = dataclasses.replace(PLAIN, mount=mount)
    plain, flipped = (
        crop(sample, seed, config=dataclasses.replace(config, mirror=chance), layers=(LAYER,)) for chance in (0.0, 1.0)
    )
    np.testing.assert_array_equal(flipped.image, plain.image[:, ::-1])
    np.testing.assert_array_equal(flipped.masks[0], plain.masks[0][:, ::-1])
    width, boxes = plain.image.shape[1], plain.boxes
    expected = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    np.testing.assert_allclose(flipped.boxes, expected, atol=1e-3)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("turn", [0.0, 8.0])
def test_a_whole_view_follows_too_and_keeps_its_sides(sample: Sample, seed: int, turn: float) -> None:
    config = dataclasses.replace(PLAIN, mirror=1.0, turn_deg=turn, pad_value=50)
    view = whole_view(sample, network_hw=(200, 320), config=config, rng=np.random.default_rng(seed), layers=(LAYER,))
    assert view.image.shape == (200, 320, 3)
    # The frame is 180 rows high: the letterbox's rows are as in the vehicle, without a label.
    assert (view.image[:10] == 50).all()
    assert (view.masks[0][190:] == VOID).all()
    red = view.image[:, :, 2] > 127
    inside = view.masks[0] != VOID
    assert (red[inside] != (view.masks[0][inside] == 1)).mean() < 0.02
    where = np.argwhere(red)
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0) + 1
    np.testing.assert_allclose(view.boxes[0], [left, top, right, bottom], atol=2.5)
    # The rectangle stands left of the middle and stays within a shift of where it was.
    assert abs((left + right) / 2 - 150) < 0.08 * 320 + 6


def test_whole_views_of_a_mirrored_frame_are_not_views_of_the_frame(sample: Sample, tmp_path: Path) -> None:
    """Nothing in a whole view's chance turns left into right."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:56, 6:20] = 255
    path = tmp_path / "left.png"
    cv2.imwrite(str(path), image)
    bar = dataclasses.replace(sample, image=path, masks=(), boxes=sample.boxes[:0], labels=sample.labels[:0])
    bar = dataclasses.replace(bar, ignore=sample.ignore[:0])
    for seed in range(20):
        view = whole_view(bar, network_hw=(64, 64), config=AugmentConfig(mirror=1), rng=np.random.default_rng(seed))
        assert view.image[:, :32].mean() > view.image[:, 32:].mean()


def test_padding_is_as_in_the_vehicle_whatever_the_light(sample: Sample) -> None:
    config = AugmentConfig(zoom=(0.5, 0.5), night=1.0, noise=1.0, jpeg=1.0, mount=1.0)
    for seed in range(4):
        view = crop(sample, seed, crop_hw=(192, 320), config=config, layers=(LAYER,))
        padding = view.masks[0] == VOID
        assert padding.sum() > 192 * 320 / 2
        assert (view.image[padding] == 114).all()


def test_an_image_without_mask_is_void_and_a_mask_may_be_of_another_size(sample: Sample, tmp_path: Path) -> None:
    none = crop(dataclasses.replace(sample, masks=(None,)), layers=(LAYER,))
    short = crop(dataclasses.replace(sample, masks=()), layers=(LAYER,))
    assert (none.masks[0] == VOID).all()
    assert (short.masks[0] == VOID).all()
    assert none.masks[0].shape == (128, 192)
    small = np.zeros((90, 160), np.uint8)
    small[30:60, 50:100] = 1
    cv2.imwrite(str(tmp_path / "small.png"), small)
    other = crop(dataclasses.replace(sample, masks=(tmp_path / "small.png",)), layers=(LAYER,))
    np.testing.assert_array_equal(other.masks[0], crop(sample, layers=(LAYER,)).masks[0])
    cv2.imwrite(str(tmp_path / "turned.png"), np.zeros((320, 180), np.uint8))
    with pytest.raises(InputError, match=r"turned\.png: a mask of 180x320 pixels for an image of 320x180"):
        crop(dataclasses.replace(sample, masks=(tmp_path / "turned.png",)), layers=(LAYER,))


@pytest.mark.parametrize(
    ("changes", "mirrored"),
    [
        ({}, True),
        ({"sided": sided_classes(("traffic sign",))}, False),
        ({"sided": sided_classes(("left arrow",))}, False),
        ({"sided": sided_classes(("car",))}, True),
        ({"sided_categories": sided_classes(("a", "b", "right turn"))}, False),
        ({"sided_categories": sided_classes(("right turn", "b", "c"))}, True),
        ({"layers": (MaskLayer("lanes", ("ground", "left line")),)}, False),
        ({"layers": (MaskLayer("lanes", ("ground", "sign-symbol")),)}, True),
        ({"layers": (MaskLayer("lanes", ("ground", "line")),)}, True),
    ],
)
def test_what_has_sides_is_never_mirrored(sample: Sample, changes: dict[str, object], mirrored: bool) -> None:
    always = dataclasses.replace(PLAIN, mirror=1.0, zoom=(1.0, 1.0))
    for seed in range(4):
        view = crop(sample, seed, crop_hw=(192, 320), config=always, **changes)
        # The rectangle's middle is at 150 of 320 pixels.
        assert (view.boxes[0, [0, 2]].mean() > 160) == mirrored
        assert (np.argwhere(view.image[:, :, 2] > 127)[:, 1].mean() > 160) == mirrored


def test_a_sign_too_small_to_read_may_be_mirrored_and_a_small_left_arrow_not(sample: Sample) -> None:
    config = dataclasses.replace(PLAIN, mirror=1.0, zoom=(0.35, 0.35))
    found = []
    for name in ("traffic sign", "left arrow"):
        views = [crop(sample, s, crop_hw=(192, 320), config=config, sided=sided_classes((name,))) for s in range(3)]
        plain = [crop(sample, s, crop_hw=(192, 320), config=config) for s in range(3)]
        found.append([equal(a, b) for a, b in zip(views, plain, strict=True)])
    assert found == [[True] * 3, [False] * 3]


def test_sides_by_name() -> None:
    names = ("car", "traffic sign", "Left arrow", "sign-symbol", "turn right", "bright", "traffic signal", "upright")
    assert sided_classes(names) == Sides(turned=frozenset({2, 4}), written=frozenset({1, 3}))
    assert sided_classes(()) == Sides()


@pytest.mark.parametrize("whole", [False, True])
def test_one_seed_one_view_whatever_thread_and_global_state(sample: Sample, whole: bool) -> None:
    config = AugmentConfig(mount=1, noise=1, jpeg=1, motion=1)

    def make(seed: int) -> View:
        torch.manual_seed(int(np.random.default_rng().integers(1000)))
        if whole:
            return whole_view(
                sample, network_hw=(96, 96), config=config, rng=np.random.default_rng(seed), layers=(LAYER,)
            )
        return crop(sample, seed, crop_hw=(96, 96), config=config, layers=(LAYER,))

    first = [make(s) for s in range(6)]
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(make, range(6)))
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({v.image.tobytes() for v in first}) == len(first)
    before = torch.get_rng_state()
    crop(sample, 1, config=config)
    assert torch.equal(before, torch.get_rng_state())


def test_a_crop_looks_at_a_rare_class_as_often_as_at_a_common_one(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.zeros((100, 1000, 3), np.uint8))
    cars = [[0.02 * i, 0.4, 0.02 * i + 0.02, 0.6] for i in range(10)]
    boxes = np.array([*cars, [0.9, 0.4, 0.92, 0.6]], np.float32)
    sample = Sample(path, boxes, np.array([0] * 10 + [1]), np.zeros(11, np.bool_), "g")
    config = dataclasses.replace(PLAIN, aim=1.0, zoom=(1.0, 1.0))
    views = [crop(sample, s, crop_hw=(100, 100), network_hw=(100, 1000), config=config) for s in range(60)]
    assert all((~v.ignore).any() for v in views)
    assert 18 < sum(bool((v.labels == 1).any()) for v in views) < 42


def test_a_crop_never_looks_for_an_ignored_object(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.zeros((100, 1000, 3), np.uint8))
    boxes = np.array([[0.1, 0.4, 0.12, 0.6], [0.9, 0.4, 0.92, 0.6]], np.float32)
    sample = Sample(path, boxes, np.array([0, 1]), np.array([True, False]), "g")
    config = dataclasses.replace(PLAIN, aim=1.0, zoom=(1.0, 1.0))
    views = [crop(sample, s, crop_hw=(100, 100), network_hw=(100, 1000), config=config) for s in range(20)]
    assert all(v.labels.tolist() == [1] for v in views)


def test_ignored_and_cut_off_objects_stay_ignored_and_no_objects_are_fine(sample: Sample) -> None:
    ignored = dataclasses.replace(sample, ignore=np.array([True]))
    assert all(crop(ignored, s).ignore.all() for s in range(5))
    empty = Sample(sample.image, sample.boxes[:0], sample.labels[:0], sample.ignore[:0], "g")
    for mount in (0.0, 1.0):
        view = crop(empty, config=dataclasses.replace(PLAIN, mount=mount))
        assert view.boxes.shape == (0, 4)
        assert view.boxes.dtype == np.float32
        assert view.category == -1
        assert view.masks == ()


def test_a_file_that_is_no_image_is_named(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.jpg"):
        crop(dataclasses.replace(sample, image=tmp_path / "bad.jpg"))


@pytest.mark.real_data
def test_real_frames_keep_most_of_their_light_and_objects(real_data: Path) -> None:
    dataset = read_dataset(real_data / "bdd", "train").take(40)
    means, kept, total = [], 0, 0
    for i, sample in enumerate(dataset.samples):
        view = crop(
            sample, i, crop_hw=(352, 640), network_hw=(352, 640), config=AugmentConfig(),
            sided=sided_classes(dataset.classes),
        )  # fmt: skip
        means.append(view.image.mean())
        kept, total = kept + int((~view.ignore).sum()), total + int((~sample.ignore).sum())
        assert (view.boxes >= 0).all()
        assert (view.boxes <= [640, 352, 640, 352]).all()
    assert kept > 0.6 * total
    # By day 80 to 135; a few of them are turned to night.
    assert 80 < np.median(means) < 135
    assert np.mean(np.array(means) < 45) < 0.25
