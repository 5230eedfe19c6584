"""What is in the world: the road, what stands beside it, what moves on it.

Places are road coordinates: s along the centre line in metres, d to the right of it in metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import Camera, Pose

F64 = NDArray[np.float64]
Bgr = tuple[float, float, float]
Domain = Literal["day", "night", "fog", "rain"]
Setting = Literal["urban", "suburban", "rural"]
Lamp = Literal["red", "amber", "green"]

CLASSES: tuple[str, ...] = ("car", "truck", "bus", "person", "cyclist", "traffic light", "traffic sign")
DOMAINS: tuple[str, ...] = ("day", "night", "fog", "rain")
CAR, TRUCK, BUS, PERSON, CYCLIST, LIGHT, SIGN = range(7)
TABLE_START_M = -60.0
"""Where the table of a path's centre line begins; it goes by the metre."""


@dataclass(frozen=True)
class Path:
    """The centre line: its heading swings as a sum of two sines, so it never turns back on itself."""

    swing_rad: float
    wavelength_m: float
    phase_rad: float
    length_m: float
    width_swing: float = 0.0

    @cached_property
    def _table(self) -> tuple[F64, F64, F64, F64]:
        s = np.arange(TABLE_START_M, self.length_m + 420.0, 1.0)
        w = 2 * np.pi / self.wavelength_m
        heading = self.swing_rad * (np.sin(w * s + self.phase_rad) + 0.3 * np.sin(2.3 * w * s))
        x = np.concatenate([[0.0], np.cumsum(np.sin(heading))[:-1]])
        y = np.concatenate([[0.0], np.cumsum(np.cos(heading))[:-1]])
        return s, x, y, heading

    def width_factor(self, s: F64 | float) -> F64:
        """How much wider than nominal the cross-section is at s."""
        return np.asarray(1.0 + self.width_swing * np.sin(np.asarray(s) / 23.0 + self.phase_rad))

    def to_world(self, s: F64, d: F64) -> tuple[F64, F64]:
        """Road coordinates as world x, y."""
        table_s, table_x, table_y, table_h = self._table
        x, y, h = (np.interp(s, table_s, t) for t in (table_x, table_y, table_h))
        wide = d * self.width_factor(s)
        return x + wide * np.cos(h), y - wide * np.sin(h)

    def pose(self, s: float, d: float, yaw_rad: float = 0.0) -> Pose:
        """The pose of something at (s, d) that points along the road plus yaw."""
        table_x, table_y, table_h = self._lists
        at = min(max(s - TABLE_START_M, 0.0), len(table_x) - 1.0)
        k = min(int(at), len(table_x) - 2)
        t = at - k
        h = table_h[k] + (table_h[k + 1] - table_h[k]) * t
        wide = d * (1.0 + self.width_swing * math.sin(s / 23.0 + self.phase_rad))
        x = table_x[k] + (table_x[k + 1] - table_x[k]) * t + wide * math.cos(h)
        y = table_y[k] + (table_y[k + 1] - table_y[k]) * t - wide * math.sin(h)
        return Pose(x, y, h + yaw_rad)

    @cached_property
    def _lists(self) -> tuple[list[float], list[float], list[float]]:
        """x, y, heading of the table as lists: single places are read faster from them than from arrays."""
        _, x, y, heading = self._table
        return x.tolist(), y.tolist(), heading.tolist()

    def window(self, s0: float, s1: float) -> tuple[F64, F64, F64, F64]:
        """The centre line's s, x, y, heading between two arc lengths, by the metre."""
        table = self._table
        a, b = np.searchsorted(table[0], (s0, s1))
        return table[0][a:b], table[1][a:b], table[2][a:b], table[3][a:b]


@dataclass(frozen=True)
class Road:
    """The cross-section and its paint. Widths in metres; `right` is the ego's direction of travel."""

    lane_m: float
    lanes_right: int
    lanes_left: int
    parking_m: float
    shoulder_m: float
    sidewalk_m: float
    verge_m: float
    dash: tuple[float, float]
    centre: Literal["dashed", "solid", "double"]
    yellow: bool
    edge_lines: bool
    asphalt: float
    terrain: Bgr
    seed: int
    crossings: tuple[float, ...] = ()

    @property
    def right_m(self) -> float:
        """d where the lanes end on the right."""
        return self.lanes_right * self.lane_m

    @property
    def left_m(self) -> float:
        """d where the lanes end on the left (negative)."""
        return -self.lanes_left * self.lane_m

    @property
    def kerb_right_m(self) -> float:
        """d where the asphalt ends on the right."""
        return self.right_m + self.parking_m + self.shoulder_m

    @property
    def kerb_left_m(self) -> float:
        """d where the asphalt ends on the left (negative)."""
        return self.left_m - self.parking_m - self.shoulder_m


