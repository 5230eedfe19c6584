"""Compute only what is selected: a Gather of the best candidates moves up to where the candidates first appear.

Detectors compute boxes for thousands of cells, of which a TopK then keeps a few hundred. Whatever treats each cell by
itself (a softmax over its values, a 1x1 convolution, arithmetic) gives the same after the selection as before it.

Requires: static shapes; opset 13 or newer, since a Softmax of older ones mixes axes. Ensures: no Gather of a row of
indices reads a tensor that was computed cell by cell for more cells than it selects; what only the removed paths needed
is gone; outputs equal up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgetl_export.graph import attribute, copy_of, initializers, producers, prune, set_nodes, shapes_of

LEAST_SAVING = 4
"""How many times more cells than are selected there must be: less is not worth a graph that is harder to read."""
ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
        "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mod", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Round",
        "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh", "Where",
    }
)  # fmt: skip
"""Operators that give each element from the elements at the same place."""
MOVING = frozenset({"Cast", "Concat", "Identity", "Reshape", "Slice", "Split", "Transpose"})
"""Operators that compute nothing: no reason to move a selection, and no obstacle."""


def select_early(model: ModelProto) -> tuple[ModelProto, str]:
    """A model that computes selected candidates only, and a note; the same model where there is nothing to move."""
    if min((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0) < 13:
        return model, "not applied: it needs opset 13"
    result = copy_of(model)
    skipped = _read_parts_directly(result)
    moved = sum(_moved(result, name) for name in [n.name for n in result.graph.node if n.op_type == "Gather"])
    if not moved and not skipped:
        return model, "not applied: no selection of candidates could move up"
    prune(result)
    parts = [f"{moved} operators run on selected candidates only"] if moved else []
    if skipped:
        parts.append(f"{skipped} parts of a concatenation are read where they were made")
    return result, ", ".join(parts)


def _read_parts_directly(model: ModelProto) -> int:
    """Let what reads a Slice of a Concat that is exactly one of its inputs read that input."""
    made, constants, shapes = producers(model), initializers(model), shapes_of(model)
    outputs = {o.name for o in model.graph.output}
    direct: dict[str, str] = {}
    for node in model.graph.node:
        source = made.get(node.input[0]) if node.op_type == "Slice" and node.output[0] not in outputs else None
        cut = _cut(node, constants)
        if source is None or source.op_type != "Concat" or cut is None or source.output[0] not in shapes:
            continue
        axis, start, stop = cut
        rank = len(shapes[source.output[0]])
        own = axis % rank == _integer(source, "axis", 0) % rank
        part = _part(source, axis % rank, start, stop, shapes) if own else None
        if part is not None:
            direct[node.output[0]] = part
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in direct:
                node.input[i] = direct[name]
    return len(direct)


def _cut(node: NodeProto, constants: Mapping[str, NDArray[np.generic]]) -> tuple[int, int, int] | None:
    """Axis, start and stop of a Slice along one axis in steps of one; None where it is another or not constant."""
    values = [constants.get(name) for name in node.input[1:]]
    if len(values) < 3 or any(v is None or v.size != 1 for v in values):
        return None
    start, stop, axis, *step = (int(v.reshape(-1)[0]) for v in values if v is not None)
    return None if step not in ([], [1]) or start < 0 or stop < 0 else (axis, start, stop)


def _part(source: NodeProto, axis: int, start: int, stop: int, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The input of a Concat that lies from start to stop."""
    at = 0
    names: list[str] = list(source.input)
    for name in names:
        if not (shape := shapes.get(name)) or not shape[axis]:
            return None
        end = at + shape[axis]
        if at == start < end == stop:
            return name
        at = end
    return None


def _moved(model: ModelProto, name: str) -> int:
    """Move one Gather up as far as it goes, in place; how many operators that compute now stand after it."""
    gather = next(n for n in model.graph.node if n.name == name)
    constants, shapes = initializers(model), shapes_of(model)
    source, chosen = gather.input[0], gather.input[1]
    if source in constants or chosen in constants or len(shapes.get(chosen, ())) != 1 or source not in shapes:
        return 0
    axis = _integer(gather, "axis", 0) % len(shapes[source])
    count, cells = shapes[chosen][0], shapes[source][axis]
    if not 0 < count * LEAST_SAVING <= cells:
        return 0
    way = _Way(gather.name, chosen, count, cells, producers(model), constants, shapes, _after(model, chosen))
    top = way.selected(source, axis)
    if not way.passed:
        return 0
    _rename(way.nodes, top, gather.output[0])
    at = next(i for i, n in enumerate(model.graph.node) if n.name == name)
    set_nodes(model, [*model.graph.node[:at], *way.nodes, *model.graph.node[at + 1 :]])
    model.graph.initializer.extend(way.shapes_made)
    return way.passed


