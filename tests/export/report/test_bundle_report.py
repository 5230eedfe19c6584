"""The page of a bundle, from a manifest."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from runtime_support import manifest_of

from edgetl_export.report.blocks import Badge, BarChart, Block, KeyFigures, LineChart, Table, Text
from edgetl_export.report.bundle import bundle_report, sections_from_manifest
from edgetl_export.report.page import Section
from edgetl_export.tensorrt.check import CANNOT_TELL
from edgetl_runtime.spec import (
    Calibration,
    Check,
    Chosen,
    ClassifyHead,
    DetectHead,
    DomainStatistics,
    FileEntry,
    Hop,
    Latency,
    Manifest,
    Preprocess,
    Reliability,
    SegmentHead,
    TargetResult,
    TensorSpec,
    Variant,
)

TITLES = ["At a glance", "Every hop", "Latency", "Targets", "Contract", "Provenance"]
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


def target(*checks: Check, deployable: bool = False, note: str = "") -> TargetResult:
    """What was found out for one target."""
    return TargetResult(variant="fp32", engine="tensorrt", deployable=deployable, checks=checks, note=note)


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
        "1" * 64,
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
    sly = structs.replace(BOXES, labels=("<script>x</script>", "b"))
    page = bundle_report(manifest(heads=(sly,), targets={"cpu": target(note="<img src=x>")}))
    assert "<script" not in page and "<img" not in page


def test_one_head_has_no_columns_of_its_own() -> None:
    table = blocks(by_title(sections_from_manifest(manifest()))["Every hop"], Table)[0]
    assert table.columns[:4] == ["hop", "metric", "value", "max rel. error"]
    assert "2 classes" in bundle_report(manifest())


def several(**changes: Any) -> Manifest:
    """A manifest with a head of every kind."""
    hops = (
        hop("torch", 0.7, metric="mean", detect=0.5, drivable=0.7, classify=0.9),
        hop("onnx", 0.7, metric="mean", detect=0.5, drivable=0.7),
        hop("openvino/int8", 0.69, metric="mean", detect=0.48, drivable=0.7, classify=0.89),
    )
    return manifest(**({"heads": (BOXES, ROAD, LIGHT), "hops": hops} | changes))


def test_every_head_has_its_column_in_the_hops() -> None:
    table = blocks(by_title(sections_from_manifest(several()))["Every hop"], Table)[0]
    assert table.columns[2:6] == ["value", "detect", "drivable", "classify"]
    assert [[getattr(cell, "text", None) for cell in row[2:6]] for row in table.rows] == [
        ["70.00", "50.00", "70.00", "90.00"],
        ["70.00", "50.00", "70.00", None],
        ["69.00", "48.00", "70.00", "89.00"],
    ]
    figure = blocks(sections_from_manifest(several())[0], KeyFigures)[0].figures[0]
    assert (figure.value, figure.label) == ("69.0", "mean over heads, per cent")


@pytest.mark.parametrize(("metric", "label"), [("miou", "mIoU, per cent"), ("accuracy", "accuracy, per cent")])
def test_the_metric_has_its_name(metric: str, label: str) -> None:
    hops = (hop("torch", 0.7, metric=metric), hop("openvino/int8", 0.7, metric=metric))
    assert blocks(sections_from_manifest(manifest(hops=hops))[0], KeyFigures)[0].figures[0].label == label


def test_the_contract_names_every_head_with_its_thresholds_and_temperature() -> None:
    table = blocks(by_title(sections_from_manifest(several()))["Contract"], Table)[0]
    assert [list(row) for row in table.rows] == [
        ["detect", "detect", "vehicle, sign", "0.3", 1.0],
        ["drivable", "segment", "background, drivable", None, None],
        ["classify", "classify", "night, day", "0.6 night, 0.55 day", 1.4],
    ]


def test_the_training_domain_is_named_where_there_is_one() -> None:
    files = {n: FileEntry(sha256="ab" * 32, bytes=9) for n in ("a.onnx", "golden.npz", "domain.npz")}
    domain = DomainStatistics(file="domain.npz", output="embedding", images=480)
    assert "480 images" in bundle_report(several(files=files, domain=domain))
    assert "training domain" not in bundle_report(several())


def test_the_calibration_frames_are_counted_by_kind() -> None:
    strata = {"light: dark": 3, "light: day": 61, "different: groups": 40, "class: vehicle": 64, "class: sign": 0}
    record = Calibration(frames=64, sha256="cd" * 32, strata=strata, method="percentile")
    section = by_title(sections_from_manifest(several(calibration=record)))["Provenance"]
    assert [list(row) for row in blocks(section, Table)[0].rows] == [
        ["light", "dark 3, day 61"],
        ["different", "groups 40"],
        ["class", "vehicle 64, sign 0"],
    ]
    page = bundle_report(several(calibration=record))
    assert "64 percentile" in page and "cd" * 32 in page
    assert len(blocks(by_title(sections_from_manifest(several()))["Provenance"], Table)) == 1


def test_trust_in_scores_is_drawn_for_the_heads_that_were_calibrated() -> None:
    bins = ((0.3, 0.1, 40), (0.8, 0.6, 60))
    trust = Reliability(
        before=bins, after=((0.2, 0.1, 40), (0.6, 0.6, 60)), error_before=0.2, error_after=0.04, answers=100
    )
    section = by_title(sections_from_manifest(several(reliability={"classify": trust})))["Trust in scores"]
    (chart,) = blocks(section, LineChart)
    assert chart.title == "Reliability of classify" and "0.200 as trained, 0.040 as shipped" in chart.caption
    assert [series.label for series in chart.series[1:]] == ["as trained", "as shipped"]
    assert list(chart.series[1].xs) == [0.3, 0.8] and list(chart.series[1].ys) == [0.1, 0.6]
    assert "Trust in scores" not in by_title(sections_from_manifest(several()))