@dataclass(frozen=True)
class Actor:
    """One labelled thing that may move: vehicle, person or cyclist.

    yaw_rad is relative to the road; speed_mps runs along s, walk_mps along d, between walk_s[0] and walk_s[1]
    seconds. shape names the body, variant picks its proportions, tones are its colours.
    """

    object_id: int
    label: int
    s: float
    d: float
    yaw_rad: float
    speed_mps: float
    shape: str
    variant: int
    size_lwh: tuple[float, float, float]
    tones: tuple[Bgr, ...]
    phase: float = 0.0
    braking: bool = False
    walk_mps: float = 0.0
    walk_s: tuple[float, float] = (0.0, 0.0)

    def at(self, t_s: float) -> tuple[float, float]:
        """(s, d) at time t."""
        walked = min(max(t_s, self.walk_s[0]), self.walk_s[1]) - self.walk_s[0]
        return self.s + self.speed_mps * t_s, self.d + self.walk_mps * walked

    def stride(self, t_s: float) -> float:
        """Phase of the walk or of the pedals at time t, in radians."""
        moving = abs(self.speed_mps) + (abs(self.walk_mps) if self.walk_s[0] < t_s < self.walk_s[1] else 0.0)
        return self.phase + moving * t_s * (4.4 if self.label == PERSON else 1.6)


@dataclass(frozen=True)
class Building:
    """A house or block along the road: front face from s0 to s1 at d, `depth_m` away from the road.

    style and variant pick its façade, tint multiplies it; wall is the plain wall's colour.
    """

    s0: float
    s1: float
    d: float
    floors: int
    height_m: float
    depth_m: float
    style: int
    variant: int
    tint: Bgr
    wall: Bgr
    gable: bool
    seed: int


@dataclass(frozen=True)
class Tree:
    """A tree or bush: `sprite` picks its picture."""

    s: float
    d: float
    height_m: float
    sprite: int
    tint: Bgr
    bush: bool = False


@dataclass(frozen=True)
class Mast:
    """A street lamp or post; `arm_m` reaches over the road (negative: to the left)."""

    s: float
    d: float
    height_m: float
    arm_m: float
    lamp: bool


@dataclass(frozen=True)
class TrafficLight:
    """A signal head: centre at height z_m, on a post at post_d with an arm when that differs from d."""

    object_id: int
    s: float
    d: float
    z_m: float
    post_d: float
    height_m: float
    lit: Lamp
    yaw_rad: float


@dataclass(frozen=True)
class Sign:
    """A sign plate of diameter size_m, centre at height z_m."""

    object_id: int
    s: float
    d: float
    z_m: float
    size_m: float
    kind: str
    yaw_rad: float


@dataclass(frozen=True)
class Look:
    """Light, air and camera finish of a scene; every multiplier is 1 for neutral.

    sun: unit vector towards the sun in the world frame. ambient + sunlight is the light on a face that looks
    at the sun. haze_per_m: extinction. glow: strength of lamps and lit windows.
    """

    domain: Domain
    sun: tuple[float, float, float]
    ambient: Bgr
    sunlight: Bgr
    shadow: float
    sky_top: Bgr
    sky_low: Bgr
    clouds: float
    cloud_seed: int
    haze_bgr: Bgr
    haze_per_m: float
    glow: float
    wet: float
    exposure: float
    contrast: float
    warmth: float
    blur_px: float
    noise: float
    vignette: float


@dataclass(frozen=True)
class Scene:
    """Everything that a renderer needs; times are seconds from the start of the scene."""

    scene_id: str
    seed: int
    domain: Domain
    setting: Setting
    camera: Camera
    path: Path
    road: Road
    look: Look
    ego_s: float
    ego_d: float
    ego_yaw_rad: float
    ego_mps: float
    actors: tuple[Actor, ...] = ()
    buildings: tuple[Building, ...] = ()
    trees: tuple[Tree, ...] = ()
    masts: tuple[Mast, ...] = ()
    lights: tuple[TrafficLight, ...] = ()
    signs: tuple[Sign, ...] = ()
    draw_m: float = 62.0

    def ego_at(self, t_s: float) -> tuple[float, Pose]:
        """Arc length and pose of the camera at time t."""
        s = self.ego_s + self.ego_mps * t_s
        d = self.ego_d + (0.12 * np.sin(0.7 * t_s) if self.ego_mps else 0.0)
        return s, self.path.pose(s, float(d), self.ego_yaw_rad)
