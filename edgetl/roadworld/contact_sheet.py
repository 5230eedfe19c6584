"""The picture in the README: one scene in four domains.

Regenerate it with `python -m edgetl.roadworld.contact_sheet docs/roadworld.jpg`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from edgetl.roadworld.noise import U8
from edgetl.roadworld.render import render_still
from edgetl.roadworld.scene import DOMAINS

SEED = 1
SCENES = (109, 109, 109, 109)
TILE_HW = (360, 640)
LIMIT_BYTES = 250_000


def contact_sheet(seed: int = SEED, scenes: tuple[int, ...] = SCENES) -> U8:
    """Day, night, fog and rain, two by two, (720, 1280, 3) uint8 BGR; scenes are the indices shown."""
    tiles = [render_still(seed, k, size_hw=TILE_HW, domain=d).image for d, k in zip(DOMAINS, scenes, strict=True)]
    return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def main(arguments: list[str]) -> int:
    """Write the sheet to the path given, small enough for a README."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m edgetl.roadworld.contact_sheet OUT.jpg\n")
        return 2
    out = Path(arguments[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet()
    for quality in (88, 85, 80, 75, 70):
        data: bytes = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= LIMIT_BYTES:
            break
    out.write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
