"""ONNX Runtime on the CPU provider."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl_runtime.engines._tensors import check_inputs, tensor_spec
from edgetl_runtime.errors import EngineError
from edgetl_runtime.imports import onnxruntime as _onnxruntime
from edgetl_runtime.spec import EngineName

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.engines import Spin
    from edgetl_runtime.spec import Precision

PROVIDER = "CPUExecutionProvider"
_QUIET = 3
_SPIN_US = "200"


class OnnxRuntimeEngine:
    """An InferenceSession whose provider is read back. Precision is the model's own: fp32, int8 Q/DQ, or fp16.

    On a CPU an FP16 graph is computed in float32, whole chains of nodes without any rounding between them (1.32): it
    runs, and shows neither what FP16 costs nor what overflows.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        precision: Precision,
        threads: int = 0,
        spin: Spin = "short",
    ) -> None:
        self.name: EngineName = "onnxruntime"
        self.precision: Precision = precision
        self._model = str(model_path)
        if precision not in ("fp32", "fp16", "int8"):
            raise EngineError(
                f"onnxruntime on a CPU does not run {precision}",
                remedy="use --engine openvino, or fp32 or int8",
            )
        if not Path(model_path).is_file():
            raise EngineError(f"no model at {model_path}")
        ort = _onnxruntime()
        try:
            self._session: Any = ort.InferenceSession(
                self._model, sess_options=session_options(ort, threads, spin), providers=[PROVIDER]
            )
        except Exception as error:
            raise EngineError(f"onnxruntime can't load {self._model}: {error}") from error
        found = self._session.get_providers()
        if found != [PROVIDER]:
            raise EngineError(f"onnxruntime was asked for {PROVIDER}, it runs on {', '.join(found)}")
        self.inputs = tuple(_spec(t, self._model) for t in self._session.get_inputs())
        self.outputs = tuple(_spec(t, self._model) for t in self._session.get_outputs())
        self._names = [t.name for t in self.outputs]

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run once; the returned arrays are new and small, inputs are read where they lie."""
        if self._session is None:
            raise EngineError(f"onnxruntime: {self._model} is closed")
        check_inputs(self.inputs, inputs, engine="onnxruntime")
        try:  # IO binding with kept outputs was measured slower than this, the outputs being small
            values = self._session.run(self._names, inputs)
        except Exception as error:
            raise EngineError(f"onnxruntime failed to run {self._model}: {error}") from error
        return dict(zip(self._names, values, strict=True))

    def another(self) -> OnnxRuntimeEngine:
        """The same session for another thread: its `run` may be called by several at the same time."""
        return copy.copy(self)

    def close(self) -> None:
        """Free the session, or leave it to the others that have it."""
        self._session = None


def session_options(ort: Any, threads: int, spin: Spin) -> Any:
    """Session options: quiet; `spin` short caps the busy wait, which else costs a core between frames."""
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    if threads:
        options.intra_op_num_threads = threads
    if spin == "short":
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    elif spin == "off":
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _spec(argument: Any, model: str) -> Any:
    dtype = argument.type.removeprefix("tensor(").removesuffix(")")
    return tensor_spec(argument.name, dtype, argument.shape, model=model)
