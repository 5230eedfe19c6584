"""The process behind a live roadworld: python -m edgetl.roadworld.feed SEED DOMAIN HEIGHT WIDTH FPS > frames.

Writes raw (H, W, 3) uint8 BGR frames to stdout, one drive after the other, and ends when nobody reads them.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl.roadworld.noise import U8

DRIVE_S = 60.0
"""A drive is one scene with its own road, traffic and light; the next one follows with a cut."""


def drives(seed: int, domain: str, size_hw: tuple[int, int], fps: float) -> Iterator[U8]:
    """Pictures of drive after drive, without end; the same for the same arguments. The first drive is `seed`'s, and
    its camera sees all of them."""
    from edgetl.roadworld.render import render_clip
    from edgetl.roadworld.sample import clip_camera

    camera = clip_camera(seed, size_hw)
    for number in itertools.count(seed):
        for picture in render_clip(number, seconds=DRIVE_S, fps=fps, size_hw=size_hw, domain=domain, camera=camera):
            yield picture.image


def main(arguments: list[str]) -> None:
    """Render until stdout closes."""
    import cv2

    seed, domain, height, width, fps = arguments
    cv2.setNumThreads(1)  # one core at most: the rest is for the network that looks at the pictures
    os.nice(5)
    try:
        for image in drives(int(seed), domain, (int(height), int(width)), float(fps)):
            sys.stdout.buffer.write(image.data.cast("B"))
    except (BrokenPipeError, KeyboardInterrupt):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes


if __name__ == "__main__":
    main(sys.argv[1:])
