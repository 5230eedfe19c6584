"""From blocks to one HTML page: nothing is loaded from outside, nothing needs a script."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgetl_export.report.blocks import (
    MISSING,
    Badge,
    BarChart,
    Block,
    Cell,
    Change,
    Code,
    Facts,
    Gallery,
    KeyFigures,
    LineChart,
    Lines,
    Note,
    Num,
    ScatterChart,
    Table,
    Text,
    Tone,
    number,
)
from edgetl_export.report.charts import bar_chart, change_bar, line_chart
from edgetl_export.report.scatter import scatter_chart
from edgetl_runtime.errors import InputError

MARKS: dict[Tone, str] = {"neutral": "", "good": "✓", "warn": "!", "bad": "✕"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence under it, and blocks."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One page. status: a badge beside the title."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    status: Badge | None = None
    footer: str = ""


def render(report: Report) -> str:
    """The whole page as HTML text. Raises ValueError for a picture that is neither JPEG nor PNG."""
    sections = "".join(_section(section, i) for i, section in enumerate(report.sections))
    status = f" {_badge(report.status)}" if report.status else ""
    links = "".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(report.sections))
    contents = f'<nav aria-label="Contents">{links}</nav>' if len(report.sections) > 1 else ""
    footer = f"<footer>{escape(report.footer)}</footer>" if report.footer else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(report.title)}</title>\n'
        f"<style>\n{stylesheet()}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(report.title)}{status}</h1><p class="subtitle">{escape(report.subtitle)}</p></header>\n'
        f"{contents}\n<main>\n{sections}</main>\n{footer}\n</body>\n</html>\n"
    )


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all. Raises InputError where the path can't be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(render(report), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})", remedy="give another path") from error
    finally:
        part.unlink(missing_ok=True)


def stylesheet() -> str:
    """The page's CSS."""
    return files("edgetl_export.report").joinpath("style.css").read_text(encoding="utf-8")


def _section(section: Section, index: int) -> str:
    lead = f'<p class="lead">{escape(section.lead)}</p>' if section.lead else ""
    blocks = "".join(_block(block) for block in section.blocks)
    return f'<section id="s{index}"><h2>{escape(section.title)}</h2>{lead}{blocks}</section>\n'


def _block(block: Block) -> str:
    return RENDERERS[type(block)](block)


def _cell(cell: Cell) -> str:
    if isinstance(cell, bool):
        return _badge(Badge("yes", "good") if cell else Badge("no", "neutral"))
    if isinstance(cell, (int, float)):
        return number(cell)
    if cell is None or isinstance(cell, str):
        return escape(cell) if cell else MISSING
    return CELLS[type(cell)](cell)


def _badge(badge: Badge) -> str:
    mark = f'<span aria-hidden="true">{MARKS[badge.tone]}</span> ' if MARKS[badge.tone] else ""
    return f'<span class="badge {badge.tone}">{mark}{escape(badge.text)}</span>'


def _table(table: Table) -> str:
    numeric = [_is_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]
    classes = ['class="n"' if flag else "" for flag in numeric]
    head = "".join(f'<th scope="col" {c}>{escape(n)}</th>' for n, c in zip(table.columns, classes, strict=True))
    rows = []
    for index, row in enumerate(table.rows):
        mark = ' class="highlight"' if index in table.highlight else ""
        cells = [f"<td {c}>{_cell(cell)}</td>" for cell, c in zip(row, classes, strict=True)]
        if cells and not numeric[0]:
            cells[0] = f'<th scope="row">{_cell(row[0])}</th>'
        rows.append(f"<tr{mark}>{''.join(cells)}</tr>")
    body = "".join(rows) or f'<tr><td colspan="{len(table.columns)}" class="empty">none</td></tr>'
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    drawn = (
        f'<div class="scroll" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    return f"<details><summary>{escape(table.fold)}</summary>{drawn}</details>" if table.fold else drawn


def _is_numeric(cells: Sequence[Cell]) -> bool:
    numbers = [isinstance(c, (int, float, Num, Change)) and not isinstance(c, bool) for c in cells if c is not None]
    return bool(numbers) and all(numbers)


def _figure(title: str, drawing: str, caption: str, data: Table) -> str:
    text = f" <span>{escape(caption)}</span>" if caption else ""
    numbers = f"<details><summary>The numbers</summary>{_table(data)}</details>" if data.rows else ""
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b>{text}</figcaption>'
        f'<div class="scroll" tabindex="0">{drawing}</div>{numbers}</figure>'
    )


