"""Points with names, and the front of those that no other beats in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

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
    tick_texts,
    ticks,
)

RIGHT = 40
LABEL_CHARS = 34
CHAR_PX = 7.4
FURTHEST = 120
LEADER_FROM = 18
LINE_STEP = 8

Box = tuple[float, float, float]
"""Left and right edge and base line of something that names keep off, in pixels."""


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
    ys = [v for p in points for v in (p.y, p.low, p.high, chart.floor) if v is not None and math.isfinite(v)]
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
    taken: list[Box] = []
    if chart.floor is not None:
        parts.append(_floor(chart.floor_label, sy(chart.floor), taken))
    corners = [(sx(points[i].x), sy(points[i].y)) for i in front(points)]
    taken += [box for a, b in pairwise(corners) for box in _along(a, b)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    parts.append(f'<polyline class="line s0" points="{line}"/>')
    parts += [_mark(p, sx, sy) for p in points]
    parts.append(_names(points, sx, sy, taken))
    size = f'viewBox="0 0 {WIDTH} {LINE_HEIGHT}" width="{WIDTH}" height="{LINE_HEIGHT}"'
    said = escape(f"{chart.title}: {chart.y_label} over {chart.x_label}")
    return f'<svg {size} role="img" aria-label="{said}">{"".join(parts)}</svg>'


def _frame(chart: ScatterChart, x_ticks: Sequence[float], y_ticks: Sequence[float], sx: Scale, sy: Scale) -> str:
    parts, floor, right = [], sy(y_ticks[0]), WIDTH - RIGHT
    for tick, text in zip(y_ticks, tick_texts(y_ticks), strict=True):
        y = sy(tick)
        kind = "axis" if tick == y_ticks[0] else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick, text in zip(x_ticks, tick_texts(x_ticks), strict=True):
        parts.append(f'<text class="tick" x="{sx(tick):.1f}" y="{floor + 18:.1f}" text-anchor="middle">{text}</text>')
    middle, centre = (LEFT + right) / 2, (TOP + floor) / 2
    parts.append(
        f'<text class="name" x="{middle:.0f}" y="{LINE_HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>'
        f'<text class="name" x="14" y="{centre:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {centre:.0f})">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _floor(label: str, y: float, taken: list[Box]) -> str:
    """A dashed line across, its name at the left end, where few points are; below it where the upper edge is near."""
    beside = y - 6 if y - 18 > TOP else y + 14
    taken += [(LEFT, WIDTH - RIGHT, y + 4), (LEFT + 6, LEFT + 6 + CHAR_PX * len(label), beside)]
    return (
        f'<path class="whisker" stroke-dasharray="3 4" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="tick" x="{LEFT + 6}" y="{beside:.1f}">{escape(label)}</text>'
    )


def _mark(point: Point, sx: Scale, sy: Scale) -> str:
    x, y = sx(point.x), sy(point.y)
    bar = ""
    if point.low is not None and point.high is not None:
        bar = f'<path class="whisker" d="M{x:.1f} {sy(point.low):.1f}V{sy(point.high):.1f}"/>'
    kind, radius = ("s0", 6) if point.highlight else ("s5", 4.5 if point.named else 3.5)
    kind += " refused" if point.refused else ""
    title = f"<title>{escape(point.label)}: {number(point.y)} at {number(point.x)}</title>"
    return f'{bar}<circle class="point {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>'


def _along(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """What names keep off so that a line does not cross them."""
    steps = max(round(math.dist(start, end) / LINE_STEP), 1)
    shares = [i / steps for i in range(steps + 1)]
    places = [(start[0] + s * (end[0] - start[0]), start[1] + s * (end[1] - start[1])) for s in shares]
    return [(x - LINE_STEP / 2, x + LINE_STEP / 2, y + 4) for x, y in places]


def _names(points: Sequence[Point], sx: Scale, sy: Scale, taken: list[Box]) -> str:
    """Each point's name beside it, or as near as names and points leave room, then with a line to its point."""
    parts: list[str] = []
    taken += [(sx(p.x) - 7, sx(p.x) + 7, sy(p.y) + 4) for p in points]
    for p in sorted((p for p in points if p.named), key=lambda p: (not p.highlight, sy(p.y))):
        text = shorten(p.label, LABEL_CHARS)
        x, y = sx(p.x), sy(p.y) + 4
        start, base = _place(x, y, CHAR_PX * len(text), taken)
        taken.append((start, start + CHAR_PX * len(text), base))
        left = start < x
        kind, edge = "end s0" if p.highlight else "tick", x - 10 if left else x + 10
        if abs(base - y) > LEADER_FROM:
            parts.append(f'<path class="leader" d="M{x:.1f} {y - 4:.1f}L{edge:.1f} {base - 4:.1f}"/>')
        anchor = ' text-anchor="end"' if left else ""
        parts.append(f'<text class="{kind}" x="{edge:.1f}" y="{base:.1f}"{anchor}>{escape(text)}</text>')
    return "".join(parts)


def _place(x: float, y: float, width: float, taken: Sequence[Box]) -> tuple[float, float]:
    """Left edge and base line of a name for a point at x, y: the nearest place that is free, right before left."""
    right, left = x + 10, x - 10 - width
    sides = [start for start in (right, left) if start > LEFT and start + width < WIDTH] or [max(left, 0.0)]
    for shift in range(0, FURTHEST, 4):
        for base in (y - shift, y + shift):
            if not TOP < base < LINE_HEIGHT - BOTTOM - 4:
                continue
            for start in sides:
                if not any(abs(base - b) < LABEL_GAP and start < z and start + width > a for a, z, b in taken):
                    return start, base
    return sides[0], y
