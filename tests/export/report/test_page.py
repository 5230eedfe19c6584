"""The page: well formed, escaped, offline, and with every number that it was given."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgetl_export.report.blocks import (
    Badge,
    Bar,
    BarChart,
    Block,
    Code,
    Facts,
    Gallery,
    KeyFigure,
    KeyFigures,
    LineChart,
    Note,
    Num,
    Picture,
    Point,
    ScatterChart,
    Series,
    Table,
    Text,
)
from edgetl_export.report.page import RENDERERS, Report, Section, render, write_report
from edgetl_runtime.errors import InputError

EVIL = '<script>alert("x")</script>&\'"'
VOID = {"meta", "img", "br"}
JPEG = b"\xff\xd8\xff\xe0 a very small picture \xff\xd9"


class Reader(HTMLParser):
    """Counts tags and attributes, and fails on a tag that does not close."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, cls: str = "") -> int:
        """How many elements of this name have this class."""
        return sum(t == tag and (not cls or cls in a.get("class", "").split()) for t, a in self.tags)


def read(*blocks: Block) -> Reader:
    """The page that holds these blocks, parsed."""
    return parse(render(Report("title", "subtitle", [Section("section", blocks)])))


def parse(html: str) -> Reader:
    """A page, parsed; every tag must close."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def every_block(text: str) -> list[Block]:
    """One of each kind of block, with `text` wherever text can be."""
    line = LineChart(title=text, x_label=text, y_label=text, series=[Series(text, [0, 1], [1, 2])], caption=text)
    bars = BarChart(
        title=text,
        unit=text,
        bars=[Bar(label=text, value=1, whisker=2, note=text)],
        caption=text,
        value_name=text,
        whisker_name=text,
    )
    return [
        Table(columns=[text, "b"], rows=[[text, Badge(text)], [Code(text), Num(text)]], caption=text),
        line,
        bars,
        ScatterChart(title=text, x_label=text, y_label=text, points=[Point(label=text, x=1, y=2)], caption=text),
        Gallery(pictures=[Picture(image=JPEG, caption=text, alt=text)], caption=text),
        Text([text]),
        Note(text),
        KeyFigures([KeyFigure(text, text, text)]),
        Facts([(text, text)]),
    ]


def test_every_block_is_escaped_and_balanced() -> None:
    sections = [Section(EVIL, every_block(EVIL), EVIL)] * 2
    html = render(Report(EVIL, EVIL, sections, status=Badge(EVIL, "good"), footer=EVIL))
    reader = parse(html)
    assert {type(block) for block in every_block("")} == set(RENDERERS)
    assert "<script" not in html and "alert(&quot;x&quot;)" in html
    assert reader.count("script") == 0
    assert reader.text.count(EVIL) > 20


def test_nothing_comes_from_outside() -> None:
    html = render(Report("t", "s", [Section("a", every_block("see https://example.org"))]))
    for _, attributes in parse(html).tags:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import", html)
    assert "default-src 'none'" in html


def test_an_empty_report_is_a_page() -> None:
    reader = parse(render(Report("title", "", [])))
    assert reader.count("h1") == 1 and reader.count("nav") == 0


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_table_has_its_rows_and_headers(count: int) -> None:
    reader = read(Table(columns=["name", "n"], rows=[["a", i] for i in range(count)], highlight=frozenset({0})))
    assert reader.count("tr") == 1 + max(count, 1)
    scopes = [a.get("scope") for t, a in reader.tags if t == "th"]
    assert scopes == ["col", "col"] + ["row"] * count
    assert reader.count("tr", "highlight") == min(count, 1)


def test_a_table_aligns_numbers_and_shows_gaps() -> None:
    reader = read(Table(columns=["a", "b"], rows=[["x", 1.5], ["y", math.nan], ["z", None], ["w", Num("2.50")]]))
    assert reader.count("td", "n") == 4
    assert reader.text.count("–") == 2


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 columns; rows \[1\]"):
        Table(columns=["a", "b"], rows=[[1, 2], [1]])


@pytest.mark.parametrize("series", [0, 1, 7])
@pytest.mark.parametrize("points", [0, 1, 12])
def test_a_line_chart_has_every_point(series: int, points: int) -> None:
    xs = [float(i) for i in range(points)]
    lines = [Series(f"line {i}", xs, [x * i for x in xs]) for i in range(series)]
    reader = read(LineChart(title="t", x_label="x", y_label="y", series=lines))
    assert reader.count("circle", "point") == series * points
    assert reader.count("polyline") == (series if points > 1 else 0)
    assert reader.count("svg") == bool(series * points)
    assert ("nothing was measured" in reader.text) == (series * points == 0)
    assert reader.count("text", "end") == (series if points else 0)


def test_gaps_break_a_line_and_stay_gaps_in_the_numbers() -> None:
    ys = [1.0, 2.0, math.nan, 3.0, None, math.inf, 4.0, 5.0]
    reader = read(LineChart(title="t", x_label="x", y_label="y", series=[Series("a", list(range(8)), ys)]))
    assert reader.count("circle", "point") == 5
    assert reader.count("polyline") == 2
    assert "nan" not in reader.text.lower().replace("nanoseconds", "")
    for _, attributes in reader.tags:
        for value in attributes.values():
            assert "nan" not in value and "inf" not in value.split()


def test_one_value_alone_and_equal_values_have_a_scale() -> None:
    for ys in ([0.0], [5.0], [-2.0], [3.0, 3.0, 3.0]):
        series = [Series("a", list(range(len(ys))), ys)]
        reader = read(LineChart(title="t", x_label="x", y_label="y", series=series, y_from_zero=False))
        assert reader.count("circle", "point") == len(ys)
        assert len([a for t, a in reader.tags if t == "text" and a.get("class") == "tick"]) >= 4


def test_marks_stay_inside_the_drawing() -> None:
    xs = [10.0, 1000.0, 123456.0]
    lines = [Series(f"s{i}", xs, [-3.0 * i, 1e-6, 7e6 * i]) for i in range(4)]
    reader = read(LineChart(title="t", x_label="x", y_label="y", series=lines))
    box = next(a["viewbox"] for t, a in reader.tags if t == "svg").split()
    for _, a in (pair for pair in reader.tags if pair[0] == "circle"):
        assert 0 <= float(a["cx"]) <= float(box[2]) and 0 <= float(a["cy"]) <= float(box[3])


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_bar_chart_has_every_bar(count: int) -> None:
    bars = [Bar(label=f"b{i}", value=i + 1.0, whisker=i + 2.0, highlight=i == 0) for i in range(count)]
    reader = read(BarChart(title="t", unit="ms", bars=bars, whisker_name="p99"))
    assert reader.count("rect", "bar") == count
    assert reader.count("path", "whisker") == count
    assert reader.count("rect", "chosen") == min(count, 1)


def test_bars_without_a_value_say_so() -> None:
    bars = [Bar(label="a", value=2.0), Bar(label="b", value=None), Bar(label="c", value=math.nan, whisker=1.0)]
    reader = read(BarChart(title="t", unit="ms", bars=bars))
    assert reader.count("rect", "bar") == 1
    assert reader.text.count("not measured") == 2


def test_a_longer_bar_is_longer() -> None:
    bars = [Bar(label="a", value=1.0), Bar(label="b", value=4.0)]
    reader = read(BarChart(title="t", unit="ms", bars=bars))
    short, long = (float(a["width"]) for t, a in reader.tags if t == "rect")
    assert long == pytest.approx(4 * short, rel=0.01)


@pytest.mark.parametrize(("image", "kind"), [(JPEG, "jpeg"), (b"\x89PNG\r\n\x1a\n", "png")])
def test_a_picture_is_in_the_page_with_its_alt_text(image: bytes, kind: str) -> None:
    reader = read(Gallery(pictures=[Picture(image=image, caption="night")]))
    picture = next(a for t, a in reader.tags if t == "img")
    assert picture["src"].startswith(f"data:image/{kind};base64,") and picture["alt"] == "night"


def test_something_else_than_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="JPEG or PNG"):
        read(Gallery(pictures=[Picture(image=b"<svg onload=...>")]))


def test_a_series_of_two_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="2 xs and 1 ys"):
        Series("a", [0, 1], [0])


def test_charts_have_a_name_for_those_who_do_not_see_them() -> None:
    reader = read(*every_block("speed"))
    for _, attributes in (pair for pair in reader.tags if pair[0] == "svg"):
        assert attributes["role"] == "img" and "speed" in attributes["aria-label"]


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, Report("title", "", []))
    assert parse(path.read_text(encoding="utf-8")).count("h1") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_failed_page_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    bad = Report("t", "", [Section("s", [Gallery(pictures=[Picture(image=b"no")])])])
    with pytest.raises(ValueError, match="JPEG"):
        write_report(path, bad)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match="can't be written"):
        write_report(tmp_path / "missing" / "report.html", Report("t", "", []))
