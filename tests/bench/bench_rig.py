"""What a rig costs beside a single session: the processor's time that the loop's own thread spends on each frame.

    python tests/bench/bench_rig.py [--frames 2000] [--repeat 5] [--outputs [--seconds 10] | --films] [--json]

Small pictures from memory and an engine that gives the same outputs again, so that nearly all that is measured is the
loop. The same frames go through a Session and through rigs of one camera and one bundle and of several, in turn; the
medians over the repeats are shown, in us for each frame and each result. file: pictures as fast as they are taken;
live: at 400 a second, checked, with a wait before each.

--outputs: a live rig of 4 cameras at 30 a second and 2 bundles instead, without anything, then with ROS 2 (a router and
one who subscribes to everything, pictures too, in processes of their own), then with Foxglove, nobody there and one who
looks at everything. whole_us_per_frame: of all of this process's threads.

--films: rounds a second of clips of 1280x720 instead, with an engine that takes no time and with one that takes 8 ms
elsewhere, as on an accelerator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "ros"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "foxglove"))

from rig_support import RateCamera, rig_of
from runtime_support import FakeCamera, write_clip, write_test_bundle

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras.video import VideoCamera
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.session import Session

if TYPE_CHECKING:
    from edgetl_runtime.rig.sinks import RigSink

CAMERAS, BUNDLES = ("front", "left", "right", "rear"), ("b0", "b1")
LOOKER = """
import sys
sys.path[:0] = sys.argv[2:]
from foxglove_support import Client
with Client(int(sys.argv[1])) as client:
    client.learn(4 + 6 * 8)
    client.subscribe(*client.channels)
    print("ready", flush=True)
    try:
        while True:
            client.socket.recv()
    except Exception:
        pass
"""


class Constant:
    """The outputs of the bundle's engine for a dark frame, at no cost."""

    def __init__(self, folder: Path) -> None:
        inner = load_bundle_engine(open_bundle(folder), threads=1)
        self.name, self.precision, self.inputs, self.outputs = inner.name, inner.precision, inner.inputs, inner.outputs
        dark = {t.name: np.zeros(t.shape, t.dtype) for t in inner.inputs}
        self._given = {name: np.array(values) for name, values in inner.infer(dark).items()}
        inner.close()

    def infer(self, inputs: object) -> dict[str, Any]:
        """The same again."""
        return self._given

    def close(self) -> None:
        """Nothing to free."""


