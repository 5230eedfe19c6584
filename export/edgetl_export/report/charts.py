"""Charts as inline SVG: no script, colours from the page's own variables, a title on every mark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from edgetl_export.report.blocks import BarChart, Change, LineChart, Series, number, significant

SERIES_COLOURS = 6
WIDTH = 760
LINE_HEIGHT = 320
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 16, 48
LABEL_GAP = 16
BAR_LABEL, BAR_RIGHT, BAR_ROW, BAR_THICK = 170, 210, 34, 16

CHANGE_HALF, CHANGE_TALL = 30, 10

Scale = Callable[[float], float]


def line_chart(chart: LineChart) -> str:
    """The chart as one svg element; an empty one says so."""
    points = [finite_points(series) for series in chart.series]
    flat = [point for line in points for point in line]
    if not flat:
        return _empty(chart.title)
    x_ticks = ticks(min(x for x, _ in flat), max(x for x, _ in flat))
    low = min(y for _, y in flat)
    y_ticks = ticks(min(low, 0.0) if chart.y_from_zero else low, max(y for _, y in flat))
    sx = scale(x_ticks[0], x_ticks[-1], LEFT, WIDTH - RIGHT)
    sy = scale(y_ticks[0], y_ticks[-1], LINE_HEIGHT - BOTTOM, TOP)
    parts = [_axes(chart, x_ticks, y_ticks, sx, sy)]
    parts += [_line(series, i, sx, sy) for i, series in enumerate(chart.series)]
    parts.append(_end_labels(chart.series, points, sx, sy))
    return _svg("".join(parts), LINE_HEIGHT, f"{chart.title}: {chart.y_label} over {chart.x_label}")


def bar_chart(chart: BarChart) -> str:
    """The chart as one svg element; an empty one says so."""
    values = [v for bar in chart.bars for v in (bar.value, bar.whisker) if v is not None and math.isfinite(v)]
    if not values:
        return _empty(chart.title)
    marks = ticks(0.0, max(*values, 0.0, 1e-12) if values else 1.0, wanted=4)
    sx = scale(0.0, marks[-1], BAR_LABEL, WIDTH - BAR_RIGHT)
    bottom = TOP + BAR_ROW * len(chart.bars)
    parts = []
    for mark, text in zip(marks, tick_texts(marks), strict=True):
        x = sx(mark)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
    unit = escape(chart.unit)
    parts.append(f'<text class="tick" x="{WIDTH - BAR_RIGHT + 22}" y="{bottom + 18}">{unit}</text>')
    parts += [_bar(chart, i, sx) for i in range(len(chart.bars))]
    return _svg("".join(parts), bottom + 28, f"{chart.title}, in {chart.unit}")


def change_bar(change: Change) -> str:
    """A small bar from the middle, to the left for a loss; for the eye only, since the number stands beside it."""
    share = change.value / change.scale if change.scale > 0 and math.isfinite(change.value) else 0.0
    length = min(abs(share), 1.0) * CHANGE_HALF
    start = CHANGE_HALF - (length if share < 0 else 0.0)
    kind = "loss" if share < 0 else "gain"
    return (
        f'<svg class="change" viewBox="0 0 {2 * CHANGE_HALF} {CHANGE_TALL}" width="{2 * CHANGE_HALF}" '
        f'height="{CHANGE_TALL}" aria-hidden="true"><rect class="{kind}" x="{start:.1f}" y="1" width="{length:.1f}" '
        f'height="{CHANGE_TALL - 2}"/><line class="axis" x1="{CHANGE_HALF}" y1="0" x2="{CHANGE_HALF}" '
        f'y2="{CHANGE_TALL}"/></svg>'
    )


def finite_points(series: Series) -> list[tuple[float, float]]:
    """The points of a series that have a place on the chart."""
    pairs = zip(series.xs, series.ys, strict=True)
    return [(float(x), float(y)) for x, y in pairs if y is not None and math.isfinite(x) and math.isfinite(y)]


def ticks(low: float, high: float, *, wanted: int = 5) -> list[float]:
    """Round numbers that enclose low..high, about `wanted` of them, at least two."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = (low - pad if low else low), high + pad
    rough = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """Numbers of one axis, all with the decimals that the one that needs most of them needs."""
    if not 1e-3 <= max(map(abs, values)) < 1e7:
        return [number(value) for value in values]
    decimals = next((d for d in range(7) if all(math.isclose(round(v, d), v, abs_tol=1e-9) for v in values)), 7)
    return [f"{value:,.{decimals}f}".replace(",", "\u202f").replace("-", "−") for value in values]


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """A straight map from low..high to start..end in pixels."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _svg(body: str, height: float, label: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{body}</svg>'


def _empty(title: str) -> str:
    return f'<p class="empty">{escape(title)}: nothing was measured.</p>'


def _axes(chart: LineChart, x_ticks: Sequence[float], y_ticks: Sequence[float], sx: Scale, sy: Scale) -> str:
    parts = []
    floor, right = sy(y_ticks[0]), WIDTH - RIGHT
    for tick, text in zip(y_ticks, tick_texts(y_ticks), strict=True):
        y = sy(tick)
        kind = "axis" if tick == y_ticks[0] else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick, text in zip(x_ticks, tick_texts(x_ticks), strict=True):
        x = sx(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{floor:.1f}" x2="{x:.1f}" y2="{floor + 4:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 18:.1f}" text-anchor="middle">{text}</text>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="name" x="{middle:.0f}" y="{LINE_HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>'
    )
    centre = (TOP + floor) / 2
    parts.append(
        f'<text class="name" x="14" y="{centre:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {centre:.0f})">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _line(series: Series, index: int, sx: Scale, sy: Scale) -> str:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(series.xs, series.ys, strict=True):
        if y is None or not math.isfinite(y) or not math.isfinite(x):
            runs.append([])
        else:
            runs[-1].append((float(x), float(y)))
    kind = f"s{index % SERIES_COLOURS}"
    parts = []
    for run in runs:
        if len(run) > 1:
            path = " ".join(f"{sx(x):.1f},{sy(y):.1f}" for x, y in run)
            parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        for x, y in run:
            title = f"<title>{escape(series.label)}: {number(y)} at {number(x)}</title>"
            parts.append(f'<circle class="point {kind}" cx="{sx(x):.1f}" cy="{sy(y):.1f}" r="3.5">{title}</circle>')
    return "".join(parts)


def _end_labels(all_series: Sequence[Series], points: Sequence[list[tuple[float, float]]], sx: Scale, sy: Scale) -> str:
    """Each line's name at its end, moved apart where ends lie close together."""
    ends = [(sy(line[-1][1]), i, sx(line[-1][0])) for i, line in enumerate(points) if line]
    parts, last = [], -math.inf
    for y, i, x in sorted(ends):
        place = max(y, last + LABEL_GAP)
        last = place
        parts.append(
            f'<text class="end s{i % SERIES_COLOURS}" x="{x + 10:.1f}" y="{place + 4:.1f}">'
            f"{escape(shorten(all_series[i].label, 20))}</text>"
        )
    return "".join(parts)


