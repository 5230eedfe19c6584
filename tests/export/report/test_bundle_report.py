"""The page of a bundle, from a manifest."""

from __future__ import annotations

import pytest
from msgspec import structs
from report_support import BOXES, blocks, hop, manifest, searched, several, target

from edgetl_export.report.blocks import KeyFigures, Text
from edgetl_export.report.bundle import bundle_report, sections_from_manifest
from edgetl_export.report.page import Section
from edgetl_export.worst import Worst

TITLES = ["At a glance", "Latency", "Every hop", "Targets", "Contract", "Provenance"]


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


def test_each_part_of_the_reason_stands_alone_with_a_real_minus() -> None:
    chosen = structs.replace(manifest().chosen, reason="fastest: 5.00 ms, -1.00 points; faster but over: none")
    said = blocks(sections_from_manifest(manifest(chosen=chosen))[0], Text)[0].paragraphs
    assert list(said[1:]) == ["Fastest: 5.00 ms, −1.00 points.", "Faster but over: none."]


def test_a_search_and_worst_frames_have_their_sections() -> None:
    titles = [s.title for s in sections_from_manifest(searched(), worst=Worst("torch", "openvino/mixed0", 9, ()))]
    assert titles == [*TITLES[:3], "INT8, layer by layer", "Worst frames", *TITLES[3:]]


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


@pytest.mark.parametrize(("metric", "label"), [("miou", "mIoU, per cent"), ("accuracy", "accuracy, per cent")])
def test_the_metric_has_its_name(metric: str, label: str) -> None:
    hops = (hop("torch", 0.7, metric=metric), hop("openvino/int8", 0.7, metric=metric))
    assert blocks(sections_from_manifest(manifest(hops=hops))[0], KeyFigures)[0].figures[0].label == label


def test_several_heads_are_named_and_their_mean_is_shown() -> None:
    figure = blocks(sections_from_manifest(several())[0], KeyFigures)[0].figures[0]
    assert (figure.value, figure.label) == ("69.0", "mean over heads, per cent")
    assert "2 classes" in bundle_report(manifest()) and "heads: detect, drivable, classify" in bundle_report(several())
