"""Points with names, and the front of those that no other beats in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from edgetl_export.report.blocks import Point, ScatterChart, number
from edgetl_export.report.charts import (
    BOTTOM,
    LABEL_GAP,
    LEFT,
    LINE_HEIGHT,
    TOP,
    WIDTH,
    Scale,
    scale,
    shorten,
    ticks,
)

RIGHT = 40
LABEL_CHARS = 34
CHAR_PX = 6.6


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other one beats in x and y, by rising x (Pareto)."""
    order = sorted(range(len(points)), key=lambda i: (points[i].x, -points[i].y))
    chosen: list[int] = []
    for i in order:
        if not chosen or points[i].y > points[chosen[-1]].y:
            chosen.append(i)
    return chosen


def scatter_chart(chart: ScatterChart) -> str:
    """The chart as one svg element; an empty one says so."""
    points = [p for p in chart.points if math.isfinite(p.x) and math.isfinite(p.y)]
    if not points:
        return f'<p class="empty">{escape(chart.title)}: nothing was measured.</p>'
    ys = [v for p in points for v in (p.y, p.low, p.high) if v is not None and math.isfinite(v)]
    right = max([p.x for p in points] + ([chart.limit] if chart.limit is not None else []))
    x_ticks, y_ticks = ticks(0.0, right * 1.02), ticks(min(ys), max(ys))
    sx = scale(x_ticks[0], x_ticks[-1], LEFT, WIDTH - RIGHT)
    sy = scale(y_ticks[0], y_ticks[-1], LINE_HEIGHT - BOTTOM, TOP)
    parts = [_frame(chart, x_ticks, y_ticks, sx, sy)]
    if chart.limit is not None:
        x = sx(chart.limit)
        parts.append(
            f'<path class="whisker" stroke-dasharray="3 4" d="M{x:.1f} {TOP}V{LINE_HEIGHT - BOTTOM}"/>'
            f'<text class="tick" x="{x - 6:.1f}" y="{TOP + 12}" text-anchor="end">{escape(chart.limit_label)}</text>'
        )
    line = " ".join(f"{sx(points[i].x):.1f},{sy(points[i].y):.1f}" for i in front(points))
    parts.append(f'<polyline class="line s0" points="{line}"/>')
    parts += [_mark(p, sx, sy) for p in points]
    parts.append(_names(points, sx, sy))
    size = f'viewBox="0 0 {WIDTH} {LINE_HEIGHT}" width="{WIDTH}" height="{LINE_HEIGHT}"'
    said = escape(f"{chart.title}: {chart.y_label} over {chart.x_label}")
    return f'<svg {size} role="img" aria-label="{said}">{"".join(parts)}</svg>'


def _frame(chart: ScatterChart, x_ticks: Sequence[float], y_ticks: Sequence[float], sx: Scale, sy: Scale) -> str:
    parts, floor, right = [], sy(y_ticks[0]), WIDTH - RIGHT
    for tick in y_ticks:
        y = sy(tick)
        kind = "axis" if tick == y_ticks[0] else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in x_ticks:
        parts.append(
            f'<text class="tick" x="{sx(tick):.1f}" y="{floor + 18:.1f}" text-anchor="middle">{number(tick)}</text>'
        )
    middle, centre = (LEFT + right) / 2, (TOP + floor) / 2
    parts.append(
        f'<text class="name" x="{middle:.0f}" y="{LINE_HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>'
        f'<text class="name" x="14" y="{centre:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {centre:.0f})">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _mark(point: Point, sx: Scale, sy: Scale) -> str:
    x, y = sx(point.x), sy(point.y)
    bar = ""
    if point.low is not None and point.high is not None:
        bar = f'<path class="whisker" d="M{x:.1f} {sy(point.low):.1f}V{sy(point.high):.1f}"/>'
    kind, radius = ("s0", 6) if point.highlight else ("s5", 4.5)
    title = f"<title>{escape(point.label)}: {number(point.y)} at {number(point.x)}</title>"
    return f'{bar}<circle class="point {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'


def _names(points: Sequence[Point], sx: Scale, sy: Scale) -> str:
    """Each point's name beside it, on its left where the right edge is near, moved down off names and points."""
    parts: list[str] = []
    taken = [(sx(p.x) - 7, sx(p.x) + 7, sy(p.y) + 4) for p in points]
    for p in sorted(points, key=lambda p: sy(p.y)):
        text = shorten(p.label, LABEL_CHARS)
        width, x, y = CHAR_PX * len(text), sx(p.x), sy(p.y) + 4
        left = x + 10 + width > WIDTH
        start = x - 10 - width if left else x + 10
        while any(abs(y - other) < LABEL_GAP and start < b and start + width > a for a, b, other in taken):
            y += 2
        taken.append((start, start + width, y))
        anchor = ' text-anchor="end"' if left else ""
        kind = "end s0" if p.highlight else "tick"
        parts.append(
            f'<text class="{kind}" x="{x - 10 if left else x + 10:.1f}" y="{y:.1f}"{anchor}>{escape(text)}</text>'
        )
    return "".join(parts)
