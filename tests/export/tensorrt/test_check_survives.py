"""The host check with workers that crash, hang or answer at once."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import pytest
from scripted_worker import fake, say

from edgetl_export.crew import at_once
from edgetl_export.tensorrt.check import CANNOT_TELL, check_graphs, check_onnx, check_targets
from edgetl_runtime.errors import GateFailed

RESULT = '{"type":"result","kind":"ok","engine_bytes":7}'


@pytest.mark.parametrize(
    ("body", "kind", "code", "timeout_s"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", "native-crash", 60.0),
        ("time.sleep(60)", "timeout", "timeout", 1.0),
    ],
)
def test_the_check_says_that_it_cannot_tell(
    graphs: ModuleType, tmp_path: Path, body: str, kind: str, code: str, timeout_s: float
) -> None:
    model = graphs.camera_net(tmp_path / "model.onnx")
    found = check_onnx(model, target="thor", timeout_s=timeout_s, worker=fake(tmp_path, body))
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


TELLS = """
import json
job = json.loads(sys.stdin.readline())
open({runs!r}, "a").write(" ".join(job["compile_for"]) + "\\n")
kind = {kind_for_all!r} if len(job["compile_for"]) > 1 else "ok"
print(json.dumps(dict(type="result", kind=kind, engine_bytes=len(job["compile_for"]))))
"""


def asked_of(runs: Path) -> list[str]:
    return sorted(runs.read_text().splitlines()) if runs.exists() else []


def test_gpus_that_another_build_was_for_are_not_built_for_again(graphs: ModuleType, tmp_path: Path) -> None:
    """Only where that one failed, which says nothing about each of them."""
    files = {name: graphs.camera_net(tmp_path / f"{name}.onnx") for name in ("fp32", "int8")}
    everything = "SM80 SM86 SM89 SM120 SM121"
    runs = tmp_path / "good"
    worker = fake(tmp_path, TELLS.format(runs=str(runs), kind_for_all="ok"))
    found = check_graphs(files, ["orin-nx", "rtx", "thor"], engines=tmp_path, worker=worker)
    assert asked_of(runs) == [everything] * 2
    assert [(c.kind, c.engine_bytes) for checks in found.values() for c in checks.values()] == [("ok", 5)] * 6
    assert "compiled for SM86 as a check only" in found["int8"]["orin-nx"].note and not found["int8"]["thor"].deployable

    runs = tmp_path / "bad"
    worker = fake(tmp_path, TELLS.format(runs=str(runs), kind_for_all="build"))
    found = check_graphs({"fp32": files["fp32"]}, ["orin-nx", "rtx", "thor"], engines=tmp_path, worker=worker)
    assert asked_of(runs) == ["SM120", everything, "SM86"]
    assert [c.kind for c in found["fp32"].values()] == ["ok", "build", "ok"]


KEEPS = """
import json, pathlib
job = json.loads(sys.stdin.readline())
if job["engine"]:
    pathlib.Path(job["engine"]).write_text(pathlib.Path(job["onnx"]).stem)
"""


def test_engines_of_several_graphs_are_kept_apart(graphs: ModuleType, tmp_path: Path) -> None:
    """Only where the target runs what the host compiles."""
    files = {name: graphs.camera_net(tmp_path / f"{name}.onnx") for name in ("fp32", "int8")}
    worker = fake(tmp_path, KEEPS + say(RESULT))
    found = check_graphs(files, ["cpu", "rtx", "thor"], engines=tmp_path, worker=worker)
    assert list(found) == ["fp32", "int8"] and all(list(checks) == ["cpu", "rtx", "thor"] for checks in found.values())
    for name, checks in found.items():
        assert checks["rtx"].engine is not None and checks["rtx"].engine.read_text() == name
        assert checks["cpu"].engine is None and checks["thor"].engine is None
    assert len(list(tmp_path.glob("*.plan"))) == 2


MEETS = """
import pathlib
place = pathlib.Path({place!r})
(place / str(os.getpid())).touch()
end = time.monotonic() + 30
while len(list(place.iterdir())) < 2 and time.monotonic() < end:
    time.sleep(0.01)
if len(list(place.iterdir())) < 2:
    sys.exit("alone")
"""


def test_builds_run_side_by_side(graphs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other."""
    monkeypatch.setattr("edgetl_export.tensorrt.check.usable_cores", lambda: 2)
    (tmp_path / "place").mkdir()
    worker = fake(tmp_path, MEETS.format(place=str(tmp_path / "place")) + say(RESULT))
    model = graphs.camera_net(tmp_path / "model.onnx")
    found = check_targets(model, ["orin-nano", "thor"], worker=worker)
    assert [check.kind for check in found.values()] == ["ok", "ok"]


@pytest.mark.parametrize("how", ["who waits", "the other one"])
def test_a_check_that_nobody_waits_for_ends_though_its_worker_says_nothing(
    graphs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """An export checks graphs in a thread beside others; Ctrl-C reaches the main one only."""
    monkeypatch.setattr("edgetl_export.crew.usable_cores", lambda: 2)
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    body = f"""
import pathlib
sys.stdin.readline()
pathlib.Path({str(begun)!r}).touch()
sys.stdin.read()
pathlib.Path({str(ended)!r}).touch()
"""
    model = graphs.camera_net(tmp_path / "model.onnx")

    def fail() -> None:
        end_s = time.monotonic() + 60
        while not begun.exists() and time.monotonic() < end_s:
            time.sleep(0.01)
        raise GateFailed("the other one")

    def check() -> None:
        check_targets(model, ["orin-nano"], worker=fake(tmp_path, body), timeout_s=100)

    began_s = time.monotonic()
    with pytest.raises(GateFailed):
        if how == "the other one":
            at_once([fail, check])
        else:
            at_once([lambda: at_once([fail, check]), lambda: None])
    assert ended.exists() and time.monotonic() - began_s < 90


def test_an_interrupted_check_leaves_no_worker(graphs: ModuleType, tmp_path: Path) -> None:
    """The second build is asked to stop when the first one brings the interruption."""
    ended = tmp_path / "ended"
    progress = '{"type":"progress","phase":"build","done":0,"total":1,"depth":0}'
    body = f"""
import threading
def closed():
    sys.stdin.read()
    open({str(ended)!r}, "a").write("x")
    os._exit(0)
sys.stdin.readline()
threading.Thread(target=closed).start()
for _ in range(3000):
    print({progress!r}, flush=True)
    time.sleep(0.01)
"""
    model = graphs.camera_net(tmp_path / "model.onnx")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_targets(model, ["orin-nano", "thor"], worker=fake(tmp_path, body), on_progress=interrupt)
    assert "x" in ended.read_text(), "no worker was asked to stop"
