"""The computers that a model can be compiled for: a table of facts, and of what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgetl_runtime.errors import InputError

Compiler = Literal["none", "tensorrt-rtx", "tensorrt"]
TargetPrecision = Literal["fp32", "fp16", "bf16", "int8", "fp8", "fp4"]
Known = Literal["yes", "no", "unknown"]

OPSET_CEILING = 19
"""TensorRT 9.2 reads this, 10.6 reads 22, 10.15 reads 24 (onnx-tensorrt, docs/operators.md of each)."""
OLDEST_OPSET = 17
"""What TensorRT 8.5 and 8.6 read. From 18 on the axes of ReduceMax are an input, which 8's parser takes no notice of
(onnx-tensorrt, builtin_op_importers.cpp: reduceTensor): it reduces over all of them, without a word."""
FLOAT, HALF, INT8 = "trt-fp32", "trt-fp16", "trt-int8"
"""Graphs that are made for TensorRT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A system release and the TensorRT in it; `tensorrt` is None where no source says which."""

    name: str
    tensorrt: str | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target.

    sm: GPU compute capability, 87 for 8.7; None without a GPU of its own kind.
    compile_for: what the TensorRT for RTX builder on the host is asked to compile for.
    compile_is_proxy: `compile_for` is the nearest GPU that builder knows, not the target's own.
    dla: whether the deep-learning accelerator is there; edgetl builds for the GPU only.
    opset_ceiling: the highest ONNX opset that edgetl writes, not the parser's own limit.
    strongly_typed: whether its TensorRT takes the precision from the ONNX, which `edgetl build` asks for.
    graphs: the graphs that are for it, the one last that is preferred until the device has timed them.
    unknown: what can't be known on the host.
    """

    name: str
    summary: str
    compiler: Compiler
    sm: int | None
    releases: tuple[Release, ...]
    precisions: tuple[TargetPrecision, ...]
    dla: Known
    strongly_typed: Known
    graphs: tuple[str, ...] = (FLOAT, HALF, INT8)
    compile_for: tuple[str, ...] = ()
    compile_is_proxy: bool = False
    opset_ceiling: int = OPSET_CEILING
    unknown: tuple[str, ...] = ()

    @property
    def built_on_host(self) -> bool:
        """Whether what the host makes is what the target runs."""
        return self.compiler != "tensorrt"


_ON_DEVICE = (
    "latency, and whether INT8 is faster: the device's own kernels are chosen there",
    "run-time memory: the GPU shares it with everything else on the board",
    "whether this TensorRT's parser takes every operator: the host has another release of it",
)
_JETPACK_6 = (
    Release(name="JetPack 6.1", tensorrt="10.3"),
    Release(name="JetPack 6.2", tensorrt="10.3", note="JetPack 6 stays on TensorRT 10"),
)
_JETPACK_7_2 = Release(name="JetPack 7.2", tensorrt="10.16.2", note="as read on a Thor: roboflow/inference, pull 2478")
_JETPACK_7_2_2 = Release(name="JetPack 7.2.2 and later", tensorrt="11.4.1")
_AMPERE: tuple[TargetPrecision, ...] = ("fp32", "fp16", "bf16", "int8")
_BLACKWELL: tuple[TargetPrecision, ...] = ("fp32", "fp16", "bf16", "int8", "fp8", "fp4")

_ROWS = (
    Target(
        name="cpu",
        summary="x86-64 or Arm processor, ONNX Runtime or OpenVINO",
        compiler="none",
        sm=None,
        releases=(),
        precisions=("fp32", "bf16", "int8"),
        dla="no",
        strongly_typed="yes",
        unknown=("latency on another processor than the one that exported",),
    ),
    Target(
        name="rtx",
        summary="PC with a GeForce or RTX GPU (Ampere, Ada, Blackwell)",
        compiler="tensorrt-rtx",
        sm=None,
        releases=(Release(name="TensorRT for RTX", tensorrt=None, note="the version that compiled the engine"),),
        precisions=_AMPERE,
        dla="no",
        strongly_typed="yes",
        graphs=(FLOAT, INT8, HALF),  # its INT8 layers come as two and more kernels each, those of FP16 as one
        compile_for=("SM80", "SM86", "SM89", "SM120", "SM121"),
        unknown=("latency: kernels are finished on the GPU when the engine is first loaded",),
    ),
    Target(
        name="orin-nano",
        summary="Jetson Orin Nano",
        compiler="tensorrt",
        sm=87,
        releases=(*_JETPACK_6, _JETPACK_7_2),
        precisions=_AMPERE,
        dla="no",
        strongly_typed="yes",
        compile_for=("SM86",),
        compile_is_proxy=True,
        unknown=_ON_DEVICE,
    ),
    Target(
        name="orin-nx",
        summary="Jetson Orin NX",
        compiler="tensorrt",
        sm=87,
        releases=(*_JETPACK_6, _JETPACK_7_2),
        precisions=_AMPERE,
        dla="yes",
        strongly_typed="yes",
        compile_for=("SM86",),
        compile_is_proxy=True,
        unknown=_ON_DEVICE,
    ),
    Target(
        name="agx-orin",
        summary="Jetson AGX Orin",
        compiler="tensorrt",
        sm=87,
        releases=(*_JETPACK_6, _JETPACK_7_2, _JETPACK_7_2_2),
        precisions=_AMPERE,
        dla="yes",
        strongly_typed="yes",
        compile_for=("SM86",),
        compile_is_proxy=True,
        unknown=_ON_DEVICE,
    ),
    Target(
        name="thor",
        summary="Jetson AGX Thor",
        compiler="tensorrt",
        sm=110,
        releases=(
            Release(name="JetPack 7.0 and 7.1", tensorrt="10.13"),
            _JETPACK_7_2,
            _JETPACK_7_2_2,
        ),
        precisions=_BLACKWELL,
        dla="no",
        strongly_typed="yes",
        compile_for=("SM120",),
        compile_is_proxy=True,
        unknown=_ON_DEVICE,
    ),
    Target(
        name="drive-orin",
        summary="DRIVE AGX Orin",
        compiler="tensorrt",
        sm=87,
        releases=(
            Release(name="DRIVE OS 6.0.6", tensorrt="8.5.10"),
            Release(name="DRIVE OS 6.0.7", tensorrt="8.6.10"),
            Release(name="DRIVE OS 6.0.9.1", tensorrt="8.6.12"),
        ),
        precisions=("fp32", "fp16", "int8"),
        dla="yes",
        strongly_typed="no",
        graphs=(FLOAT, HALF),  # the INT8 graph has FP16 in Q and DQ, and so opset 19
        compile_for=("SM86",),
        compile_is_proxy=True,
        opset_ceiling=OLDEST_OPSET,
        unknown=(*_ON_DEVICE, "precision: TensorRT 8 may choose its own, so read it back from the engine"),
    ),
    Target(
        name="drive-thor",
        summary="DRIVE AGX Thor",
        compiler="tensorrt",
        sm=110,
        releases=(Release(name="DRIVE OS 7.0.3", tensorrt="10.10.10"),),
        precisions=_BLACKWELL,
        dla="unknown",
        strongly_typed="yes",
        compile_for=("SM120",),
        compile_is_proxy=True,
        unknown=_ON_DEVICE,
    ),
)

TARGETS: dict[str, Target] = {row.name: row for row in _ROWS}


def get_target(name: str) -> Target:
    """The target of this name. Raises InputError that lists the names there are."""
    try:
        return TARGETS[name]
    except KeyError:
        raise InputError(f"no target {name!r}", remedy=f"there are: {', '.join(TARGETS)}") from None
