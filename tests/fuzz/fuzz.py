"""Coverage-guided fuzzing of what reads bytes from outside, with atheris (libFuzzer) and the corpus beside this file.

    python tests/fuzz/fuzz.py manifest --seconds 600
    python tests/fuzz/fuzz.py --all --seconds 60

Inputs that reach new code are merged back into the corpus, as far as it stays small. What makes a parser raise anything
but its documented errors, hang or take too much memory is left in --work, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("tests/fuzz", "tests/runtime", "tests/runtime/recording", "", "export", "runtime")
sys.path[:0] = [str(REPOSITORY / folder) for folder in FOLDERS]

from targets import CORPUS, TARGETS, check  # noqa: E402

MAX_FILES = 60
MAX_CORPUS_BYTES = 300_000
MOST_FINDINGS = 5
"""Of one target and run: after so many it is left alone."""
_WATCHED = ("zipfile", "http.server", "yaml")
"""Libraries in Python that parse for us: what they do with an input guides the fuzzer too."""
_STRUCTURED = 0.5
"""The share of changes that are made by an input's structure, where the target has a way to."""
_CAUSE = re.compile(r"[\w.]*(Error|error|Exception|Interrupt|Finding)\b|==\d+== ?ERROR")


@dataclass(slots=True)
class Outcome:
    """One target's run. coverage: libFuzzer's `cov`. corpus, corpus_kb: after merging."""

    target: str
    executions: int = 0
    coverage: int = 0
    corpus: int = 0
    corpus_kb: float = 0.0
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    findings: list[str] = field(default_factory=list)


def fuzz(name: str, *, seconds: int, rss_mb: int, timeout_s: int, work: Path) -> Outcome:
    """Run one target for so long, starting again after a finding, and merge what was learnt."""
    outcome, found, end_s = Outcome(name), work / name / "found", time.monotonic() + seconds
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir(parents=True)
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    start_s = time.monotonic()
    while (left_s := round(end_s - time.monotonic())) > 0 and len(outcome.findings) < MOST_FINDINGS:
        flags = [f"-max_total_time={left_s}", f"-rss_limit_mb={rss_mb}", f"-timeout={timeout_s}"]
        flags += [f"-max_len={TARGETS[name].max_len}", "-print_final_stats=1", "-len_control=0"]
        status, text, rss_mb_seen = _child(name, flags, (found, corpus), work)
        _note(outcome, text, rss_mb_seen)
        if status == 0:
            break
        outcome.findings.append(_cause(text))
    outcome.seconds = time.monotonic() - start_s
    _merge(name, found, corpus, work)
    files = [p for p in corpus.iterdir() if p.is_file()]
    outcome.corpus, outcome.corpus_kb = len(files), sum(p.stat().st_size for p in files) / 1000
    return outcome


def _child(name: str, flags: list[str], folders: tuple[Path, ...], work: Path) -> tuple[int, str, float]:
    """Exit status, output and peak memory in MB of one fuzzing process."""
    command = [str(_runner(name, work)), *flags, f"-artifact_prefix={work / name}/", *map(str, folders)]
    log = work / name / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    with (work / name / "all.txt").open("ab") as stream:
        stream.write(log.read_bytes())
    return process.returncode, log.read_text(errors="replace"), usage.ru_maxrss / 1024


def _runner(name: str, work: Path) -> Path:
    """A program that is this file as a fuzzing process: merging, libFuzzer starts its first argument again."""
    program = work / name / "run"
    here = shlex.join([sys.executable, "-P", str(Path(__file__).resolve()), name, "--child", "--"])
    program.write_text(f'#!/bin/sh\nEDGETL_RUNNER="$0" exec {here} "$@"\n')
    program.chmod(0o755)
    return program


def _note(outcome: Outcome, text: str, rss_mb: float) -> None:
    counts = [int(n) for n in re.findall(r"^#(\d+)\s", text, re.MULTILINE)]
    counts += [int(n) for n in re.findall(r"number_of_executed_units:\s*(\d+)", text)]
    outcome.executions += max(counts, default=0)
    outcome.coverage = max([outcome.coverage, *(int(n) for n in re.findall(r"\bcov: (\d+)", text))])
    outcome.peak_rss_mb = max(outcome.peak_rss_mb, rss_mb)


