"""The letterbox against its definition in plain numpy, and its geometry there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl_runtime.letterbox import Letterbox, geometry, reference_letterbox
from edgetl_runtime.spec import Preprocess

sides = st.integers(1, 200)
sizes = st.tuples(sides, sides)


def preprocess(size_hw: tuple[int, int], pad_value: int = 114) -> Preprocess:
    return Preprocess(size_hw=size_hw, pad_value=pad_value, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def picture(source_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*source_hw, 3), np.uint8)


@settings(deadline=None, max_examples=150)
@given(source_hw=sizes, size_hw=sizes, pad_value=st.integers(0, 255), seed=st.integers(0, 9))
def test_equals_the_reference(source_hw: tuple[int, int], size_hw: tuple[int, int], pad_value: int, seed: int) -> None:
    rule = preprocess(size_hw, pad_value)
    image = picture(source_hw, seed)
    found, _ = Letterbox(rule)(image)
    expected = reference_letterbox(image, rule)
    assert found.shape == (1, *size_hw, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 2


@settings(deadline=None, max_examples=100)
@given(source_hw=sizes, size_hw=sizes, pad_value=st.integers(0, 255))
def test_borders_hold_the_pad_value_and_nothing_else_does(
    source_hw: tuple[int, int], size_hw: tuple[int, int], pad_value: int
) -> None:
    image = np.full((*source_hw, 3), 255 - pad_value if pad_value != 127 else 0, np.uint8)
    found, place = Letterbox(preprocess(size_hw, pad_value))(image)
    inside = np.zeros(size_hw, bool)
    top, left = place.pad_top, place.pad_left
    inside[top : top + place.new_hw[0], left : left + place.new_hw[1]] = True
    assert (found[0][~inside] == pad_value).all()
    assert (found[0][inside] == image[0, 0, 0]).all()
    assert place.new_hw[0] == size_hw[0] or place.new_hw[1] == size_hw[1]


@settings(deadline=None)
@given(sources=st.lists(sizes, min_size=2, max_size=5), size_hw=sizes)
def test_reuse_across_source_sizes_leaves_no_trace(sources: list[tuple[int, int]], size_hw: tuple[int, int]) -> None:
    rule = preprocess(size_hw)
    reused = Letterbox(rule)
    for i, source_hw in enumerate(sources):
        image = picture(source_hw, i)
        np.testing.assert_array_equal(reused(image)[0], Letterbox(rule)(image)[0])
        np.testing.assert_array_equal(reused(image)[0], Letterbox(rule)(image)[0])


@settings(deadline=None)
@given(
    source_hw=sizes,
    size_hw=sizes,
    corners=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), min_size=0, max_size=5),
)
def test_boxes_go_there_and_back(
    source_hw: tuple[int, int], size_hw: tuple[int, int], corners: list[tuple[float, ...]]
) -> None:
    place = geometry(source_hw, size_hw)
    h, w = source_hw
    boxes = np.array(corners, np.float32).reshape(-1, 4) * np.array([w, h, w, h], np.float32)
    there = place.to_network(boxes)
    assert there.dtype == np.float32 and there.shape == boxes.shape
    np.testing.assert_allclose(place.to_source(there), boxes, atol=2e-3 * max(1, *source_hw) / 100, rtol=1e-3)


def test_boxes_outside_are_clipped_on_both_sides() -> None:
    place = geometry((100, 200), (64, 64))
    wide = np.array([[-50, -50, 500, 500]], np.float32)
    assert place.to_source(wide).tolist() == [[0, 0, 200, 100]]
    assert place.to_network(wide).tolist() == [[0, 16, 64, 48]]


def test_a_known_geometry() -> None:
    place = geometry((720, 1280), (384, 640))
    assert (place.scale, place.new_hw, place.pad_top, place.pad_left) == (0.5, (360, 640), 12, 0)


def test_the_buffer_is_the_same_every_time() -> None:
    box = Letterbox(preprocess((48, 64)))
    first, _ = box(picture((90, 160)))
    second, _ = box(picture((90, 160), 1))
    assert first is second is box.tensor


def test_resizing_writes_into_the_buffer_with_borders_at_the_sides() -> None:
    box = Letterbox(preprocess((48, 64)))
    found, place = box(picture((200, 100)))
    assert place.pad_left > 0
    assert found[0, :, place.pad_left : -place.pad_left].std() > 1


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_wrong_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 BGR"):
        Letterbox(preprocess((8, 8)))(image)


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="1x1"):
        geometry((0, 4), (8, 8))
