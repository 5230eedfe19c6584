"""A class for every pixel, from maps of class scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgetl_export.foreign.decoders.decoder import Activation, Labelled, Output, Size, misfit
from edgetl_export.foreign.nodes import Nodes
from edgetl_runtime.imports import cv2 as need_cv2
from edgetl_runtime.spec import Head, HeadName, Positive, SegmentHead


class Segmentation(Labelled, frozen=True, kw_only=True, tag_field="decoder", tag="segmentation"):
    """(1, C, h, w), or (1, 1, h, w) for two labels: the second where the value says so.

    name: of the head, and of the dataset's layer of masks that it is scored by. layout: nhwc reads (1, h, w, C).
    stride: network pixels to a cell of the mask; a finer one than the network's own enlarges its scores bilinearly
    first. activation: only matters for one channel, where logits above 0 or probabilities above 0.5 mean the second.
    """

    name: HeadName
    output: str = ""
    layout: Literal["nchw", "nhwc"] = "nchw"
    stride: Positive | None = None
    activation: Activation = "logits"

    def reads(self) -> tuple[str, ...]:
        return (self.output,)

    def heads(self, outputs: Sequence[Output], size_hw: Size) -> tuple[Head, ...]:
        c = len(self.names)
        if (
            not 2 <= c <= 255
            or len(outputs[0].shape) != 4
            or self._channels(outputs[0]) not in ({c, 1} if c == 2 else {c})
        ):
            wanted = f"(1, h, w, {c})" if self.layout == "nhwc" else f"(1, {c}, h, w)"
            raise misfit("segmentation", outputs, f"{wanted} for {c} labels, of 2 to 255")
        own, step = self._own_stride(outputs[0], size_hw), self.stride
        if own == 0 or (step is not None and (own % step or size_hw[0] % step or size_hw[1] % step)):
            asked = "" if step is None else f" that {step} divides"
            raise misfit(
                "segmentation", outputs, f"maps of {size_hw[0]}x{size_hw[1]} pixels by one whole stride{asked}"
            )
        return (SegmentHead(name=self.name, labels=self.names, stride=step or own),)

    def _channels(self, output: Output) -> int:
        return output.shape[1 if self.layout == "nchw" else 3]

    def _cells(self, shape: tuple[int, ...]) -> Size:
        return (shape[2], shape[3]) if self.layout == "nchw" else (shape[1], shape[2])

    def _own_stride(self, output: Output, size_hw: Size) -> int:
        """Network pixels to one of the output's cells, 0 where that is no whole number, or two."""
        (rows, columns), (height, width) = self._cells(output.shape), size_hw
        step = height // rows
        return step if step > 0 and (rows * step, columns * step) == (height, width) else 0

    def nodes(self, g: Nodes, outputs: Sequence[Output], size_hw: Size) -> None:
        maps = outputs[0].name
        if self.layout == "nhwc":
            maps = g.add("Transpose", maps, perm=[0, 3, 1, 2])
        factor = self._own_stride(outputs[0], size_hw) // (self.stride or self._own_stride(outputs[0], size_hw))
        if factor > 1:
            scales = g.constant([1, 1, factor, factor])
            maps = g.add("Resize", maps, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
        channels = self._channels(outputs[0])
        if channels == 1:
            second = g.add("Greater", maps, g.constant(0.5 if self.activation == "probabilities" else 0.0))
        elif channels == 2:  # much cheaper than ArgMax, and the same
            first, other = g.several("Split", maps, outputs=("", ""), axis=1, num_outputs=2)
            second = g.add("Greater", other, first)
        else:
            best = g.add("ArgMax", maps, axis=1, keepdims=0)
            g.cast(best, TensorProto.UINT8, name=f"mask_{self.name}")
            return
        g.add("Squeeze", g.cast(second, TensorProto.UINT8), g.indices(1), name=f"mask_{self.name}")

    def reference(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Mapping[str, NDArray[np.generic]]:
        maps = arrays[0][0] if self.layout == "nchw" else arrays[0][0].transpose(2, 0, 1)
        step = self.stride or size_hw[0] // maps.shape[1]
        high, wide = size_hw[0] // step, size_hw[1] // step
        if maps.shape[1:] != (high, wide):
            cv2 = need_cv2()
            maps = np.stack([cv2.resize(m, (wide, high), interpolation=cv2.INTER_LINEAR) for m in maps])
        if len(maps) == 1:
            found = maps[0] > (0.5 if self.activation == "probabilities" else 0.0)
        else:
            found = maps.argmax(0)
        return {f"mask_{self.name}": found[None].astype(np.uint8)}
