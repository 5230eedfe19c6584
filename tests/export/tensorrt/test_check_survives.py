"""The host check with workers that crash, hang or answer at once."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from scripted_worker import fake, say

from edgetl_export.tensorrt.check import CANNOT_TELL, check_onnx, check_targets

RESULT = '{"type":"result","kind":"ok","engine_bytes":7}'


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", "native-crash"),
        ("time.sleep(60)", "timeout", "timeout"),
    ],
)
def test_the_check_says_that_it_cannot_tell(
    graphs: ModuleType, tmp_path: Path, body: str, kind: str, code: str
) -> None:
    model = graphs.camera_net(tmp_path / "model.onnx")
    found = check_onnx(model, target="thor", timeout_s=1.0, worker=fake(tmp_path, body))
    assert (found.ok, found.deployable, found.kind, found.verdict) == (False, False, kind, "cannot-tell")
    assert [d.code for d in found.diagnostics] == [code]
    assert found.diagnostics[0].advice.startswith(CANNOT_TELL)


def test_targets_that_ask_the_same_are_compiled_once(graphs: ModuleType, tmp_path: Path) -> None:
    model = graphs.camera_net(tmp_path / "model.onnx", opset=18)
    runs = tmp_path / "runs"
    body = f"open({str(runs)!r}, 'a').write('x')\n" + say(RESULT)
    found = check_targets(model, ["cpu", "orin-nano", "orin-nx", "thor", "drive-orin"], worker=fake(tmp_path, body))
    assert list(found) == ["cpu", "orin-nano", "orin-nx", "thor", "drive-orin"]
    assert len(runs.read_text()) == 2
    assert [c.code for c in found["drive-orin"].diagnostics] == ["opset-above-ceiling"]
    assert found["thor"].diagnostics == ()
    assert "Jetson Orin Nano" in found["orin-nano"].note and "Jetson Orin NX" in found["orin-nx"].note
    assert not any(check.deployable for check in found.values())