class Elsewhere(Constant):
    """The same, after a while in which no core of this machine is used."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(folder)
        self._seconds = seconds

    def infer(self, inputs: object) -> dict[str, Any]:
        """The same again."""
        time.sleep(self._seconds)
        return super().infer(inputs)


def camera(frames: int, *, live: bool) -> FakeCamera:
    """The same few pictures again and again."""
    rng = np.random.default_rng(0)
    images = [rng.integers(40, 200, (64, 96, 3), dtype=np.uint8) for _ in range(16)]
    return FakeCamera([images[i % 16] for i in range(frames)], live=live, delay_s=0.0025 if live else 0.0)


def of_session(folder: Path, frames: int, *, live: bool) -> dict[str, float]:
    """One camera, one bundle, the usual way."""
    session = Session(camera(frames, live=live), Pipeline(open_bundle(folder), Constant(folder)))
    with session:
        spent_s = time.thread_time()
        for _ in session.frames():
            pass
        spent_s = time.thread_time() - spent_s
    return figures(spent_s, session.processed, 1, session.ledger.snapshot())


def of_rig(folder: Path, frames: int, cameras: int, bundles: int, *, live: bool) -> dict[str, float]:
    """Several of both; the bundles share a letterbox."""
    fakes = {f"c{i}": camera(frames, live=live) for i in range(cameras)}
    names = [f"b{i}" for i in range(bundles)]
    load = dict.fromkeys(names, lambda: Constant(folder))
    with rig_of(dict.fromkeys(names, folder), fakes, load=load) as rig:
        spent_s = time.thread_time()
        for _ in rig:
            pass
        spent_s = time.thread_time() - spent_s
    total = rig.summary().total
    return figures(spent_s, total.processed, bundles, total.stages)


def of_films(folder: Path, clip: Path, cameras: int, bundles: int, engine_s: float) -> dict[str, float]:
    """A rig on files that have to be decoded."""
    films = {f"c{i}": VideoCamera(clip) for i in range(cameras)}
    names = [f"b{i}" for i in range(bundles)]
    load = dict.fromkeys(names, lambda: Elsewhere(folder, engine_s) if engine_s else Constant(folder))
    with rig_of(dict.fromkeys(names, folder), films, load=load) as rig:
        for made in rig:
            del made
        seconds = rig.seconds
    return {"rounds_per_s": rig.rounds / seconds}


def measure_films(repeat: int) -> dict[str, dict[str, float]]:
    """Medians by what was run."""
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_test_bundle(Path(scratch) / "tiny.bundle")
        clip = write_clip(Path(scratch) / "clip.mp4", frames=100, height=720, width=1280)
        for _ in range(repeat):
            for cameras, bundles in ((1, 1), (2, 1), (2, 2)):
                for engine_s in (0.0, 0.008):
                    name = f"films of {cameras}, bundles {bundles}, engine {engine_s * 1e3:g} ms"
                    found.setdefault(name, []).append(of_films(folder, clip, cameras, bundles, engine_s))
    return medians(found)


@contextmanager
def over_ros() -> Iterator[Callable[[Path], RigSink]]:
    """A router and a subscriber."""
    from bench_ros2 import helper
    from ros_support import free_port, options

    from edgetl_runtime.ros import Ros2Rounds

    address = f"tcp/127.0.0.1:{free_port()}"

    def sink(folder: Path) -> RigSink:
        heads = dict.fromkeys(BUNDLES, open_bundle(folder).manifest.heads)
        return Ros2Rounds(CAMERAS, heads, options=options(address), pictures_per_s=5.0)

    with helper("router", address), helper("peer", address):
        yield sink


@contextmanager
def in_foxglove(*, looked_at: bool) -> Iterator[Callable[[Path], RigSink]]:
    """A server, and one who looks."""
    from edgetl_runtime.foxglove import FoxgloveRounds

    lookers: list[subprocess.Popen[str]] = []

    def sink(folder: Path) -> RigSink:
        made = FoxgloveRounds(CAMERAS, dict.fromkeys(BUNDLES, open_bundle(folder).manifest.heads), port=0)
        if looked_at:
            command = [
                sys.executable,
                "-c",
                LOOKER,
                str(made.port),
                str(Path(__file__).parents[1] / "runtime" / "foxglove"),
            ]
            lookers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            assert lookers[-1].stdout is not None
            lookers[-1].stdout.readline()
        return made

    try:
        yield sink
    finally:
        for looker in lookers:
            looker.wait(20)


def with_outputs(folder: Path, seconds: float, make: Callable[[Path], RigSink] | None) -> dict[str, float]:
    """One live run of the rig that --outputs speaks of."""
    cameras = {name: RateCamera(30.0, int(30 * seconds), size_hw=(360, 640)) for name in CAMERAS}
    sink = make(folder) if make is not None else None
    load = dict.fromkeys(BUNDLES, lambda: Constant(folder))
    with rig_of(dict.fromkeys(BUNDLES, folder), cameras, load=load) as rig:
        if sink is not None:
            sink.begin(rig)
        spent_s, whole_s = time.thread_time(), time.process_time()
        for made in rig:
            if sink is not None:
                sink.write(made)
        spent_s, whole_s = time.thread_time() - spent_s, time.process_time() - whole_s
    if sink is not None:
        sink.close()
    total = rig.summary().total
    row = figures(spent_s, total.processed, len(BUNDLES), total.stages)
    return row | {"whole_us_per_frame": whole_s * 1e6 / total.processed}


def measure_outputs(seconds: float, repeat: int) -> dict[str, dict[str, float]]:
    """Medians of every figure by what was run."""
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_test_bundle(Path(scratch) / "tiny.bundle")
        for _ in range(repeat):
            found.setdefault("nothing", []).append(with_outputs(folder, seconds, None))
            for name, opened in (
                ("ROS 2", over_ros()),
                ("Foxglove, nobody there", in_foxglove(looked_at=False)),
                ("Foxglove, looked at", in_foxglove(looked_at=True)),
            ):
                with opened as make:
                    found.setdefault(name, []).append(with_outputs(folder, seconds, make))
    return medians(found)


def figures(spent_s: float, frames: int, bundles: int, stages: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of one run."""
    return {
        "us_per_frame": spent_s * 1e6 / frames,
        "us_per_result": spent_s * 1e6 / (frames * bundles),
        "age_p50_ms": stages["age"]["p50_ms"],
        "age_p99_ms": stages["age"]["p99_ms"],
    }


def measure(frames: int, repeat: int) -> dict[str, dict[str, float]]:
    """Medians of every figure by what was run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_test_bundle(Path(scratch) / "tiny.bundle")
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(repeat):
            for live in (False, True):
                kind = "live" if live else "file"
                found.setdefault(f"session, {kind}", []).append(of_session(folder, frames, live=live))
                for cameras, bundles in ((1, 1), (1, 2), (2, 1), (4, 2)):
                    name = f"rig of {cameras} camera{'s' * (cameras > 1)} and {bundles}, {kind}"
                    found.setdefault(name, []).append(of_rig(folder, frames, cameras, bundles, live=live))
    return medians(found)


def medians(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Of every figure by what was run."""
    return {
        name: {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
        for name, rows in found.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--outputs", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0, help="of --outputs")
    parser.add_argument("--films", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    document: dict[str, Any]
    if args.films:
        document = measure_films(args.repeat)
    elif args.outputs:
        document = measure_outputs(args.seconds, args.repeat)
    else:
        document = measure(args.frames, args.repeat)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        for name, row in document.items():
            print(f"{name:<32} " + "  ".join(f"{key} {value:8.2f}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
