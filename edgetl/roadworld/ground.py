"""The ground: the strip of road looked up for every pixel below the horizon, lit, shaded and hazed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import Pose
from edgetl.roadworld.light import HEADLIGHT_BGR, LAMP_BGR, Lighting, headlight_pool
from edgetl.roadworld.noise import F32, U8
from edgetl.roadworld.scene import Scene
from edgetl.roadworld.strip import COLS, CROSS_HALF_M, D_LIMIT, D_STEP_M, FAR_RATIO, LEVELS, ROWS, S_STEP_M, make_strip

F64 = NDArray[np.float64]

FAR_M = 380.0


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
        self._gain: list[F32] | None = None
        self._air: U8 | None = None
        self.beam: F32 | None = None
        if scene.domain == "night":
            pool = headlight_pool(self.x, self.forward[:, None].astype(np.float32))
            self.beam = np.asarray(pool, np.float32)

    def look_up(self, ego_s: float, pose: Pose) -> tuple[U8, U8]:
        """Colour (R, W, 3) and kind (R, W) of the ground from the first ground row down."""
        col, row = self._coordinates(ego_s, pose)
        kind: U8 = cv2.remap(self.strip.kind, col, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
        out = np.empty((*col.shape, 4), np.uint8)
        edges = np.flatnonzero(np.diff(self.level)) + 1
        for a, b in zip([0, *edges], [*edges, len(self.level)], strict=True):
            level = int(self.level[a])
            scale = np.float32(1 / (1 << level))
            part = row[a:b] * scale + (scale - 1) / 2
            ends = part[:, [0, -1]]  # rows run straight across the picture
            strip = self.strip.level(level, float(ends.min()), float(ends.max()))
            cv2.remap(strip, col[a:b], part, cv2.INTER_LINEAR, out[a:b], cv2.BORDER_WRAP)
        return np.asarray(cv2.cvtColor(out, cv2.COLOR_BGRA2BGR), np.uint8), kind

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
        gains = self._light_map(lighting) if len(lighting.lamps) or not self._gain else self._gain
        if not len(lighting.lamps):
            self._gain = gains
        dimmed = dark.astype(np.float32)
        shade = cv2.merge([dimmed * gain for gain in gains])
        lit = cv2.multiply(colour, shade, dtype=cv2.CV_8U)
        out: U8 = cv2.add(lit, self._veil(lighting), lit)
        return out

    def _veil(self, lighting: Lighting) -> U8:
        """What the air adds (R, W, 3)."""
        if self._air is None:
            hazed = 1 - np.exp(-lighting.look.haze_per_m * self.forward)
            rows = np.minimum(hazed[:, None] * lighting.haze, 255).astype(np.uint8)
            self._air = cv2.resize(rows[:, None], self.x.shape[::-1], interpolation=cv2.INTER_NEAREST)
        return self._air

    def _light_map(self, lighting: Lighting) -> list[F32]:
        """Light on the ground times what the air lets through, by channel, each (R, W) or (R, 1), over 255."""
        clear = np.exp(-lighting.look.haze_per_m * self.forward).astype(np.float32)[:, None] * np.float32(1 / 255)
        sun = (lighting.ambient + lighting.sunlight * max(float(lighting.sun[2]), 0.0)).astype(np.float32)
        if self.beam is None:
            return [clear * k for k in sun]
        pools = self._lamp_pools(lighting) if len(lighting.lamps) else np.float32(0)
        parts = zip((0.9 * HEADLIGHT_BGR).tolist(), (0.42 * LAMP_BGR).tolist(), sun.tolist(), strict=True)
        return [(self.beam * np.float32(h) + pools * np.float32(p) + np.float32(a)) * clear for h, p, a in parts]

    def _lamp_pools(self, lighting: Lighting) -> F32:
        small_x, small_y = self.x[::3, ::4], self.forward[::3, None].astype(np.float32)
        pool = np.zeros_like(small_x)
        for x, y in lighting.lamps.astype(np.float32):
            pool += np.exp(-((small_x - x) ** 2 + (small_y - y) ** 2) / np.float32(65))
        h, w = self.x.shape
        big: F32 = cv2.resize(pool, (w, h), interpolation=cv2.INTER_LINEAR)
        return big
