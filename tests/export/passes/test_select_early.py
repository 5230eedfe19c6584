"""Candidates are selected before what is computed for each of them, and the outputs stay what they were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from networks import NORMAL, Constants, conv, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, helper
from onnxruntime import InferenceSession

from edgetl_export.graph import shapes_of
from edgetl_export.passes.select_early import select_early

CELLS, COUNT = 8 * 12, 6
"""The feature map's cells in `trunk`, and how many are selected."""


def node(op: str, inputs: str, outputs: str, **attributes: object) -> NodeProto:
    """One node, called after its first output."""
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"n_{outputs.split(maxsplit=1)[0]}", **attributes)


def trunk() -> tuple[list[NodeProto], Constants]:
    """A map "cells" (1, 20, 96): 16 values for boxes and 4 scores, and the best cells' places "best" (6,)."""
    nodes = [
        *frame_nodes(),
        conv("stem", "normal", "map", stride=8),
        node("Reshape", "map row_shape", "cells"),
        node("Split", "cells", "box_part score_part", axis=1, num_outputs=2),
        node("Sigmoid", "score_part", "scores"),
        node("ReduceMax", "scores axis_1", "strongest", keepdims=0),
        node("Reshape", "strongest flat", "flat_scores"),
        node("TopK", "flat_scores count", "best_scores best"),
    ]
    constants: Constants = {
        **NORMAL,
        **weights("stem", 20, 3, 3, 3),
        "row_shape": np.array([1, 20, CELLS]),
        "axis_1": np.array([1]),
        "flat": np.array([-1]),
        "count": np.array([COUNT]),
    }
    nodes[6] = node("Split", "cells parts", "box_part score_part", axis=1)
    constants["parts"] = np.array([16, 4])
    return nodes, constants


def network(tail: Sequence[NodeProto], more: Constants, outputs: Sequence[str] = ("y",)) -> ModelProto:
    nodes, constants = trunk()
    return graph_of([*nodes, *tail], outputs, {**constants, **more})


def run(model: ModelProto) -> list[np.ndarray]:  # type: ignore[type-arg]
    session = InferenceSession(model.SerializeToString())
    return [np.asarray(v) for frame in frames()[:3] for v in session.run(None, {"frame": frame})]


def checked(model: ModelProto) -> tuple[ModelProto, str]:
    """After the pass, with the outputs compared."""
    early, note = select_early(model)
    for was, now in zip(run(model), run(early), strict=True):
        np.testing.assert_allclose(now, was, rtol=1e-6, atol=1e-6)
    return early, note


def lengths(model: ModelProto, op: str) -> set[int]:
    """The last axis of what the nodes of this kind give."""
    shapes = shapes_of(model)
    return {shapes[n.output[0]][-1] for n in model.graph.node if n.op_type == op}


DFL = (
    node("Reshape", "box_part four", "edges"),
    node("Transpose", "edges", "edges_t", perm=[0, 2, 1, 3]),
    node("Softmax", "edges_t", "shares", axis=1),
    helper.make_node("Conv", ["shares", "dfl_w"], ["distances"], name="n_distances"),
    node("Reshape", "distances three", "ltrb"),
    node("Split", "ltrb halves", "lt rb", axis=1),
    node("Sub", "anchors lt", "x1y1"),
    node("Add", "anchors rb", "x2y2"),
    node("Concat", "x1y1 x2y2", "boxes", axis=1),
    node("Mul", "boxes stride", "scaled"),
)
"""As YOLOv8 does it: a distribution over 4 bins for each edge, its mean, corners, pixels."""
DFL_CONSTANTS: Constants = {
    "four": np.array([1, 4, 4, CELLS]),
    "three": np.array([1, 4, CELLS]),
    "halves": np.array([2, 2]),
    "dfl_w": np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1),
    "anchors": np.arange(2 * CELLS, dtype=np.float32).reshape(1, 2, CELLS),
    "stride": np.full((1, CELLS), 8, np.float32),
}


