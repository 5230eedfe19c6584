"""The script that most people write: cv2.VideoCapture, numpy letterbox, ONNX Runtime's defaults, decode with NMS.

usage: python plain_peer.py JOB.json   (model, source, size, threshold, nms_iou, most)
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
import onnxruntime
from meter import Channel, Meter, job
from numpy.typing import NDArray

Boxes = list[tuple[list[float], float, int]]


def letterbox(image: NDArray[np.uint8], size: int) -> tuple[NDArray[np.float32], float, int, int]:
    """The network's input, the scale, and the padding left and above."""
    h, w = image.shape[:2]
    scale = min(size / h, size / w)
    new_w, new_h = round(w * scale), round(h * scale)
    left, top = (size - new_w) // 2, (size - new_h) // 2
    small = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    padded = cv2.copyMakeBorder(
        small, top, size - new_h - top, left, size - new_w - left, cv2.BORDER_CONSTANT, value=(114, 114, 114)
    )
    planes = cv2.cvtColor(padded, cv2.COLOR_BGR2RGB).astype(np.float32) / 255.0
    return np.ascontiguousarray(planes.transpose(2, 0, 1)[None]), scale, left, top


def decode(
    output: NDArray[np.float32], scale: float, left: int, top: int, threshold: float, nms_iou: float, most: int
) -> Boxes:
    """YOLO's (1, 4 + classes, N) to boxes x, y, w, h of the source image, suppressed by class."""
    rows = output[0].T
    scores = rows[:, 4:].max(axis=1)
    keep = scores >= threshold
    rows, scores = rows[keep], scores[keep]
    classes = rows[:, 4:].argmax(axis=1)
    x, y, w, h = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]
    boxes = np.stack([(x - w / 2 - left) / scale, (y - h / 2 - top) / scale, w / scale, h / scale], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), threshold, nms_iou)
    return [(boxes[i].tolist(), float(scores[i]), int(classes[i])) for i in np.asarray(kept, int).ravel()[:most]]


class Detector:
    """One frame to its boxes, and how long that took outside the engine and in it."""

    def __init__(self, work: dict[str, Any]) -> None:
        self._session = onnxruntime.InferenceSession(work["model"], providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._work = work

    def __call__(self, image: NDArray[np.uint8]) -> tuple[Boxes, float, float]:
        work, t0 = self._work, time.perf_counter()
        planes, scale, left, top = letterbox(image, work["size"])
        t1 = time.perf_counter()
        output = self._session.run(None, {self._input: planes})[0]
        t2 = time.perf_counter()
        found = decode(output, scale, left, top, work["threshold"], work["nms_iou"], work["most"])
        return found, (t1 - t0 + time.perf_counter() - t2) * 1e3, (t2 - t1) * 1e3


def main() -> None:
    """Until the source ends, or the meter has enough."""
    channel, work = Channel(), job()
    detect = Detector(work)
    capture = cv2.VideoCapture(work["source"])
    meter = Meter(work)
    while True:
        good, image = capture.read()
        if not good:
            break
        found, outside_ms, engine_ms = detect(image)
        if not meter.have(image, outside_ms=outside_ms, engine_ms=engine_ms, boxes=len(found)):
            break
    meter.tell(channel, ("onnxruntime", "opencv-python", "numpy"))


if __name__ == "__main__":
    main()
