"""Small, pure helpers on ONNX graphs that passes, quantisation and parity share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

T = TypeVar("T")
SMALL_BYTES = 4096
"""A constant of this size may be a shape that others follow from."""


def load_model(path: Path) -> ModelProto:
    """A checked model with shapes inferred."""
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


SCOPES = {"pkg.torch.onnx.name_scopes", "namespace"}
"""Metadata of a node that says which module it came from. All other metadata may hold paths and lines of source."""


def bare_with_shapes(model: ModelProto) -> ModelProto:
    """A copy with every type and shape that can be inferred, and without the bytes of large constants."""
    bare = copy_of(model)
    for tensor in bare.graph.initializer:
        if len(tensor.raw_data) > SMALL_BYTES:
            tensor.ClearField("raw_data")
    return onnx.shape_inference.infer_shapes(bare, data_prop=True)


def save_model(model: ModelProto, path: Path) -> None:
    """Write checked, deterministic bytes, without what exporters note of the machine that they ran on."""
    onnx.checker.check_model(model)
    _forget_machine(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _forget_machine(model: ModelProto) -> None:
    """Drop comments and metadata of the graph's parts, in place, but for the scope of each node."""
    model.ClearField("doc_string")
    graphs = [model.graph]
    for graph in graphs:  # grows by those inside nodes
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            part.ClearField("doc_string")
            if "metadata_props" in part.DESCRIPTOR.fields_by_name:
                kept = [p for p in part.metadata_props if p.key in SCOPES]
                del part.metadata_props[:]
                part.metadata_props.extend(kept)
        for a in (a for node in graph.node for a in node.attribute):
            graphs += [*a.graphs, *([a.g] if a.HasField("g") else [])]


def producers(model: ModelProto) -> dict[str, NodeProto]:
    """Tensor name -> the node that makes it."""
    return {name: node for node in model.graph.node for name in node.output if name}


def consumers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Tensor name -> the nodes that read it."""
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            if name:
                found.setdefault(name, []).append(node)
    return found


def initializers(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Constant tensors by name, as arrays."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def inner_reads(node: NodeProto) -> set[str]:
    """Names that the graphs inside a node, as of If and Loop, read; those of the graph around them among these."""
    graphs = [graph for a in node.attribute for graph in (*a.graphs, *([a.g] if a.HasField("g") else []))]
    nodes = [inner for graph in graphs for inner in graph.node]
    results = {output.name for graph in graphs for output in graph.output}
    return results.union(*(n.input for n in nodes), *(inner_reads(n) for n in nodes))


def needed_whole(model: ModelProto) -> set[str]:
    """Tensors that must stay as they are: the model's outputs, and what the graphs inside its nodes read."""
    return {o.name for o in model.graph.output}.union(*(inner_reads(n) for n in model.graph.node))


def set_initializer(model: ModelProto, name: str, value: NDArray[np.generic]) -> None:
    """Add or replace a constant tensor."""
    tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
    for existing in model.graph.initializer:
        if existing.name == name:
            existing.CopyFrom(tensor)
            return
    model.graph.initializer.append(tensor)


def attribute(node: NodeProto, name: str) -> object | None:
    """The value of a node's attribute, or None."""
    for a in node.attribute:
        if a.name == name:
            value: object = onnx.helper.get_attribute_value(a)
            return value
    return None


def downstream(model: ModelProto, names: Iterable[str]) -> list[NodeProto]:
    """Every node that depends on one of these tensors, in graph order."""
    reached = set(names)
    nodes = []
    for node in model.graph.node:
        if any(i in reached for i in node.input):
            reached.update(node.output)
            nodes.append(node)
    return nodes


def last_nodes(model: ModelProto, ops: Collection[str]) -> list[NodeProto]:
    """Every node that none of these operators depends on, in graph order: the last ones of them, and what follows."""
    leading: set[str] = set()
    found = []
    for node in reversed(model.graph.node):
        if leading.isdisjoint(node.output):
            found.append(node)
            if node.op_type not in ops:
                continue
        leading.update(node.input)
    return found[::-1]


