"""The ground: a strip of road painted once per scene in (s, d), looked up for every pixel below the horizon."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import Pose
from edgetl.roadworld.light import HEADLIGHT_BGR, LAMP_BGR, Lighting, headlight_pool
from edgetl.roadworld.noise import F32, U8, fbm, grain
from edgetl.roadworld.scene import Road, Scene

F64 = NDArray[np.float64]

ROWS, COLS = 512, 768
S_STEP_M, D_STEP_M = 0.0625, 0.04
D_LIMIT = 330
"""Columns from the middle that map evenly (13.2 m); beyond, a column is worth FAR_RATIO times as much."""
FAR_RATIO = 8.0
LEVELS = 8
FAR_M = 380.0

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


@dataclass(frozen=True)
class Strip:
    """The painted strip at falling resolutions along s, and what each cell is (ROAD, MARKING, ...)."""

    levels: tuple[U8, ...]
    kind: U8


def make_strip(road: Road, wet: float) -> Strip:
    """Paint the strip of a road; `wet` 0..1 darkens it."""
    rng = np.random.default_rng([road.seed, 3])
    d = column_d()
    asphalt, grass = _textures()
    turn = int(rng.integers(0, ROWS))
    texture: U8 = np.concatenate([asphalt[turn:], asphalt[:turn]])
    column, kind = _cross_section(road, d, rng)
    soft = kind == TERRAIN
    texture[:, soft] = grass[:, soft]
    paint, paint_bgr = _markings(road, d, rng)
    _repairs(texture, kind, rng)
    if wet:
        column = column * (1 - 0.42 * wet * ~soft)[:, None]
        paint_bgr = paint_bgr * (1 - 0.42 * wet)
    _slabs(texture, kind)
    wide = np.ascontiguousarray(np.broadcast_to(np.minimum(column, 255).astype(np.uint8), (ROWS, COLS, 3)))
    strip: U8 = cv2.multiply(cv2.merge([texture, texture, texture]), wide, scale=1 / 128)
    striped = np.flatnonzero(paint.any(axis=0))
    fresh = texture[:, striped, None].astype(np.float32) / 128
    worn = np.where(fresh < rng.uniform(0.8, 0.98), 0.7, 1.0) * rng.uniform(0.75, 1.0)
    below = strip[:, striped].astype(np.float32)
    below += (paint_bgr[striped] * fresh - below) * paint[:, striped, None] * worn
    strip[:, striped] = np.clip(below, 0, 255).astype(np.uint8)
    kinds = np.repeat(kind[None], ROWS, axis=0)
    kinds[paint > 0.5] = MARKING
    levels = [strip]
    for _ in range(LEVELS - 1):
        last = levels[-1]
        levels.append(cv2.addWeighted(last[0::2], 0.5, last[1::2], 0.5, 0.0))
    return Strip(tuple(levels), kinds)


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


def _markings(road: Road, d: F64, rng: np.random.Generator) -> tuple[F32, F64]:
    """Paint coverage (ROWS, COLS) 0..1 and paint colour (COLS, 3)."""
    paint = np.zeros((ROWS, COLS), np.float32)
    white = np.array([226.0, 230.0, 232.0]) * rng.uniform(0.9, 1.0)
    bgr = np.tile(white, (COLS, 1))
    on, period = road.dash
    s = np.arange(ROWS) * S_STEP_M
    dashes = (s % period) < on
    width = float(rng.uniform(0.06, 0.08))

    def line(at: float, rows: NDArray[np.bool_], half: float, colour: F64) -> None:
        columns = np.abs(d - at) < half
        paint[np.ix_(rows, columns)] = 1.0
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
            paint[np.ix_(slots, columns)] = 0.8
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


class Ground:
    """Paints the ground of a scene; what depends only on the camera is worked out once."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        camera = scene.camera
        h, w = camera.size_hw
        rows = np.arange(h, dtype=np.float64) + 0.5
        forward = camera.ground_forward(rows)
        self.top = int(np.argmax(forward < FAR_M)) if (forward < FAR_M).any() else h
        self.forward = forward[self.top :]
        c, s = np.cos(camera.pitch_rad), np.sin(camera.pitch_rad)
        depth = self.forward * c + camera.height_m * s
        self.depth_f = depth / camera.focal_px
        self.columns = np.arange(w) + 0.5 - camera.cx
        self.x: F32 = (self.depth_f[:, None] * self.columns[None]).astype(np.float32)
        self.strip = make_strip(scene.road, scene.look.wet)
        footprint = np.gradient(-self.forward) if len(self.forward) > 1 else np.ones(1)
        self.level = np.clip(np.round(np.log2(np.maximum(footprint, 1e-6) / S_STEP_M)), 0, LEVELS - 1).astype(int)
        self._gain: F32 | None = None
        self._air: U8 | None = None
        self.beam: F32 | None = None
        if scene.domain == "night":
            pool = headlight_pool(self.x, self.forward[:, None].astype(np.float32))
            self.beam = np.asarray(pool, np.float32)

    def look_up(self, ego_s: float, pose: Pose) -> tuple[U8, U8]:
        """Colour (R, W, 3) and kind (R, W) of the ground from the first ground row down."""
        col, row = self._coordinates(ego_s, pose)
        kind: U8 = cv2.remap(self.strip.kind, col, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
        out = np.empty((*col.shape, 3), np.uint8)
        edges = np.flatnonzero(np.diff(self.level)) + 1
        for a, b in zip([0, *edges], [*edges, len(self.level)], strict=True):
            level = int(self.level[a])
            scale = np.float32(1 / (1 << level))
            out[a:b] = cv2.remap(
                self.strip.levels[level], col[a:b], row[a:b] * scale + (scale - 1) / 2,
                cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP,
            )  # fmt: skip
        return out, kind

    def _coordinates(self, ego_s: float, pose: Pose) -> tuple[F32, F32]:
        """Column and row of the strip for every ground pixel."""
        path, road = self.scene.path, self.scene.road
        s, x, y, heading = path.window(ego_s - 20, ego_s + FAR_M + 20)
        right, forward = pose.to_ego(x, y)
        centre = np.interp(self.forward, forward, right)
        turn = np.interp(self.forward, forward, heading) - pose.heading_rad
        along = np.interp(self.forward, forward, s)
        a = (np.cos(turn) / path.width_factor(along)).astype(np.float32)
        d = self.x * a[:, None] - (centre * a).astype(np.float32)[:, None]
        g = np.sin(turn).astype(np.float32)
        row = self.x * g[:, None] + (along - centre * g).astype(np.float32)[:, None]
        for s_x in road.crossings:
            self._cross(d, row, along, s_x)
        col = d * np.float32(1 / D_STEP_M)
        inner = np.clip(col, -D_LIMIT, D_LIMIT)
        col -= inner
        col *= np.float32(1 / FAR_RATIO)
        col += inner
        col += np.float32(COLS / 2 - 0.5)
        np.clip(col, 0, COLS - 1.01, out=col)
        row *= np.float32(1 / S_STEP_M)
        row -= np.float32(np.floor(float(row.min()) / ROWS) * ROWS)
        return col, row

    def _cross(self, d: F32, s: F32, along: F64, s_x: float) -> None:
        """Send the pixels of a crossing street to plain asphalt."""
        road = self.scene.road
        near = np.flatnonzero(np.abs(along - s_x) < 22)
        if not len(near):
            return
        rows = slice(int(near[0]), int(near[-1]) + 1)
        part = d[rows]
        kerb = np.where(part > 0, np.float32(road.kerb_right_m + 2.5), np.float32(2.5 - road.kerb_left_m))
        corner = np.clip((kerb - np.abs(part)) * np.float32(0.4), 0, 1)
        inside = np.abs(s[rows] - np.float32(s_x)) < corner * corner * np.float32(2.4) + np.float32(CROSS_HALF_M)
        plain = np.float32(road.lane_m / 2 - 0.5) + (part - np.floor(part))
        part[inside] = plain[inside]

    def shine(self, colour: U8, dark: U8, lighting: Lighting) -> U8:
        """Ground colour (R, W, 3) under light, shadow (R, W; 255 is none) and air."""
        if self._gain is None or len(lighting.lamps):
            self._gain = self._light_map(lighting)
        shaded = cv2.multiply(colour, cv2.merge([dark, dark, dark]), scale=1 / 255)
        lit = cv2.multiply(shaded, self._gain, dtype=cv2.CV_8U)
        out: U8 = cv2.add(lit, self._veil(lighting))
        return out

    def _veil(self, lighting: Lighting) -> U8:
        """What the air adds (R, W, 3)."""
        if self._air is None:
            hazed = 1 - np.exp(-lighting.look.haze_per_m * self.forward)
            rows = np.minimum(hazed[:, None] * lighting.haze, 255).astype(np.uint8)
            self._air = np.ascontiguousarray(np.broadcast_to(rows[:, None], (*self.x.shape, 3)))
        return self._air

    def _light_map(self, lighting: Lighting) -> F32:
        """Light on the ground times what the air lets through, (R, W, 3)."""
        clear = np.exp(-lighting.look.haze_per_m * self.forward).astype(np.float32)
        sun = (lighting.ambient + lighting.sunlight * max(float(lighting.sun[2]), 0.0)).astype(np.float32)
        if self.beam is None:
            rows = clear[:, None] * sun
            return np.ascontiguousarray(np.broadcast_to(rows[:, None], (*self.x.shape, 3)))
        beam = self.beam * clear[:, None]
        pools = self._lamp_pools(lighting) * clear[:, None] if len(lighting.lamps) else np.zeros_like(beam)
        base = np.broadcast_to(clear[:, None], beam.shape)
        parts = zip((0.9 * HEADLIGHT_BGR).tolist(), (0.42 * LAMP_BGR).tolist(), sun.tolist(), strict=True)
        light: F32 = cv2.merge(
            [beam * np.float32(h) + pools * np.float32(p) + base * np.float32(a) for h, p, a in parts]
        )
        return light

    def _lamp_pools(self, lighting: Lighting) -> F32:
        small_x, small_y = self.x[::3, ::4], self.forward[::3, None].astype(np.float32)
        pool = np.zeros_like(small_x)
        for x, y in lighting.lamps.astype(np.float32):
            pool += np.exp(-((small_x - x) ** 2 + (small_y - y) ** 2) / np.float32(65))
        h, w = self.x.shape
        big: F32 = cv2.resize(pool, (w, h), interpolation=cv2.INTER_LINEAR)
        return big
