"""Drop channels that are zero for every frame, and those that nothing reads.

Training with weight decay and activations that are zero on one side leaves convolutions with channels of nothing but
zeros, and such that every later weight ignores. The others give the same without them: structured pruning (a survey:
arXiv:2303.00566) of what costs no accuracy at all.

Requires: static shapes, channels on axis 1 of four; weights as initializers. Ensures: no ungrouped convolution makes or
reads such a channel, unless an operator that `_rule_of` can't follow needs all of them, a term of a sum needs it, or it
fills a block of channels that was whole; what has fewer channels than before has another name; outputs equal up to
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgetl_export.graph import (
    attribute,
    copy_of,
    initializers,
    inner_reads,
    prune,
    set_initializer,
    set_nodes,
    shapes_of,
)

Mask = NDArray[np.bool_]
BLOCK = 8
"""Channels that engines treat at once. ONNX Runtime 1.32 takes a fifth longer for 61 channels than for 64."""
MIXING = frozenset({"Conv", "ConvTranspose"})
KEEPS_ZERO = frozenset({"AveragePool", "Identity", "LeakyRelu", "MaxPool", "Neg", "PRelu", "Relu", "Tanh"})
"""Operators of one tensor that treat each channel alone and make zeros of zeros."""
MAKES_VALUES = frozenset({"Sigmoid", "HardSigmoid"})
"""Operators of one tensor that treat each channel alone and make something else of zeros."""


def drop_dead(model: ModelProto) -> tuple[ModelProto, str]:
    """A model without dead channels, and a note; the same model where there are none."""
    result = copy_of(model)
    channels = _Channels.of(result)
    kept = channels.kept()
    dropped = {t: mask for t, mask in kept.items() if not mask.all()}
    if not dropped:
        return model, "not applied: no channel is dead"
    layers = [n for n in result.graph.node if n.op_type in MIXING and n.output[0] in dropped]
    count = sum(int((~dropped[n.output[0]]).sum()) for n in layers)
    for node in result.graph.node:
        if node.output[0] in channels.rules:
            _narrow(result, node, channels, kept)
    _rename(result, dropped)
    prune(result)
    return result, f"{count} channels of {len(layers)} convolutions that are zero or unread dropped"


@dataclass(frozen=True, slots=True)
class _Rule:
    """How channels pass one kind of node. data: the inputs that have channels.

    zero: which results are zero, from which inputs are. need: which channels of an input are read, from which results
    are. together: groups of (tensor, where its first of them lies, how many) whose channels stay or go as one.
    """

    data: tuple[str, ...]
    zero: Callable[[Mapping[str, Mask]], Mask]
    need: Callable[[str, Mask], Mask]
    together: tuple[tuple[tuple[str, int, int], ...], ...]


@dataclass(frozen=True, slots=True)
class _Channels:
    """The graph as channels see it. rules: by the tensor that a node makes, where its channels can be followed;
    whole: tensors that keep all of them.
    """

    nodes: list[NodeProto]
    constants: Mapping[str, NDArray[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]
    rules: dict[str, _Rule]
    whole: frozenset[str]

    @classmethod
    def of(cls, model: ModelProto) -> _Channels:
        """What can be followed, and what can't."""
        nodes, constants, shapes = list(model.graph.node), initializers(model), shapes_of(model)
        rules: dict[str, _Rule] = {}
        whole = {v.name for v in (*model.graph.input, *model.graph.output)}
        for node in nodes:
            whole |= inner_reads(node)
            rule = _rule_of(node, constants, shapes)
            if rule is None:
                whole |= {name for name in (*node.input, *node.output) if name}
            else:
                rules[node.output[0]] = rule
        return cls(nodes, constants, shapes, rules, frozenset(whole))

    def kept(self) -> dict[str, Mask]:
        """Which channels of each tensor stay."""
        tensors = {t for made, rule in self.rules.items() for t in (made, *rule.data)}
        zero = {t: np.zeros(self.shapes[t][1], bool) for t in tensors}
        for node in self.nodes:
            if rule := self.rules.get(node.output[0]):
                zero[node.output[0]] = rule.zero(zero)
        need = {t: np.full(len(zero[t]), t in self.whole) for t in tensors}
        for node in reversed(self.nodes):
            made = node.output[0]
            if rule := self.rules.get(made):
                for name in rule.data:
                    need[name] |= rule.need(name, need[made] & ~zero[made])
        kept = {t: need[t] if t in self.whole else need[t] & ~zero[t] for t in tensors}
        for mask in kept.values():
            mask[0] |= not mask.any()
        self._agree(kept)
        while self._filled(kept):
            self._agree(kept)
        return kept

    def _filled(self, kept: Mapping[str, Mask]) -> bool:
        """Keep some dead channels where a layer made whole blocks and would not any more; whether there were any."""
        changed = False
        for node in self.nodes:
            mask = kept.get(node.output[0]) if node.op_type in MIXING else None
            if mask is None or len(mask) % BLOCK:
                continue
            spare = np.flatnonzero(~mask)[: -int(mask.sum()) % BLOCK]
            mask[spare] = True
            changed |= len(spare) > 0
        return changed

    def _agree(self, kept: Mapping[str, Mask]) -> None:
        """Let what one node treats as one channel stay everywhere, where it stays anywhere."""
        groups = [group for rule in self.rules.values() for group in rule.together]
        changed = True
        while changed:
            changed = False
            for group in groups:
                parts = [kept[tensor][start : start + count] for tensor, start, count in group]
                union = np.logical_or.reduce(parts)
                for part in parts:
                    changed |= bool((part != union).any())
                    part[:] = union