def types_of(model: ModelProto) -> dict[str, int]:
    """Tensor name -> its ONNX element type, as far as the model says; constants too."""
    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {v.name: v.type.tensor_type.elem_type for v in infos}
    return {**types, **{i.name: i.data_type for i in model.graph.initializer}}


def shapes_of(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Tensor name -> its shape, 0 for a side that is not fixed, as far as shape inference says; constants too."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    infos = (*inferred.value_info, *inferred.input, *inferred.output)
    known = [v for v in infos if v.type.tensor_type.HasField("shape")]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known}
    return {**shapes, **{i.name: tuple(i.dims) for i in model.graph.initializer}}


def float_tensors(model: ModelProto) -> list[str]:
    """Tensors that nodes make, in graph order, where shape inference says that they hold floats."""
    infos = (*model.graph.value_info, *model.graph.output)
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    floats = {v.name for v in infos if v.type.tensor_type.elem_type in kinds}
    return [o for node in model.graph.node for o in node.output if o in floats]


def watchable(model: ModelProto) -> list[str]:
    """Those of `float_tensors` that an engine can give beside a model's outputs: of a fixed shape, and not empty."""
    shapes = shapes_of(model)
    return [name for name in float_tensors(model) if 0 not in shapes.get(name, (0,))]


def set_metadata(model: ModelProto, key: str, value: str) -> None:
    """Add or replace a note of the whole model, in place."""
    others = [p for p in model.metadata_props if p.key != key]
    onnx.helper.set_model_props(model, {**{p.key: p.value for p in others}, key: value})


def copy_of(model: ModelProto) -> ModelProto:
    """A model of its own."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def typed_anew(model: ModelProto) -> ModelProto:
    """A model that was changed in place, checked, with its types and shapes inferred from the start."""
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def set_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Replace the graph's nodes, in place."""
    copies = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def rewritten_at(
    model: ModelProto,
    names: Iterable[str],
    find: Callable[[ModelProto, str], T | None],
    rewrite: Callable[[ModelProto, T], None],
) -> tuple[ModelProto, int]:
    """A copy in which what `find` finds at nodes of these names is rewritten in place, one after the other, and how
    often something was found."""
    result, count = copy_of(model), 0
    for name in names:
        found = find(result, name)
        if found is not None:
            rewrite(result, found)
            count += 1
    if count:
        prune(result)
    return result, count


def with_outputs(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """A copy in which these inner tensors are float32 outputs too."""
    copy = copy_of(model)
    present = {o.name for o in copy.graph.output}
    shaped = {v.name: v for v in onnx.shape_inference.infer_shapes(copy).graph.value_info}
    for name in names:
        if name not in present:
            info = shaped.get(name) or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            copy.graph.output.append(info)
    return copy


def without_outputs(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """A copy in which these tensors are inner ones, without what only they needed."""
    copy = copy_of(model)
    dropped = set(names)
    kept = [o for o in copy.graph.output if o.name not in dropped]
    gone = [o for o in copy.graph.output if o.name in dropped]
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    copy.graph.value_info.extend(gone)
    prune(copy)
    return copy


def prune(model: ModelProto) -> None:
    """Remove nodes and constants that no output needs, in place."""
    made = producers(model)
    needed: set[str] = set()
    stack = [o.name for o in model.graph.output]
    keep: set[int] = set()
    while stack:
        name = stack.pop()
        if name in needed:
            continue
        needed.add(name)
        node = made.get(name)
        if node is not None:
            keep.add(id(node))
            stack.extend(i for i in (*node.input, *inner_reads(node)) if i)
    set_nodes(model, [n for n in model.graph.node if id(n) in keep])
    constants = [
        onnx.TensorProto.FromString(i.SerializeToString()) for i in model.graph.initializer if i.name in needed
    ]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
