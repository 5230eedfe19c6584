"""The page names what was chosen, what was left out and what could not be measured."""

from __future__ import annotations

import pytest

from edgetl.ranking.candidates import Candidate
from edgetl.ranking.combine import Placed
from edgetl.ranking.halving import Halving, Rung
from edgetl.ranking.latency import Time
from edgetl.ranking.page import rank_page, within
from edgetl.ranking.prior import published
from edgetl.ranking.rank import Ranked, Skipped
from edgetl_export.report.blocks import Point, ScatterChart
from edgetl_export.report.page import Report, Section, render
from edgetl_export.report.scatter import front, scatter_chart


def _ranked(name: str, place: int, knn: float) -> Ranked:
    placed = Placed(
        place - 1, place, float(place), 0.8 if place == 1 else 0.2, None, (knn - 0.1, 0, 0), (knn + 0.1, 1, 1)
    )
    return Ranked(Candidate(name, "hub"), placed, knn, 0.1, 2.0, published(name, "hub"), "the hub", "apache-2.0")


def test_the_page_says_what_to_take_and_why_not_the_others() -> None:
    ranked = [_ranked("resnet18", 1, 0.7), _ranked("vgg16", 2, 0.6)]
    page = rank_page(
        ranked,
        [Skipped(Candidate("resnet50", "hub"), "the hub <gave> no answer")],
        {"resnet18": Time(5.5, "openvino/int8"), "vgg16": Time(None, why="too large")},
        Halving(("resnet18:hub", "vgg16:hub"), (Rung(60, {"resnet18:hub": 0.4, "vgg16:hub": 0.3}),)),
        chosen=ranked[0],
        budget_ms=6.0,
        title="Which network",
        subtitle="",
        note="no time for vgg16: too large",
    )
    html = render(page)
    for text in (
        "take this",
        "resnet18",
        "80%",
        "5.50 ms",
        "71.5",
        "no time for vgg16",
        "after 60 steps",
        "budget 6 ms",
    ):
        assert text in html, text
    assert "the hub &lt;gave&gt; no answer" in html


def test_without_times_there_is_no_chart() -> None:
    page = rank_page(
        [_ranked("resnet18", 1, 0.7)], [], {}, None, chosen=None, budget_ms=None, title="t", subtitle="", note=""
    )
    assert [s.title for s in page.sections] == ["Order", "How it was measured"]


@pytest.mark.parametrize(
    ("time", "budget", "expected"),
    [
        (Time(5.0), 6.0, True),
        (Time(5.0), 5.0, True),
        (Time(5.0), 4.0, False),
        (Time(None), 4.0, None),
        (None, 4.0, None),
        (Time(5.0), None, None),
    ],
)
def test_within(time: Time | None, budget: float | None, expected: bool | None) -> None:
    assert within(time, budget) is expected


def test_the_front_is_what_no_other_point_beats() -> None:
    places = [(1, 0.2), (2, 0.5), (2, 0.4), (3, 0.5), (4, 0.9), (0.5, 0.1), (5, 0.8)]
    points = [Point(label="", x=x, y=y) for x, y in places]
    beaten = {i for i, (x, y) in enumerate(places) if any(a <= x and b >= y and (a, b) != (x, y) for a, b in places)}
    assert set(front(points)) == set(range(len(places))) - beaten


def test_a_chart_draws_every_point_its_name_and_the_limit() -> None:
    points = [Point(label=f"network{i}", x=i + 1.0, y=0.5, low=0.4, high=0.6) for i in range(3)]
    drawn = scatter_chart(
        ScatterChart(title="t", x_label="ms", y_label="kNN", points=points, limit=2.5, limit_label="budget")
    )
    assert drawn.count("<circle") == 3
    assert all(f">network{i}<" in drawn for i in range(3))
    assert ">budget<" in drawn


def test_a_chart_of_nothing_says_so() -> None:
    assert "nothing was measured" in scatter_chart(ScatterChart(title="t", x_label="", y_label="", points=[]))
    nan = [Point(label="a", x=float("nan"), y=1.0)]
    assert "nothing was measured" in scatter_chart(ScatterChart(title="t", x_label="", y_label="", points=nan))


def test_names_from_outside_never_become_markup() -> None:
    evil = '<script>alert("x")</script>'
    chart = ScatterChart(
        title=evil, x_label=evil, y_label=evil, points=[Point(label=evil, x=1, y=1)], caption=evil, limit=2,
        limit_label=evil,
    )  # fmt: skip
    html = render(Report("t", "s", [Section("c", [chart])]))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
