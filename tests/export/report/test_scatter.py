"""Floors, refused points, and names that stay readable."""

from __future__ import annotations

import math
import re
from itertools import combinations

import pytest

from edgetl_export.report.blocks import Point, ScatterChart
from edgetl_export.report.page import Report, Section, render
from edgetl_export.report.scatter import CHAR_PX, LABEL_GAP, scatter_chart


def chart(points: list[Point], *, floor: float | None = None) -> ScatterChart:
    """A chart of these points."""
    return ScatterChart(
        title="t", x_label="ms", y_label="AP", points=points, floor=floor, floor_label="budget", refused_label="over"
    )


def names_of(drawn: str) -> list[tuple[float, float, float, str]]:
    """Left edge, right edge, base line and text of the points' names."""
    found = []
    for kind, x, y, anchor, text in re.findall(
        r'<text class="(tick|end s0)" x="([\d.]+)" y="([\d.]+)"( text-anchor="\w+")?>(p\d+[^<]*)<', drawn
    ):
        width = CHAR_PX * len(text)
        left = float(x) - (width if "end" in anchor else 0)
        found.append((left, left + width, float(y), text))
        assert kind
    return found


def test_a_floor_is_a_line_with_a_name_inside_the_drawing() -> None:
    drawn = scatter_chart(chart([Point(label="p1", x=1, y=50)], floor=20.0))
    assert drawn.count("stroke-dasharray") == 1 and ">budget<" in drawn
    y = float(re.findall(r'stroke-dasharray="3 4" d="M64 ([\d.]+)H', drawn)[0])
    point = float(re.findall(r'cy="([\d.]+)"', drawn)[0])
    assert point < y <= 320
    assert "stroke-dasharray" not in scatter_chart(chart([Point(label="p1", x=1, y=50)]))


@pytest.mark.parametrize("y", [math.nan, math.inf])
def test_points_that_are_no_numbers_do_not_move_the_floor(y: float) -> None:
    assert (
        scatter_chart(chart([Point(label="p1", x=1, y=50), Point(label="p2", x=1, y=y)], floor=49.0)).count("<circle")
        == 1
    )


def test_a_refused_point_is_hollow_and_said_in_the_numbers() -> None:
    of = chart([Point(label="p1", x=1, y=2, refused=True), Point(label="p2", x=2, y=3)])
    assert scatter_chart(of).count("refused") == 1
    page = render(Report("t", "s", [Section("s", [of])]))
    assert page.count(">over<") == 1
    assert ">over<" not in render(Report("t", "s", [Section("s", [chart([Point(label="p2", x=2, y=3)])])]))


def test_a_point_without_a_name_is_still_drawn_and_listed() -> None:
    of = chart([Point(label="p1", x=1, y=2, named=False), Point(label="p2", x=2, y=3)])
    assert [name[3] for name in names_of(scatter_chart(of))] == ["p2"]
    assert scatter_chart(of).count("<circle") == 2
    assert "p1" in render(Report("t", "s", [Section("s", [of])]))


@pytest.mark.parametrize("spread", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_names_overlap_neither_each_other_nor_points(count: int, spread: float) -> None:
    points = [Point(label=f"p{i} openvino/int8", x=20 + spread * i, y=60 + spread * i / 9) for i in range(count)]
    drawn = scatter_chart(chart(points, floor=59.0))
    names = names_of(drawn)
    assert len(names) == count
    for a, b in combinations(names, 2):
        assert abs(a[2] - b[2]) >= LABEL_GAP - 0.2 or a[0] >= b[1] - 0.2 or b[0] >= a[1] - 0.2, (a, b)
    for left, right, base, text in names:
        assert left >= 0 and right <= 760 and 0 < base < 320, text


def test_a_name_far_from_its_point_has_a_line_to_it() -> None:
    crowded = [Point(label=f"p{i}", x=20, y=60) for i in range(10)]
    assert scatter_chart(chart(crowded)).count("leader") >= 2
    assert "leader" not in scatter_chart(chart(crowded[:1]))
