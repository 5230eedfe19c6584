"""What the live page of a rig costs: the loop's own thread for each result, and the processor for each answer.

    python tests/bench/bench_rig_page.py [--seconds 10] [--json]

Live cameras of 1280x720 at 15 a second, an engine that gives the same outputs again. A viewer is what the page's script
does: the newest pictures of all cameras as fast as they come, and the status once a second. Processor time only, so
that a busy machine changes little. loop_us: of the loop's thread in the page's sink, for each result; process: of all
threads, as a share of one core; pictures_per_s: that one viewer got; the others: milliseconds for one answer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
sys.path.insert(0, str(Path(__file__).parent))

from bench_rig import Constant
from rig_support import RateCamera, rig_of
from runtime_support import HEADS, write_test_bundle

from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.web.live import LivePage
from edgetl_runtime.web.rounds import WebRounds
from edgetl_runtime.web.server import Request

RATE = 15.0
SIZE_HW = (720, 1280)


class Viewer:
    """Asks as the page does, in a thread of its own, until `ended`."""

    def __init__(self, port: int, ended: threading.Event) -> None:
        self.pictures = 0
        self._port, self._ended = port, ended
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        number, polled_s = 0, 0.0
        while not self._ended.is_set():
            if time.monotonic() - polled_s >= 1:
                polled_s = time.monotonic()
                client.request("GET", "/status.json?camera=c0&bundle=b0")
                client.getresponse().read()
            client.request("GET", f"/frames?bundle=b0&after={number}")
            answer = client.getresponse()
            body = answer.read()
            if answer.status == 200:
                numbers = [int(part.split(b'"')[0]) for part in body.split(b'filename="')[1:]]
                self.pictures += len(numbers)
                number = max(numbers)
        client.close()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()


def watched(folder: Path, cameras: int, bundles: int, viewers: int, seconds: float) -> dict[str, float]:
    """One rig for so long with so many viewers."""
    names = [f"b{i}" for i in range(bundles)]
    fakes = {f"c{i}": RateCamera(RATE, size_hw=SIZE_HW) for i in range(cameras)}
    page = LivePage([LaneName(c, b) for c in fakes for b in names], dict.fromkeys(names, HEADS))
    ended = threading.Event()
    load = dict.fromkeys(names, lambda: Constant(folder))
    with rig_of(dict.fromkeys(names, folder), fakes, load=load) as rig:
        sink = WebRounds(page)
        sink.begin(rig)
        seen = [Viewer(page.port, ended) for _ in range(viewers)]
        spent_s, results, answers = 0.0, 0, {}
        start_s, before_s = time.monotonic(), time.process_time()
        for made in rig:
            t0 = time.thread_time()
            sink.write(made)
            spent_s += time.thread_time() - t0
            results += sum(map(len, made.results.values()))
            if time.monotonic() - start_s >= seconds:
                break
        process_s = time.process_time() - before_s
        wall_s = time.monotonic() - start_s
        if not viewers:
            answers = answer_ms(page)
        ended.set()
        for viewer in seen:
            viewer.join()
        sink.close()
    row = {"loop_us": spent_s * 1e6 / results, "process": process_s / wall_s}
    if viewers:
        row["pictures_per_s"] = seen[0].pictures / wall_s
    return {name: round(value, 3) for name, value in (row | answers).items()}


def answer_ms(page: LivePage) -> dict[str, float]:
    """Processor time of one answer by path, in ms."""
    found = {}
    for name, path, query in (
        ("status", "/status.json", {"camera": "c0", "bundle": "b0"}),
        ("readyz", "/readyz", {}),
        ("metrics", "/metrics", {}),
    ):
        request = Request(path, query, {"Host": "localhost"})
        t0 = time.thread_time()
        for _ in range(20):
            page._site.answer(request)
        found[f"{name}_ms"] = (time.thread_time() - t0) / 20 * 1e3
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    document: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_test_bundle(Path(scratch) / "many.bundle", heads=HEADS)
        for cameras, bundles in ((2, 2), (6, 3)):
            for viewers in (0, 1, 4):
                name = f"{cameras} cameras x {bundles} bundles, {viewers} viewers"
                document[name] = watched(folder, cameras, bundles, viewers, args.seconds)
                if not args.json:
                    row = document[name].items()
                    print(f"{name:<36} " + "  ".join(f"{key} {value:8.2f}" for key, value in row), flush=True)
    if args.json:
        print(json.dumps(document, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
