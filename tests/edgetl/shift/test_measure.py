"""One finding from the features of two sides."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.shift.measure import Shift, measure_shift
from edgetl.shift.source import Features
from edgetl_runtime.errors import InputError


def seen(count: int, *, move: float = 0.0, seed: int = 0) -> Features:
    """What a network without levels sees in `count` images; `move` takes them all away from the usual."""
    rng = np.random.default_rng(seed)
    return Features((), (rng.normal(size=(count, 8)) + move).astype(np.float32))


def compared(reference: Features, data: Features, reference_groups: list[str] | None = None) -> Shift:
    """The finding where every image is a group of its own, unless the reference's groups are given."""
    names = [f"r{i}" for i in range(len(reference.embedding))]
    return measure_shift(reference, data, reference_groups or names, [f"d{i}" for i in range(len(data.embedding))])


@pytest.mark.parametrize("count", [20, 21, 22])
def test_the_fewest_images_are_compared(count: int) -> None:
    found = compared(seen(count), seen(count, seed=1))
    assert len(found.images.reference) == len(found.images.distances) == count
    with pytest.raises(InputError, match="the reference has 19 images, a comparison needs at least 20"):
        compared(seen(19), seen(count, seed=1))


def test_a_drive_that_is_nearly_all_of_the_reference_is_left_out_image_by_image() -> None:
    found = compared(seen(100), seen(100, seed=1), ["long"] * 90 + ["short"] * 10)
    assert len(found.images.reference) == 100
    assert found.images.untypical < 0.1


def test_the_advice_names_as_many_images_as_the_list_has() -> None:
    found = compared(seen(25), seen(120, move=3, seed=1))
    assert found.amount == "large" and len(found.images.label_first) == 24
    assert "Label the 24 images of label_first" in found.advice[0].text
