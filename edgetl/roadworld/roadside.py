"""What stands beside the road: buildings, trees, lamp posts, traffic lights, signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgetl.roadworld.buildings import BAY_M, FLOOR_M, WALLS
from edgetl.roadworld.lots import between, draw
from edgetl.roadworld.scene import Building, Mast, Road, Setting, Sign, TrafficLight, Tree
from edgetl.roadworld.signals import SIGN_KINDS
from edgetl.roadworld.street import SPRITES
from edgetl.roadworld.strip import CROSS_HALF_M

VISTA_M = 125.0
"""Buildings and trees reach this far beyond the last actor."""


@dataclass(frozen=True)
class Roadside:
    """Everything that stands still."""

    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]
    masts: tuple[Mast, ...]
    lights: tuple[TrafficLight, ...]
    signs: tuple[Sign, ...]


def sample_roadside(
    rng: np.random.Generator, setting: Setting, road: Road, length: float, numbers: Callable[[], int]
) -> Roadside:
    """Both sides of a road of `length` metres ahead."""
    end = length + VISTA_M
    buildings = _buildings(rng, setting, road, end)
    trees = _trees(rng, setting, road, end, buildings)
    masts = _masts(rng, setting, road, end)
    return Roadside(buildings, trees, masts, _lights(rng, road, numbers), _signs(rng, setting, road, length, numbers))


def _in_crossing(road: Road, s0: float, s1: float, margin: float) -> bool:
    return any(s0 < x + CROSS_HALF_M + margin and s1 > x - CROSS_HALF_M - margin for x in road.crossings)


def _building(
    rng: np.random.Generator, span: tuple[float, float], d: float, floors: int, style: int, *, gable: bool
) -> Building:
    variant = int(rng.integers(6))
    shade = between(rng, 0.78, 1.1)
    b, g, r = (shade * between(rng, 0.93, 1.07) for _ in range(3))
    wall = WALLS[(3 * variant + 5 * style) % len(WALLS)]
    return Building(
        span[0], span[1], d, floors, floors * FLOOR_M + between(rng, 0.0, 0.5), float(rng.choice([9.0, 12.0])),
        style, variant, (b, g, r), (wall[0] * b, wall[1] * g, wall[2] * r), gable, int(rng.integers(1 << 20)),
    )  # fmt: skip


def _buildings(rng: np.random.Generator, setting: Setting, road: Road, end: float) -> tuple[Building, ...]:
    if setting == "rural" and rng.random() < 0.6:
        return ()
    out: list[Building] = []
    gap_chance = {"urban": 0.12, "suburban": 0.75, "rural": 1.0}[setting]
    for sign in (1, -1):
        kerb = road.kerb_right_m if sign > 0 else -road.kerb_left_m
        line = kerb + road.sidewalk_m + road.verge_m
        s = float(rng.uniform(-14, 0))
        while s < end:
            town = setting == "urban"
            width = BAY_M * float(rng.integers(3, 7) if town else rng.integers(3, 5))
            floors = int(rng.integers(2, 7)) if town else int(rng.integers(1, 3))
            style = draw(rng, (0.34, 0.2, 0.32, 0.14)) if town else int(rng.choice([0, 3]))
            if not _in_crossing(road, s, s + width, 3.5):
                d = sign * (line + float(rng.uniform(0, 0.8 if town else 5.0)))
                out.append(_building(rng, (s, s + width), d, floors, style, gable=not town))
            s += width
            if rng.random() < gap_chance:
                s += float(rng.uniform(3, 9) if setting != "rural" else rng.uniform(25, 70))
    return tuple(out)


def _trees(
    rng: np.random.Generator, setting: Setting, road: Road, end: float, buildings: tuple[Building, ...]
) -> tuple[Tree, ...]:
    out: list[Tree] = []
    season = rng.choice([0, 0, 0, 1])
    spacing = {"urban": float(rng.uniform(14, 40)), "suburban": 11.0, "rural": 8.0}[setting]
    for sign in (1, -1):
        kerb = road.kerb_right_m if sign > 0 else -road.kerb_left_m
        walled = [(b.s0 - 1, b.s1 + 1, abs(b.d) - 1.2) for b in buildings if b.d * sign > 0]
        s = float(rng.uniform(4, 12))
        while s < end:
            bush = setting != "urban" and rng.random() < 0.3
            if setting == "urban":
                away = road.sidewalk_m * 0.22 + 0.25
            elif setting == "suburban":
                away = road.sidewalk_m + float(rng.uniform(0.6, max(road.verge_m - 0.6, 0.8)))
            else:
                away = 2.5 + float(rng.exponential(6.0))
            d = sign * (kerb + away)
            inside = any(s0 < s < s1 and abs(d) > line for s0, s1, line in walled)
            if not inside and not _in_crossing(road, s, s, 3.0):
                autumn = (0.7, 0.95, 1.5) if season and rng.random() < 0.6 else (1.0, 1.0, 1.0)
                shade = between(rng, 0.75, 1.25)
                b, g, r = (k * shade * between(rng, 0.92, 1.08) for k in autumn)
                height = between(rng, 1.0, 2.0) if bush else between(rng, 4.5, 9.0)
                sprite = int(rng.integers(SPRITES))
                sprite -= 1 if setting == "urban" and sprite % 5 == 4 else 0
                out.append(Tree(s, d, height, sprite, (b, g, r), bush))
            s += spacing * between(rng, 0.4, 1.6)
    return tuple(out)


def _masts(rng: np.random.Generator, setting: Setting, road: Road, end: float) -> tuple[Mast, ...]:
    if setting == "rural":
        out = []
        for s in np.arange(float(rng.uniform(3, 12)), end, 12.5):
            for d in (road.kerb_right_m + 0.5, road.kerb_left_m - 0.5):
                out.append(Mast(float(s), d, 0.95, 0.0, lamp=False))
        return tuple(out)
    spacing, height = float(rng.uniform(24, 34)), float(rng.uniform(5.5, 8.5))
    both = bool(rng.random() < 0.5)
    out = []
    for k, s in enumerate(np.arange(float(rng.uniform(6, 18)), end, spacing)):
        if not _in_crossing(road, s, s, 2.0):
            if both or k % 2:
                out.append(Mast(float(s), road.kerb_right_m + 0.5, height, -1.8, lamp=True))
            if both or not k % 2:
                out.append(Mast(float(s), road.kerb_left_m - 0.5, height, 1.8, lamp=True))
    return tuple(out)


def _lights(rng: np.random.Generator, road: Road, numbers: Callable[[], int]) -> tuple[TrafficLight, ...]:
    out: list[TrafficLight] = []
    for s_x in road.crossings:
        if rng.random() < 0.12:
            continue
        lit = ("red", "amber", "green")[draw(rng, (0.4, 0.15, 0.45))]
        height = float(rng.uniform(1.15, 1.4))
        s = s_x - CROSS_HALF_M - 1.2
        right, left = road.kerb_right_m + 0.6, road.kerb_left_m - 0.6
        yaw = float(rng.normal(0, 0.08))
        heads = [(s, right, 3.0, right), (s, left, 3.0, left)]
        if rng.random() < 0.55:
            reach = road.right_m - 0.5 * road.lane_m if road.lanes_right == 1 else road.right_m - road.lane_m
            heads = [(s, right, 2.9, right), (s_x + CROSS_HALF_M + 1.5, reach, float(rng.uniform(4.6, 5.2)), right)]
        for at, d, z, post in heads:
            out.append(TrafficLight(numbers(), at, d, z, post, height, lit, yaw))  # type: ignore[arg-type]
    return tuple(out)


def _signs(
    rng: np.random.Generator, setting: Setting, road: Road, length: float, numbers: Callable[[], int]
) -> tuple[Sign, ...]:
    out: list[Sign] = []
    s = float(rng.uniform(9, 16))
    while s < max(length - 20, 36):
        right = rng.random() < 0.72
        d = road.kerb_right_m + 0.7 if right else road.kerb_left_m - 0.7
        if not _in_crossing(road, s, s, 3.0):
            kind = SIGN_KINDS[draw(rng, (0.22, 0.1, 0.1, 0.14, 0.1, 0.09, 0.1, 0.08, 0.07))]
            size = float(rng.uniform(0.78, 1.05))
            yaw = float(rng.normal(0.0, 0.14))
            out.append(Sign(numbers(), s, d, float(rng.uniform(2.15, 2.7)), size, kind, yaw))
        s += float(rng.uniform(9, 26) if setting != "rural" else rng.uniform(12, 30))
    return tuple(out)
