"""The driver library, as a fake: buffers, copies, errors by name, nothing left behind."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from fake_cuda import OUT_OF_MEMORY, FakeDriver

from edgetl_runtime import cuda
from edgetl_runtime.cuda import Cuda, Gpu
from edgetl_runtime.errors import EngineError


def test_the_gpu_is_described() -> None:
    assert cuda.gpus(FakeDriver()) == [Gpu("Orin", "8.7", True)]
    assert cuda.gpus(FakeDriver(name="L4", capability=(8, 9), integrated=0)) == [Gpu("L4", "8.9", False)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22", "550.54.14, CUDA 12.6"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build", "540.4.0, CUDA 12.6"),
        ("something else", "CUDA 12.6"),
        (None, "CUDA 12.6"),
    ],
)
def test_the_driver_says_its_version(tmp_path: Path, text: str | None, expected: str) -> None:
    if text is not None:
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text(text)
    assert cuda.driver_version(FakeDriver(), tmp_path) == expected


def test_bytes_go_in_and_come_out_and_all_is_freed() -> None:
    driver = FakeDriver()
    gpu = Cuda(driver)
    host, other, device = gpu.pinned_buffer(4), gpu.pinned_buffer(4), gpu.device_buffer(4)
    ctypes.memmove(host, b"abcd", 4)
    gpu.copy_in(device, host, 4)
    gpu.copy_out(other, device, 4)
    gpu.wait()
    assert ctypes.string_at(other, 4) == b"abcd"
    assert gpu.free_and_total_bytes() == (4_000_000_000, 8_000_000_000)
    assert gpu.stream == 77
    assert driver.live == {"context": 1, "stream": 1, "device": 1, "host": 2}
    gpu.close()
    gpu.close()
    assert set(driver.live.values()) == {0}


def test_a_failure_has_the_drivers_name_and_a_remedy() -> None:
    driver = FakeDriver(fail={"cuMemAlloc_v2": OUT_OF_MEMORY, "cuStreamSynchronize": 700, "cuMemAllocHost_v2": 999})
    gpu = Cuda(driver)
    with pytest.raises(EngineError, match=r"cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY; close other programs"):
        gpu.device_buffer(8)
    with pytest.raises(EngineError, match="ILLEGAL_ADDRESS"):
        gpu.wait()
    with pytest.raises(EngineError, match="error 999"):
        gpu.pinned_buffer(8)


def test_a_context_without_a_stream_is_given_back() -> None:
    driver = FakeDriver(fail={"cuStreamCreate": OUT_OF_MEMORY})
    with pytest.raises(EngineError, match="cuStreamCreate"):
        Cuda(driver)
    assert set(driver.live.values()) == {0}


def test_without_a_gpu_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "load_driver", lambda: None)
    assert cuda.gpus() == []
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        Cuda()
