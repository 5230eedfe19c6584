"""The hop table: verdicts, heads, notes, and trials folded away."""

from __future__ import annotations

from msgspec import structs
from report_support import blocks, hop, manifest, searched, several, target

from edgetl_export.report.blocks import Badge, Lines, Num, Table
from edgetl_export.report.hops import hops_section
from edgetl_runtime.spec import Manifest


def tables(of: Manifest) -> list[Table]:
    """The section's tables."""
    found: list[Table] = blocks(hops_section(of), Table)
    return found


def test_the_chosen_hop_is_marked_and_what_was_over_the_budget_said() -> None:
    (table,) = tables(manifest())
    assert len(table.rows) == 5 and table.highlight == {4}
    badges = [next(cell for cell in row if isinstance(cell, Badge)).text for row in table.rows]
    assert badges == ["passed", "passed", "passed", "over budget", "passed"]


def test_a_hop_of_the_chain_that_does_not_hold_has_failed() -> None:
    broken = manifest(hops=(hop("torch", 0.6), hop("onnx", 0.1, passed=False)))
    assert Badge("failed", "bad") in tables(broken)[0].rows[1]


def test_a_graph_for_a_target_that_lost_too_much_is_over_the_budget() -> None:
    hops = (hop("torch", 0.6), hop("trt-int8", 0.5, passed=False))
    (table,) = tables(manifest(hops=hops, targets={"thor": target(trt_int8="over budget")}))
    assert Badge("over budget", "warn") in table.rows[1]


def test_every_phrase_of_a_note_has_its_line() -> None:
    note = "-0.25 points against torch, budget 0.50; 66 of 66 layers asked for in INT8 run in INT8"
    (table,) = tables(manifest(hops=(structs.replace(hop("torch", 0.6), note=note), hop("onnx", 0.6))))
    assert table.rows[0][-1] == Lines(
        ["−0.25 points against torch, budget 0.50", "66 of 66 layers asked for in INT8 run in INT8"]
    )
    assert table.rows[1][-1] == Lines([])


def test_what_the_search_tried_is_folded_away_but_not_plain_int8_nor_the_chosen() -> None:
    main, folded = tables(searched())
    assert [row[0] for row in main.rows] == ["torch", "onnxruntime/fp32", "openvino/int8", "openvino/mixed0"]
    assert main.highlight == {3} and main.fold == ""
    assert [row[0] for row in folded.rows] == ["openvino/mixed1"]
    assert folded.fold.startswith("1 more") and folded.highlight == frozenset()


def test_one_head_has_no_columns_of_its_own() -> None:
    assert list(tables(manifest())[0].columns)[:4] == ["hop", "gate", "ap50", "max rel. error"]


def test_every_head_has_its_column() -> None:
    (table,) = tables(several())
    assert list(table.columns)[2:6] == ["mean", "detect", "drivable", "classify"]
    assert [[cell.text if isinstance(cell, Num) else cell for cell in row[2:6]] for row in table.rows] == [
        ["70.00", "50.00", "70.00", "90.00"],
        ["70.00", "50.00", "70.00", None],
        ["69.00", "48.00", "70.00", "89.00"],
    ]
