"""NVIDIA's driver library as a small object: device memory is host memory, and any function can be made to fail."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

OUT_OF_MEMORY = 2
NAMES = {OUT_OF_MEMORY: b"CUDA_ERROR_OUT_OF_MEMORY", 700: b"CUDA_ERROR_ILLEGAL_ADDRESS"}


@dataclass
class FakeDriver:
    """What edgetl calls of libcuda. `fail` holds the status of functions that fail; `live` counts what is not freed."""

    name: str = "Orin"
    capability: tuple[int, int] = (8, 7)
    integrated: int = 1
    version: int = 12060
    free_bytes: int = 4_000_000_000
    fail: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=lambda: {"context": 0, "stream": 0, "device": 0, "host": 0})
    _memory: dict[int, Any] = field(default_factory=dict)
    _names: list[Any] = field(default_factory=list)

    def __getattr__(self, function: str) -> Any:
        if not function.startswith("cu"):
            raise AttributeError(function)
        status = self.fail.get(function)
        return lambda *arguments: status if status else getattr(self, f"_{function}")(*arguments) or 0

    def _cuInit(self, flags: int) -> None:  # noqa: N802  (the driver's names)
        pass

    def _cuDeviceGetCount(self, count: Any) -> None:  # noqa: N802
        count._obj.value = 1

    def _cuDeviceGet(self, device: Any, index: int) -> None:  # noqa: N802
        device._obj.value = index

    def _cuDeviceGetName(self, name: Any, size: int, device: Any) -> None:  # noqa: N802
        name.value = self.name.encode()

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> None:  # noqa: N802
        value._obj.value = {75: self.capability[0], 76: self.capability[1], 18: self.integrated}[attribute]

    def _cuDriverGetVersion(self, value: Any) -> None:  # noqa: N802
        value._obj.value = self.version

    def _cuGetErrorName(self, status: int, text: Any) -> None:  # noqa: N802
        text._obj.value = NAMES.get(status)

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:  # noqa: N802
        context._obj.value = 1
        self.live["context"] += 1

    def _cuDevicePrimaryCtxRelease_v2(self, device: Any) -> None:  # noqa: N802
        self.live["context"] -= 1

    def _cuCtxSetCurrent(self, context: Any) -> None:  # noqa: N802
        pass

    def _cuStreamCreate(self, stream: Any, flags: int) -> None:  # noqa: N802
        stream._obj.value = 77
        self.live["stream"] += 1

    def _cuStreamDestroy_v2(self, stream: Any) -> None:  # noqa: N802
        self.live["stream"] -= 1

    def _cuStreamSynchronize(self, stream: Any) -> None:  # noqa: N802
        pass

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:  # noqa: N802
        free._obj.value, total._obj.value = self.free_bytes, 8_000_000_000

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> None:  # noqa: N802
        self._allocate("device", address, size)

    def _cuMemAllocHost_v2(self, address: Any, size: Any) -> None:  # noqa: N802
        self._allocate("host", address, size)

    def _cuMemFree_v2(self, address: Any) -> None:  # noqa: N802
        self._free("device", address)

    def _cuMemFreeHost(self, address: Any) -> None:  # noqa: N802
        self._free("host", address)

    def _cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> None:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)

    _cuMemcpyDtoHAsync_v2 = _cuMemcpyHtoDAsync_v2  # noqa: N815

    def _allocate(self, kind: str, address: Any, size: Any) -> None:
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self._memory[address._obj.value] = block
        self.live[kind] += 1

    def _free(self, kind: str, address: Any) -> None:
        del self._memory[address.value]
        self.live[kind] -= 1
