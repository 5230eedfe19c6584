"""Reading the builder's log."""

from __future__ import annotations

import pytest

from edgetl_runtime.tensorrt.plan import layer_precisions, memory_bytes


def layer(kind: str, dtype: str) -> str:
    """One line of a plan, in the form that the builder logs."""
    tensor = (
        f"{{ Name: x, Dimensions: [1,3,8,8], Strides: [1], StrideOrder: [0], Datatype: {dtype}, Format: (Linear) }}"
    )
    return f"Name: a, LayerType: {kind}, Inputs: [ {tensor}], Constants: [], Outputs: [ {tensor}], TacticName: t"


def test_heavy_kernels_are_counted_by_the_dtype_that_they_read() -> None:
    lines = [layer("correlation", "Int8"), layer("gemm", "Half"), layer("kgen", "Float"), layer("correlation", "Int8")]
    logged = ["noise", "Layers:\n" + "\n".join(lines) + "\n\nI/O Tensors:\n" + layer("gemm", "Float")]
    assert layer_precisions(logged) == {"fp16": 1, "int8": 2}


def test_an_unknown_dtype_keeps_its_name() -> None:
    assert layer_precisions(["Layers:\n" + layer("conv", "FP6")]) == {"fp6": 1}


@pytest.mark.parametrize("logged", [[], ["Layers:"], ["nothing here"], ["Layers:\nName: a, LayerType: conv"]])
def test_a_log_without_layers_counts_nothing(logged: list[str]) -> None:
    assert layer_precisions(logged) == {}


def test_memory_is_the_last_that_was_said() -> None:
    logged = ["Total Weights Memory: 1 bytes", "Total Activation Memory: 20 bytes", "Total Weights Memory: 300 bytes"]
    assert memory_bytes(logged, "Weights") == 300
    assert memory_bytes(logged, "Activation") == 20
    assert memory_bytes(logged, "Scratch") is None
