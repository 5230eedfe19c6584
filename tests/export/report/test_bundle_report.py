"""The page of a bundle, from a manifest."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from edgetl_export.report.blocks import Badge, BarChart, Block, KeyFigures, Table, Text
from edgetl_export.report.bundle import bundle_report, sections_from_manifest
from edgetl_export.report.page import Section
from edgetl_export.tensorrt.check import CANNOT_TELL
from edgetl_runtime.spec import (
    SCHEMA_VERSION,
    Check,
    Chosen,
    Decode,
    FileEntry,
    Hop,
    Latency,
    Manifest,
    Preprocess,
    Provenance,
    TargetResult,
    TensorSpec,
    Variant,
)

TITLES = ["At a glance", "Every hop", "Latency", "Targets", "Contract", "Provenance"]
NMS = Check(code="nms-not-in-rtx", op="NonMaxSuppression", node="nms", advice=f"{CANNOT_TELL}: build on the device.")
UINT8 = Check(code="uint8-read", op="Transpose", node="t", module="stem", advice="Put Cast first.")


def hop(name: str, value: float, *, passed: bool = True) -> Hop:
    """A hop with this metric."""
    return Hop(hop=name, metric="ap50", value=value, max_rel_error=1e-3, cosine=0.999, passed=passed)


def latency(engine: Any, variant: str, p50: float) -> Latency:
    """A row of the latency table."""
    return Latency(engine=engine, variant=variant, p50_ms=p50, p95_ms=p50 * 1.1, p99_ms=p50 * 1.2, runs=60)


def target(*checks: Check, deployable: bool = False, note: str = "") -> TargetResult:
    """What was found out for one target."""
    return TargetResult(variant="fp32", engine="tensorrt", deployable=deployable, checks=checks, note=note)


def manifest(**changes: Any) -> Manifest:
    """A small manifest in which int8 on OpenVINO was chosen."""
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": "street",
        "task": "detect",
        "labels": ("vehicle", "sign"),
        "preprocess": Preprocess(size_hw=(320, 512), mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        "inputs": (TensorSpec(name="frame", dtype="uint8", shape=(1, 320, 512, 3)),),
        "outputs": (TensorSpec(name="boxes", dtype="float32", shape=(1, 100, 4)),),
        "decode": Decode(max_detections=100, score_threshold=0.3, stride=8),
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
        "golden": "golden.npz",
        "files": {n: FileEntry(sha256="ab" * 32, bytes=1_500_000) for n in ("a.onnx", "golden.npz")},
        "provenance": Provenance(
            edgetl="0.1.0",
            created="2025-01-01T00:00:00Z",
            architecture="lite0 + centre detector",
            weights="ImageNet",
            weights_sha256="0" * 64,
            weights_licence="Apache-2.0",
            dataset="streets",
            dataset_sha256="1" * 64,
            machine="two cores",
        ),
    }
    return Manifest(**(values | changes))


def blocks(section: Section, kind: type[Block]) -> list[Any]:
    """The blocks of one kind in a section."""
    return [block for block in section.blocks if isinstance(block, kind)]


def by_title(sections: list[Section]) -> dict[str, Section]:
    """Sections by title."""
    return {section.title: section for section in sections}


def test_the_sections_come_in_order() -> None:
    assert [section.title for section in sections_from_manifest(manifest())] == TITLES


def test_the_summary_says_metric_latency_speed_and_targets() -> None:
    summary = sections_from_manifest(manifest())[0]
    figures = [(f.value, f.detail) for f in blocks(summary, KeyFigures)[0].figures]
    assert figures[0] == ("61.0", "−1.00 points against torch")
    assert figures[1] == ("5.00 ms", "p99 6.00 ms")
    assert figures[2] == ("4.00×", "over onnxruntime/fp32")
    assert figures[3][0] == "1 of 6"
    assert "openvino/int8" in blocks(summary, Text)[0].paragraphs[0]


def test_the_hops_show_the_chosen_one_and_what_was_over_the_budget() -> None:
    table = blocks(by_title(sections_from_manifest(manifest()))["Every hop"], Table)[0]
    assert len(table.rows) == 5 and table.highlight == {4}
    badges = [next(cell for cell in row if isinstance(cell, Badge)).text for row in table.rows]
    assert badges == ["passed", "passed", "passed", "over budget", "passed"]


def test_a_hop_of_the_chain_that_does_not_hold_has_failed() -> None:
    broken = manifest(hops=(hop("torch", 0.6), hop("onnx", 0.1, passed=False)))
    table = blocks(by_title(sections_from_manifest(broken))["Every hop"], Table)[0]
    assert Badge("failed", "bad") in table.rows[1]


def test_latency_is_sorted_with_the_chosen_pair_marked() -> None:
    section = by_title(sections_from_manifest(manifest(), left_out=["tensorrt/fp16: no GPU"]))["Latency"]
    chart, table = blocks(section, BarChart)[0], blocks(section, Table)[0]
    assert [bar.label for bar in chart.bars] == ["openvino/int8", "onnxruntime/int8", "onnxruntime/fp32"]
    assert [bar.highlight for bar in chart.bars] == [True, False, False]
    assert chart.bars[1].note == "over budget" and chart.bars[0].whisker == pytest.approx(6.0)
    assert table.highlight == {0}
    assert "no GPU" in bundle_report(manifest(), left_out=["tensorrt/fp16: no GPU"])


def test_the_target_matrix_never_calls_a_check_deployable() -> None:
    tables = blocks(by_title(sections_from_manifest(manifest()))["Targets"], Table)
    states = {row[0]: row[3].text for row in tables[0].rows}
    assert states == {
        "cpu": "deployable",
        "orin-nano": "build on device",
        "thor": "not known here",
        "drive-thor": "not known here",
        "agx-orin": "needs a change",
        "drive-orin": "build on device",
    }
    assert [row[0] for row in tables[1].rows] == ["thor, drive-thor", "agx-orin", "drive-orin"]
    only_there = " ".join(str(cell) for row in tables[2].rows for cell in row)
    assert "latency" in only_there and "TensorRT 8 may choose its own" in only_there


def test_the_page_holds_the_contract_and_the_provenance() -> None:
    page = bundle_report(manifest(), before=[Section("Transfer", [Text(["worth it"])])])
    expected = (
        "letterbox to 320 × 512",
        "1 × 320 × 512 × 3",
        "vehicle, sign",
        "0" * 64,
        "Apache-2.0",
        "1.5 MB",
        "Transfer",
    )
    for text in expected:
        assert text in page
    assert page.index("At a glance") < page.index("Transfer") < page.index("Every hop")
    assert "gates passed" in page


def test_a_manifest_with_nothing_measured_is_still_a_page() -> None:
    bare = manifest(hops=(), latencies=(), targets={})
    page = bundle_report(bare)
    assert "not gated" in page and "nothing was measured" in page


def test_a_chosen_pair_that_did_not_pass_is_said_at_the_top() -> None:
    hops = (*manifest().hops[:4], structs.replace(manifest().hops[4], passed=False))
    assert "gate failed" in bundle_report(manifest(hops=hops))


def test_labels_and_notes_are_escaped() -> None:
    page = bundle_report(manifest(labels=("<script>x</script>", "b"), targets={"cpu": target(note="<img src=x>")}))
    assert "<script" not in page and "<img" not in page
