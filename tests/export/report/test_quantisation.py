"""Calibrators, layers in INT8, and what each layer costs."""

from __future__ import annotations

import pytest
from msgspec import structs
from report_support import blocks, layer, manifest, searched, trial

from edgetl_export.report.blocks import BarChart, Facts, Table, Text
from edgetl_export.report.quantisation import IN_FLOAT, LABEL_CHARS, quantisation_section, short
from edgetl_runtime.spec import Chosen, Search


def test_the_most_sensitive_layers_are_drawn_and_those_in_float_said() -> None:
    (section,) = quantisation_section(searched())
    (chart,) = blocks(section, BarChart)
    assert len(chart.bars) == 20 and chart.bars[0].value == pytest.approx(0.05)
    assert [bar.note for bar in chart.bars[:4]] == [IN_FLOAT] * 3 + [""]
    numbers = blocks(section, Table)[1]
    assert numbers.fold and len(numbers.rows) == 20
    assert [row[-1] for row in numbers.rows[:4]] == [IN_FLOAT] * 3 + ["INT8"]
    assert "20 most sensitive of 30" in chart.caption


def test_the_facts_count_layers_and_graphs() -> None:
    facts = dict(blocks(quantisation_section(searched())[0], Facts)[0].pairs)
    assert facts["layers in INT8"] == "27 of 30"
    assert facts["measured"] == "3 graphs on engines, 2 within the budget"
    assert facts["most layers in INT8 within the budget"] == "28 of 30, openvino/mixed1"


def test_the_calibrators_are_ordered_with_the_used_one_marked() -> None:
    table = blocks(quantisation_section(searched())[0], Table)[0]
    assert [row[0] for row in table.rows] == ["mse", "minmax"] and table.highlight == {0}
    assert table.rows[0][1].text == "0.0612"


def test_a_float_pair_that_was_chosen_is_said() -> None:
    chosen = Chosen(variant="fp32", engine="onnxruntime", reason="")
    (section,) = quantisation_section(searched(chosen=chosen))
    assert dict(blocks(section, Facts)[0].pairs)["layers in INT8"] == "the chosen pair is not in INT8"
    assert blocks(section, Table)[0].highlight == frozenset()
    assert {row[-1] for row in blocks(section, Table)[1].rows} == {IN_FLOAT}


def test_without_a_search_of_layers_there_is_no_chart() -> None:
    search = Search(calibrators={"mse": 0.1}, layers=9, trials=(trial("int8", 0.6, passed=True),))
    (section,) = quantisation_section(manifest(search=search))
    assert blocks(section, BarChart) == []
    assert "every layer" in blocks(section, Text)[0].paragraphs[0]
    assert dict(blocks(section, Facts)[0].pairs)["layers in INT8"] == "9 of 9"


def test_layers_that_the_engine_refuses_are_not_every_layer() -> None:
    tried = structs.replace(trial("int8", 0.6, passed=True), float_layers=("conv3",))
    (section,) = quantisation_section(manifest(search=Search(calibrators={"mse": 0.1}, layers=9, trials=(tried,))))
    assert "every layer that the engine runs in INT8" in blocks(section, Text)[0].paragraphs[0]
    assert dict(blocks(section, Facts)[0].pairs)["layers in INT8"] == "8 of 9"


@pytest.mark.parametrize("search", [None, Search(calibrators={}, layers=0)])
def test_where_int8_was_not_tried_there_is_no_section(search: Search | None) -> None:
    assert quantisation_section(manifest(search=search)) == []


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("network.backbone.blocks.0.0.conv_dw", "…blocks.0.0.conv_dw"),
        ("features.3", "features.3"),
        ("", "conv0"),
        ("a_single_name_that_is_longer_than_the_limit", "a_single_name_that_is_longer_than_the_limit"),
    ],
)
def test_a_module_is_named_by_its_end(module: str, expected: str) -> None:
    name = short(structs.replace(layer(0, 0.1), module=module))
    assert name == expected and (len(name) <= LABEL_CHARS or "." not in module)
