"""edgetl build as a command: what it refuses here, what it says on a device (fake), with the base dependencies only."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_tensorrt
import pytest
from fake_cuda import FakeDriver
from runtime_support import write_clip, write_test_bundle

from edgetl.commands import bench, build, run, verify
from edgetl_runtime import cuda
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Variant
from edgetl_runtime.tensorrt import device, worker

FAKE_WORKER = (sys.executable, str(Path(__file__).parents[2] / "runtime" / "fake_worker.py"))
VARIANT = Variant(name="fp32", file="model.fp32.onnx", precision="fp32", engines=("onnxruntime", "tensorrt"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with a variant for TensorRT."""
    return write_test_bundle(tmp_path / "cars.bundle", variants=(VARIANT,))


def call(command: Any, *arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    document: dict[str, Any] = command.run(parser.parse_args([str(a) for a in arguments]))
    json.dumps(document)
    return document


@pytest.mark.parametrize("folder_given", [False, True])
def test_a_device_builds_benches_verifies_and_runs(
    folder: Path,
    tmp_path: Path,
    folder_given: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cuda, "load_driver", FakeDriver)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    monkeypatch.setattr(worker, "WORKER", FAKE_WORKER)
    where = ["--engine-dir", tmp_path / "engines"] if folder_given else []
    document = call(build, folder, *where)
    assert document["chosen"]["variant"] == "fp32"
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in ("Orin (8.7)", "tensorrt 10.3.0", "there is no engine yet", "1 fp32", "--engine tensorrt"):
        assert words in shown.err, words
    assert ("--engine-dir" in shown.err) == folder_given
    assert {row["engine"] for row in call(bench, folder, "--runs", 5, *where)["rows"]} == {"onnxruntime", "tensorrt"}
    found = call(verify, folder, "--engine", "tensorrt", *where)
    assert found["ok"] and found["engine"] == "tensorrt"
    summary = call(run, folder, write_clip(tmp_path / "in.mp4"), "--engine", "tensorrt", *where)
    assert summary["processed"] == 12 and summary["variant"] == "fp32"


@pytest.mark.parametrize("arguments", [("--workspace-mb", "0"), ("--timeout-s", "0"), ("--workspace-mb", "-3")])
def test_wrong_figures_are_refused(folder: Path, arguments: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="above zero"):
        call(build, folder, *arguments)


@pytest.mark.skipif(not device.lacks(), reason="an engine can be built here")
def test_without_a_gpu_there_is_one_line_and_nothing_is_written(folder: Path) -> None:
    blocked = "import sys\nfor n in ('torch', 'onnx', 'cv2', 'onnxruntime', 'openvino'): sys.modules[n] = None\n"
    code = f"{blocked}from edgetl.cli import main\nsys.exit(main(['build', sys.argv[1], '--json']))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("edgetl: error: no TensorRT engine can be built or run here: ")
    assert done.stderr.count("\n") == 1 and "GPU" in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "engine"
    assert [p.name for p in folder.parent.iterdir()] == ["cars.bundle"]
