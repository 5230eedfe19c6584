"""Let a convolution do the average pooling that stands beside it.

Where a network joins its frame, made smaller, to the features of its first convolution, an engine that pads channels to
whole vectors pools three channels at the cost of sixteen, and concatenates afterwards. The convolution has room for
them: a mean is a convolution with equal weights.

Requires: static shapes; weights as initializers. Ensures: no AveragePool of at most FEW channels reads what a Conv with
the same windows reads, where both meet side by side in a Concat; others read its part of the result; outputs equal up
to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from edgetl_export.graph import (
    attribute,
    consumers,
    initializers,
    needed_whole,
    producers,
    rewritten_at,
    set_initializer,
    set_nodes,
    shapes_of,
)

FEW = 4
"""Channels up to which pooling is dearer by itself."""


def join_pool(model: ModelProto) -> tuple[ModelProto, str]:
    """A model with pooling done by convolutions, and a note; the same model where there is none to join."""
    pooled = {o for n in model.graph.node if n.op_type == "AveragePool" for o in n.output}
    of_channels = [
        n.name
        for n in model.graph.node
        if n.op_type == "Concat" and attribute(n, "axis") in (1, -3) and not pooled.isdisjoint(n.input)
    ]
    result, count = rewritten_at(model, of_channels, _found, _join)
    if not count:
        return model, "not applied: no average pooling stands beside a convolution with the same windows"
    return result, f"{count} average pooling{'s' if count > 1 else ''} done by the convolution beside"


@dataclass(frozen=True, slots=True)
class _Found:
    """concat reads, at `place` and the one after it, what conv made, through act where there is one, and the pool."""

    concat: NodeProto
    place: int
    conv: NodeProto
    act: NodeProto | None
    pool: NodeProto


def _found(model: ModelProto, name: str) -> _Found | None:
    made, readers, constants = producers(model), consumers(model), initializers(model)
    shapes = shapes_of(model)
    outputs = needed_whole(model)
    concat = next(n for n in model.graph.node if n.name == name)
    for place, (first, second) in enumerate(zip(concat.input, concat.input[1:], strict=False)):
        end, pool = made.get(first), made.get(second)
        act = end if end is not None and end.op_type == "PRelu" else None
        conv = made.get(act.input[0]) if act is not None else end
        if conv is None or pool is None or not _same_windows(conv, pool, constants, shapes):
            continue
        channels = shapes[first][1]
        if act is not None and (
            len(readers[conv.output[0]]) > 1
            or conv.output[0] in outputs
            or shapes.get(act.input[1] if act.input[1] in constants else "")
            not in ((channels, 1, 1), (1, channels, 1, 1))
        ):
            continue
        if {first, second} & outputs:
            continue
        return _Found(concat, place, conv, act, pool)
    return None


def _same_windows(
    conv: NodeProto,
    pool: NodeProto,
    constants: Mapping[str, NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
) -> bool:
    """Whether a Conv with constants and an AveragePool of few channels see the same windows of the same tensor."""
    if conv.op_type != "Conv" or pool.op_type != "AveragePool" or conv.input[0] != pool.input[0]:
        return False
    given = [constants.get(name) for name in conv.input[1:] if name]
    if any(v is None or v.dtype != np.float32 for v in given) or attribute(conv, "group") not in (None, 1):
        return False
    shape, kernel = shapes.get(pool.input[0], ()), list(constants[conv.input[1]].shape[2:])
    usual = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "auto_pad": b"NOTSET"}
    windows = [{key: attribute(n, key) or value for key, value in usual.items()} for n in (conv, pool)]
    counts_padding = bool(attribute(pool, "count_include_pad")) or windows[1]["pads"] == usual["pads"]
    return (
        len(shape) == 4
        and 0 < shape[1] <= FEW
        and attribute(pool, "kernel_shape") == kernel
        and windows[0] == windows[1]
        and windows[0]["auto_pad"] == b"NOTSET"
        and counts_padding
        and not attribute(pool, "ceil_mode")
    )


def _join(model: ModelProto, found: _Found) -> None:
    """Put the pool into the convolution, in place; what else reads one of the two reads a slice."""
    constants = initializers(model)
    conv, act, pool = found.conv, found.act, found.pool
    weight = np.asarray(constants[conv.input[1]], np.float32)
    own, channels, high, wide = weight.shape
    mean = np.eye(channels, dtype=np.float32)[:, :, None, None] * np.full((high, wide), 1 / (high * wide), np.float32)
    has_bias = len(conv.input) > 2 and conv.input[2]
    bias = np.asarray(constants[conv.input[2]], np.float32) if has_bias else np.zeros(own, np.float32)
    names = (f"{conv.name}/joined_weight", f"{conv.name}/joined_bias")
    set_initializer(model, names[0], np.concatenate([weight, mean]))
    set_initializer(model, names[1], np.concatenate([bias, np.zeros(channels, np.float32)]))
    parts = (act or conv).output[0], pool.output[0]
    inputs, joined = [conv.input[0], *names], f"{found.concat.name}/joined"
    del conv.input[:]
    conv.input.extend(inputs)
    if act is not None:
        slope = np.asarray(constants[act.input[1]], np.float32)
        name = f"{act.name}/joined_slope"
        set_initializer(
            model, name, np.concatenate([slope, np.ones_like(slope, shape=_ones(slope, channels))], axis=-3)
        )
        conv.output[0] = act.input[0] = f"{conv.output[0]}/joined"
        act.input[1] = name
    (act or conv).output[0] = joined
    _read_joined(model, found, parts, joined, (own, channels))


def _ones(slope: NDArray[np.float32], channels: int) -> tuple[int, ...]:
    return (*slope.shape[:-3], channels, 1, 1)


def _read_joined(
    model: ModelProto, found: _Found, parts: tuple[str, str], joined: str, counts: tuple[int, int]
) -> None:
    """Let the Concat read both as one, where nothing else is left leave it out, and give others their slices."""
    concat = found.concat
    rest = [*concat.input[: found.place], joined, *concat.input[found.place + 2 :]]
    del concat.input[:]
    concat.input.extend(rest)
    whole = concat.output[0]
    alone = len(rest) == 1
    slices = []
    for part, start, count in ((parts[0], 0, counts[0]), (parts[1], counts[0], counts[1])):
        names = [f"{part}/{key}" for key in ("start", "stop", "axis")]
        for name, value in zip(names, (start, start + count, 1), strict=True):
            set_initializer(model, name, np.array([value], np.int64))
        slices.append(helper.make_node("Slice", [whole if alone else joined, *names], [part], name=f"{part}/part"))
    layer = [found.conv, *([found.act] if found.act is not None else [])]
    if alone:
        layer[-1].output[0] = whole
    old = {n.name for n in (*layer, found.pool, *([concat] if alone else []))}
    nodes = [n for n in model.graph.node if n.name not in old]
    first = next(i for i, n in enumerate(model.graph.node) if n.name in (found.conv.name, found.pool.name))
    set_nodes(model, [*nodes[:first], *layer, *slices, *nodes[first:]])