def _rule_of(
    node: NodeProto, constants: Mapping[str, NDArray[np.generic]], shapes: Mapping[str, tuple[int, ...]]
) -> _Rule | None:
    """How channels pass a node; None where they can't be followed."""
    if node.domain not in ("", "ai.onnx") or len([o for o in node.output if o]) != 1:
        return None
    data = tuple(name for name in node.input if name and name not in constants)
    if not data or any(len(shapes.get(t, ())) != 4 or 0 in shapes[t] for t in (*data, node.output[0])):
        return None
    special = {"Conv": _mixing, "ConvTranspose": _mixing, "Concat": _concat, "Slice": _slice}
    return special.get(node.op_type, _each)(node, data, constants, shapes)


def _mixing(
    node: NodeProto,
    data: tuple[str, ...],
    constants: Mapping[str, NDArray[np.generic]],
    _: Mapping[str, tuple[int, ...]],
) -> _Rule | None:
    if data != (node.input[0],) or attribute(node, "group") not in (None, 1):
        return None
    weight = np.asarray(constants[node.input[1]])
    axes = (1, 0) if node.op_type == "ConvTranspose" else (0, 1)
    reads = np.any(np.moveaxis(weight, axes, (0, 1)) != 0, axis=tuple(range(2, weight.ndim)))
    has_bias = len(node.input) > 2 and node.input[2]
    bias = np.asarray(constants[node.input[2]]) if has_bias else np.zeros(len(reads), np.float32)
    return _Rule(
        data,
        lambda zero: np.asarray((bias == 0) & ~reads[:, ~zero[data[0]]].any(axis=1)),
        lambda _, need: np.asarray(reads[need].any(axis=0)),
        (),
    )


