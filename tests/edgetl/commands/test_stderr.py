"""A run's stderr: nobody who reads it, and no disk, holds up the loop or ends it."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runtime_support import write_test_bundle

from edgetl.commands.stderr import END_S, MOST, Aside, stderr_aside


class Broken(io.StringIO):
    """A stream that takes what `taken` says."""

    def __init__(self, *taken: bool) -> None:
        super().__init__()
        self._taken = list(taken)

    def write(self, text: str, /) -> int:
        if self._taken and not self._taken.pop(0):
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_texts_come_in_their_order_and_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with stderr_aside():
        for i in range(300):
            sys.stderr.write(f"{i}\n")
        assert not sys.stderr.isatty() and sys.stderr.encoding
    assert capsys.readouterr().err.split() == [str(i) for i in range(300)]


def test_what_a_stream_refuses_is_left_out_and_the_rest_is_not() -> None:
    stream = Broken(True, False, True)
    aside = Aside(stream)
    for text in ("a\n", "b\n", "c\n"):
        assert aside.write(text) == 2
    aside.finish()
    assert stream.getvalue() == "a\nc\n" and aside.left_out == 1


def test_a_reader_that_takes_nothing_holds_up_nobody() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        aside = Aside(stream)
        began = time.monotonic()
        for _ in range(3 * MOST):
            aside.write(200 * "x" + "\n")
        assert time.monotonic() - began < 5 and aside.left_out > MOST
        aside.finish()
        assert time.monotonic() - began < 5 + END_S
        os.close(read)  # the thread that waits for it ends


def test_it_is_stderr_again_where_the_run_fails(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr

    @stderr_aside()
    def fail() -> None:
        sys.stderr.write("first\n")
        raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert sys.stderr is before and capsys.readouterr().err == "first\n"


@pytest.mark.parametrize("more", [[], ["--also-camera", "b=roadworld:day:1"]])
def test_a_full_disk_costs_lines_and_never_the_drive(tmp_path: Path, more: list[str]) -> None:
    lines, most, frames = tmp_path / "r.jsonl", 5000, 24
    bundle = write_test_bundle(tmp_path / "tiny.bundle")
    command = [sys.executable, "-m", "edgetl.cli", "run", str(bundle), "roadworld:day", *more, "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--max-frames", str(frames), "--jsonl", str(lines)],
            stdout=subprocess.PIPE,
            stderr=full,
            check=True,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )
    document = json.loads(done.stdout)
    assert document["processed"] == frames
    sink = "RoundLines" if more else "JsonLinesSink"
    assert f"{sink} got nothing any more: can't write {lines}: File too large" in document["notes"]
    told = lines.read_text()
    assert 0 < len(told) <= most and told.endswith("\n") and [json.loads(line) for line in told.splitlines()]
