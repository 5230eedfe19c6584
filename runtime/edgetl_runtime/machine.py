"""Which machine this is, for figures that were measured on it, and how much of it this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instructions of x86 that add up products of INT8 in 32 bits; engines do it in 16 without them, which saturates."""


def machine() -> str:
    """Processor and system of this machine, for figures."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def saturates_int8(root: Path = Path("/")) -> bool:
    """Whether this is an x86 processor on which sums of INT8 products saturate, and come out otherwise than on newer
    ones. `root` is where /proc is looked for; False where it does not tell."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    return "avx2" in flags and EXACT_INT8.isdisjoint(flags)
