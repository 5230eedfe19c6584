"""Ultralytics' exporter on a network of its own, in its own environment. usage: python ultralytics_peer.py JOB.json

JOB of method `network`: architecture, weights (to write), frames (.npy, uint8 BGR): random weights, batch-norm
statistics of the frames, so that activations have the sizes that training would give them.
JOB of method `export`: weights, format, quantize (bits), size (height, width), data (its dataset file).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from channel import Channel, job

os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_OFFLINE"] = "true"


def main() -> None:
    """One step."""
    channel, work = Channel(), job()
    os.environ["YOLO_CONFIG_DIR"] = str(Path(work["weights"]).parent)
    if work["method"] == "network":
        channel.made(new_network(work), "ultralytics", "torch")
        return
    from ultralytics import YOLO

    made = YOLO(work["weights"]).export(
        format=work["format"], imgsz=work["size"], quantize=work["quantize"], data=work["data"], device="cpu"
    )
    path = Path(made)
    file = with_named_output(next(path.glob("*.xml"))) if path.is_dir() else path
    channel.made(file, "ultralytics", "torch", "onnx", "openvino")


def with_named_output(path: Path) -> Path:
    """The OpenVINO network with a name for its output, which the exporter leaves without one."""
    import openvino

    model = openvino.Core().read_model(str(path))
    model.output(0).get_tensor().set_names({"output0"})
    named = path.with_name("named.xml")
    openvino.save_model(model, str(named), compress_to_fp16=False)
    return named


def new_network(work: dict[str, Any]) -> Path:
    """Write the weights."""
    import numpy as np
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    yolo = YOLO(work["architecture"])
    norms = [m for m in yolo.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    yolo.model.train()
    with torch.no_grad():
        for frame in np.load(work["frames"], mmap_mode="r"):
            rgb = np.ascontiguousarray(frame[..., ::-1].transpose(0, 3, 1, 2))
            yolo.model(torch.from_numpy(rgb).float() / 255)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    yolo.model.eval()
    yolo.save(work["weights"])
    return Path(work["weights"])


if __name__ == "__main__":
    main()
