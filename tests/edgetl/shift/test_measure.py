"""One finding from the features of two sides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgetl.shift.measure import SHOWN, Shift, document_of, level_names, measure_shift
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


def test_too_few_new_images_are_refused() -> None:
    with pytest.raises(InputError, match="the data has 19 images, a comparison needs at least 20"):
        compared(seen(20), seen(19))


def with_levels(moves: tuple[float, ...], *, seed: int, count: int = 30) -> Features:
    """Levels of which each is moved by its own amount, and an embedding that isn't."""
    levels = tuple(seen(count, move=m, seed=seed + i).embedding for i, m in enumerate(moves))
    return Features(levels, seen(count, seed=seed + 50).embedding)


@pytest.mark.parametrize(
    ("moves", "amount", "origin"),
    [
        ((0, 0, 0, 0), "none", "unknown"),
        ((4, 4, 4, 4), "large", "early"),
        ((0, 0, 4, 4), "large", "late"),
        ((4,), "large", "unknown"),
    ],
)
def test_the_levels_say_how_large_and_from_where(moves: tuple[float, ...], amount: str, origin: str) -> None:
    found = compared(with_levels((0,) * len(moves), seed=0), with_levels(moves, seed=100))
    assert (found.amount, found.origin, found.shifted) == (amount, origin, amount == "large")
    assert [level.name for level in (*found.levels, found.overall)] == [*level_names(len(moves)), "embedding"]
    assert not dataclasses.replace(found, amount="slight").shifted
    assert dataclasses.replace(found, amount="clear").shifted


def test_levels_are_called_by_their_strides_where_these_are_known() -> None:
    assert level_names(4) == ("stride 4", "stride 8", "stride 16", "stride 32")
    assert level_names(2) == ("level 1 of 2", "level 2 of 2")


def test_single_images_in_the_document() -> None:
    """In the reference the first channel spreads ten times as far as the second: distances are in its spreads."""
    rng = np.random.default_rng(0)
    spread = np.array([10, 1])
    reference = (rng.normal(size=(60, 2)) * spread).astype(np.float32)
    data = (rng.normal(size=(25, 2)) * spread * 0.5).astype(np.float32)
    data[3], data[4], data[5] = (0, 15), (60, 0), (0, 0)
    found = compared(Features((), reference), Features((), data))
    names = [f"{i}.png" for i in range(25)]
    document = document_of(found, names)
    least = [image["image"] for image in document["least_typical"]]  # type: ignore[attr-defined]
    assert least[:2] == ["3.png", "4.png"] and len(least) == SHOWN
    assert document["label_first"][:2] == ["3.png", "4.png"]  # type: ignore[index]
    distances = found.images.distances
    assert (np.diff(distances[found.images.most]) >= 0).all() and distances[found.images.most[0]] == distances.min()
    assert document["least_typical"][0]["distance"] == distances.max()  # type: ignore[index]
    at_limit = dataclasses.replace(found.images, distances=np.array([1.0, 2.0, 3.0, 4.0]), limit=3.0)
    assert at_limit.untypical == 0.25


def test_the_seed_draws_every_interval() -> None:
    sides = [(seen(30), seen(30, seed=1))] * 3
    groups = ([f"r{i}" for i in range(30)], [f"d{i}" for i in range(30)])
    one, again, other = (measure_shift(*s, *groups, seed=n).overall for s, n in zip(sides, (1, 1, 2), strict=True))
    assert one == again
    assert one.kernel.value.low != other.kernel.value.low and one.neighbours.low != other.neighbours.low
