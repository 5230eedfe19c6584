"""Casts to uint8 behind what only moves their results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NORMAL, conv, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, TensorProto, helper

from edgetl_export.graph import load_model, save_model
from edgetl_export.passes.late_bytes import late_bytes
from edgetl_export.tensorrt.check import check_onnx
from edgetl_runtime.engines import load_engine

BYTES = ("mask", "turned", "low")


def masks(path: Path) -> ModelProto:
    """A mask that is spread and squeezed as bytes, as what `shuffle_late` leaves; one of a float; one as it is."""
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        helper.make_node("Greater", ["x", "nought"], ["truth"], name="truth"),
        helper.make_node("Cast", ["truth"], ["low"], name="to_bytes", to=TensorProto.UINT8),
        helper.make_node("DepthToSpace", ["low"], ["spread"], name="spread", blocksize=2, mode="CRD"),
        helper.make_node("Squeeze", ["spread", "first"], ["mask"], name="squeeze"),
        helper.make_node("Abs", ["x"], ["size"], name="size"),
        helper.make_node("Cast", ["size"], ["whole"], name="whole", to=TensorProto.UINT8),
        helper.make_node("Transpose", ["whole"], ["turned"], name="turned", perm=[0, 2, 3, 1]),
    ]
    held = {**NORMAL, **weights("a", 4, 3, 3, 3), "nought": np.array(0, np.float32), "first": np.array([0], np.int64)}
    model = graph_of(nodes, ["x"], held)
    bytes_of = {v.name: v for v in model.graph.value_info}
    model.graph.output.extend(bytes_of[name] for name in BYTES)
    save_model(model, path)
    return load_model(path)


def outputs_of(path: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    engine = load_engine("onnxruntime", path, precision="fp32")
    try:
        return {name: np.array(value) for name, value in engine.infer({"frame": frames()[1]}).items()}
    finally:
        engine.close()


def test_only_casts_read_bytes_and_outputs_are_the_same(tmp_path: Path) -> None:
    before = masks(tmp_path / "before.onnx")
    after = late_bytes(before)
    save_model(after, tmp_path / "after.onnx")
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*after.graph.value_info, *after.graph.output)}
    readers = {n.op_type for n in after.graph.node for name in n.input if kinds.get(name) == TensorProto.UINT8}
    assert readers == set()
    assert [kinds[name] for name in BYTES] == [TensorProto.UINT8] * 3
    found, expected = outputs_of(tmp_path / "after.onnx"), outputs_of(tmp_path / "before.onnx")
    assert found.keys() == expected.keys() and 0 < expected["mask"].mean() < 1
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    onnx.checker.check_model(after, full_check=True)


def test_tensorrt_takes_it_then(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    save_model(late_bytes(masks(tmp_path / "before.onnx")), tmp_path / "after.onnx")
    refused, taken = (check_onnx(tmp_path / f"{name}.onnx", target="orin-nano") for name in ("before", "after"))
    assert (refused.ok, taken.ok) == (False, True), taken.diagnostics
