"""What a V4L2 camera's frame costs this machine, by pixel format: from the driver's filled buffer to BGR in Frame.

    python tests/bench/bench_v4l2.py [--size 1280x720] [--frames 200] [--json]

The driver is the one in memory that the tests use, so what a bus and a real driver take is not in these figures; its
own part of each frame is outside of the time that is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

from v4l2_support import FakeDriver, FakeKernel, jpeg, pack

from edgetl_runtime.cameras._v4l2_formats import PIXEL_FORMATS
from edgetl_runtime.cameras.v4l2 import V4L2Camera
from edgetl_runtime.machine import machine
from edgetl_runtime.schedule import set_opencv_threads

SLOW = 0.2
"""A rate at which no frame grows old meanwhile."""


def measure(name: str, size_hw: tuple[int, int], frames: int) -> dict[str, object]:
    """Milliseconds of one `read` of a frame that is there."""
    noise = np.random.default_rng(0).integers(0, 255, (size_hw[0] // 8, size_hw[1] // 8, 3), np.uint8)
    image = cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    data = jpeg(image) if name in ("MJPG", "JPEG") else pack(name, image)
    fake = FakeDriver({name: {size_hw: (SLOW,)}})
    camera = V4L2Camera("0", kernel=FakeKernel(video0=fake))
    times_ms = []
    for _ in range(frames + 10):
        fake.deliver(data)
        start_s = time.perf_counter()
        camera.read()
        times_ms.append((time.perf_counter() - start_s) * 1e3)
    camera.close()
    cuts = statistics.quantiles(times_ms[10:], n=100)
    return {"format": name, "bytes": len(data), "p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


def main() -> None:
    """Measure each format and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    width, height = (int(n) for n in args.size.split("x"))
    set_opencv_threads(live=True)
    rows = [measure(name, (height, width), args.frames) for name in PIXEL_FORMATS]
    if args.json:
        print(json.dumps({"machine": machine(), "size": args.size, "frames": args.frames, "rows": rows}))
        return
    print(f"{machine()}, {args.size}, {args.frames} frames\nformat      bytes  p50 ms  p99 ms")
    for row in rows:
        print(f"{row['format']:6} {row['bytes']:>10}  {row['p50_ms']:6.2f}  {row['p99_ms']:6.2f}")


if __name__ == "__main__":
    main()
