"""Pictures from seeds: stills, each a scene of its own, and clips of one drive."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import cast

from edgetl.roadworld.camera import Camera
from edgetl.roadworld.frame import Frame
from edgetl.roadworld.ground import Ground
from edgetl.roadworld.labels import Rendered
from edgetl.roadworld.sample import clip_scene, still_scene
from edgetl.roadworld.scene import DOMAINS, Domain, Scene
from edgetl.roadworld.sky import Sky
from edgetl_runtime.errors import InputError

SIZE_LIMITS = (64, 4096)


def check_request(size_hw: tuple[int, int], domain: str) -> Domain:
    """The domain, when it and the size can be rendered. Raises InputError otherwise."""
    if domain not in DOMAINS:
        raise InputError(f"unknown domain {domain!r}", remedy=f"choose one of {', '.join(DOMAINS)}")
    low, high = SIZE_LIMITS
    if len(size_hw) != 2 or not all(isinstance(v, int) and low <= v <= high for v in size_hw):
        raise InputError(
            f"pictures can't be {tuple(size_hw)} (height, width) pixels", remedy=f"choose both within {low} to {high}"
        )
    return cast(Domain, domain)


def render_still(seed: int, index: int, *, size_hw: tuple[int, int] = (360, 640), domain: str = "day") -> Rendered:
    """Picture `index` of a data set; each is a scene of its own and can be rendered alone."""
    if seed < 0 or index < 0:
        raise InputError(f"seed and index must not be negative, found {seed} and {index}")
    return Renderer(still_scene(seed, index, size_hw, check_request(size_hw, domain))).frame(0.0)


def render_clip(
    seed: int,
    *,
    seconds: float,
    fps: float = 30.0,
    size_hw: tuple[int, int] = (360, 640),
    domain: str = "day",
    camera: Camera | None = None,
) -> Iterator[Rendered]:
    """Frames of one drive; object ids are the same throughout. camera: instead of the drive's own, of this size."""
    kind = check_request(size_hw, domain)
    if not (0 < seconds <= 3600 and 0 < fps <= 1000) or seed < 0:
        raise InputError(f"can't render {seconds} s at {fps} frames/s from seed {seed}", remedy="use positive numbers")
    scene = clip_scene(seed, size_hw, kind, seconds)
    if camera is not None:
        scene = dataclasses.replace(scene, camera=camera)
    return _frames(Renderer(scene), max(round(seconds * fps), 1), fps)


def _frames(renderer: Renderer, count: int, fps: float) -> Iterator[Rendered]:
    for k in range(count):
        yield renderer.frame(k / fps)


class Renderer:
    """Renders a scene at any time; holds what stays the same between frames."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._sky = Sky(scene)
        self._ground = Ground(scene)

    def frame(self, time_s: float) -> Rendered:
        """The picture at this time of the scene, in seconds."""
        return Frame(self.scene, self._sky, self._ground, time_s).render()
