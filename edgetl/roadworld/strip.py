"""The road seen from above: a strip in (s, d) with its asphalt, paint, kerbs and verges, made once per scene."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.noise import U8, fbm, grain
from edgetl.roadworld.scene import Road

F64 = NDArray[np.float64]

ROWS, COLS = 512, 768
S_STEP_M, D_STEP_M = 0.0625, 0.04
D_LIMIT = 330
"""Columns from the middle that map evenly (13.2 m); beyond, a column is worth FAR_RATIO times as much."""
FAR_RATIO = 8.0
LEVELS = 8
BLOCK = 32
"""Rows of the strip that are coloured at a time."""

ROAD, MARKING, SIDEWALK, TERRAIN = 1, 2, 3, 4
CROSS_HALF_M = 4.2
"""Half the width of a crossing street."""


@lru_cache(maxsize=1)
def column_d() -> F64:
    """d in metres of every column of the strip."""
    k = np.arange(COLS) - COLS / 2 + 0.5
    beyond = np.maximum(np.abs(k) - D_LIMIT, 0)
    return np.asarray((k + np.sign(k) * beyond * (FAR_RATIO - 1)) * D_STEP_M)


@lru_cache(maxsize=1)
def _textures() -> tuple[U8, U8]:
    """(asphalt, grass) brightness, (ROWS, COLS) uint8; 128 leaves a colour as it is."""
    asphalt = 1 + 0.07 * grain(1, ROWS, COLS) + 0.1 * fbm(2, ROWS, COLS * 4 // 3, 4, 6)[:, :COLS]
    fine = cv2.GaussianBlur(grain(3, ROWS, COLS), (0, 0), 1.2)
    grass = 1 + 0.45 * fine / float(fine.std()) * 0.4 + 0.3 * fbm(4, ROWS, COLS * 4 // 3, 8, 6)[:, :COLS]
    return cv2.convertScaleAbs(asphalt, alpha=128.0), cv2.convertScaleAbs(grass, alpha=128.0)


class Strip:
    """The road seen from above at falling resolutions along s, and what each cell is (ROAD, MARKING, ...).

    kind (ROWS, COLS) uint8. The surface is kept as brightness without and with paint, and coloured where and at
    the resolution that a picture asks for: one still shows little of it. Four channels, the last unused, are looked
    up in half the time of three.
    """

    def __init__(self, bare: U8, paint: U8, striped: NDArray[np.intp], colours: tuple[F64, F64], kind: U8) -> None:
        """bare (ROWS, COLS) and paint (ROWS, S): brightness of surface and paint; striped (S,): paint's columns;
        colours: of the surface (COLS, 3) and of the paint (S, 3), 0..255."""
        self.kind = kind
        self._striped = striped
        self._surface, self._paint = (_rows_of(c) for c in colours)
        self._planes = [(bare, paint)]
        for _ in range(LEVELS - 1):
            self._planes.append(tuple(cv2.addWeighted(p[0::2], 0.5, p[1::2], 0.5, 0.0) for p in self._planes[-1]))
        self._levels = [np.empty((len(p), COLS, 4), np.uint8) for p, _ in self._planes]
        self._ready = [np.zeros(max(len(p) // BLOCK, 1), bool) for p, _ in self._planes]

    def level(self, level: int, low: float, high: float) -> U8:
        """The strip (ROWS >> level, COLS, 4) at this resolution; its rows from low to high, modulo its length, are
        coloured, others may not be."""
        ready = self._ready[level]
        first, last = int(low - 1) // BLOCK, int(high + 2) // BLOCK
        for k in range(first, min(last + 1, first + len(ready))):
            if not ready[k % len(ready)]:
                self._colour(level, k % len(ready))
                ready[k % len(ready)] = True
        return self._levels[level]

    def _colour(self, level: int, block: int) -> None:
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        bare, paint = (p[rows] for p in self._planes[level])
        out = self._levels[level][rows]
        cv2.multiply(cv2.merge([bare] * 4), self._surface[: len(out)], out, scale=1 / 128)
        if len(self._striped):
            marks = cv2.multiply(cv2.merge([paint] * 4), self._paint[: len(out)], scale=1 / 128)
            out[:, self._striped] = cv2.add(out[:, self._striped], marks)


def _rows_of(colours: F64) -> U8:
    """BLOCK rows (BLOCK, N, 4) of the same colours (N, 3)."""
    row = np.zeros((1, len(colours), 4), np.uint8)
    row[0, :, :3] = np.minimum(colours, 255)
    return np.repeat(row, BLOCK, axis=0)


def make_strip(road: Road, wet: float) -> Strip:
    """Paint the strip of a road; `wet` 0..1 darkens it."""
    rng = np.random.default_rng([road.seed, 3])
    d = column_d()
    asphalt, grass = _textures()
    turn = int(rng.integers(0, ROWS))
    texture: U8 = np.concatenate([asphalt[turn:], asphalt[:turn]])
    column, kind = _cross_section(road, d, rng)
    hard = np.flatnonzero(kind != TERRAIN)
    first, end = int(hard[0]), int(hard[-1]) + 1
    texture[:, :first], texture[:, end:] = grass[:, :first], grass[:, end:]
    cover, paint_bgr = _markings(road, d, rng)
    _repairs(texture, kind, rng)
    if wet:
        column[first:end] *= 1 - 0.42 * wet
        paint_bgr = paint_bgr * (1 - 0.42 * wet)
    _slabs(texture, kind)
    striped = np.flatnonzero(cover.any(axis=0))
    cover = cover[:, striped]
    brightness = np.arange(256)
    worn = np.where(brightness < 128 * rng.uniform(0.8, 0.98), 0.7, 1.0) * rng.uniform(0.75, 1.0)
    below = texture[:, striped]
    paint: U8 = cv2.multiply(cv2.LUT(below, (brightness * worn).astype(np.uint8)), cover, scale=1 / 255)
    texture[:, striped] = below - paint
    kinds = np.repeat(kind[None], ROWS, axis=0)
    kinds[:, striped] = np.where(cover > 127, np.uint8(MARKING), kind[striped])
    return Strip(texture, paint, striped, (column, paint_bgr[striped]), kinds)


def _cross_section(road: Road, d: F64, rng: np.random.Generator) -> tuple[F64, NDArray[np.uint8]]:
    """Base colour (COLS, 3) and kind (COLS,) across the road."""
    kind = np.full(COLS, TERRAIN, np.uint8)
    colour = np.tile(np.array(road.terrain), (COLS, 1))
    shade = road.asphalt
    asphalt = np.array([1.02, 1.0, 0.98]) * shade
    for inner, sign in ((road.kerb_right_m, 1), (-road.kerb_left_m, -1)):
        out = d * sign
        if road.sidewalk_m:
            walk = (out > inner) & (out < inner + road.sidewalk_m)
            kind[walk] = SIDEWALK
            colour[walk] = np.array([150.0, 156.0, 160.0]) * rng.uniform(0.78, 1.0)
            kerb = (out > inner) & (out < inner + 0.18)
            colour[kerb] = (172, 178, 182)
        else:
            gravel = (out > inner) & (out < inner + 0.7)
            colour[gravel] = (96, 112, 122)
        gutter = (out > inner - 0.25) & (out <= inner)
        kind[(out <= inner) & (out > -0.01)] = ROAD
        colour[(out <= inner) & (out > -0.01)] = asphalt
        colour[gutter] = asphalt * 0.86
    lane = np.abs((d / road.lane_m) % 1.0 - 0.5) * road.lane_m
    tracks = 1 - 0.08 * np.exp(-(((lane - 0.8) / 0.3) ** 2)) + 0.03 * np.exp(-((lane / 0.3) ** 2))
    colour[kind == ROAD] *= tracks[kind == ROAD, None]
    return colour, kind


def _markings(road: Road, d: F64, rng: np.random.Generator) -> tuple[U8, F64]:
    """Paint coverage (ROWS, COLS) 0..255 and paint colour (COLS, 3)."""
    paint = np.zeros((ROWS, COLS), np.uint8)
    white = np.array([226.0, 230.0, 232.0]) * rng.uniform(0.9, 1.0)
    bgr = np.tile(white, (COLS, 1))
    on, period = road.dash
    s = np.arange(ROWS) * S_STEP_M
    dashes = (s % period) < on
    width = float(rng.uniform(0.06, 0.08))

    def line(at: float, rows: NDArray[np.bool_], half: float, colour: F64) -> None:
        columns = np.abs(d - at) < half
        paint[np.ix_(rows, columns)] = 255
        bgr[columns] = colour

    always = np.ones(ROWS, bool)
    middle = np.array([50.0, 176.0, 228.0]) * rng.uniform(0.85, 1) if road.yellow else white
    if road.lanes_left:
        if road.centre == "double":
            line(-0.13, always, width, middle)
            line(0.13, always, width, middle)
        else:
            line(0.0, always if road.centre == "solid" else dashes, width, middle)
    for k in range(1, road.lanes_right):
        line(k * road.lane_m, dashes, width, white)
    for k in range(1, road.lanes_left):
        line(-k * road.lane_m, dashes, width, white)
    if road.edge_lines:
        line(road.right_m - 0.1, always, width, white)
        line(road.left_m + 0.1, always, width, white if road.lanes_left else middle)
    if road.parking_m:
        slots = (s % 16.0) % 5.33 < 0.12
        for a, b in ((road.right_m, road.kerb_right_m), (road.kerb_left_m, road.left_m)):
            columns = (d > a) & (d < b)
            paint[np.ix_(slots, columns)] = 204
    return paint, bgr


def _repairs(texture: U8, kind: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Patches of newer asphalt, tar seams, a manhole or two."""
    columns = np.flatnonzero(kind == ROAD)
    low, high = int(columns[0]), int(columns[-1])
    for _ in range(int(rng.integers(1, 5))):
        c, r = int(rng.integers(low, high)), int(rng.integers(0, ROWS - 60))
        w, h = int(rng.integers(15, 60)), int(rng.integers(12, 60))
        part = texture[r : r + h, c : min(c + w, high)]
        part[:] = part * rng.uniform(0.78, 1.1)
    for _ in range(int(rng.integers(1, 6))):
        steps = np.cumsum(rng.integers([-6, 6], [7, 40], (8, 2)), axis=0)
        points = (steps + (int(rng.integers(low, high)), int(rng.integers(0, ROWS // 2)))).astype(np.int32)
        points[:, 0] = np.clip(points[:, 0], low, high)
        cv2.polylines(texture, [points], False, 84, 1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 3))):
        centre = (int(rng.integers(low + 10, high - 10)), int(rng.integers(20, ROWS - 20)))
        cv2.ellipse(texture, centre, (9, 6), 0, 0, 360, 80, -1, cv2.LINE_AA)


def _slabs(texture: U8, kind: NDArray[np.uint8]) -> None:
    """Joints between the slabs of a sidewalk."""
    walk = kind == SIDEWALK
    if walk.any():
        rows = np.arange(0, ROWS, 16)
        texture[np.ix_(rows, walk)] = texture[np.ix_(rows, walk)] * 0.8
        columns = np.flatnonzero(walk)[:: int(1.0 / D_STEP_M)]
        texture[:, columns] = texture[:, columns] * 0.86
