"""The doctor on this machine, and on a made-up Jetson."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgetl_runtime.doctor import examine, text


def test_this_machine() -> None:
    report = examine()
    json.dumps(report)
    assert report["ok"] is True
    assert {"onnxruntime", "openvino"} == set(report["engines"])  # type: ignore[call-overload]
    assert "a bundle runs here" in text(report)


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
        "print(sorted({'torch','cv2','openvino','onnxruntime','numpy','tensorrt_rtx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
