"""The change by class: order, budgets, classes that are missing."""

from __future__ import annotations

import pytest
from msgspec import structs
from report_support import BOXES, LIGHT, blocks, hop, manifest

from edgetl_export.report.blocks import Badge, Change, Note, Num, Table, Text
from edgetl_export.report.classes import classes_section
from edgetl_runtime.spec import AccuracyBudget, DetectHead, Hop, Manifest, Scores

Values = dict[str, float | None]


def measured(name: str, value: float, **classes: Values) -> Hop:
    """A hop with the metric by head and class."""
    return structs.replace(hop(name, value), classes=classes)


def manifest_with(before: Values, after: Values, **changes: object) -> Manifest:
    """A detector's manifest with these values by class."""
    hops = (measured("torch", 0.6, detect=before), measured("openvino/int8", 0.59, detect=after))
    return manifest(**({"hops": hops, "heads": (boxes_of(before),)} | changes))


def boxes_of(labels: Values) -> DetectHead:
    """A head with these labels."""
    return structs.replace(BOXES, labels=tuple(labels), thresholds=(0.3,) * len(labels))


def test_the_greatest_loss_comes_first_with_its_bar() -> None:
    (section,) = classes_section(manifest_with({"a": 0.5, "b": 0.6, "c": 0.7}, {"a": 0.52, "b": 0.57, "c": 0.7}))
    (table,) = blocks(section, Table)
    assert [row[0] for row in table.rows] == ["b", "c", "a"]
    changes = [row[1] for row in table.rows]
    assert [(c.value, c.scale) for c in changes] == [
        (pytest.approx(-3.0), pytest.approx(3.0)), (0.0, pytest.approx(3.0)), (pytest.approx(2.0), pytest.approx(3.0)),
    ]  # fmt: skip
    assert list(table.rows[0][2:]) == [Num("60.00"), Num("57.00")]
    assert list(table.columns) == ["class", "change, points", "torch", "chosen"]
    assert "60.00 to 59.00, −1.00 points" in table.caption


def test_small_changes_do_not_fill_their_bars() -> None:
    (section,) = classes_section(manifest_with({"a": 0.5}, {"a": 0.4999}))
    change = blocks(section, Table)[0].rows[0][1]
    assert isinstance(change, Change) and abs(change.value) / change.scale < 0.05


def test_class_budgets_have_a_verdict_where_there_are_any() -> None:
    budget = AccuracyBudget(head=0.02, classes={"a": 0.01, "b": 0.05})
    of = manifest_with({"a": 0.5, "b": 0.6, "c": 0.7}, {"a": 0.48, "b": 0.57, "c": 0.6}, budget=budget)
    (table,) = blocks(classes_section(of)[0], Table)
    verdicts = {row[0]: (row[4], row[5]) for row in table.rows}
    assert verdicts == {
        "a": (Num("1"), Badge("over", "bad")), "b": (Num("5"), Badge("within", "good")), "c": (None, None),
    }  # fmt: skip
    assert "it may lose 2" in table.caption


def test_a_class_without_labels_is_named_and_one_that_vanished_lost_all() -> None:
    (section,) = classes_section(manifest_with({"a": 0.5, "b": None}, {"a": None, "b": None}))
    (table,), (note,) = blocks(section, Table), blocks(section, Note)
    assert table.rows[0][1].value == -50.0 and table.rows[0][3] is None
    assert "b" in note.text


@pytest.mark.parametrize(("count", "tables"), [(1, 1), (15, 1), (43, 2)])
def test_many_classes_are_folded_after_the_worst(count: int, tables: int) -> None:
    before: Values = {f"sign{i}": 0.5 for i in range(count)}
    after: Values = {f"sign{i}": 0.5 - i / 1000 for i in range(count)}
    found = blocks(classes_section(manifest_with(before, after))[0], Table)
    assert len(found) == tables and sum(len(table.rows) for table in found) == count
    assert found[0].rows[0][0] == f"sign{count - 1}" and not found[0].fold
    assert all(table.fold for table in found[1:])


def test_where_no_class_of_many_changed_all_are_folded() -> None:
    same: Values = {f"sign{i}": 0.5 for i in range(43)}
    (section,) = classes_section(manifest_with(same, same))
    (table,) = blocks(section, Table)
    assert table.fold == "43 classes of detect" and len(table.rows) == 43
    assert "60.00 to 59.00" in blocks(section, Text)[0].paragraphs[0]


def test_several_heads_have_a_table_each_with_their_own_metric() -> None:
    before = structs.replace(
        measured("torch", 0.6, detect={"car": 0.4}, classify={"day": 0.8}), heads={"detect": 0.4, "classify": 0.8}
    )
    after = structs.replace(
        measured("openvino/int8", 0.6, detect={"car": 0.4}, classify={"day": 0.7}),
        heads={"detect": 0.4, "classify": 0.7},
    )
    (section,) = classes_section(manifest(heads=(BOXES, LIGHT), hops=(before, after)))
    captions = [table.caption for table in blocks(section, Table)]
    assert captions == ["detect: 40.00 to 40.00, +0.00 points", "classify: 80.00 to 70.00, −10.00 points"]


def test_nothing_by_class_means_no_section() -> None:
    assert classes_section(manifest()) == [] and classes_section(manifest(hops=())) == []


def test_each_domain_has_its_own_table() -> None:
    night = [Scores(value=v, heads={"detect": v}, classes={"detect": {"a": a}}) for v, a in ((0.4, 0.3), (0.37, 0.2))]
    of = manifest_with({"a": 0.5}, {"a": 0.5})
    hops = tuple(structs.replace(h, domains={"night": scores}) for h, scores in zip(of.hops, night, strict=True))
    tables = blocks(classes_section(structs.replace(of, hops=hops))[0], Table)
    assert len(tables) == 2 and "on night" not in tables[0].caption
    assert "AP50 on night: 40.00 to 37.00, −3.00 points" in tables[1].caption
    assert [row[0] for row in tables[1].rows] == ["a"] and tables[1].rows[0][3] == Num("20.00")
