"""From numbers to plain advice."""

from __future__ import annotations

import pytest

from edgetl.shift.accuracy import AccuracyEstimate
from edgetl.shift.advice import FEW_IMAGES, Level, advise, amount_of, in_nulls, label_count, origin_of
from edgetl.shift.distances import Interval, KernelDistance


def level(kid: float = 0.0, p: float = 0.5, ratio: float = 1.0, null: float = 0.01) -> Level:
    return Level("x", KernelDistance(Interval(kid, kid, kid), null, p), Interval(ratio, ratio, ratio))


@pytest.mark.parametrize(
    ("levels", "amount"),
    [
        ([level(), level(ratio=1.4)], "none"),
        ([level(p=0.006), level()], "none"),  # 2 levels: 0.012
        ([level(p=0.001), level()], "slight"),
        ([level(p=0.001), level(ratio=1.1)], "clear"),
        ([level(p=0.001, ratio=1.3)], "large"),
    ],
)
def test_amount(levels: list[Level], amount: str) -> None:
    assert amount_of(levels) == amount


@pytest.mark.parametrize(
    ("kids", "origin"),
    [
        ([1.0, 1.0, 1.0, 1.0], "early"),
        ([2.0, 1.0, 0.5, 0.1], "early"),
        ([0.1, 0.1, 1.0, 1.0], "late"),
        ([0.0, -0.1, 0.3, 0.2], "late"),
        ([1.0, 0.7], "early"),
        ([0.5, 9.0, 1.0], "late"),  # the middle of three belongs to neither half
        ([1.0], "unknown"),
        ([], "unknown"),
        ([0.0, 0.0], "unknown"),
    ],
)
def test_origin(kids: list[float], origin: str) -> None:
    assert origin_of([level(k) for k in kids]) == origin


def test_a_distance_below_nothing_is_nothing() -> None:
    assert in_nulls(level(-0.5)) == 0
    assert in_nulls(level(0.5, null=0.25)) == 2
    assert origin_of([level(-9.0), level(0.5), level(0.4), level(0.3)]) == "late"


def estimate(value: float, high: float, by_mean: float = 0.6) -> AccuracyEstimate:
    return AccuracyEstimate("detect", "precision", 0.4, Interval(value, value - 0.02, high), by_mean, 0.8, None)


def kinds(*args: object, **kwargs: object) -> list[str]:
    return [a.kind for a in advise(*args, new=200, first=40, **kwargs)]  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_new_images() -> None:
    """The reference may have fewer, and of the new ones some may be in the reference already."""
    texts = [a.text for a in advise("large", "late", images=30, new=250, first=37, estimates=[estimate(0.6, 0.65)])]
    assert "Label the 37 images of label_first" in texts[0]
    assert "label 50 images and measure it" in texts[2]
    assert "30 images see only large shifts" in texts[3]


def test_what_is_advised() -> None:
    assert kinds("none", "unknown", images=200) == ["none"]
    assert kinds("slight", "late", images=200) == ["none"]
    assert kinds("large", "early", images=200) == ["label", "adapt", "tune-early"]
    assert kinds("clear", "late", images=200) == ["label", "tune-late"]
    assert kinds("large", "unknown", images=200) == ["label", "adapt"]
    assert kinds("clear", "unknown", images=200) == ["label"]
    assert kinds("none", "unknown", images=FEW_IMAGES - 1) == ["none", "collect"]
    assert kinds("none", "unknown", images=FEW_IMAGES) == ["none"]
    assert kinds("none", "unknown", images=200, estimates=[estimate(0.78, 0.8)]) == ["none"]
    assert kinds("none", "unknown", images=200, estimates=[estimate(0.74, 0.79)]) == ["none"]  # by chance, perhaps
    assert kinds("none", "unknown", images=200, estimates=[estimate(0.6, 0.65)]) == ["label"]
    assert kinds("slight", "late", images=200, estimates=[estimate(0.6, 0.65)]) == ["label"]
    assert kinds("none", "unknown", images=200, estimates=[estimate(0.6, 0.65, by_mean=0.79)]) == ["none"]
    one, two = (
        advise("none", "unknown", images=200, new=200, first=40, estimates=[e])[0].text
        for e in (estimate(0.6, 0.65), estimate(0.6, 0.65, 0.7))
    )
    assert "60 %" in one
    assert "60 to 70 %" in two


@pytest.mark.parametrize(("images", "count"), [(0, 0), (5, 5), (60, 20), (500, 100), (5000, 200)])
def test_how_many_to_label(images: int, count: int) -> None:
    assert label_count(images) == count
