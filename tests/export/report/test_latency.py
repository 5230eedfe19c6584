"""Latency alone and against the metric."""

from __future__ import annotations

import pytest
from report_support import blocks, latency, manifest, searched, several

from edgetl_export.report.blocks import BarChart, Lines, ScatterChart, Table
from edgetl_export.report.latency import latency_section
from edgetl_runtime.spec import Manifest


def chart(of: Manifest) -> ScatterChart:
    """The section's Pareto chart."""
    (found,) = blocks(latency_section(of, []), ScatterChart)
    assert isinstance(found, ScatterChart)
    return found


def test_latency_is_sorted_with_the_chosen_pair_marked() -> None:
    section = latency_section(manifest(), ["tensorrt/fp16: no GPU; no driver"])
    bars, tables = blocks(section, BarChart)[0], blocks(section, Table)
    assert [bar.label for bar in bars.bars] == ["openvino/int8", "onnxruntime/int8", "onnxruntime/fp32"]
    assert [bar.highlight for bar in bars.bars] == [True, False, False]
    assert bars.bars[1].note == "over budget" and bars.bars[0].whisker == pytest.approx(6.0)
    assert tables[0].highlight == {0}
    assert list(tables[1].rows) == [["tensorrt/fp16", Lines(["no GPU", "no driver"])]]


def test_every_timed_pair_is_a_point_with_time_and_metric() -> None:
    found = chart(manifest())
    assert [(p.label, p.x, p.y) for p in found.points] == [
        ("openvino/int8", 5.0, pytest.approx(61.0)),
        ("onnxruntime/int8", 8.0, pytest.approx(55.0)),
        ("onnxruntime/fp32", 20.0, pytest.approx(62.0)),
    ]
    assert [p.highlight for p in found.points] == [True, False, False]
    assert [p.refused for p in found.points] == [False, True, False]
    assert "openvino/int8, onnxruntime/fp32" in found.caption and "Hollow" in found.caption
    assert found.floor is None


def test_the_floor_is_the_reference_less_the_budget() -> None:
    found = chart(searched())
    assert found.floor == pytest.approx(60.0) and found.floor_label == "torch less 2 points"


def test_what_the_search_tried_is_a_point_without_a_name_and_a_folded_row() -> None:
    named = {p.label: p.named for p in chart(searched()).points}
    assert named == {
        "openvino/int8": True, "openvino/mixed0": True, "openvino/mixed1": False, "onnxruntime/fp32": True,
    }  # fmt: skip
    section = latency_section(searched(), [])
    bars, (main, folded) = blocks(section, BarChart)[0], blocks(section, Table)
    assert "openvino/mixed1" not in {bar.label for bar in bars.bars} | {row[0] for row in main.rows}
    assert [row[0] for row in folded.rows] == ["openvino/mixed1"] and folded.fold


def test_a_pair_without_a_metric_is_no_point_and_none_at_all_no_chart() -> None:
    unmeasured = manifest(latencies=(*manifest().latencies, latency("openvino", "bf16", 7.0)))
    assert len(chart(unmeasured).points) == 3
    assert blocks(latency_section(manifest(hops=()), []), ScatterChart) == []


def test_several_heads_are_shown_by_their_mean() -> None:
    assert chart(several()).y_label == "mean over heads, per cent"
