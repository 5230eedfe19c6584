"""Bytes last: for TensorRT, which lets nothing but Cast read a uint8 tensor, and has such as outputs.

Requires: inferred types. Ensures: no operator that only moves values reads a uint8 tensor that a Cast made; it moves
floats, and the Cast stands behind it. Outputs are the same bits: floats hold every byte, and what is cast is cast once.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, helper

from edgetl_export.graph import attribute, copy_of, producers, prune, set_nodes, typed_anew, types_of

MOVES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Identity",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose results are their first input's values; Resize where it takes the nearest."""


def late_bytes(model: ModelProto) -> ModelProto:
    """The graph with Casts to uint8 behind what only moves their results; the same model where there are none."""
    result = copy_of(model)
    kinds, made = types_of(result), producers(result)
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        cast = made.get(node.input[0]) if node.input else None
        if cast is None or not _is_to_bytes(cast) or not _moves(node):
            nodes.append(node)
            continue
        source, output = cast.input[0], node.output[0]
        if kinds.get(source) != TensorProto.FLOAT:
            source = f"{node.input[0]}/{node.name}/float"
            nodes.append(helper.make_node("Cast", [cast.input[0]], [source], name=source, to=TensorProto.FLOAT))
        node.input[0], node.output[0] = source, f"{output}/float"
        kinds[node.output[0]] = TensorProto.FLOAT
        after = helper.make_node("Cast", [node.output[0]], [output], name=f"{output}/bytes", to=TensorProto.UINT8)
        made[output] = after
        nodes += [node, after]
    if len(nodes) == len(model.graph.node):
        return model
    set_nodes(result, nodes)
    prune(result)
    return typed_anew(result)


def _is_to_bytes(node: NodeProto) -> bool:
    return node.op_type == "Cast" and bool(attribute(node, "to") == TensorProto.UINT8)


def _moves(node: NodeProto) -> bool:
    return node.op_type in MOVES and (node.op_type != "Resize" or attribute(node, "mode") in (None, b"nearest"))