def _rename(nodes: Sequence[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


def _after(model: ModelProto, tensor: str) -> frozenset[str]:
    """The tensors that depend on this one, which a selection by it can't be moved above."""
    reached = {tensor}
    for node in model.graph.node:
        if any(i in reached for i in node.input):
            reached.update(node.output)
    return frozenset(reached)


def _integer(node: NodeProto, name: str, otherwise: int) -> int:
    value = attribute(node, name)
    return value if isinstance(value, int) else otherwise


@dataclass(slots=True)
class _Way:
    """The nodes that take the place of one Gather: copies of those above it, on `count` instead of `cells` cells."""

    name: str
    chosen: str
    count: int
    cells: int
    made: Mapping[str, NodeProto]
    constants: Mapping[str, NDArray[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]
    after: frozenset[str]
    nodes: list[NodeProto] = field(default_factory=list)
    shapes_made: list[TensorProto] = field(default_factory=list)
    passed: int = 0
    _known: dict[tuple[str, int], str] = field(default_factory=dict)

    def selected(self, tensor: str, axis: int) -> str:
        """The chosen cells of a tensor, which has all of them along `axis`."""
        key = (tensor, axis)
        if key not in self._known:
            self._known[key] = self._above(tensor, axis) or self._gather(tensor, axis)
        return self._known[key]

    def _gather(self, tensor: str, axis: int) -> str:
        output = self._new(tensor, tensor, axis)
        node = helper.make_node("Gather", [tensor, self.chosen], [output], name=output, axis=axis)
        self.nodes.append(node)
        return output

    def _above(self, tensor: str, axis: int) -> str | None:
        """The tensor made from the chosen cells of what it is made from; None where its maker mixes cells."""
        node = self.made.get(tensor)
        if node is None or node.domain not in ("", "ai.onnx") or any(o in self.after for o in node.output):
            return None
        rule = _RULES.get(node.op_type, _elementwise if node.op_type in ELEMENTWISE else None)
        if rule is None or any(i and i not in self.shapes for i in (*node.input, *node.output)):
            return None
        plan = rule(node, axis, self)
        if plan is None:
            return None
        inputs = [
            self.selected(name, where) if where is not None else name
            for name, where in zip(node.input, plan.axes, strict=True)
        ]
        outputs = {o: self._new(o, tensor, axis) for o in node.output if o}
        self._copy(node, inputs, outputs, self._new(node.name, tensor, axis), plan)
        self._known.update({(o, axis): name for o, name in outputs.items()})
        return self._known[tensor, axis]

    def _new(self, name: str, tensor: str, axis: int) -> str:
        """What is called `name`, for the chosen cells of a tensor; another name where it has them along two axes."""
        other = any(known == tensor and along != axis for known, along in self._known)
        return f"{self.name}/{name}/{axis}" if other else f"{self.name}/{name}"

    def _copy(self, node: NodeProto, inputs: Sequence[str], outputs: Mapping[str, str], name: str, plan: _Plan) -> None:
        copy = NodeProto.FromString(node.SerializeToString())
        copy.name = name
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        copy.output.extend(outputs.get(o, "") for o in node.output)
        if plan.shape is not None:
            shape = f"{copy.name}/shape"
            self.shapes_made.append(numpy_helper.from_array(np.array(plan.shape, np.int64), shape))
            copy.input[1] = shape
        self.nodes.append(copy)
        self.passed += node.op_type not in MOVING


@dataclass(frozen=True, slots=True)
class _Plan:
    """Along which axis of each input the cells lie, None for an input that is read as it is; the new shape of a
    Reshape.
    """

    axes: tuple[int | None, ...]
    shape: tuple[int, ...] | None = None


def _elementwise(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    rank = len(way.shapes[node.output[0]])
    axes: list[int | None] = []
    for name in node.input:
        shape = way.shapes.get(name, ())
        own = axis - (rank - len(shape))
        axes.append(own if name and own >= 0 and shape[own] == way.cells else None)
    return _Plan(tuple(axes)) if any(a is not None for a in axes) else None


def _concat(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    rank = len(way.shapes[node.output[0]])
    return None if _integer(node, "axis", 0) % rank == axis else _Plan((axis,) * len(node.input))


def _split(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    rank = len(way.shapes[node.input[0]])
    rest = (None,) * (len(node.input) - 1)
    return None if _integer(node, "axis", 0) % rank == axis else _Plan((axis, *rest))


def _slice(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    axes = way.constants.get(node.input[3]) if len(node.input) > 3 else None
    rank = len(way.shapes[node.input[0]])
    if axes is None or any(int(a) % rank == axis for a in axes.reshape(-1)):
        return None
    return _Plan((axis, *(None,) * (len(node.input) - 1)))


def _transpose(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    perm = attribute(node, "perm")
    order = list(perm) if isinstance(perm, list) else list(range(len(way.shapes[node.input[0]])))[::-1]
    return _Plan((int(order[axis]),))


def _softmax(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    rank = len(way.shapes[node.input[0]])
    return None if _integer(node, "axis", -1) % rank == axis else _Plan((axis,))


def _reshape(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    """Where the cells are an axis of their own on both sides."""
    before, after = way.shapes[node.input[0]], way.shapes[node.output[0]]
    if 0 in before or node.input[1] not in way.constants:
        return None
    first = math.prod(after[:axis])
    own = next((i for i, n in enumerate(before) if n == way.cells and math.prod(before[:i]) == first), None)
    if own is None:
        return None
    return _Plan((own, None), (*after[:axis], way.count, *after[axis + 1 :]))


def _conv(node: NodeProto, axis: int, way: _Way) -> _Plan | None:
    """Where each cell is looked at alone."""
    kernel = way.shapes[node.input[1]][2:]
    plain = all(v in ([], None) or set(v) <= {n} for v, n in _windows(node))
    if axis < 2 or kernel[axis - 2] != 1 or not plain or attribute(node, "auto_pad") not in (None, b"NOTSET"):
        return None
    return _Plan((axis, *(None,) * (len(node.input) - 1)))


def _windows(node: NodeProto) -> list[tuple[list[int] | None, int]]:
    found = [(attribute(node, name), usual) for name, usual in (("pads", 0), ("strides", 1))]
    return [([int(v) for v in value] if isinstance(value, list) else None, usual) for value, usual in found]


_RULES: Mapping[str, Callable[[NodeProto, int, _Way], _Plan | None]] = {
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Transpose": _transpose,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Reshape": _reshape,
    "Conv": _conv,
}
