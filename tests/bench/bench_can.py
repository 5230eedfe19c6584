"""What a CAN cycle costs: 8 placed objects of a new result, ordered, packed and protected; and the receiver's part.

python tests/bench/bench_can.py [--cycles 2000] [--cameras 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "can"))

from can_support import HASH, MS, detections_of, result_of

from edgetl_runtime.can.cycle import Cycles
from edgetl_runtime.can.dbc import FIRST_ID
from edgetl_runtime.can.lane import CanLane
from edgetl_runtime.can.receiver import CanReceiver


def main() -> None:
    """Print percentiles in milliseconds of one cycle's 17 frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--cameras", type=int, default=1, help="that all see the same objects (default: 1)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    now_ns = 0
    receiver = CanReceiver(clock_ns=lambda: now_ns)
    lanes = [CanLane("objects", lambda: "ok", camera=str(i)) for i in range(args.cameras)]
    cycles = Cycles(lanes, bundle_sha256=HASH, base_id=FIRST_ID, slots=8, max_age_ms=500)
    found = detections_of([(10.0 + 3 * i, i - 5.0) for i in range(12)], closing=[float(i) for i in range(12)])
    sending, receiving = [], []
    for i in range(args.cycles):
        now_ns = (i + 1) * 50 * MS
        result = result_of(found, now_ns - 30 * MS)
        t0 = time.perf_counter()
        frames = cycles.frames([result] * args.cameras, now_ns)
        t1 = time.perf_counter()
        for frame in frames:
            receiver.receive(frame.can_id, frame.data)
        sending.append((t1 - t0) * 1e3)
        receiving.append((time.perf_counter() - t1) * 1e3)
    assert len(receiver.view().objects) == 8 and not receiver.faults
    rows = {
        name: {f"p{p}_ms": round(float(np.percentile(times, p)), 3) for p in (50, 95, 99)}
        for name, times in (("send", sending), ("receive", receiving))
    }
    print(json.dumps(rows) if args.json else "\n".join(f"{name:<8} {row}" for name, row in rows.items()))


if __name__ == "__main__":
    main()
