"""The doctor on this machine, and on a made-up Jetson."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import fake_tensorrt
import pytest
from fake_cuda import FakeDriver

from edgetl_runtime import cuda
from edgetl_runtime.doctor import EXTRAS, examine, text
from edgetl_runtime.tensorrt import device


def test_this_machine() -> None:
    report = examine()
    json.dumps(report)
    assert report["ok"] is True
    assert {"onnxruntime", "openvino"} == set(report["engines"])  # type: ignore[call-overload]
    assert "a bundle runs here" in text(report)


def test_it_says_whether_an_engine_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load_driver", lambda: None)
    monkeypatch.setattr(device, "MODULES", ())
    report = examine()
    assert report["tensorrt"]["module"] is None and report["tensorrt"]["can_build"] is False  # type: ignore[index]
    shown = text(report)
    assert "none; no edgetl build here: TensorRT is not installed" in shown and "no NVIDIA GPU is visible" in shown
    monkeypatch.setattr(cuda, "load_driver", FakeDriver)
    monkeypatch.setattr(device, "MODULES", ("tensorrt",))
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    report = examine()
    assert report["gpus"] == [{"name": "Orin", "compute_capability": "8.7"}]
    assert "tensorrt" in report["engines"]  # type: ignore[operator]
    assert "tensorrt; edgetl build works here" in text(report)


def test_all_that_the_vehicle_extra_brings_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    text_of = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    listed = re.search(r"^vehicle = \[(.*?)^\]", text_of, re.MULTILINE | re.DOTALL)
    assert listed is not None
    wanted = set(re.findall(r'"([a-z0-9-]+)>=', listed[1]))
    assert wanted == {name for names in EXTRAS["vehicle"].values() for name in names}
    monkeypatch.setitem(sys.modules, "zenoh", None)
    monkeypatch.setitem(sys.modules, "yaml", None)
    missing = {row["what"]: row["remedy"] for row in examine()["missing"]}  # type: ignore[attr-defined]
    assert missing["zenoh"] == missing["yaml"] == "pip install 'edgetl[vehicle]'"


def test_a_jetson(tmp_path: Path) -> None:
    for name, content in {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3\n# more",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04"\n',
        "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp\n",
        "proc/meminfo": "MemTotal: 7990000 kB\nMemAvailable: 4000000 kB\n",
        "dev/video0": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    report = examine(tmp_path)
    assert report["jetson"] == {
        "model": "NVIDIA Jetson Orin Nano",
        "l4t": "# R36 (release), REVISION: 4.3",
    }
    assert report["os"] == "Ubuntu 22.04"
    assert report["cpu"]["isa"] == ["asimd", "asimddp"]  # type: ignore[index]
    assert report["memory_mb"] == {"total": 8181, "available": 4096}
    assert report["cameras"] == [str(tmp_path / "dev/video0")]
    assert "Orin Nano" in text(report)


def test_a_bare_machine_gets_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cv2", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    report = examine(tmp_path)
    assert report["ok"] is False and report["jetson"] is None
    shown = text(report)
    assert "edgetl[desktop]" in shown and "python3-opencv" in shown
    assert "does not run here yet" in shown


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from edgetl_runtime.doctor import examine; examine();"
        "heavy = {'torch','cv2','openvino','onnxruntime','numpy','tensorrt_rtx','tensorrt_rtx_bindings'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
