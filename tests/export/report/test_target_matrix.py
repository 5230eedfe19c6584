"""Targets by graphs, and what nobody knows yet."""

from __future__ import annotations

from report_support import NMS, UINT8, blocks, manifest, target

from edgetl_export.report.blocks import Badge, Lines, Table
from edgetl_export.report.target_matrix import state_of, targets_section
from edgetl_runtime.spec import TargetResult


def test_the_target_matrix_never_calls_a_check_deployable() -> None:
    tables = blocks(targets_section(manifest()), Table)
    states = {row[0]: row[1].text for row in tables[0].rows}
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


def test_every_graph_has_its_column_and_every_target_its_answer() -> None:
    targets = {
        "cpu": TargetResult(variant="int8", engine="openvino", deployable=True, note="measured on this machine"),
        "rtx": target(fp32="compiled", trt_fp16="refused", trt_int8="over budget"),
        "thor": target(NMS, note="one; two", fp32="cannot tell"),
    }
    table = blocks(targets_section(manifest(targets=targets)), Table)[0]
    assert list(table.columns[3:6]) == ["fp32", "trt-fp16", "trt-int8"]
    assert list(table.rows[0][3:6]) == [None, None, None]
    assert list(table.rows[1][3:6]) == [
        Badge("compiled", "good"), Badge("refused", "bad"), Badge("over budget", "warn"),
    ]  # fmt: skip
    assert list(table.rows[2][3:6]) == [Badge("cannot tell", "warn"), None, None]
    assert table.rows[2][-1] == Lines(["one", "two", "nms-not-in-rtx"])


def test_a_finding_in_another_graph_does_not_stop_the_one_that_compiled() -> None:
    assert state_of(target(UINT8)).text == "needs a change"
    assert state_of(target(UINT8, fp32="compiled", trt_int8="refused")).text == "build on device"
    assert state_of(target(UINT8, fp32="refused")).text == "needs a change"


def test_no_target_is_an_empty_table() -> None:
    (table,) = blocks(targets_section(manifest(targets={})), Table)
    assert list(table.rows) == []
