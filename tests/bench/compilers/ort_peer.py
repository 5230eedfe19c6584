"""ONNX Runtime's quantize_static, driven as its documentation says. usage: python ort_peer.py JOB.json

JOB: method, model, out, input (its name), frames (.npy, one more axis in front than the input has), keep_float (nodes).
Methods: defaults (nothing set), advised (pre-processing, U8S8, per channel, reduced range without VNNI), entropy
(advised, with that calibration).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from channel import Channel, job
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

ENTROPY_FRAMES = 16
"""quantize_static holds the activations of all frames at once for this method."""


class Frames(CalibrationDataReader):  # type: ignore[misc]
    """Calibration frames, one by one."""

    def __init__(self, name: str, frames: np.ndarray) -> None:
        self._feeds = iter([{name: frame} for frame in frames])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next feed, or None at the end."""
        return next(self._feeds, None)


def prepare(model: Path, prepared: Path) -> list[str]:
    """The documented step before quantisation; a note where its first part had to be left out."""
    try:
        quant_pre_process(str(model), str(prepared))
    except Exception as error:
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        return [f"quant_pre_process fails on this network ({error}), so symbolic shape inference is left out"]
    return []


def advised(entropy: bool) -> dict[str, Any]:
    """What the documentation advises for this processor."""
    return {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": True,
        "reduce_range": not has_vnni(),
        "calibrate_method": CalibrationMethod.Entropy if entropy else CalibrationMethod.MinMax,
    }


def has_vnni() -> bool:
    """Whether this processor multiplies bytes without saturation."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def main() -> None:
    """Quantise once."""
    channel, work = Channel(), job()
    model, out, method = Path(work["model"]), Path(work["out"]), work["method"]
    frames, options, notes = np.load(work["frames"], mmap_mode="r"), {}, []
    if method != "defaults":
        prepared = out.with_suffix(".prepared.onnx")
        notes += prepare(model, prepared)
        model, options = prepared, advised(method == "entropy")
    if method == "entropy" and len(frames) > ENTROPY_FRAMES:
        notes.append(f"calibrated on {ENTROPY_FRAMES} frames: it keeps every activation of all frames in memory")
        frames = frames[:: len(frames) // ENTROPY_FRAMES][:ENTROPY_FRAMES]
    if work["keep_float"]:
        options["nodes_to_exclude"] = work["keep_float"]
    quantize_static(str(model), str(out), Frames(work["input"], frames), **options)
    channel.made(out, "onnxruntime", notes=notes)


if __name__ == "__main__":
    main()
