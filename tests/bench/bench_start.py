"""How soon `edgetl run` gives its first result, and how much memory its loop takes with the default detector.

    python tests/bench/bench_start.py [--bundle BUNDLE] [--work DIR] [--clip CLIP] [--times 9] [--json]

Without --bundle one is made: tf_efficientnet_lite0 at 640x352, trained for one pass over a few rendered pictures, from
random weights: time and memory don't depend on them. Without --clip a rendered one is used.

first result: from the start of the process of `edgetl run BUNDLE CLIP --jsonl FILE` until the first line is in FILE.
whole command: `edgetl run BUNDLE CLIP --max-frames 1 --json` until it has ended. Memory: VmHWM and VmRSS of
`edgetl run BUNDLE CLIP --realtime` after some seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from compilers.processes import PeerFailed, run
from stream.rows import Verdict, verdict_line

EDGETL = [sys.executable, "-m", "edgetl.cli"]
FIRST_RESULT_S, MEMORY_MB = 1.0, 300.0


def main() -> None:
    """Make what is missing, measure, print."""
    args = arguments()
    with ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetl-start-")))
        work.mkdir(parents=True, exist_ok=True)
        try:
            bundle, clip = args.bundle or make_bundle(work), args.clip or make_clip(work)
            found = measured(bundle, clip, work, args.times, args.seconds)
        except PeerFailed as error:
            sys.exit(f"bench_start: {error}")
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for name in ("first_result_s", "whole_command_s"):
        print(f"{name:<16} median {statistics.median(found[name]):.3f}  {' '.join(f'{s:.3f}' for s in found[name])}")
    print(f"memory           {found['rss_mb']:.0f} MB, at most {found['peak_mb']:.0f} MB")
    for verdict in verdicts(found):
        print(verdict_line(verdict))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--work", type=Path, help="folder that keeps what was made (default: none)")
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=8.0, help="of the loop whose memory is taken")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def make_bundle(work: Path) -> Path:
    """The default detector with random weights, at its default size."""
    bundle = work / "default.bundle"
    if (bundle / "manifest.json").is_file():
        return bundle
    data, checkpoint = work / "data", work / "tuned"
    steps = [
        ["data", "render", str(data), "--images", "80", "--force"],
        ["tune", str(data), "--weights", "none", "--epochs", "1", "--probe-epochs", "0", "--out", str(checkpoint)],
        ["export", str(checkpoint), "--out", str(bundle), "--targets", "cpu", "--max-drop", "100"],
    ]
    for step in steps:
        sys.stderr.write(f"start        edgetl {' '.join(step[:2])}\n")
        run([*EDGETL, *step, "--json"], work / f"{step[0]}.log", dict(os.environ))
    return bundle


def make_clip(work: Path) -> Path:
    """A rendered drive of 20 s at 1280x720."""
    clip = work / "clip.mp4"
    if not clip.is_file():
        step = ["data", "render", str(clip), "--clip", "20", "--size", "1280x720"]
        run([*EDGETL, *step, "--json"], work / "clip.log", dict(os.environ))
    return clip


def measured(bundle: Path, clip: Path, work: Path, times: int, seconds: float) -> dict[str, Any]:
    """Both times, `times` each in turn, and memory. Python keeps its compiled modules, as in any installation."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(work / "pycache")
    first: list[float] = []
    whole: list[float] = []
    whole_command_s(bundle, clip)
    for _ in range(times):
        first.append(first_result_s(bundle, clip, work / "first.jsonl"))
        whole.append(whole_command_s(bundle, clip))
    return {"first_result_s": first, "whole_command_s": whole, **memory(bundle, clip, seconds)}


def first_result_s(bundle: Path, clip: Path, lines: Path) -> float:
    """Until the first line of results is there; the run is ended then. Raises PeerFailed where none comes."""
    lines.unlink(missing_ok=True)
    began = time.perf_counter()
    command = [*EDGETL, "run", str(bundle), str(clip), "--realtime", "--jsonl", str(lines)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (lines.is_file() and lines.stat().st_size):
            if process.poll() is not None or time.perf_counter() - began > 60:
                process.kill()
                raise PeerFailed("edgetl run gave no result")
            time.sleep(0.002)
        took = time.perf_counter() - began
        process.terminate()
    return took


def whole_command_s(bundle: Path, clip: Path) -> float:
    """From start to end, one frame."""
    began = time.perf_counter()
    subprocess.run(
        [*EDGETL, "run", str(bundle), str(clip), "--max-frames", "1", "--json"], capture_output=True, check=True
    )
    return time.perf_counter() - began


def memory(bundle: Path, clip: Path, seconds: float) -> dict[str, float]:
    """Of a loop that has run for some seconds, in MB of 1e6 bytes."""
    command = [*EDGETL, "run", str(bundle), str(clip), "--realtime"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        if process.poll() is not None:
            raise PeerFailed(f"edgetl run ended within {seconds:g} s")
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        process.terminate()
    named = dict(line.split(":", 1) for line in status.splitlines())
    return {key: int(named[name].split()[0]) * 1024 / 1e6 for key, name in (("rss_mb", "VmRSS"), ("peak_mb", "VmHWM"))}


def verdicts(found: dict[str, Any]) -> list[Verdict]:
    """The design's limits."""
    return [
        Verdict(
            "first result after the start, median", FIRST_RESULT_S, statistics.median(found["first_result_s"]), "s"
        ),
        Verdict("memory of a running loop", MEMORY_MB, found["rss_mb"], "MB"),
        Verdict("memory of a running loop, at most", MEMORY_MB, found["peak_mb"], "MB"),
    ]


if __name__ == "__main__":
    main()
