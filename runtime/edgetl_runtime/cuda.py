"""NVIDIA's driver library by ctypes: which GPUs are here, device memory, one stream. No package is needed."""

from __future__ import annotations

import ctypes
import re
import sys
from ctypes import byref, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl_runtime.errors import EngineError

_CC_MAJOR, _CC_MINOR, _INTEGRATED = 75, 76, 18  # CU_DEVICE_ATTRIBUTE_...


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name, compute capability such as "8.7", and whether it shares the host's memory."""

    name: str
    compute_capability: str
    integrated: bool


def load_driver() -> Any | None:
    """The driver's library, initialised, or None where there is none or it sees no GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1" if sys.platform == "linux" else "nvcuda.dll")
    except OSError:
        return None
    count = c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(byref(count)) != 0 or count.value < 1:
        return None
    return driver


def gpus(driver: Any | None = None) -> list[Gpu]:
    """The GPUs that the driver sees; none without a driver."""
    driver = driver or load_driver()
    count = c_int()
    if driver is None or driver.cuDeviceGetCount(byref(count)) != 0:
        return []
    return [_gpu(driver, index) for index in range(count.value)]


def _gpu(driver: Any, index: int) -> Gpu:
    device, name = c_int(), ctypes.create_string_buffer(128)
    driver.cuDeviceGet(byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    major, minor, integrated = (_attribute(driver, device, a) for a in (_CC_MAJOR, _CC_MINOR, _INTEGRATED))
    return Gpu(name.value.decode(errors="replace"), f"{major}.{minor}", bool(integrated))


def _attribute(driver: Any, device: c_int, attribute: int) -> int:
    value = c_int()
    driver.cuDeviceGetAttribute(byref(value), attribute, device)
    return value.value


def driver_version(driver: Any, root: Path = Path("/")) -> str:
    """The driver's release where the system says it, and the CUDA version that it speaks."""
    value = c_int()
    driver.cuDriverGetVersion(byref(value))
    cuda = f"CUDA {value.value // 1000}.{value.value % 1000 // 10}"
    try:
        said = (root / "proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return cuda
    release = re.search(r"\b\d+\.\d+(\.\d+)?\b", said.partition("Kernel Module")[2])
    return f"{release[0]}, {cuda}" if release else cuda


class Cuda:
    """The first GPU's primary context, which TensorRT uses too: buffers, copies and one stream.

    Every method raises EngineError, with the driver's own name for it, where a call fails. `close` frees all.
    """

    def __init__(self, driver: Any | None = None) -> None:
        found = driver or load_driver()
        if found is None:
            raise EngineError("no NVIDIA GPU is visible here", remedy="install the NVIDIA driver, or run on the device")
        self._driver: Any = found
        self._device, self._context, self._stream = c_int(), c_void_p(), c_void_p()
        self._on_device: list[int] = []
        self._on_host: list[int] = []
        self._call("cuDeviceGet", byref(self._device), 0)
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._device)
        self._open = True
        try:
            self.make_current()
            self._call("cuStreamCreate", byref(self._stream), 0)
        except EngineError:
            self.close()
            raise

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return self._stream.value or 0

    def make_current(self) -> None:
        """Use the context on this thread."""
        self._call("cuCtxSetCurrent", self._context)

    def free_and_total_bytes(self) -> tuple[int, int]:
        """The GPU's free memory and all of it."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def device_buffer(self, size: int) -> int:
        """The address of `size` new bytes on the GPU."""
        address = c_void_p()
        self._call("cuMemAlloc_v2", byref(address), c_size_t(size))
        self._on_device.append(address.value or 0)
        return self._on_device[-1]

    def pinned_buffer(self, size: int) -> int:
        """The address of `size` new page-locked bytes on the host."""
        address = c_void_p()
        self._call("cuMemAllocHost_v2", byref(address), c_size_t(size))
        self._on_host.append(address.value or 0)
        return self._on_host[-1]

    def copy_in(self, device: int, host: int, size: int) -> None:
        """Host to GPU, in the order of the stream."""
        self._call("cuMemcpyHtoDAsync_v2", c_void_p(device), c_void_p(host), c_size_t(size), self._stream)

    def copy_out(self, host: int, device: int, size: int) -> None:
        """GPU to host, in the order of the stream."""
        self._call("cuMemcpyDtoHAsync_v2", c_void_p(host), c_void_p(device), c_size_t(size), self._stream)

    def wait(self) -> None:
        """Return when the stream has done everything."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Free every buffer, the stream and the context. Closing twice is fine; failures here have no remedy."""
        if not self._open:
            return
        self._open = False
        self._driver.cuCtxSetCurrent(self._context)
        for address in self._on_device:
            self._driver.cuMemFree_v2(c_void_p(address))
        for address in self._on_host:
            self._driver.cuMemFreeHost(c_void_p(address))
        if self._stream.value:
            self._driver.cuStreamDestroy_v2(self._stream)
        self._driver.cuDevicePrimaryCtxRelease_v2(self._device)

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._driver, function)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(status, byref(text))
            name = text.value.decode(errors="replace") if text.value else f"error {status}"
            raise EngineError(f"the CUDA driver failed in {function}: {name}", remedy=_REMEDIES.get(name, ""))


_REMEDIES = {
    "CUDA_ERROR_OUT_OF_MEMORY": "close other programs that use the GPU",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "start the program again; build the engine again if it returns",
}
