"""Make one convolution of branches that are added up, as RepVGG (arXiv:2101.03697) and those after it do.

Networks that are trained with several branches (RepVGG, MobileOne, RepViT, FastViT, RepGhost, YOLOv6 and v7, PP-YOLOE)
run with one, but their files often still hold all: convolutions of one tensor, the tensor itself, batch-norms and
factors for each channel, added up. All of these are linear, and so one convolution says the same. A factor for each
channel behind a single convolution, as a layer scale, goes into it in the same way.

Requires: batch-norms folded where a convolution stands before them; constants as initializers; static shapes. Ensures:
no sum of convolutions of one tensor is left that one convolution computes with no more taps; the result keeps its name;
outputs equal up to rounding. A mere residual, x + conv(x), is left alone: what goes past the convolution is not rounded
with its weights then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from edgetl_export.graph import (
    attribute,
    consumers,
    copy_of,
    initializers,
    needed_whole,
    producers,
    prune,
    set_initializer,
    set_nodes,
    shapes_of,
)
from edgetl_export.passes.fold_batch_norm import affine_of

LINEAR = ("Add", "Sub", "Mul", "BatchNormalization")
Array = NDArray[np.float64]
Span = tuple[int, int, int, int]


def join_branches(model: ModelProto) -> tuple[ModelProto, str]:
    """A model with such branches joined, and a note; the same model where there are none."""
    graph = _Graph.of(model)
    found: list[_Sum] = []
    inside: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in LINEAR and node.output[0] not in inside:
            total = graph.sum_of(node)
            if total is not None:
                found.append(total)
                inside |= {o for each in total.nodes for o in each.output}
    if not found:
        return model, "not applied: no branches of convolutions are added up or scaled"
    result = copy_of(model)
    joined = {total.top.output[0]: graph.join(result, total) for total in found}
    nodes = [n for n in result.graph.node if n.output[0] in joined or n.output[0] not in inside]
    set_nodes(result, [joined.get(n.output[0], n) for n in nodes])
    prune(result)
    return result, _note([len(total.leaves) for total in found])


def _note(leaves: Sequence[int]) -> str:
    """leaves: how many each convolution stands for; one alone has taken in what scaled it."""
    joined, scaled = sum(n > 1 for n in leaves), sum(n == 1 for n in leaves)
    parts = []
    if joined:
        parts.append(f"{sum(leaves) - scaled} branches joined into {joined} convolution{'s' if joined > 1 else ''}")
    if scaled:
        parts.append(f"factors by channel folded into {scaled} convolution{'s' if scaled > 1 else ''}")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A convolution of the sum's source, or None for the source itself; factor: (C,) that multiplies it."""

    conv: NodeProto | None
    factor: Array


@dataclass(frozen=True, slots=True)
class _Sum:
    """top makes the sum of the leaves, all of `source`, and of `shift` (C,). nodes: all between source and result.

    normed: whether a batch-norm scales the source itself, or a sum: a mere residual has none.
    """

    top: NodeProto
    source: str
    leaves: tuple[_Leaf, ...]
    shift: Array
    nodes: tuple[NodeProto, ...]
    normed: bool

    @property
    def convs(self) -> list[NodeProto]:
        return [leaf.conv for leaf in self.leaves if leaf.conv is not None]


