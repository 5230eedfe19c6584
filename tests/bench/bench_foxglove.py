"""What Foxglove costs the loop: the time of `write` with nobody there, one who looks, and one who never reads.

    python tests/bench/bench_foxglove.py [--seconds 5] [--json]

640x360 pictures with 20 boxes at 30 a second; then how long building each message takes in the sink's own threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "recording"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "foxglove"))

from foxglove_support import Client
from recording_support import placed, result
from runtime_support import DETECT, scene

from edgetl_runtime.foxglove import FoxgloveSink
from edgetl_runtime.recording.foxglove import annotations_message
from edgetl_runtime.recording.scene import scene_message
from edgetl_runtime.result import Frame, Result

FPS = 30.0
TOPICS = ("/camera/image", "/camera/boxes", "/edgetl/objects", "/edgetl/result", "/edgetl/ledger")


def percentiles(times_ms: list[float]) -> dict[str, float]:
    """Of a list of durations."""
    return {f"p{p}_ms": round(float(np.percentile(times_ms, p)), 4) for p in (50, 95, 99)}


def one(number: int) -> Result:
    """A result with 20 boxes."""
    return result(number, size_hw=(360, 640), outputs={"detect": placed(20, number)})


def feed(sink: FoxgloveSink, seconds: float) -> dict[str, float]:
    """Write at the camera's pace; how long each `write` took."""
    picture, times = scene(360, 640), []
    for number in range(round(seconds * FPS)):
        of = one(number)
        frame = Frame(picture, number, "cam", of.t_capture_ns)
        t0 = time.perf_counter()
        sink.write(of, frame, None)
        times.append((time.perf_counter() - t0) * 1e3)
        time.sleep(1 / FPS)
    return percentiles(times)


def looking(sink: FoxgloveSink, seconds: float, *, reads: bool) -> dict[str, float]:
    """The same with a client that has subscribed to everything."""
    ended = threading.Event()
    with Client(sink.port) as client:
        client.learn(7)
        client.subscribe(*TOPICS)

        def read() -> None:
            while reads and not ended.is_set():
                with suppress(TimeoutError):
                    client.receive(0.2)

        reader = threading.Thread(target=read)
        reader.start()
        figures = feed(sink, seconds)
        ended.set()
        reader.join()
    return figures


def timed(action: Callable[[], object], times: int = 300) -> dict[str, float]:
    """Of one action."""
    found = []
    for _ in range(times):
        t0 = time.perf_counter()
        action()
        found.append((time.perf_counter() - t0) * 1e3)
    return percentiles(found)


def main() -> None:
    """Print percentiles in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sink, heads, of = FoxgloveSink((DETECT,), port=0), (DETECT,), one(1)
    rows = {
        "write, nobody there": feed(sink, args.seconds),
        "write, one who looks": looking(sink, args.seconds, reads=True),
        "write, one who never reads": looking(sink, args.seconds, reads=False),
        "boxes": timed(lambda: annotations_message(of, heads, 1)),
        "objects": timed(lambda: scene_message(of, heads, 1)),
        "result": timed(lambda: msgspec.json.encode(of.as_json(heads))),
        "JPEG": timed(lambda: cv2.imencode(".jpg", scene(360, 640))),
    }
    sink.close()
    print(json.dumps(rows) if args.json else "\n".join(f"{name:<28}{row}" for name, row in rows.items()))


if __name__ == "__main__":
    main()
