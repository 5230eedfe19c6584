"""Whether an engine can be built in the memory that is free, and how much of it the builder may use."""

from __future__ import annotations

from dataclasses import dataclass

from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.free_memory import free_bytes

MB = 1_000_000
BASE_BYTES = 600 * MB
"""CUDA's context, TensorRT's libraries and Python. A rule of thumb: a small network's build takes 300 MB on a PC."""
COPIES = 4
"""Copies of the weights during a build: the file, the network, the plan and its serialised form."""
LEAST_WORKSPACE_MB = 64


@dataclass(frozen=True, slots=True)
class Memory:
    """Free memory in bytes. gpu_bytes: None where the GPU shares the host's, as on a Jetson, or can't be asked."""

    host_bytes: int
    gpu_bytes: int | None


def host_available_bytes() -> int:
    """What this process may still take without swapping. Raises EngineError where the system does not say."""
    free = free_bytes()
    if free is None:
        raise EngineError("can't read the free memory from /proc/meminfo")
    return free


def workspace_mb(memory: Memory, *, onnx_bytes: int, wanted_mb: int) -> int:
    """The workspace that the builder may have: what is wanted, less where memory is short.

    Raises InputError, saying what is needed and what is free, where even the least does not fit.
    """
    if wanted_mb < LEAST_WORKSPACE_MB:
        raise InputError(
            f"--workspace-mb {wanted_mb} is too little for a build", remedy=f"give {LEAST_WORKSPACE_MB} up"
        )
    floor = BASE_BYTES + COPIES * onnx_bytes
    if memory.gpu_bytes is None:
        spare = memory.host_bytes - floor
        where, free = "", memory.host_bytes
    elif memory.host_bytes < floor:
        spare, where, free = memory.host_bytes - floor, " of the host", memory.host_bytes
    else:
        floor = BASE_BYTES // 2 + 2 * onnx_bytes
        spare, where, free = memory.gpu_bytes - floor, " of the GPU", memory.gpu_bytes
    if spare < LEAST_WORKSPACE_MB * MB:
        raise InputError(
            f"the build needs about {floor // MB + LEAST_WORKSPACE_MB} MB of memory{where}, {free // MB} MB are free",
            remedy="close other programs (on a Jetson also the desktop: sudo systemctl isolate multi-user.target)",
        )
    return min(wanted_mb, int(spare // MB))
