"""Kill `edgetl update` at random moments, over and over: what runs afterwards must always be one whole verified slot.

    python tests/bench/power_cuts.py [--n 1000] [--seed 0] [--work DIR] [--json]

A tiny signed bundle is updated from release to release in a process of its own, without a shadow run. The process is
killed with SIGKILL: half of the times at any moment of its life, half after it said that the signature holds, when it
begins to write. After each kill the store is opened as a start opens it. What SIGKILL can't show is data that the
system had not written yet; tests/runtime/update/test_power.py cuts before every step with such losses.

It stops with an error at the first store that is not whole. `landed`: by what the update had said last when it died.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "update"))

from update_support import Fleet

from edgetl_runtime.update.store import Store

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "export", ROOT / "runtime")))}


@dataclass
class Timing:
    """Seconds that whole updates took: until the first line was said, and from there to the end."""

    before_s: float
    after_s: float


class Update:
    """One `edgetl update` in a process of its own."""

    def __init__(self, store: Path, bundle: Path) -> None:
        self.said: list[str] = []
        self.first = threading.Event()
        self.start_s = time.monotonic()
        command = ["update", str(bundle), "--store", str(store), "--skip-shadow"]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edgetl.cli", *command],
            env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.split(None, 1)[0] if line.strip() else "")
            self.first.set()
        self.first.set()

    def end(self) -> int:
        """Wait for it."""
        status = self.process.wait()
        self.reader.join()
        return status


def main() -> None:
    """Make the store, kill, look, and print."""
    args = arguments()
    with ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetl-power-")))
        work.mkdir(parents=True, exist_ok=True)
        found = cuts(work, args.n, random.Random(args.seed))
    if args.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['kills']} kills of {found['updates']} updates in {found['seconds']} s: every slot whole")
    print("what had been said last: " + ", ".join(f"{k or 'nothing'} {v}" for k, v in found["landed"].items()))  # type: ignore[attr-defined]
    print(f"the new release ran after {found['switched']} of them")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder that keeps what was made (default: none)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def cuts(work: Path, kills: int, rng: random.Random) -> dict[str, object]:
    """Until so many updates were killed; exits with what is wrong otherwise."""
    fleet = Fleet(work)
    store = fleet.store("store")
    timing, release = measured(store, fleet)
    landed: Counter[str] = Counter()
    killed = updates = switched = 0
    start_s = time.monotonic()
    while killed < kills:
        update = Update(store.folder, fleet.release(release + 1))
        updates += 1
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, timing.before_s + timing.after_s))
        else:
            update.first.wait()
            time.sleep(rng.uniform(0, timing.after_s))
        ended = update.process.poll() is not None
        update.process.kill()
        status = update.end()
        if ended and status:
            sys.exit(f"power_cuts: an update ended with status {status} by itself, having said {update.said}")
        killed += not ended
        landed[update.said[-1] if update.said else ""] += not ended
        found = look(store, release, update.said)
        switched += found > release and not ended
        release = found
        if killed % 50 == 0 and not ended:
            print(f"{killed} kills, {time.monotonic() - start_s:.0f} s", file=sys.stderr)
    seconds = round(time.monotonic() - start_s, 1)
    return {
        "kills": killed, "updates": updates, "switched": switched, "releases": release, "seconds": seconds,
        "update_s": round(timing.before_s + timing.after_s, 3), "landed": dict(landed),
    }  # fmt: skip


def look(store: Store, release: int, said: list[str]) -> int:
    """The release that runs now, the one before the kill or the next; it is committed. Exits with what is wrong."""
    try:
        start = store.start()
        for name in start.pointer.slots:
            store.open_slot(name)
        store.commit()
    except Exception as error:
        sys.exit(f"power_cuts: after {said or 'nothing'} the store is not whole: {error}")
    found = start.bundle.manifest.release
    left = {p.name for p in store.folder.iterdir() if not p.name.startswith(".")}
    if found not in (release, release + 1) or left != {"keyring", "pointer.json", *start.pointer.slots}:
        sys.exit(f"power_cuts: after {said} release {found} runs, expected {release} or the next; there is {left}")
    return found


def measured(store: Store, fleet: Fleet) -> tuple[Timing, int]:
    """Medians of whole updates, and the release that runs after them."""
    before, after = [], []
    for release in range(1, 5):
        update = Update(store.folder, fleet.release(release))
        update.first.wait()
        first_s = time.monotonic()
        if update.end():
            sys.exit(f"power_cuts: an update failed: {update.said}")
        before.append(first_s - update.start_s)
        after.append(time.monotonic() - first_s)
        store.commit()
    return Timing(statistics.median(before), statistics.median(after)), 4


if __name__ == "__main__":
    main()
