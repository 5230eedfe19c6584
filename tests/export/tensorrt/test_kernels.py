"""Convolutions that TensorRT has no INT8 kernel for stay out of INT8."""

from __future__ import annotations

import pytest
from onnx import helper

from edgetl_export.tensorrt.kernels import has_int8_kernel


@pytest.mark.parametrize(
    ("weight", "group", "there"),
    [
        ((32, 16, 3, 3), 1, True),
        ((17, 19, 1, 5), 1, True),
        ((32, 3, 3, 3), 1, True),  # a usual stem
        ((8, 3, 3, 3), 1, False),
        ((20, 3, 7, 7), 1, False),
        ((24, 3, 7, 3), 1, False),
        ((4, 16, 1, 1), 1, True),
        ((4, 8, 1, 1), 1, False),
        ((8, 8, 3, 3), 1, False),
        ((5, 131, 3, 3), 1, False),
        ((5, 136, 3, 3), 1, True),
        ((32, 1, 3, 3), 32, True),
        ((32, 1, 5, 5), 32, True),
        ((32, 1, 1, 1), 32, False),
        ((32, 1, 3, 1), 32, False),
        ((33, 1, 3, 3), 33, False),
        ((64, 16, 1, 1), 4, True),
    ],
)
def test_by_channels_groups_and_sides(weight: tuple[int, ...], group: int, there: bool) -> None:
    convolution = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **({"group": group} if group > 1 else {}))
    assert has_int8_kernel(convolution, weight) == there