def _each(
    node: NodeProto,
    data: tuple[str, ...],
    constants: Mapping[str, NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
) -> _Rule | None:
    """Where each channel is treated alone."""
    count = shapes[node.output[0]][1]
    if any(shapes[t][1] != count for t in data):
        return None
    zero = _zero_each(node, data, constants, shapes)
    together = (tuple(dict.fromkeys((t, 0, count) for t in (*data, node.output[0]))),)
    return None if zero is None else _Rule(data, zero, lambda _, need: need, together)


def _zero_each(
    node: NodeProto,
    data: tuple[str, ...],
    constants: Mapping[str, NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
) -> Callable[[Mapping[str, Mask]], Mask] | None:
    """Which results of it are zero."""
    first, count = data[0], shapes[node.output[0]][1]
    if node.op_type in ("Add", "Mul") and len(data) == 2 and shapes[first] == shapes[data[1]]:
        either = np.logical_and if node.op_type == "Add" else np.logical_or
        return lambda zero: np.asarray(either(zero[first], zero[data[1]]))
    if len(data) != 1 or node.input[0] != first:
        return None
    if node.op_type == "BatchNormalization":
        scale, shift, mean = (np.asarray(constants[name]) for name in node.input[1:4])
        return lambda zero: np.asarray(((scale == 0) | (zero[first] & (mean == 0))) & (shift == 0))
    if node.op_type in MAKES_VALUES:
        return lambda _: np.zeros(count, bool)
    per_channel = node.op_type != "PRelu" or np.shape(constants[node.input[1]])[-3:] in ((count, 1, 1), (1, 1, 1))
    return (lambda zero: zero[first].copy()) if node.op_type in KEEPS_ZERO and per_channel else None


def _concat(
    node: NodeProto,
    data: tuple[str, ...],
    _: Mapping[str, NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
) -> _Rule | None:
    if attribute(node, "axis") not in (1, -3) or len(data) != len(node.input) or len(set(data)) != len(data):
        return None
    counts = [shapes[t][1] for t in data]
    starts = dict(zip(data, np.cumsum([0, *counts[:-1]]).tolist(), strict=True))
    return _Rule(
        data,
        lambda zero: np.concatenate([zero[t] for t in data]),
        lambda name, need: need[starts[name] : starts[name] + shapes[name][1]],
        tuple(((t, 0, shapes[t][1]), (node.output[0], starts[t], shapes[t][1])) for t in data),
    )


def _slice(
    node: NodeProto,
    data: tuple[str, ...],
    constants: Mapping[str, NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
) -> _Rule | None:
    """A run of channels."""
    values = [np.asarray(constants[name]).ravel().tolist() for name in node.input[1:] if name in constants]
    if len(data) != 1 or len(values) != len(node.input) - 1 or len(values) < 3 or values[2:] not in ([[1]], [[1], [1]]):
        return None
    (source,), (start, stop), count = data, (int(v[0]) for v in values[:2]), shapes[data[0]][1]
    if not 0 <= start < stop <= count:
        return None

    def need_of(_: str, need: Mask) -> Mask:
        read = np.zeros(count, bool)
        read[start:stop] = need
        return read

    together = ((source, start, stop - start), (node.output[0], 0, stop - start))
    return _Rule(data, lambda zero: zero[source][start:stop].copy(), need_of, (together,))


def _narrow(model: ModelProto, node: NodeProto, channels: _Channels, kept: Mapping[str, Mask]) -> None:
    """Let a node's constants hold what is kept, in place."""
    before, after = kept[channels.rules[node.output[0]].data[0]], kept[node.output[0]]
    for place, value in _narrowed(node, channels.constants, before, after).items():
        if value.shape != channels.constants[node.input[place]].shape or node.op_type == "Slice":
            name = f"{node.name}/live_{place}"
            set_initializer(model, name, value)
            node.input[place] = name


def _narrowed(
    node: NodeProto, constants: Mapping[str, NDArray[np.generic]], before: Mask, after: Mask
) -> dict[int, NDArray[np.generic]]:
    """Place of an input -> what it is with the kept channels alone."""
    held = {i: constants[name] for i, name in enumerate(node.input) if name in constants}
    if node.op_type in MIXING:
        first, second = (after, before) if node.op_type == "Conv" else (before, after)
        return {1: held[1][first][:, second], **({2: held[2][after]} if 2 in held else {})}
    if node.op_type == "BatchNormalization":
        return {i: value[after] for i, value in held.items()}
    if node.op_type == "PRelu" and held[1].size > 1:
        return {1: held[1].compress(after, axis=-3)}
    if node.op_type == "Slice":
        start = int(before[: int(held[1].ravel()[0])].sum())
        return {1: np.array([start], np.int64), 2: np.array([start + int(after.sum())], np.int64)}
    return {}


def _rename(model: ModelProto, dropped: Mapping[str, Mask]) -> None:
    """Call what has fewer channels by another name, in place."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name in dropped:
                    names[i] = f"{name}/live"
    stale = [v for v in model.graph.value_info if v.name not in dropped]
    infos = [type(v).FromString(v.SerializeToString()) for v in stale]
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
    set_nodes(model, model.graph.node)
