"""Drawing a scene by lot: road, setting, light, and what stands and moves where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgetl.roadworld.camera import Camera
from edgetl.roadworld.look import sample_look
from edgetl.roadworld.lots import draw
from edgetl.roadworld.roadside import Roadside, sample_roadside
from edgetl.roadworld.scene import Actor, Domain, Path, Road, Scene, Setting
from edgetl.roadworld.traffic import sample_traffic

STILL_REACH_M = 56.0
CLIP_REACH_M = 85.0
CLIP_SPEED_MPS = 12.0


def still_scene(seed: int, index: int, size_hw: tuple[int, int], domain: Domain) -> Scene:
    """Scene `index` of a data set: the world depends on (seed, index) only, the light on the domain too."""
    return _scene([seed, index], size_hw, domain, seconds=0.0)


def clip_scene(seed: int, size_hw: tuple[int, int], domain: Domain, seconds: float) -> Scene:
    """The scene of a clip: long enough for `seconds` of driving at CLIP_SPEED_MPS."""
    return _scene(_clip_entropy(seed), size_hw, domain, seconds=seconds)


def clip_camera(seed: int, size_hw: tuple[int, int]) -> Camera:
    """The camera of `clip_scene`, in any domain."""
    return _camera(_generators(_clip_entropy(seed))[1], size_hw)


def _clip_entropy(seed: int) -> list[int]:
    return [seed, 1 << 20]


def _generators(entropy: list[int]) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
    """Of the world, of the camera and how it is seen, of the light."""
    world, sight, look = (np.random.default_rng(s) for s in np.random.SeedSequence(entropy).spawn(3))
    return world, sight, look


def _scene(entropy: list[int], size_hw: tuple[int, int], domain: Domain, *, seconds: float) -> Scene:
    world, sight, look = _generators(entropy)
    clip = seconds > 0
    length = STILL_REACH_M + (CLIP_SPEED_MPS * seconds + 40.0 if clip else 0.0)
    setting: Setting = ("urban", "suburban", "rural")[draw(world, (0.5, 0.35, 0.15))]
    path = Path(
        swing_rad=float(world.uniform(0.0, 0.3)) * (0.75 if setting == "urban" else 1.0),
        wavelength_m=float(world.uniform(170, 320)),
        phase_rad=float(world.uniform(0, 2 * np.pi)),
        length_m=length + 100,
        width_swing=float(world.uniform(0, 0.03)),
    )
    crossings = _crossings(world, setting, length)
    road = _road(world, setting, crossings)
    numbers = _counter()
    lane = int(world.integers(0, road.lanes_right))
    ego_d = (lane + 0.5) * road.lane_m + float(world.normal(0, 0.12))
    speed = CLIP_SPEED_MPS if clip else 0.0
    actors: tuple[Actor, ...] = sample_traffic(world, setting, road, lane, length, seconds, numbers)
    side: Roadside = sample_roadside(world, setting, road, length, numbers)
    lights = tuple(replace(light, lit="green") for light in side.lights) if clip else side.lights
    return Scene(
        scene_id="-".join(["rw", *(str(e) for e in entropy)]), seed=int(world.integers(1 << 30)), domain=domain,
        setting=setting, camera=_camera(sight, size_hw), path=path, road=road, look=sample_look(look, domain),
        ego_s=0.0, ego_d=ego_d, ego_yaw_rad=float(sight.normal(0, 0.015 if clip else 0.035)), ego_mps=speed,
        actors=actors, buildings=side.buildings, trees=side.trees, masts=side.masts, lights=lights,
        signs=side.signs, draw_m=CLIP_REACH_M if clip else 75.0,
    )  # fmt: skip


def _counter() -> Callable[[], int]:
    count = 0

    def following() -> int:
        nonlocal count
        count += 1
        return count

    return following


def _camera(rng: np.random.Generator, size_hw: tuple[int, int]) -> Camera:
    """A windscreen camera with a horizontal field of view of 54 to 66 degrees."""
    fov = np.deg2rad(rng.uniform(54, 66))
    reference = max(size_hw[1], size_hw[0] * 4 / 3)
    return Camera(
        size_hw, float(reference / 2 / np.tan(fov / 2)), float(rng.uniform(1.25, 1.75)), float(rng.uniform(0.0, 0.06))
    )


def _crossings(rng: np.random.Generator, setting: Setting, length: float) -> tuple[float, ...]:
    chance = {"urban": 0.75, "suburban": 0.45, "rural": 0.08}[setting]
    places = []
    at = float(rng.uniform(21, 40))
    while at < length + 20:
        if rng.random() < chance:
            places.append(at)
        at += float(rng.uniform(60, 95))
    return tuple(places)


def _road(rng: np.random.Generator, setting: Setting, crossings: tuple[float, ...]) -> Road:
    town = setting != "rural"
    lanes = 1 + draw(rng, (0.62, 0.38))
    parking = (
        float(rng.choice([0.0, 2.3], p=[0.45, 0.55]))
        if setting == "urban"
        else float(rng.choice([0.0, 2.2], p=[0.7, 0.3]))
        if town
        else 0.0
    )
    on, period = [(3.0, 8.0), (4.0, 10.667), (5.0, 16.0), (3.0, 5.333)][int(rng.integers(4))]
    green = np.array([58.0, 108.0, 88.0]) * rng.uniform(0.75, 1.15)
    dry = np.array([86.0, 138.0, 146.0]) * rng.uniform(0.8, 1.05)
    terrain = green + (dry - green) * float(rng.choice([0.0, 0.2, 0.6]))
    return Road(
        lane_m=float(rng.uniform(3.05, 3.65)), lanes_right=lanes, lanes_left=int(rng.choice([lanes, 1])),
        parking_m=parking, shoulder_m=float(rng.uniform(1.0, 1.5)) if not parking else 0.15,
        sidewalk_m=float(rng.uniform(2.0, 3.6)) if town else 0.0,
        verge_m=float(rng.uniform(0.4, 2.5)) if setting == "urban" else float(rng.uniform(2.5, 7.0)),
        dash=(on, period), centre=("dashed", "solid", "double")[int(rng.integers(3))], yellow=bool(rng.random() < 0.4),
        edge_lines=bool(rng.random() < (0.5 if town else 0.95)), asphalt=float(rng.uniform(78, 132)),
        terrain=(float(terrain[0]), float(terrain[1]), float(terrain[2])), seed=int(rng.integers(1 << 30)),
        crossings=crossings,
    )  # fmt: skip
