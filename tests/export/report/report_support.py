"""Manifests for tests of a bundle's page, and ways to find a block on it."""

from __future__ import annotations

from typing import Any

from runtime_support import manifest_of

from edgetl_export.report.blocks import Block
from edgetl_export.report.page import Section
from edgetl_export.tensorrt.check import CANNOT_TELL
from edgetl_runtime.spec import (
    AccuracyBudget,
    Check,
    Chosen,
    ClassifyHead,
    DetectHead,
    FileEntry,
    GraphState,
    Hop,
    Latency,
    Manifest,
    Precision,
    Preprocess,
    Search,
    SearchTrial,
    SegmentHead,
    Sensitivity,
    TargetResult,
    TensorSpec,
    Variant,
)

NMS = Check(code="nms-not-in-rtx", op="NonMaxSuppression", node="nms", advice=f"{CANNOT_TELL}: build on the device.")
UINT8 = Check(code="uint8-read", op="Transpose", node="t", module="stem", advice="Put Cast first.")


BOXES = DetectHead(labels=("vehicle", "sign"), max_detections=100, thresholds=(0.3, 0.3), stride=8)
ROAD = SegmentHead(name="drivable", labels=("background", "drivable"), stride=4)
LIGHT = ClassifyHead(labels=("night", "day"), thresholds=(0.6, 0.55), temperature=1.4)


def hop(name: str, value: float, *, passed: bool = True, metric: str = "ap50", **heads: float) -> Hop:
    """A hop with this metric."""
    return Hop(hop=name, metric=metric, value=value, max_rel_error=1e-3, cosine=0.999, passed=passed, heads=heads)


def latency(engine: Any, variant: str, p50: float) -> Latency:
    """A row of the latency table."""
    return Latency(engine=engine, variant=variant, p50_ms=p50, p95_ms=p50 * 1.1, p99_ms=p50 * 1.2, runs=60)


def target(*checks: Check, deployable: bool = False, note: str = "", **graphs: GraphState) -> TargetResult:
    """What was found out for one target; graphs: by variant, with _ for -."""
    states = {name.replace("_", "-"): state for name, state in graphs.items()}
    return TargetResult(
        variant="fp32", engine="tensorrt", deployable=deployable, checks=checks, note=note, graphs=states
    )


def trial(variant: str, value: float, *, passed: bool, left: tuple[str, ...] = (), p50: float = 6.0) -> SearchTrial:
    """One graph that the search tried on OpenVINO."""
    precision: Precision = "int8"
    return SearchTrial(
        variant=variant,
        engine="openvino",
        precision=precision,
        calibrator="mse",
        float_layers=left,
        value=value,
        passed=passed,
        note="",
        p50_ms=p50,
    )


def layer(number: int, error: float) -> Sensitivity:
    """One layer's cost."""
    module = f"network.backbone.blocks.{number}.0.conv_pw"
    return Sensitivity(layer=f"conv{number}", op="Conv", module=module, macs=1_500_000 * (number + 1), error=error)


def searched(**changes: Any) -> Manifest:
    """A manifest in which INT8 everywhere cost too much, and one of two mixed graphs was chosen."""
    search = Search(
        calibrators={"minmax": 0.07, "mse": 0.0612},
        layers=30,
        sensitivities=tuple(layer(i, 0.05 / (i + 1)) for i in range(30)),
        trials=(
            trial("int8", 0.55, passed=False),
            trial("mixed0", 0.615, passed=True, left=("conv0", "conv1", "conv2")),
            trial("mixed1", 0.60, passed=True, left=("conv0", "conv1")),
        ),
    )
    variant = Variant(name="mixed0", file="a.onnx", precision="int8", engines=("openvino",))
    values: dict[str, Any] = {
        "variants": (*manifest().variants, variant),
        "chosen": Chosen(variant="mixed0", engine="openvino", reason="fastest within the budget"),
        "hops": (
            hop("torch", 0.62),
            hop("onnxruntime/fp32", 0.62),
            hop("openvino/int8", 0.55, passed=False),
            hop("openvino/mixed0", 0.615),
            hop("openvino/mixed1", 0.60),
        ),
        "latencies": (
            latency("onnxruntime", "fp32", 20.0),
            latency("openvino", "int8", 5.0),
            latency("openvino", "mixed0", 6.0),
            latency("openvino", "mixed1", 6.5),
        ),
        "search": search,
        "budget": AccuracyBudget(head=0.02),
    }
    return manifest(**(values | changes))


def manifest(**changes: Any) -> Manifest:
    """A small manifest in which int8 on OpenVINO was chosen."""
    values: dict[str, Any] = {
        "name": "street",
        "heads": (BOXES,),
        "preprocess": Preprocess(size_hw=(320, 512), mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        "inputs": (TensorSpec(name="frame", dtype="uint8", shape=(1, 320, 512, 3)),),
        "outputs": (TensorSpec(name="boxes", dtype="float32", shape=(1, 100, 4)),),
        "variants": (
            Variant(name="fp32", file="a.onnx", precision="fp32", engines=("onnxruntime",)),
            Variant(name="int8", file="a.onnx", precision="int8", engines=("openvino",)),
        ),
        "chosen": Chosen(variant="int8", engine="openvino", reason="fastest within the budget"),
        "targets": {
            "cpu": TargetResult(variant="int8", engine="openvino", deployable=True),
            "orin-nano": target(note="compiled"),
            "thor": target(NMS),
            "drive-thor": target(NMS),
            "agx-orin": target(UINT8),
            "drive-orin": target(Check(code="opset-above-ceiling", advice="Export lower.")),
        },
        "hops": (
            hop("torch", 0.62),
            hop("onnx", 0.62),
            hop("onnxruntime/fp32", 0.62),
            hop("onnxruntime/int8", 0.55, passed=False),
            hop("openvino/int8", 0.61),
        ),
        "latencies": (
            latency("onnxruntime", "fp32", 20.0),
            latency("openvino", "int8", 5.0),
            latency("onnxruntime", "int8", 8.0),
        ),
        "files": {n: FileEntry(sha256="ab" * 32, bytes=1_500_000) for n in ("a.onnx", "golden.npz")},
    }
    return manifest_of(**(values | changes))


def blocks(section: Section, kind: type[Block]) -> list[Any]:
    """The blocks of one kind in a section."""
    return [block for block in section.blocks if isinstance(block, kind)]


def by_title(sections: list[Section]) -> dict[str, Section]:
    """Sections by title."""
    return {section.title: section for section in sections}


def several(**changes: Any) -> Manifest:
    """A manifest with a head of every kind."""
    hops = (
        hop("torch", 0.7, metric="mean", detect=0.5, drivable=0.7, classify=0.9),
        hop("onnx", 0.7, metric="mean", detect=0.5, drivable=0.7),
        hop("openvino/int8", 0.69, metric="mean", detect=0.48, drivable=0.7, classify=0.89),
    )
    return manifest(**({"heads": (BOXES, ROAD, LIGHT), "hops": hops} | changes))