def _cause(text: str) -> str:
    """What ended a process, in a line: Python's exception, or libFuzzer's word; and the input."""
    lines = text.splitlines()
    causes = [line for line in lines if _CAUSE.match(line)]
    inputs = [line.rpartition(" ")[2] for line in lines if "Test unit written to" in line]
    return f"{(causes or lines[-1:] or ['?'])[0][:160]} [{(inputs or ['no input'])[-1]}]"


def _merge(name: str, found: Path, corpus: Path, work: Path) -> None:
    """Add what reaches code that the corpus does not, smallest first, while the corpus stays small."""
    merged = work / name / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    shutil.copytree(corpus, merged)
    _child(name, ["-merge=1", "-timeout=10"], (merged, found), work)
    there = [p for p in corpus.iterdir() if p.is_file()]
    count, size = len(there), sum(p.stat().st_size for p in there)
    known = {p.name for p in there}
    for path in sorted((p for p in merged.iterdir() if p.name not in known), key=lambda p: p.stat().st_size):
        size += path.stat().st_size
        count += 1
        if count > MAX_FILES or size > MAX_CORPUS_BYTES:
            break
        shutil.copy(path, corpus / path.name)


def child(name: str, flags: list[str]) -> None:
    """Fuzz in this process; libFuzzer ends it."""
    import atheris

    target = TARGETS[name]
    with atheris.instrument_imports(include=[*target.instrument, *_WATCHED]):
        for start in sorted((CORPUS / name).glob("seed*")) or ():
            check(target, start.read_bytes())  # imports what it needs, so that all of it is watched
        check_nothing(name)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if target.mutate is not None and rng.random() < _STRUCTURED:
            return target.mutate(data, rng)[:max_size]
        changed: bytes = atheris.Mutate(data, max_size)
        return changed

    extra = {} if target.mutate is None else {"custom_mutator": mutate}
    program = os.environ.get("EDGETL_RUNNER", sys.argv[0])
    atheris.Setup([program, *flags], lambda data: check(target, data) and None, **extra)
    atheris.Fuzz()


def check_nothing(name: str) -> None:
    """The empty input, which every parser meets."""
    check(TARGETS[name], b"")


def header() -> str:
    """The table's first line."""
    return f"{'target':<12}{'executions':>12}{'cov':>7}{'files':>7}{'kB':>8}{'s':>7}{'peak MB':>9}  findings"


def row(o: Outcome) -> str:
    """One target, and a line for each of its findings."""
    line = f"{o.target:<12}{o.executions:>12}{o.coverage:>7}{o.corpus:>7}{o.corpus_kb:>8.1f}{o.seconds:>7.0f}"
    line += f"{o.peak_rss_mb:>9.0f}  {len(o.findings) or 'none'}"
    return "\n".join([line, *(f"    {finding}" for finding in o.findings)])


def main(arguments: list[str]) -> int:
    """The command line; 1 where anything was found."""
    given, flags = _parser().parse_known_args(arguments)
    if given.child:
        child(given.target, [flag for flag in flags if flag != "--"])
    if given.all == bool(given.target) or flags:
        _parser().error("give one target, or --all")
    work = given.work or Path(tempfile.mkdtemp(prefix="edgetl-fuzz-"))
    sys.stdout.write(header() + "\n")
    found = 0
    for name in TARGETS if given.all else [given.target]:
        outcome = fuzz(name, seconds=given.seconds, rss_mb=given.rss_mb, timeout_s=given.timeout_s, work=work)
        found += len(outcome.findings)
        sys.stdout.write(row(outcome) + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"inputs and logs: {work}\n")
    return int(found > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="fuzz what reads bytes from outside")
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS))
    parser.add_argument("--all", action="store_true", help="every target, one after the other")
    parser.add_argument("--seconds", type=int, default=600, help="for each target (default 600)")
    parser.add_argument("--rss-mb", type=int, default=500, help="more memory is a finding (default 500)")
    parser.add_argument("--timeout-s", type=int, default=10, help="an input that takes longer is one (default 10)")
    parser.add_argument("--work", type=Path, help="for inputs, findings and logs (default: a new folder in /tmp)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
