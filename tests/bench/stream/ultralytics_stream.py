"""Ultralytics predict(stream=True) in its own environment (AGPL-3.0: nothing of it is part of the project).

usage: python ultralytics_stream.py JOB.json   (model, source, size, threshold, nms_iou, most)
"""

from __future__ import annotations

import os
from pathlib import Path

from meter import Channel, Meter, job

os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_OFFLINE"] = "true"


def main() -> None:
    """Until the source ends, or the meter has enough."""
    channel, work = Channel(), job()
    os.environ["YOLO_CONFIG_DIR"] = str(Path(work["scratch"]))
    import torch
    from ultralytics import YOLO

    results = YOLO(work["model"], task="detect").predict(
        source=work["source"],
        stream=True,
        imgsz=work["size"],
        conf=work["threshold"],
        iou=work["nms_iou"],
        max_det=work["most"],
        device="cpu",
        verbose=False,
    )
    meter = Meter(work)
    for result in results:
        speed = result.speed
        outside_ms = speed["preprocess"] + speed["postprocess"]
        if not meter.have(
            result.orig_img, outside_ms=outside_ms, engine_ms=speed["inference"], boxes=len(result.boxes)
        ):
            break
    meter.tell(channel, ("ultralytics", "onnxruntime", "openvino", "opencv-python"), torch=torch.__version__)
    os._exit(0)  # its threads that read streams never end by themselves


if __name__ == "__main__":
    main()