def _line_chart(chart: LineChart) -> str:
    xs = sorted({float(x) for series in chart.series for x in series.xs if math.isfinite(x)})
    lookups = [dict(zip(map(float, s.xs), s.ys, strict=True)) for s in chart.series]
    rows: list[list[Cell]] = [[x, *(known.get(x) for known in lookups)] for x in xs]
    data = Table(columns=[chart.x_label, *(s.label for s in chart.series)], rows=rows)
    return _figure(chart.title, line_chart(chart), chart.caption, data)


def _bar_chart(chart: BarChart) -> str:
    with_whisker = bool(chart.whisker_name)
    names = [f"{chart.value_name} ({chart.unit})"]
    names += [f"{chart.whisker_name} ({chart.unit})"] if with_whisker else []
    rows: list[list[Cell]] = [[b.label, b.value, *([b.whisker] if with_whisker else [])] for b in chart.bars]
    marked = frozenset(i for i, bar in enumerate(chart.bars) if bar.highlight)
    return _figure(
        chart.title,
        bar_chart(chart),
        chart.caption,
        Table(columns=["", *names], rows=rows if chart.numbers else [], highlight=marked),
    )


def _scatter_chart(chart: ScatterChart) -> str:
    refused = any(p.refused for p in chart.points)
    remark = [""] if refused else []
    rows: list[list[Cell]] = [
        [p.label, p.x, p.y, *([chart.refused_label if p.refused else ""] if refused else [])] for p in chart.points
    ]
    marked = frozenset(i for i, point in enumerate(chart.points) if point.highlight)
    data = Table(columns=["", chart.x_label, chart.y_label, *remark], rows=rows, highlight=marked)
    return _figure(chart.title, scatter_chart(chart), chart.caption, data)


def _gallery(gallery: Gallery) -> str:
    items = []
    for picture in gallery.pictures:
        data = base64.b64encode(picture.image).decode("ascii")
        caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
        alt = escape(picture.alt or picture.caption)
        source = f"data:{picture.media_type};base64,{data}"
        items.append(f'<figure><img alt="{alt}" src="{source}">{caption}</figure>')
    caption = f'<p class="lead">{escape(gallery.caption)}</p>' if gallery.caption else ""
    kind = "gallery pairs" if gallery.pairs else "gallery"
    return f'{caption}<div class="{kind}">{"".join(items)}</div>'


def _text(text: Text) -> str:
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in text.paragraphs)


def _note(note: Note) -> str:
    return f'<p class="note {note.tone}" role="note">{escape(note.text)}</p>'


def _key_figures(row: KeyFigures) -> str:
    items = "".join(
        f'<div class="key {f.tone}"><dt>{escape(f.label)}</dt><dd><b>{escape(f.value)}</b>'
        f"<span>{escape(f.detail)}</span></dd></div>"
        for f in row.figures
    )
    return f'<dl class="keys">{items}</dl>'


def _facts(facts: Facts) -> str:
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{_cell(value)}</dd></div>" for name, value in facts.pairs)
    return f'<dl class="facts">{pairs}</dl>'


CELLS: dict[type, Callable[[Any], str]] = {
    Badge: _badge,
    Code: lambda cell: f"<code>{escape(cell.text)}</code>",
    Num: lambda cell: escape(cell.text),
    Lines: lambda cell: "".join(f"<div>{escape(text)}</div>" for text in cell.texts) or MISSING,
    Change: lambda cell: f"{change_bar(cell)}{escape(cell.text)}",
}
RENDERERS: dict[type, Callable[[Any], str]] = {
    Table: _table,
    LineChart: _line_chart,
    BarChart: _bar_chart,
    ScatterChart: _scatter_chart,
    Gallery: _gallery,
    Text: _text,
    Note: _note,
    KeyFigures: _key_figures,
    Facts: _facts,
}
