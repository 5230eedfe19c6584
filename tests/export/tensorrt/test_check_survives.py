"""The host check with workers that crash, hang or answer at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgetl_export.tensorrt.check import CANNOT_TELL, check_onnx, check_targets

RESULT = '{"type":"result","kind":"ok","engine_bytes":7}'


def fake(tmp_path: Path, body: str) -> list[str]:
    """The command of a worker whose whole program is `body`."""
    script = tmp_path / "worker.py"
    script.write_text(f"import os, signal, sys, time\n{body}\n")
    return [sys.executable, str(script)]


def say(*lines: str) -> str:
    """Python that prints these lines and flushes."""
    return "\n".join(f"print({line!r}, flush=True)" for line in lines)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", "native-crash"),
        ("time.sleep(60)", "timeout", "timeout"),
    ],
)
def test_the_check_says_that_it_cannot_tell(tmp_path: Path, body: str, kind: str, code: str) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    found = check_onnx(model, target="thor", timeout_s=1.0, worker=fake(tmp_path, body))
    assert (found.ok, found.deployable, found.kind) == (False, False, kind)
    assert [d.code for d in found.diagnostics] == [code]
    assert found.diagnostics[0].advice.startswith(CANNOT_TELL)


def test_targets_that_ask_the_same_are_compiled_once(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    runs = tmp_path / "runs"
    body = f"open({str(runs)!r}, 'a').write('x')\n" + say(RESULT)
    found = check_targets(model, ["cpu", "orin-nano", "orin-nx", "thor", "drive-orin"], worker=fake(tmp_path, body))
    assert list(found) == ["cpu", "orin-nano", "orin-nx", "thor", "drive-orin"]
    assert len(runs.read_text()) == 3
    assert "Jetson Orin Nano" in found["orin-nano"].note and "Jetson Orin NX" in found["orin-nx"].note
    assert not any(check.deployable for check in found.values())
