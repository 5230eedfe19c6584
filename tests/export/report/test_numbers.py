"""Numbers for reading, and ticks for axes."""

from __future__ import annotations

import itertools
import math

import pytest

from edgetl_export.report.blocks import number, significant
from edgetl_export.report.charts import scale, shorten, tick_texts, ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3, "3"),
        (1234567, "1\u202f234\u202f567"),
        (-2, "−2"),
        (2.5, "2.500"),
        (12.3456, "12.35"),
        (0.25, "0.250"),
        (1.5e-7, "1.50e−7"),
        (2.5e9 + 0.5, "2.50e9"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_a_number_reads_well(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(7.0, "7.00"), (18.04, "18.0"), (0.4216, "0.422"), (123.6, "124"), (0.0, "0"), (math.nan, "–")]
)
def test_a_measured_number_keeps_its_zeros(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 0), (5, 5), (-3, 7), (0, 1e-9), (1e6, 1e7), (99.5, 100.2), (-1e-3, -1e-4)]
)
def test_ticks_enclose_the_values_in_round_steps(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found[0] <= low + 1e-12 and found[-1] >= high - 1e-12
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert all(step == pytest.approx(steps[0], rel=1e-6) for step in steps)


def test_a_scale_maps_ends_to_ends() -> None:
    to_pixels = scale(2, 4, 100, 0)
    assert (to_pixels(2), to_pixels(3), to_pixels(4)) == (100, 50, 0)
    assert scale(1, 1, 0, 10)(1) == 0


def test_a_cut_is_marked() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.0, 2.5, 5.0], ["0.0", "2.5", "5.0"]),
        ([80.0, 80.25, 80.5], ["80.00", "80.25", "80.50"]),
        ([-1.0, 0.0, 2000.0], ["−1", "0", "2\u202f000"]),
        ([0.0, 2e-5], ["0", "2.00e−5"]),
        ([0.0, 5e7], ["0", "50\u202f000\u202f000"]),
    ],
)
def test_an_axis_has_the_same_decimals_everywhere(values: list[float], texts: list[str]) -> None:
    assert tick_texts(values) == texts
