"""This device as a place to build: its GPU, its driver, which TensorRT is here, and what makes an engine its own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edgetl_runtime import __version__, cuda
from edgetl_runtime.errors import EngineError
from edgetl_runtime.imports import JETPACK, present
from edgetl_runtime.tensorrt.memory import Memory, host_available_bytes

if TYPE_CHECKING:
    from pathlib import Path

MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
"""Which TensorRT is used: the first of these that is installed."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU with its driver, and the TensorRT beside it."""

    gpu: cuda.Gpu
    driver: str
    module: str
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT for RTX."""
        return self.module.startswith("tensorrt_rtx")


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """All that an engine depends on: another value of any of these, and it is stale."""

    gpu: str
    compute_capability: str
    driver: str
    library: str
    version: str
    onnx_sha256: str
    workspace_mb: int
    strongly_typed: bool
    edgetl: str


RUNS_WITH = ("gpu", "compute_capability", "driver", "library", "version", "onnx_sha256")
"""What must agree for an engine to be run; the rest only matters for building it again."""


def installed_module() -> str:
    """The TensorRT module that is here, "" without one. Nothing is imported."""
    return next((name for name in MODULES if present(name)), "")


def lacks() -> list[str]:
    """What this machine lacks for building and running TensorRT engines, each with what to do; empty for nothing."""
    missing = []
    if not installed_module():
        jetson = f"on a Jetson: apt install {JETPACK['tensorrt']}, venv with --system-site-packages"
        missing.append(f"TensorRT is not installed ({jetson}; on a PC: pip install 'edgetl[rtx]')")
    if cuda.load_driver() is None:
        missing.append("no NVIDIA GPU is visible to the CUDA driver")
    return missing


def probe_device() -> Device:
    """The device and its TensorRT. Raises EngineError that names everything that is missing."""
    missing = lacks()
    if missing:
        raise EngineError(
            f"no TensorRT engine can be built or run here: {', and '.join(missing)}",
            remedy="run this on the device itself",
        )
    driver = cuda.load_driver()
    module = import_library(installed_module())
    return Device(cuda.gpus(driver)[0], cuda.driver_version(driver), module.__name__, str(module.__version__))


def import_library(name: str) -> Any:
    """The TensorRT module. Raises EngineError where it is installed and does not load."""
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineError(f"{name} is installed but does not load: {error}", remedy="install it again") from error
    return module


def free_memory(device: Device) -> Memory:
    """What is free for a build now. The CUDA context that asks is closed again."""
    if device.gpu.integrated:
        return Memory(host_available_bytes(), None)
    context = cuda.Cuda()
    try:
        return Memory(host_available_bytes(), context.free_and_total_bytes()[0])
    finally:
        context.close()


def fingerprint(device: Device, *, onnx_sha256: str, workspace_mb: int) -> Fingerprint:
    """What an engine that is built here now depends on."""
    return Fingerprint(
        gpu=device.gpu.name,
        compute_capability=device.gpu.compute_capability,
        driver=device.driver,
        library=device.module,
        version=device.version,
        onnx_sha256=onnx_sha256,
        workspace_mb=workspace_mb,
        strongly_typed=True,
        edgetl=__version__,
    )


def differences(
    was: Fingerprint, now: Fingerprint, fields: tuple[str, ...] = Fingerprint.__struct_fields__
) -> list[str]:
    """What changed between two fingerprints, each as "driver was A and is B"."""
    changed = [(name, getattr(was, name), getattr(now, name)) for name in fields]
    return [f"{name} was {_short(a)} and is {_short(b)}" for name, a, b in changed if a != b]


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def default_engine_dir(bundle: Path) -> Path:
    """Where a bundle's engines are: beside it, since the bundle itself is hashed."""
    folder = bundle.resolve()
    return folder.with_name(f"{folder.name}.engines")