def _bar(chart: BarChart, index: int, sx: Scale) -> str:
    bar = chart.bars[index]
    middle = TOP + BAR_ROW * index + BAR_ROW / 2
    kind = "bar chosen" if bar.highlight else "bar"
    name = "label chosen" if bar.highlight else "label"
    label = escape(shorten(bar.label, 26))
    parts = [f'<text class="{name}" x="{BAR_LABEL - 10}" y="{middle + 4:.1f}" text-anchor="end">{label}</text>']
    if bar.value is None or not math.isfinite(bar.value):
        return parts[0] + f'<text class="tick" x="{BAR_LABEL + 6}" y="{middle + 4:.1f}">not measured</text>'
    end = sx(bar.value)
    said = f"{bar.label}: {chart.value_name} {number(bar.value)} {chart.unit}"
    title = f"<title>{escape(said)}</title>"
    parts.append(
        f'<rect class="{kind}" x="{BAR_LABEL}" y="{middle - BAR_THICK / 2:.1f}" '
        f'width="{max(end - BAR_LABEL, 1):.1f}" height="{BAR_THICK}" rx="2">{title}</rect>'
    )
    text = significant(bar.value)
    if bar.whisker is not None and math.isfinite(bar.whisker):
        tip = sx(bar.whisker)
        parts.append(
            f'<path class="whisker" d="M{end:.1f} {middle:.1f}H{tip:.1f}M{tip:.1f} {middle - 5:.1f}V{middle + 5:.1f}"/>'
        )
        end = max(end, tip)
        text += f" · {chart.whisker_name} {significant(bar.whisker)}".rstrip()
    note = f'<tspan class="aside" dx="8">{escape(shorten(bar.note, 18))}</tspan>' if bar.note else ""
    parts.append(f'<text class="value" x="{end + 8:.1f}" y="{middle + 4:.1f}">{escape(text)}{note}</text>')
    return "".join(parts)


def shorten(text: str, chars: int) -> str:
    """At most `chars` characters, the cut marked."""
    return text if len(text) <= chars else text[: chars - 1] + "…"