@dataclass(frozen=True, slots=True)
class _Graph:
    """What is known of a model while its sums are looked for."""

    made: Mapping[str, NodeProto]
    readers: Mapping[str, Sequence[NodeProto]]
    constants: Mapping[str, NDArray[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]
    whole: set[str]

    @classmethod
    def of(cls, model: ModelProto) -> _Graph:
        return cls(producers(model), consumers(model), initializers(model), shapes_of(model), needed_whole(model))

    def sum_of(self, top: NodeProto) -> _Sum | None:
        """What a node makes as a sum that one convolution can compute, or None."""
        shape = self.shapes.get(top.output[0], ())
        if len(shape) != 4 or 0 in shape:
            return None
        found = self._linear(top, shape[1])
        if found is None or not found.convs:
            return None
        if len(found.convs) < 2 <= len(found.leaves) and not found.normed:
            return None
        return found if self._fits(found) else None

    def _linear(self, node: NodeProto, channels: int) -> _Sum | None:
        """A node's result as a sum, whether or not it can be joined."""
        if node.op_type == "BatchNormalization":
            return self._normed(node, channels)
        if node.op_type == "Mul":
            return self._scaled(node, channels)
        parts = [self._operand(name, channels) for name in node.input]
        first, second = parts
        if first is None or second is None or first.source != second.source:
            return None
        sign = -1.0 if node.op_type == "Sub" else 1.0
        leaves = (*first.leaves, *(_Leaf(leaf.conv, leaf.factor * sign) for leaf in second.leaves))
        nodes = (node, *first.nodes, *second.nodes)
        normed = first.normed or second.normed
        return _Sum(node, first.source, leaves, first.shift + second.shift * sign, nodes, normed)

    def _operand(self, name: str, channels: int) -> _Sum | None:
        """A tensor as a sum: of what its node adds up, of one convolution, or of itself alone."""
        node = self.made.get(name)
        if name in self.constants or node is None or self.shapes.get(name, ())[1:2] != (channels,):
            return None
        if len(self.readers[name]) == 1 and name not in self.whole and len(node.output) == 1:
            one = np.ones(channels)
            if self._plain(node):
                return _Sum(node, node.input[0], (_Leaf(node, one),), np.zeros(channels), (node,), normed=False)
            deeper = self._linear(node, channels) if node.op_type in LINEAR else None
            if deeper is not None:
                return deeper
        return _Sum(node, name, (_Leaf(None, np.ones(channels)),), np.zeros(channels), (), normed=False)

    def _normed(self, node: NodeProto, channels: int) -> _Sum | None:
        if len(node.output) > 1 or any(i not in self.constants for i in node.input[1:]):
            return None
        under = self._operand(node.input[0], channels)
        if under is None:
            return None
        factor, shift, mean = affine_of(node, self.constants)
        return _times(under, node, factor, shift - mean * factor, normed=True)

    def _scaled(self, node: NodeProto, channels: int) -> _Sum | None:
        given = [i for i in node.input if i in self.constants]
        tensors = [i for i in node.input if i not in self.constants]
        if len(given) != 1:
            return None
        factor = np.asarray(self.constants[given[0]])
        by_channel = factor.ndim in (3, 4) and factor.shape[-3:] == (channels, 1, 1) and factor.size == channels
        if factor.dtype != np.float32 or not (by_channel or factor.size == 1):
            return None
        under = self._operand(tensors[0], channels)
        if under is None:
            return None
        factor = np.broadcast_to(factor.reshape(-1).astype(np.float64), channels)
        return _times(under, node, factor, np.zeros(channels), normed=under.normed)

    def _plain(self, node: NodeProto) -> bool:
        """Whether it is a two-dimensional convolution with constants in float32 that says its padding in numbers."""
        if node.op_type != "Conv" or any(i not in self.constants for i in node.input[1:] if i):
            return False
        weight = self.constants[node.input[1]]
        return (
            weight.ndim == 4
            and weight.dtype == np.float32
            and attribute(node, "auto_pad") in (None, b"NOTSET")
            and attribute(node, "dilations") in (None, [1, 1])
        )

    def _fits(self, total: _Sum) -> bool:
        """Whether all leaves see the same windows, and one kernel for all has no more taps than they have."""
        convs, shapes = total.convs, self.shapes
        groups = {int(attribute(c, "group") or 1) for c in convs}  # type: ignore[call-overload]
        strides: set[tuple[int, ...]] = {tuple(attribute(c, "strides") or (1, 1)) for c in convs}  # type: ignore[arg-type]
        results = {shapes.get(c.output[0], ()) for c in convs}
        alone = any(leaf.conv is None for leaf in total.leaves)
        if len(groups) > 1 or len(strides) > 1 or results != {shapes[total.top.output[0]]}:
            return False
        if alone and (strides != {(1, 1)} or results != {shapes.get(total.source, ())}):
            return False
        spans = [self._span(c) for c in convs]
        up, down, left, right = (max(side) for side in zip(*spans, strict=True))
        taps = sum(self.constants[c.input[1]][0, 0].size for c in convs) + alone
        return min(map(min, spans)) >= 0 and (up + 1 + down) * (left + 1 + right) <= taps

    def _span(self, conv: NodeProto) -> Span:
        """Rows above and below, columns left and right of where a window stands, that its kernel reaches."""
        top, left, _, _ = _pads_of(conv)
        high, wide = self.constants[conv.input[1]].shape[2:]
        return top, high - 1 - top, left, wide - 1 - left

    def join(self, model: ModelProto, total: _Sum) -> NodeProto:
        """The convolution that makes the sum; its constants are put into the model."""
        first = max(total.convs, key=lambda c: self.constants[c.input[1]].size)
        spans = [self._span(c) for c in total.convs]
        up, down, left, right = (max(side) for side in zip(*spans, strict=True))
        outs, ins = self.constants[first.input[1]].shape[:2]
        kernel, bias = np.zeros((outs, ins, up + 1 + down, left + 1 + right)), total.shift.copy()
        for leaf in total.leaves:
            if leaf.conv is None:
                # Of group g an output channel sees the channels g * ins and on: itself at its place among these.
                kernel[np.arange(outs), np.arange(outs) % ins, up, left] += leaf.factor
                continue
            weight = np.asarray(self.constants[leaf.conv.input[1]], np.float64)
            above, _, beside, _ = self._span(leaf.conv)
            rows = slice(up - above, up - above + weight.shape[2])
            columns = slice(left - beside, left - beside + weight.shape[3])
            kernel[:, :, rows, columns] += weight * leaf.factor[:, None, None, None]
            if len(leaf.conv.input) > 2 and leaf.conv.input[2]:
                bias += np.asarray(self.constants[leaf.conv.input[2]], np.float64) * leaf.factor
        names = (f"{first.name}/branches_weight", f"{first.name}/branches_bias")
        set_initializer(model, names[0], kernel.astype(np.float32))
        set_initializer(model, names[1], bias.astype(np.float32))
        _, below, _, after = self._span(first)
        ends = _pads_of(first)
        conv = NodeProto.FromString(first.SerializeToString())
        kept = [a for a in first.attribute if a.name not in ("pads", "kernel_shape")]
        del conv.attribute[:], conv.input[:]
        conv.attribute.extend(kept)
        conv.attribute.append(helper.make_attribute("kernel_shape", list(kernel.shape[2:])))
        conv.attribute.append(
            helper.make_attribute("pads", [up, left, ends[2] + down - below, ends[3] + right - after])
        )
        conv.input.extend([total.source, *names])
        conv.output[0] = total.top.output[0]
        return conv


def _times(under: _Sum, node: NodeProto, factor: Array, shift: Array, *, normed: bool) -> _Sum:
    """factor * under + shift, both (C,); by a batch-norm or a multiplication."""
    leaves = tuple(_Leaf(leaf.conv, leaf.factor * factor) for leaf in under.leaves)
    return _Sum(node, under.source, leaves, under.shift * factor + shift, (node, *under.nodes), normed)


def _pads_of(conv: NodeProto) -> Span:
    """Above, left, below, right."""
    given = attribute(conv, "pads") or (0, 0, 0, 0)
    above, left, below, right = (int(side) for side in given)  # type: ignore[attr-defined]
    return above, left, below, right
