"""What an engine depends on, and what a machine lacks for one."""

from __future__ import annotations

import sys
from pathlib import Path

import fake_tensorrt
import msgspec
import pytest
from fake_cuda import FakeDriver

from edgetl_runtime import cuda
from edgetl_runtime.errors import EngineError
from edgetl_runtime.tensorrt import device
from edgetl_runtime.tensorrt.device import RUNS_WITH, Device, differences, fingerprint

ORIN = Device(cuda.Gpu("Orin", "8.7", True), "540.4.0, CUDA 12.6", "tensorrt", "10.3.0")


@pytest.fixture
def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU and TensorRT, both fake."""
    monkeypatch.setattr(cuda, "load_driver", FakeDriver)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)


@pytest.mark.usefixtures("on_a_device")
def test_a_device_is_found() -> None:
    found = device.probe_device()
    assert (found.gpu.name, found.gpu.compute_capability, found.module, found.version, found.is_rtx) == (
        "Orin",
        "8.7",
        "tensorrt",
        "10.3.0",
        False,
    )
    assert device.lacks() == []


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize(("integrated", "gpu_bytes"), [(True, None), (False, 4_000_000_000)])
def test_a_jetson_shares_its_memory(integrated: bool, gpu_bytes: int | None) -> None:
    found = device.free_memory(with_memory(integrated))
    assert found.gpu_bytes == gpu_bytes and found.host_bytes > 0


def with_memory(integrated: bool) -> Device:
    """The device with or without memory of its own."""
    return Device(cuda.Gpu("x", "8.7", integrated), "d", "tensorrt", "10.3.0")


def test_everything_that_is_missing_is_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load_driver", lambda: None)
    monkeypatch.setattr(device, "MODULES", ("surely_not_here",))
    with pytest.raises(EngineError, match=r"python3-libnvinfer.*edgetl\[rtx\].*, and no NVIDIA GPU.*on the device"):
        device.probe_device()


def test_a_folder_called_tensorrt_is_no_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(device, "MODULES", ("tensorrt",))
    assert device.installed_module() == ""


def test_a_library_that_does_not_load_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_trt.py").write_text("import ctypes\nctypes.CDLL('libnothing_at_all.so')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match="broken_trt is installed but does not load"):
        device.import_library("broken_trt")


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"driver": "550, CUDA 12.8"}, ["driver was 540.4.0, CUDA 12.6 and is 550, CUDA 12.8"]),
        ({"workspace_mb": 512}, ["workspace_mb was 1024 and is 512"]),
        ({"onnx_sha256": "b" * 64}, ["onnx_sha256 was aaaaaaaaaaaa... and is bbbbbbbbbbbb..."]),
        (
            {"version": "10.7.0", "gpu": "Thor"},
            ["gpu was Orin and is Thor", "version was 10.3.0 and is 10.7.0"],
        ),
    ],
)
def test_what_changed_is_said(changes: dict[str, object], lines: list[str]) -> None:
    was = fingerprint(ORIN, onnx_sha256="a" * 64, workspace_mb=1024)
    assert differences(was, msgspec.structs.replace(was, **changes)) == lines


def test_a_workspace_does_not_matter_for_running() -> None:
    was = fingerprint(ORIN, onnx_sha256="a" * 64, workspace_mb=1024)
    now = msgspec.structs.replace(was, workspace_mb=0, edgetl="9.9")
    assert differences(was, now, RUNS_WITH) == [] and len(differences(was, now)) == 2


def test_engines_lie_beside_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cars.bundle").mkdir()
    monkeypatch.chdir(tmp_path / "cars.bundle")
    assert device.default_engine_dir(Path()) == tmp_path / "cars.bundle.engines"


def test_the_first_installed_module_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "present", lambda name: name != "tensorrt")
    assert device.installed_module() == "tensorrt_rtx"
