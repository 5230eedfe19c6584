"""Checks that every engine shares: static shapes, known dtypes, inputs that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from edgetl_runtime.errors import EngineError
from edgetl_runtime.spec import DType, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

_DTYPES = {name: name for name in get_args(DType)} | {"float": "float32"}


def tensor_spec(name: str, dtype: str, shape: Sequence[object], *, model: str) -> TensorSpec:
    """A TensorSpec of what an engine reports. Raises EngineError for a dynamic shape or an unknown dtype."""
    if dtype not in _DTYPES:
        raise EngineError(f"{model}: tensor {name!r} has dtype {dtype}, expected one of {', '.join(_DTYPES)}")
    if not all(isinstance(n, int) and n > 0 for n in shape):
        raise EngineError(
            f"{model}: tensor {name!r} has the dynamic shape {list(shape)}",
            remedy="export it with a static shape",
        )
    return TensorSpec(name=name, dtype=_DTYPES[dtype], shape=tuple(shape))  # type: ignore[arg-type]


def check_inputs(expected: tuple[TensorSpec, ...], inputs: Mapping[str, NDArray[np.generic]], *, engine: str) -> None:
    """Raise EngineError where the inputs are not exactly what the network takes."""
    for tensor in expected:
        array = inputs.get(tensor.name)
        if array is None or array.shape != tensor.shape or array.dtype.name != tensor.dtype:
            found = "nothing" if array is None else f"{array.dtype.name}{list(array.shape)}"
            raise EngineError(
                f"{engine}: input {tensor.name!r} must be {tensor.dtype}{list(tensor.shape)}, found {found}"
            )
        if not array.flags.c_contiguous:
            raise EngineError(f"{engine}: input {tensor.name!r} must be C-contiguous")
    if len(inputs) != len(expected):
        raise EngineError(f"{engine}: inputs are {sorted(t.name for t in expected)}, found {sorted(inputs)}")
