"""How long `edgetl export` for all targets takes: cold, again with nothing changed or with another budget, and verify.

    python tests/bench/bench_export.py CHECKPOINT [--data DATA] [--bare] [--json]

Each command runs in a process of its own. Their cache folder holds at first what `tune` left in the user's, with --bare
nothing, as on another machine. Seconds of the clock, and of processor time with that of all worker processes, which is
what counts where other work shares the machine; the load before and after is said. Parts: as the export itself tells
them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgetl_runtime.files import cache_directory

EDGETL = [sys.executable, "-m", "edgetl.cli"]
COLD_S, AGAIN_S = 90.0, 5.0
"""What export and verify together, and an unchanged export, are to take on 2 cores."""


def main() -> None:
    """Run, measure, print."""
    args = arguments()
    data = ["--data", str(args.data)] if args.data else []
    with tempfile.TemporaryDirectory(prefix="edgetl-export-") as folder:
        work = Path(folder)
        bundle, left = work / "mine.bundle", cache_directory() / "tuned"
        if left.is_dir() and not args.bare:
            shutil.copytree(left, work / "cache" / left.name)
        export = ["export", str(args.checkpoint), *data, "--out", str(bundle), "--name", "mine", "--force"]
        rows = {
            "export": timed(export, work),
            "verify": timed(["verify", str(bundle)], work),
            "again": timed(export, work),
            "another budget": timed([*export, "--max-drop", "0.4"], work),
        }
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        print(f"{name:<14} {row['wall_s']:7.1f} s, processor {row['cpu_s']:7.1f} s, load {row['load']}")
    for part, seconds in rows["export"]["said"]["parts"].items():
        print(f"  {part:<38} {seconds:7.1f} s")
    cold, again = rows["export"]["wall_s"] + rows["verify"]["wall_s"], rows["again"]["wall_s"]
    print(
        f"export and verify {cold:.1f} s, to take at most {COLD_S:.0f} s; again {again:.1f} s, at most {AGAIN_S:.0f} s"
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--data", type=Path, help="default: what it was tuned on")
    parser.add_argument("--bare", action="store_true", help="without what tune left in the cache")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def timed(command: list[str], work: Path) -> dict[str, Any]:
    """One command with --json: what it took and what it said. Ends the program where it fails."""
    before, start, load = children_s(), time.monotonic(), os.getloadavg()[0]
    environment = {**os.environ, "EDGETL_CACHE": str(work / "cache")}
    done = subprocess.run([*EDGETL, *command, "--json"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench_export: edgetl {command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return {
        "wall_s": time.monotonic() - start,
        "cpu_s": children_s() - before,
        "load": f"{load:.1f} to {os.getloadavg()[0]:.1f}",
        "said": json.loads(done.stdout),
    }


def children_s() -> float:
    """Processor seconds of all child processes that have ended, with their own."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
