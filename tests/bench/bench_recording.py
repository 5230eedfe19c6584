"""What recording costs the loop's thread and the process: one camera with one bundle, and rigs, at 640x360 and 30/s.

    python tests/bench/bench_recording.py [--rounds 300] [--json]

Moving gradients with little noise; results of every kind of head with 8 boxes. write: the loop's part, in ms of its
thread's processor time for each round. process_s: of the whole process for all rounds, the pauses between them without
work. mb: the file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "recording"))

from recording_support import frame_of, result, rig_header

from edgetl_runtime.recording.sink import RecordRounds
from edgetl_runtime.rig.round import Round

SIZE_HW = (360, 640)


def pictures(count: int = 30) -> list[NDArray[np.uint8]]:
    """Each a little further than the one before."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    noise = rng.integers(0, 4, (*SIZE_HW, 3))
    planes = [np.stack([x // 3 + i, y // 2 + i, (x + y) // 5], axis=2) for i in range(count)]
    return [np.ascontiguousarray((p + noise) % 256, dtype=np.uint8) for p in planes]


def rounds(count: int, cameras: int, bundles: int) -> list[Round]:
    """Every camera in every round."""
    images, made = pictures(), []
    for number in range(count):
        frames: dict[str, Any] = {}
        results: dict[str, Any] = {}
        for c in range(cameras):
            of = result(number, size_hw=SIZE_HW, camera_id=f"c{c}", count=8)
            frames[f"c{c}"] = frame_of(of, images[(number + 7 * c) % len(images)])
            results[f"c{c}"] = {f"b{b}": of for b in range(bundles)}
        made.append(Round(number, frames, results, {}, {}, 0.0))
    return made


def measured(count: int, cameras: int, bundles: int, folder: Path) -> dict[str, float]:
    """One recording."""
    path, took = folder / f"{cameras}x{bundles}.mcap", []
    offered = rounds(count, cameras, bundles)
    sink = RecordRounds(path, rig_header([f"c{c}" for c in range(cameras)], [f"b{b}" for b in range(bundles)]))
    start_s = time.process_time()
    for made in offered:
        before_ns = time.thread_time_ns()
        sink.write(made)
        took.append((time.thread_time_ns() - before_ns) / 1e6)
        time.sleep(1 / 30)
    sink.close()
    spent_s = time.process_time() - start_s
    percentiles = {f"write_p{p}_ms": round(float(np.percentile(took, p)), 3) for p in (50, 99)}
    left_out = {"frames_left_out": sink.frames_left_out, "results_left_out": sink.results_left_out}
    return percentiles | {
        "process_s": round(spent_s, 2),
        "mb": round(path.stat().st_size / 1e6, 1),
        **left_out,
    }


def main() -> None:
    """Print a row for each size of rig."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            f"{cameras} x {bundles}": measured(args.rounds, cameras, bundles, Path(folder))
            for cameras, bundles in ((1, 1), (2, 2), (4, 2))
        }
    print(json.dumps(rows) if args.json else "\n".join(f"{name:<8} {row}" for name, row in rows.items()))


if __name__ == "__main__":
    main()
