"""Frames per second of roadworld at 640x360 on one core: `python tests/bench/bench_roadworld.py`.

Prints one JSON line: per domain, stills (each a new scene) and clip frames (one scene), by wall clock and by
processor time, which other programs disturb less.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import cv2

from edgetl.roadworld import DOMAINS, Rendered, render_clip, render_still

FRAMES, WARM = 40, 25


def rates(pictures: Iterable[Rendered], warm: int) -> dict[str, float]:
    """Pictures per second after the first `warm`."""
    wall = cpu = 0.0
    count = 0
    for k, _ in enumerate(pictures):
        if k == warm:
            wall, cpu = time.perf_counter(), time.process_time()
        count = k - warm
    return {
        "fps_wall": round(count / (time.perf_counter() - wall), 1),
        "fps_cpu": round(count / (time.process_time() - cpu), 1),
    }


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    rows = {}
    for domain in DOMAINS:
        stills = (render_still(0, k, domain=domain) for k in range(WARM + FRAMES))
        clip = render_clip(0, seconds=(FRAMES + WARM) / 30, domain=domain)
        rows[domain] = {"stills": rates(stills, WARM), "clip": rates(clip, WARM)}
    print(json.dumps({"bench": "roadworld", "size_hw": [360, 640], "threads": 1, "domains": rows}))


if __name__ == "__main__":
    main()