WITHIN_90 = (node("Min", "best last_of_90", "near"),)
"""Places that exist among the first 90 cells."""


def test_boxes_are_decoded_for_the_selected_cells_only() -> None:
    model = network([*DFL, node("Gather", "scaled best", "y", axis=2)], DFL_CONSTANTS)
    early, note = checked(model)
    assert note == "5 operators run on selected candidates only"
    assert lengths(model, "Softmax") == {CELLS} and lengths(early, "Softmax") == {COUNT}
    assert lengths(early, "Conv") == {COUNT, 12}, "the trunk's own convolution stays"
    assert sum(n.op_type == "Split" for n in early.graph.node) == 3, "one for the scores, one copy, the corners"
    names = [n.name for n in early.graph.node]
    assert len(set(names)) == len(names)


def test_parts_of_a_concatenation_are_read_where_they_were_made() -> None:
    tail = [
        *DFL,
        node("Concat", "scaled scores", "out", axis=1),
        node("Slice", "out at_4 at_8 one", "again"),
        node("ReduceMax", "again axis_1", "y", keepdims=0),
        node("Gather", "out best", "z", axis=2),
    ]
    more = {**DFL_CONSTANTS, "at_4": np.array([4]), "at_8": np.array([8]), "one": np.array([1])}
    early, note = checked(network(tail, more, ("y", "z")))
    assert "1 parts of a concatenation" in note and not any(n.op_type == "Slice" for n in early.graph.node)
    assert lengths(early, "Concat") == {COUNT}


@pytest.mark.parametrize(("start", "stop"), [(3, 8), (4, 7), (0, 8)])
def test_other_cuts_of_a_concatenation_stay(start: int, stop: int) -> None:
    tail = [
        node("Relu", "box_part", "positive"),
        node("Slice", "positive at_0 at_4 one", "first"),
        node("Concat", "first scores", "out", axis=1),
        node("Slice", "out at_start at_stop one", "y"),
    ]
    more = {"at_0": np.array([0]), "at_4": np.array([4]), "one": np.array([1])}
    model = network(tail, {**more, "at_start": np.array([start]), "at_stop": np.array([stop])})
    assert checked(model)[1].startswith("not applied")


def test_a_raw_output_stays_whole() -> None:
    model = network([*DFL, node("Gather", "scaled best", "y", axis=2)], DFL_CONSTANTS, ("y", "scaled"))
    early, _ = checked(model)
    assert lengths(early, "Softmax") == {COUNT, CELLS}


@pytest.mark.parametrize(
    "tail",
    [
        [node("Softmax", "box_part", "x", axis=2)],
        [node("Concat", "box_part box_part", "x", axis=2)],
        [node("Slice", "box_part from_0 to_90 axis_2", "x"), *WITHIN_90],
        [node("Reshape", "box_part mixed", "x")],
        [node("Split", "box_part cut", "x rest", axis=2), *WITHIN_90],
        [node("MatMul", "box_part square", "x")],
        [
            node("Unsqueeze", "box_part axis_2", "tall"),
            helper.make_node("Conv", ["tall", "wide_w"], ["x_tall"], name="n_wide", pads=[0, 1, 0, 1]),
            node("Squeeze", "x_tall axis_2", "x"),
        ],
    ],
    ids=["softmax over cells", "more cells", "fewer cells", "mixed", "split cells", "matmul", "wide conv"],
)  # fmt: skip
def test_what_mixes_cells_is_not_passed(tail: list[NodeProto]) -> None:
    more: Constants = {
        "from_0": np.array([0]),
        "last_of_90": np.array([89]),
        "to_90": np.array([90]),
        "axis_2": np.array([2]),
        "mixed": np.array([1, 8, 2 * CELLS]),
        "cut": np.array([90, 6]),
        "square": np.eye(CELLS, dtype=np.float32),
        **weights("wide", 16, 16, 1, 3),
    }
    places = "near" if tail[-1].output[0] == "near" else "best"
    model = network([*tail, node("Exp", "x", "e"), node("Gather", f"e {places}", "y", axis=2)], more)
    early, note = checked(model)
    assert note == "1 operators run on selected candidates only", "the Exp and nothing above it"
    assert next(n for n in early.graph.node if n.op_type == "Gather").input[0] == "x"


