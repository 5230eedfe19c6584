"""The whole camera loop beside what people run now: same ONNX network, same frames, same machine, taking turns.

    python tests/bench/bench_stream.py --clip CLIP.mp4 --ultralytics-python ULTRALYTICS/bin/python \
        [--roboflow-python ROBOFLOW/bin/python] [--work DIR] [--rounds 3] [--json]

CLIP is any dashcam clip; its frames are played there and back until there are --frames. ULTRALYTICS is an environment
of its own (pip install ultralytics onnxruntime openvino onnx onnxslim; AGPL-3.0, never part of the project), ROBOFLOW
another (pip install inference onnxruntime). The network is YOLO11n at 640x640 with random weights (speed only: nobody
has a metric to keep, so edgetl's choice is the fastest pair), exported by Ultralytics once, and brought into edgetl by
`edgetl export net.onnx --spec`. The threshold is such that some 20 boxes a frame survive suppression. --work keeps what
was made for the next time.

file: every frame of a video. p50 and p99 are of the time between asking for the next result and having it. Outside the
engine: what the tool itself calls pre- and postprocessing; edgetl's suppression is in its graph, so in its engine time.
All but engine: the same time less the tool's engine time, with video decoding and the tool's own loop; edgetl reads
ahead in a thread. live: an MJPEG camera on loopback at --fps that waits for nobody. Its pictures carry a number, so
that the age of each result, from when the camera took the picture, is known whatever the tool says of it. The design
speaks of a model three times slower than the camera: the notes say how many frame intervals each engine takes.

Every run is a process of its own. Rounds turn the order; figures are medians over rounds, ratios medians of the ratios
within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from compilers.processes import PeerFailed
from stream.contest import Contestant, Mode, Round, contestants, one_round
from stream.prepare import Prepared, Wish, prepare
from stream.rows import (
    FILE_COLUMNS,
    LIVE_COLUMNS,
    Table,
    document,
    file_verdicts,
    live_verdicts,
    markdown,
    medians,
)

from edgetl.commands.arguments import names


def main() -> None:
    """Prepare, run all in turn, print."""
    args = arguments()
    with ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetl-stream-")))
        try:
            made = prepare(wish(args), work, say)
        except PeerFailed as error:
            sys.exit(f"bench_stream: {error}")
        tables = {mode: contest(args, mode, made, work) for mode in args.modes}
    found = {mode: document(table) for mode, table in tables.items()}
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for mode, table in tables.items():
        print(markdown(table, FILE_COLUMNS if mode == "file" else LIVE_COLUMNS))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--ultralytics-python", type=Path, required=True, help="also makes the network")
    parser.add_argument("--roboflow-python", type=Path)
    parser.add_argument("--roboflow-why", default="", metavar="TEXT", help="why there is none, for its row")
    parser.add_argument("--work", type=Path, help="folder that keeps network, bundle and clip (default: none)")
    parser.add_argument("--modes", type=names, default=("file", "live"))
    parser.add_argument("--only", type=names, default=(), help="short names: ultralytics, plain, same, chosen, …")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=300, help="of the clip, the first 20 not counted")
    parser.add_argument("--size", type=int, default=640, help="of the network, square")
    parser.add_argument("--fps", type=float, default=30.0, help="of the live camera")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each live run")
    parser.add_argument("--out", type=Path, help="JSON file to write, with every round")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def wish(args: argparse.Namespace) -> Wish:
    """What is to be made. The numbered pictures last for a minute, longer than any result is late."""
    return Wish(
        clip=args.clip,
        ultralytics_python=args.ultralytics_python,
        frames=args.frames,
        pictures=1800,
        size=args.size,
    )


def contest(args: argparse.Namespace, mode: Mode, made: Prepared, work: Path) -> Table:
    """All contestants in turn; one that fails is left out from then on."""
    everyone = {k: c for k, c in contestants(made).items() if not args.only or k in args.only}
    pythons = {
        "project": Path(sys.executable),
        "ultralytics": args.ultralytics_python,
        "roboflow": args.roboflow_python,
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in everyone}
    skipped: dict[str, str] = {}
    packages: dict[str, str] = {}
    order = list(everyone)
    for number in range(args.rounds):
        for name in order:
            if name in skipped:
                continue
            one = everyone[name]
            say(f"{mode}, round {number + 1} of {args.rounds}: {one.key}, load {os.getloadavg()[0]:.1f}")
            folder = work / "runs" / mode / name
            try:
                done = one_round(one, mode, made, pythons[one.environment], folder, fps=args.fps, seconds=args.seconds)
            except PeerFailed as error:
                skipped[name] = args.roboflow_why if name == "roboflow" and args.roboflow_why else str(error)
                say(f"  {skipped[name]}")
                continue
            rounds[name].append(done.figures | own_ages(done))
            packages[one.key] = ", ".join(f"{p} {v}" for p, v in done.said["packages"].items())
            packages[one.key] += f", torch {done.said['torch']}" if "torch" in done.said else ""
            say(f"  {short(done, mode)}")
        order.append(order.pop(0))
    return table_of(args, mode, made, everyone, rounds, skipped, packages)


def own_ages(done: Round) -> dict[str, float]:
    """What edgetl says of its results' age itself, counted from a frame's arrival in the process."""
    ages = done.said.get("own_age_ms")
    return {"own_age_p99_ms": float(np.percentile(ages, 99))} if ages else {}


def short(done: Round, mode: Mode) -> str:
    """A run in one line, for whoever waits."""
    shown = ("p50_ms", "p99_ms", "outside_ms") if mode == "file" else ("age_p50_ms", "age_p99_ms", "results")
    return ", ".join(f"{name} {done.figures[name]:.2f}" for name in shown)


def table_of(
    args: argparse.Namespace,
    mode: Mode,
    made: Prepared,
    everyone: dict[str, Contestant],
    rounds: dict[str, list[dict[str, float]]],
    skipped: dict[str, str],
    packages: dict[str, str],
) -> Table:
    """With notes and limits."""
    kept = {name: done for name, done in rounds.items() if done and name not in skipped}
    height, width = made.source_hw
    notes = [
        f"{args.clip.name}, {width}x{height}; YOLO11n {made.size}x{made.size}, random weights; threshold "
        f"{made.threshold:.4f}: {made.candidates:.0f} candidates, {made.boxes:.0f} boxes a frame",
        *(f"{key}: {text}" for key, text in packages.items()),
    ]
    if "+cu" in packages.get(everyone["ultralytics"].key if "ultralytics" in everyone else "", ""):
        notes.append(
            "Ultralytics' environment has a CUDA build of torch, whose import takes some 280 MB more than the CPU's"
        )
    title = f"file: every frame, {args.rounds} rounds of {args.frames} frames"
    verdicts = file_verdicts(kept)
    if mode == "live":
        title = f"live: {args.fps:g} frames/s, {args.rounds} rounds of {args.seconds:g} s"
        verdicts = live_verdicts(kept, 1e3 / args.fps)
        slower = {n: medians(r)["engine_ms"] * args.fps / 1e3 for n, r in kept.items()}
        notes.append(
            "engine times in frame intervals: " + ", ".join(f"{everyone[n].key} {v:.1f}" for n, v in slower.items())
        )
    return Table(title, {n: c.key for n, c in everyone.items()}, kept, skipped, notes, verdicts)


def say(text: str) -> None:
    """One line for whoever waits."""
    sys.stderr.write(f"stream       {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
