"""Who is on the road: vehicles in lanes, parked cars, cyclists, people on sidewalks and crosswalks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgetl.roadworld.lots import between, draw
from edgetl.roadworld.scene import BUS, CAR, CYCLIST, PERSON, TRUCK, Actor, Bgr, Road, Setting
from edgetl.roadworld.strip import CROSS_HALF_M
from edgetl.roadworld.vehicles import CAR_SHAPES, VARIANTS, body_size

_PAINTS: tuple[Bgr, ...] = (
    (226, 226, 224), (222, 222, 222), (44, 42, 40), (60, 58, 56), (164, 162, 160), (134, 132, 128), (112, 92, 70),
    (132, 74, 36), (90, 52, 30), (40, 36, 158), (46, 40, 116), (60, 98, 58), (50, 150, 196), (56, 128, 176),
    (44, 104, 206), (150, 128, 60), (98, 116, 128),
)  # fmt: skip
_BUS_PAINTS: tuple[Bgr, ...] = ((56, 48, 196), (196, 198, 198), (60, 170, 214), (148, 92, 40), (80, 150, 70))
_CLOTHES: tuple[Bgr, ...] = (
    (46, 44, 44), (108, 84, 58), (128, 64, 40), (44, 40, 168), (200, 200, 198), (90, 128, 66), (60, 170, 212),
    (120, 60, 132), (150, 146, 140), (70, 88, 118), (40, 110, 220), (96, 60, 48),
)  # fmt: skip
_SKIN: tuple[Bgr, ...] = ((150, 178, 226), (122, 152, 206), (88, 116, 164), (58, 80, 118), (44, 60, 88))
_HAIR: tuple[Bgr, ...] = ((28, 30, 36), (38, 54, 80), (60, 92, 128), (90, 150, 190), (150, 150, 150))
Area = tuple[float, float, float, float]


class _Traffic:
    """Collects actors, refusing those that would stand in another."""

    def __init__(self, rng: np.random.Generator, numbers: Callable[[], int]) -> None:
        self.rng = rng
        self.numbers = numbers
        self.actors: list[Actor] = []
        self._taken: list[Area] = []

    def pick(self, tones: tuple[Bgr, ...]) -> Bgr:
        """One of these colours, varied a little."""
        k = between(self.rng, 0.82, 1.12)
        b, g, r = (min(c * k * between(self.rng, 0.95, 1.05), 240.0) for c in tones[self.rng.integers(len(tones))])
        return b, g, r

    def free(self, s: float, d: float, length: float, width: float) -> bool:
        """Whether this place is free; takes it when it is."""
        a = (s - length / 2, s + length / 2, d - width / 2, d + width / 2)
        if any(a[0] < t[1] and t[0] < a[1] and a[2] < t[3] and t[2] < a[3] for t in self._taken):
            return False
        self._taken.append(a)
        return True

    def vehicle(self, s: float, d: float, yaw: float, speed: float, label: int, *, gap: float = 1.5) -> bool:
        """Add a vehicle, if there is room."""
        rng = self.rng
        if label == CAR:
            shape = CAR_SHAPES[draw(rng, (0.27, 0.24, 0.25, 0.1, 0.09, 0.05))]
        elif label == TRUCK:
            shape = ("box", "flatbed", "tanker")[draw(rng, (0.7, 0.18, 0.12))]
        else:
            shape = ("city", "minibus")[draw(rng, (0.75, 0.25))]
        variant = int(rng.integers(VARIANTS))
        size = body_size(shape, variant)
        across = abs(np.sin(yaw)) > 0.7
        length, width = (size[1], size[0]) if across else (size[0], size[1])
        if not self.free(s, d, length + gap, width):
            return False
        paint = self.pick(_BUS_PAINTS if label == BUS else _PAINTS)
        second = self.pick(_PAINTS[:7] if label == TRUCK else _PAINTS)
        self.actors.append(
            Actor(
                self.numbers(),
                label,
                s,
                d,
                yaw,
                speed,
                shape,
                variant,
                size,
                (paint, second),
                braking=bool(rng.random() < 0.35),
            )
        )
        return True

    def person(
        self, s: float, d: float, yaw: float, speed: float, walk: float = 0.0,
        walk_s: tuple[float, float] = (0.0, 0.0),
    ) -> None:  # fmt: skip
        """Add someone on foot."""
        rng = self.rng
        if not self.free(s, d, 0.8, 0.8):
            return
        child = rng.random() < 0.1
        height = float(rng.uniform(1.15, 1.4) if child else rng.normal(1.72, 0.08))
        tones = (
            self.pick(_CLOTHES),
            self.pick(_CLOTHES),
            self.pick(_SKIN),
            self.pick(_HAIR),
            self.pick(_CLOTHES),
            self.pick(((40, 40, 42), (200, 200, 200), (60, 70, 90))),
        )
        self.actors.append(
            Actor(self.numbers(), PERSON, s, d, yaw, speed, "walker", int(rng.integers(60)), (0.5, 0.55, height), tones,
                  phase=float(rng.uniform(0, 6.28)), walk_mps=walk, walk_s=walk_s)
        )  # fmt: skip

    def cyclist(self, s: float, d: float, yaw: float, speed: float) -> None:
        """Add a rider."""
        if not self.free(s, d, 2.2, 0.9):
            return
        tones = (
            self.pick(_CLOTHES[2:]),
            self.pick(_CLOTHES),
            self.pick(_SKIN),
            self.pick(_HAIR),
            self.pick(_CLOTHES[2:]),
            (60.0, 60.0, 62.0),
        )
        self.actors.append(
            Actor(self.numbers(), CYCLIST, s, d, yaw, speed, "rider", int(self.rng.integers(60)), (1.75, 0.6, 1.72),
                  tones, phase=float(self.rng.uniform(0, 6.28)))
        )  # fmt: skip


def sample_traffic(
    rng: np.random.Generator, setting: Setting, road: Road, ego_lane: int, length: float, seconds: float,
    numbers: Callable[[], int],
) -> tuple[Actor, ...]:  # fmt: skip
    """Everyone on a road of `length` metres ahead; seconds is 0 for a still."""
    t = _Traffic(rng, numbers)
    density = float(rng.uniform(0.5, 1.35)) * {"urban": 1.0, "suburban": 0.85, "rural": 0.8}[setting]
    clip = seconds > 0
    _lanes(t, road, ego_lane, length, seconds, density)
    _cyclists(t, road, setting, length, clip=clip)
    _parked(t, road, length)
    if road.crossings:
        _crossing(t, road, clip=clip)
    _walkers(t, road, setting, length, clip=clip)
    return tuple(t.actors)


def _lanes(t: _Traffic, road: Road, ego_lane: int, length: float, seconds: float, density: float) -> None:
    rng = t.rng
    for lane in range(-road.lanes_left, road.lanes_right):
        onward = lane >= 0
        d = (lane + 0.5) * road.lane_m
        ego = lane == ego_lane
        speed = (12.0 if ego else float(rng.uniform(9.5, 13.5))) if onward else -float(rng.uniform(9, 13))
        speed *= 1.0 if seconds else 0.0
        gone = abs(speed) * seconds if not onward else 0.0
        s = float(rng.uniform(11, 34) if ego else rng.uniform(7, 30)) - (8.0 if seconds and not ego else 0)
        while s < length + gone:
            label = (CAR, TRUCK, BUS)[draw(rng, (0.58, 0.21, 0.21))]
            room = 4.0 if label == CAR else 8.0
            yaw = (0.0 if onward else np.pi) + float(rng.normal(0, 0.03))
            t.vehicle(s + room / 2, d + float(rng.normal(0, 0.15)), yaw, speed, label, gap=3.0)
            s += room + float(rng.exponential(17 / density)) + (6.0 if seconds == 0 else 12.0)


def _parked(t: _Traffic, road: Road, length: float) -> None:
    if not road.parking_m:
        return
    rng = t.rng
    for d, yaw in ((road.right_m + road.parking_m / 2, 0.0), (road.left_m - road.parking_m / 2, np.pi)):
        fullness = float(rng.uniform(0.1, 0.5))
        for s in np.arange(8.0, min(length, 1e4), 6.4):
            if rng.random() < fullness and not any(abs(s - x) < CROSS_HALF_M + 10 for x in road.crossings):
                t.vehicle(float(s) + float(rng.normal(0, 0.3)), d, yaw + float(rng.normal(0, 0.04)), 0.0, CAR, gap=0.5)


def _cyclists(t: _Traffic, road: Road, setting: Setting, length: float, *, clip: bool) -> None:
    rng = t.rng
    count = int(rng.poisson({"urban": 1.0, "suburban": 0.9, "rural": 0.7}[setting] * (length / 56 if clip else 1.0)))
    for _ in range(count):
        far = float(rng.uniform(8, length if clip else 34))
        onward = rng.random() < 0.62
        edge = road.kerb_right_m if onward else road.kerb_left_m
        inside = 0.55 if not road.parking_m else road.parking_m + 0.35
        d = edge - inside if onward else edge + inside
        yaw = (0.0 if onward else np.pi) + float(rng.normal(0, 0.12))
        t.cyclist(far, d, yaw, (4.5 if onward else -4.5) if clip else 0.0)


def _crossing(t: _Traffic, road: Road, *, clip: bool) -> None:
    """People on the crosswalk, and vehicles on the street that crosses."""
    rng = t.rng
    for s_x in road.crossings:
        zebra = s_x - CROSS_HALF_M - 4.2
        for _ in range(int(rng.integers(0, 4))):
            way = 1.0 if rng.random() < 0.5 else -1.0
            s = zebra + float(rng.uniform(-1.3, 1.3))
            if clip:
                start = road.kerb_left_m - 1.0 if way > 0 else road.kerb_right_m + 1.0
                width = road.kerb_right_m - road.kerb_left_m + 2.0
                arrive = max(zebra / 12.0 - 3.0 - width / 1.5, 0.0)
                if zebra / 12.0 - 3.0 >= width / 1.5:
                    t.person(s, start, way * np.pi / 2, 0.0, way * 1.5, (arrive, arrive + width / 1.5))
            else:
                d = float(rng.uniform(road.kerb_left_m, road.kerb_right_m))
                t.person(s, d, way * np.pi / 2, 0.0, way * 1e-3, (0.0, 1e9))
        if rng.random() < 0.5:
            left = rng.random() < 0.5
            away = float(rng.uniform(3.5, 9.0))
            label = (CAR, TRUCK, BUS)[draw(rng, (0.6, 0.2, 0.2))]
            s = s_x + (-2.0 if left else 2.0)
            d = road.kerb_left_m - away if left else road.kerb_right_m + away
            if not clip and rng.random() < 0.4:
                d = float(rng.uniform(road.kerb_left_m, road.kerb_right_m))
            t.vehicle(s, d, np.pi / 2 if left else -np.pi / 2, 0.0, label)


def _walkers(t: _Traffic, road: Road, setting: Setting, length: float, *, clip: bool) -> None:
    rng = t.rng
    count = int(rng.poisson({"urban": 3.2, "suburban": 2.2, "rural": 0.5}[setting] * (length / 56 if clip else 1.0)))
    for _ in range(count):
        s = float(rng.uniform(7.5, length if clip else 36))
        right = rng.random() < 0.5
        wide = road.sidewalk_m or 1.0
        out = float(rng.uniform(0.4, max(wide - 0.3, 0.6)))
        d = road.kerb_right_m + out if right else road.kerb_left_m - out
        onward = rng.random() < 0.5
        speed = float(rng.uniform(0.9, 1.6)) * (1 if onward else -1)
        yaw = (0.0 if onward else np.pi) + float(rng.normal(0, 0.3))
        t.person(s, d, yaw, speed if clip else 1e-3 * speed)
        if rng.random() < 0.3:
            t.person(
                s + float(rng.normal(0, 0.3)), d + (0.85 if right else -0.85), yaw, speed if clip else 1e-3 * speed
            )
