"""How much later than the result itself does a ROS 2 subscriber in another process have it?

    python tests/bench/bench_ros2.py [--results 900] [--fps 30] [--boxes 0,20,100] [--json]

Publisher, router and subscriber are three processes on loopback; the subscriber is a plain Zenoh session that takes the
time of receipt on CLOCK_MONOTONIC, which all processes of a machine share. over: from t_publish, when the result was
ready, to receipt: making the message, publishing it, the way. age: from the frame's capture to receipt.

paced: results of so many boxes, tracked, at --fps, and nothing else in the publishing process. loop: the camera loop
with a network of 64x96 that gives up to 8 boxes, 640x480 frames at --fps, pictures at 5/s with a subscriber,
diagnostics. The mark is a median over of 1 ms or less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "runtime"), str(HERE.parents[1] / "runtime" / "ros")]

MARK_MS = 1.0
WARM = 30
"""Results that are not counted."""

HELPER = """
import json, sys, time, zenoh
mode, address = sys.argv[1:]
config = zenoh.Config()
for key, value in {"mode": mode, "scouting/multicast/enabled": False,
                   "connect/endpoints": [address] if mode == "peer" else [],
                   "listen/endpoints": [address] if mode == "router" else ["tcp/127.0.0.1:0"]}.items():
    config.insert_json5(key, json.dumps(value))
came = {}
def take(sample):
    now_ns = time.monotonic_ns()
    if "/detections/" in str(sample.key_expr):
        came[int.from_bytes(sample.attachment.to_bytes()[:8], "little")] = now_ns
with zenoh.open(config) as session:
    if mode == "peer":
        session.declare_subscriber("0/**", zenoh.handlers.Callback(take, None, indirect=False))
    print("ready", flush=True)
    sys.stdin.read()
print(json.dumps(came))
"""


@contextmanager
def helper(mode: str, address: str) -> Iterator[subprocess.Popen[str]]:
    """A router, or a subscriber that prints what came when its standard input ends."""
    command = [sys.executable, "-c", HELPER, mode, address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdout.readline()
        yield process
    finally:
        if not process.stdin.closed:
            process.stdin.close()
        process.wait(20)


def came(process: subprocess.Popen[str]) -> dict[int, int]:
    """When each result reached the subscriber, by its number."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    return {int(number): now_ns for number, now_ns in json.loads(process.stdout.read()).items()}


def wait_for_subscriber(sink: Any) -> None:
    """Until the publisher of boxes has one."""
    until_s = time.monotonic() + 10
    while not sink.matched:
        if time.monotonic() > until_s:
            sys.exit("bench_ros2: no subscriber came")
        time.sleep(0.01)
    time.sleep(0.5)


def paced(args: argparse.Namespace, address: str, count: int) -> dict[int, tuple[int, int]]:
    """Publish results of `count` boxes; when each was captured and ready, by its number."""
    from ros_support import boxes, options, result_of
    from runtime_support import DETECT

    from edgetl_runtime.ros import Ros2Sink

    sink = Ros2Sink((DETECT,), camera_id="bench", options=options(address))
    wait_for_subscriber(sink)
    found, sent = boxes(count, tracked=True), {}
    next_s = time.monotonic()
    for number in range(1, args.results + 1):
        next_s += 1 / args.fps
        time.sleep(max(next_s - time.monotonic(), 0))
        result, frame = result_of(found, number)
        sent[number] = (result.t_capture_ns, result.t_publish_ns)
        sink.write(result, frame, None)
    time.sleep(0.5)
    sink.close()
    return sent


def loop(args: argparse.Namespace, address: str) -> dict[int, tuple[int, int]]:
    """The camera loop."""
    from ros_support import options
    from runtime_support import FakeCamera, scene, write_test_bundle

    import edgetl_runtime
    from edgetl_runtime.bundle import open_bundle
    from edgetl_runtime.result import Result
    from edgetl_runtime.ros import Ros2Sink

    sent: dict[int, tuple[int, int]] = {}

    def ready(result: Result) -> None:
        sent[len(sent) + 1] = (result.t_capture_ns, result.t_publish_ns)

    images = [scene(480, 640, i) for i in range(8)] * (args.results // 8 + 1)
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(write_test_bundle(Path(folder) / "tiny.bundle"))
        sink = Ros2Sink(bundle.manifest.heads, camera_id="bench", options=options(address), pictures_per_s=5)
        wait_for_subscriber(sink)
        camera = FakeCamera(images, delay_s=1 / args.fps)
        edgetl_runtime.run(
            bundle, camera, sinks=[sink], on_result=ready, max_frames=args.results, threshold=0.0, track=True
        )
    return sent


def row(name: str, sent: dict[int, tuple[int, int]], received: dict[int, int]) -> dict[str, Any]:
    """Percentiles in ms, and how many did not arrive."""
    counted = [n for n in sent if n > WARM and n in received]
    over = np.array([received[n] - sent[n][1] for n in counted]) / 1e6
    age = np.array([received[n] - sent[n][0] for n in counted]) / 1e6
    figures = {
        f"{what}_{q}_ms": round(float(np.percentile(values, float(q[1:]))), 3)
        for what, values in (("over", over), ("age", age))
        for q in ("p50", "p99")
    }
    return {"run": name, "results": len(counted), "missing": len(sent) - len(received), **figures}


def main() -> None:
    """Run all in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=900)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--boxes", type=lambda text: [int(n) for n in text.split(",")], default=[0, 20, 100])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    from ros_support import free_port

    rows = []
    for count in [*args.boxes, None]:
        address = f"tcp/127.0.0.1:{free_port()}"
        with helper("router", address), helper("peer", address) as subscriber:
            name = "loop" if count is None else f"paced, {count} boxes"
            sent = loop(args, address) if count is None else paced(args, address, count)
            rows.append(row(name, sent, came(subscriber)))
            sys.stderr.write(f"{rows[-1]} at load {os.getloadavg()[0]:.1f}\n")
    met = all(r["over_p50_ms"] <= MARK_MS for r in rows)
    if args.json:
        print(json.dumps({"rows": rows, "mark_ms": MARK_MS, "met": met}, indent=2))
        return
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for r in rows:
        print("| " + " | ".join(str(r[c]) for c in columns) + " |")
    print(f"\nmedian over of at most {MARK_MS:g} ms: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()
