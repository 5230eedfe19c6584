"""NNCF's post-training quantisation, in an environment of its own. usage: python nncf_peer.py JOB.json

JOB: method, model (ONNX), out, input (its name), frames (.npy), keep_float (nodes, for ONNX), float_from (tensors: what
makes them and all after them stays in float, for OpenVINO).
Methods: openvino (defaults), mixed (that preset), accuracy (quantize_with_accuracy_control), onnx (defaults).
JOB of accuracy also: validation (.npy), max_drop (0..1). It asks for the metric of its outputs with documents
{"score": an .npz of outputs by name, "frames": which}.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nncf
import numpy as np
from channel import Channel, job


def main() -> None:
    """Quantise once."""
    channel, work = Channel(), job()
    out = Path(work["out"])
    frames = np.load(work["frames"], mmap_mode="r")
    calibration = nncf.Dataset(list(frames), lambda frame: {work["input"]: np.array(frame)})
    options: dict[str, Any] = {"subset_size": len(frames)}
    if work["method"] == "onnx":
        on_onnx(work, out, calibration, options)
        channel.made(out, "nncf", "onnx", "onnxruntime")
        return
    import openvino

    model = openvino.Core().read_model(work["model"])
    if work["float_from"]:
        options["ignored_scope"] = nncf.IgnoredScope(names=float_nodes(model, work["float_from"]), validate=False)
    if work["method"] == "mixed":
        options["preset"] = nncf.QuantizationPreset.MIXED
    if work["method"] == "accuracy":
        quantised = with_accuracy(channel, work, model, calibration, options)
    else:
        quantised = nncf.quantize(model, calibration, **options)
    openvino.save_model(quantised, str(out), compress_to_fp16=False)
    channel.made(out, "nncf", "openvino")


def on_onnx(work: dict[str, Any], out: Path, calibration: Any, options: dict[str, Any]) -> None:
    """The ONNX backend, ONNX in and out."""
    import onnx

    if work["keep_float"]:
        options["ignored_scope"] = nncf.IgnoredScope(names=work["keep_float"], validate=False)
    onnx.save(nncf.quantize(onnx.load(work["model"]), calibration, **options), str(out))


def with_accuracy(channel: Channel, work: dict[str, Any], model: Any, calibration: Any, options: dict[str, Any]) -> Any:
    """quantize_with_accuracy_control, the benchmark being the metric."""
    frames = np.load(work["validation"], mmap_mode="r")
    answers = Path(work["out"]).with_suffix(".answers.npz")

    def validate(compiled: Any, indices: Iterable[int]) -> tuple[float, None]:
        asked = [int(i) for i in indices]
        rows = [compiled({work["input"]: np.array(frames[i])}) for i in asked]
        arrays = {o.any_name: np.stack([np.array(row[o]) for row in rows]) for o in compiled.outputs}
        np.savez(answers, **arrays)
        return channel.ask(score=str(answers), frames=asked), None

    validation = nncf.Dataset(list(range(len(frames))), lambda i: {work["input"]: np.array(frames[i])})
    return nncf.quantize_with_accuracy_control(
        model,
        calibration,
        validation,
        validation_fn=validate,
        max_drop=work["max_drop"],
        drop_type=nncf.DropType.ABSOLUTE,
        **options,
    )


def float_nodes(model: Any, tensors: list[str]) -> list[str]:
    """Names of the operations that make these tensors (a convolution with its bias) and of all that follow them."""
    wanted, reached, names = set(tensors), set(), []
    for node in model.get_ordered_ops():
        makes = any(wanted & set(o.get_names()) for o in node.outputs())
        sources = [i.get_source_output().get_node() for i in node.inputs()]
        if makes or any(s.get_friendly_name() in reached for s in sources):
            reached.add(node.get_friendly_name())
            names.append(node.get_friendly_name())
        if makes and node.get_type_name() == "Add":
            names += [s.get_friendly_name() for s in sources if "Convolution" in s.get_type_name()]
    return [n for n in names if "sink_port" not in n]


if __name__ == "__main__":
    main()