def test_nothing_is_moved_past_what_computes_nothing() -> None:
    model = network([node("Transpose", "box_part", "t", perm=[0, 2, 1]), node("Gather", "t best", "y", axis=1)], {})
    assert checked(model)[1].startswith("not applied")


def test_arithmetic_with_what_has_one_value_for_all_cells() -> None:
    tail = [
        node("Add", "box_part by_value", "moved"),
        node("Mul", "moved row_of_cells", "scaled"),
        node("Transpose", "scaled", "columns", perm=[0, 2, 1]),
        node("Gather", "columns best", "y", axis=1),
    ]
    rng = np.random.default_rng(0)
    more: Constants = {
        "by_value": rng.normal(size=(16, 1)).astype(np.float32),
        "row_of_cells": rng.normal(size=CELLS).astype(np.float32),
    }
    early, note = checked(network(tail, more))
    assert note.startswith("2 operators") and lengths(early, "Mul") == {COUNT}


def test_most_of_the_cells_are_not_worth_it() -> None:
    tail = [node("Exp", "box_part", "x"), node("Gather", "x best", "y", axis=2)]
    model = network(tail, {"count": np.array([CELLS // 2])})
    assert checked(model)[1].startswith("not applied")


def test_places_that_depend_on_what_is_moved_are_no_trouble() -> None:
    """What is gathered may itself have led to the places; what depends on the places is not passed."""
    tail = [
        node("Gather", "scores best", "picked", axis=2),
        node("ReduceMax", "picked all_axes", "top", keepdims=0),
        node("Mul", "box_part top", "x"),
        node("Gather", "x best", "y", axis=2),
    ]
    early, note = checked(network(tail, {"all_axes": np.array([0, 1, 2])}))
    assert lengths(early, "Sigmoid") == {COUNT, CELLS} and note.startswith("1 operators")
    assert lengths(early, "Mul") == {CELLS}


def test_older_operators_are_left_alone() -> None:
    model = network([*DFL, node("Gather", "scaled best", "y", axis=2)], DFL_CONSTANTS)
    model.opset_import[0].version = 12
    assert select_early(model) == (model, "not applied: it needs opset 13")


def test_a_tensor_whose_cells_are_selected_along_two_axes() -> None:
    """A table of all pairs of cells, made symmetric, of which some rows are read."""
    tail = [
        node("Reshape", "flat_scores column", "col"),
        node("Mul", "col row", "table"),
        node("Transpose", "table", "turned", perm=[1, 0]),
        node("Add", "table turned", "both"),
        node("Gather", "both best", "y", axis=0),
    ]
    row = np.random.default_rng(0).normal(size=(1, CELLS)).astype(np.float32)
    early, note = checked(network(tail, {"column": np.array([CELLS, 1]), "row": row}))
    assert note == "3 operators run on selected candidates only"
    assert len({name for n in early.graph.node for name in n.output}) == sum(len(n.output) for n in early.graph.node)


@pytest.mark.parametrize("first", ["found", "squeezed"])
def test_a_concatenation_after_a_part_of_unknown_length(first: str) -> None:
    """Of what is squeezed not even the number of axes is known."""
    tail = [
        node("NonZero", "cells", "places"),
        node("Cast", "places", "found", to=1),
        node("Squeeze", "found", "squeezed"),
        node("Reshape", "cells three", "known"),
        node("Concat", f"{first} known", "all", axis=1),
        node("Slice", "all start stop axis_1", "part"),
        node("Relu", "part", "y"),
    ]
    stop = 20 * CELLS // 3
    more = {"three": np.array([3, stop]), "start": np.array([0]), "stop": np.array([stop])}
    early, _ = checked(network(tail, more))
    assert "Slice" in {n.op_type for n in early.graph.node}
