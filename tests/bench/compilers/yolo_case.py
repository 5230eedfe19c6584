"""Ultralytics' exporter beside edgetl, on one of its networks: the same random weights, how well outputs agree.

Ultralytics is AGPL-3.0: it is run in a process of an environment of its own, and nothing of it is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from compilers.measured import progress
from compilers.peers import Made, Setting
from compilers.processes import Finished, PeerFailed, run_script
from compilers.table import Skipped
from numpy.typing import NDArray

from edgetl.metrics.matching import MATCH_IOU, box_iou
from edgetl_export.parity import Infer
from edgetl_runtime.result import Detections

ARCHITECTURE = "yolo11n.yaml"
CLASSES = tuple(f"class{i}" for i in range(80))
CANDIDATES, MOST, NMS_IOU = 200, 100, 0.45
SHOWN = 20
"""Boxes of a frame, on average, that the fp32 network is taken to have found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One way to call Ultralytics' exporter, and the engines that run what it writes."""

    tool: str
    format: str
    quantize: int | None
    settings: tuple[Setting, ...]


EXPORTS = (
    Export(tool="Ultralytics ONNX", format="onnx", quantize=None, settings=(("onnxruntime", "fp32"),)),
    Export(tool="Ultralytics ONNX, half", format="onnx", quantize=16, settings=(("onnxruntime", "fp32"),)),
    Export(tool="Ultralytics ONNX, int8", format="onnx", quantize=8, settings=(("onnxruntime", "int8"),)),
    Export(
        tool="Ultralytics OpenVINO",
        format="openvino",
        quantize=None,
        settings=(("openvino", "fp32"), ("openvino", "bf16")),
    ),
    Export(
        tool="Ultralytics OpenVINO, int8",
        format="openvino",
        quantize=8,
        settings=(("openvino", "int8"), ("openvino", "int8-bf16")),
    ),
)


def to_planes(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, H, W, 3) uint8 BGR to (1, 3, H, W) float32 RGB in 0..1: what its networks take."""
    planes: NDArray[np.float32] = cv2.dnn.blobFromImage(frame[0], 1 / 255, swapRB=True)
    return planes


def boxes_of(outputs: Mapping[str, NDArray[np.generic]]) -> Detections:
    """Decoded outputs as they are; raw ones, (1, 4 + C, N), decoded and suppressed by class."""
    if "scores" in outputs:
        boxes, scores, classes = (np.array(outputs[n][0]) for n in ("boxes", "scores", "classes"))
        keep = scores > 0
        return Detections(boxes[keep].astype(np.float32), scores[keep].astype(np.float32), classes[keep])
    rows = np.asarray(next(iter(outputs.values()))[0], np.float32).T
    scores = rows[:, 4:].max(1)
    best = np.argsort(-scores, kind="stable")[:CANDIDATES]
    half = rows[best, 2:4] / 2
    boxes = np.concatenate([rows[best, :2] - half, rows[best, :2] + half], axis=1)
    classes = rows[best, 4:].argmax(1)
    kept = suppressed(boxes, classes)[:MOST]
    return Detections(boxes[kept], scores[best][kept], classes[kept].astype(np.int64))


def suppressed(boxes: NDArray[np.float32], classes: NDArray[np.int64]) -> list[int]:
    """Greedy suppression of boxes sorted by score, within each class."""
    overlap = (box_iou(boxes, boxes) > NMS_IOU) & (classes[:, None] == classes[None])
    kept: list[int] = []
    for i in range(len(boxes)):
        if not overlap[i, kept].any():
            kept.append(i)
    return kept


class Agreement:
    """How many of the boxes that the fp32 network is surest of another one finds on the same frames, 0..1.

    Found: among its own, whatever class and score they have, one has an IoU of 0.5 with it. Random weights give classes
    and scores that lie too close together to compare.
    """

    def __init__(self, reference: Infer, frames: Sequence[NDArray[np.uint8]]) -> None:
        self._frames = frames
        found = [boxes_of(reference(f)) for f in frames]
        self.threshold = float(np.sort(np.concatenate([f.scores for f in found]))[-SHOWN * len(frames)])
        self._sure = [f.boxes_xyxy[f.scores >= self.threshold] for f in found]

    def __call__(self, infer: Infer) -> dict[str, float]:
        """The one score."""
        overlaps = [box_iou(s, boxes_of(infer(f)).boxes_xyxy) for s, f in zip(self._sure, self._frames, strict=True)]
        hits = np.concatenate([o.max(axis=1, initial=0) >= MATCH_IOU for o in overlaps])
        return {"fp32's boxes found": float(hits.mean())}


class Exporter:
    """Ultralytics in its own process: one set of weights, then every export of it."""

    def __init__(self, python: Path | None, work: Path, calibration: Sequence[NDArray[np.uint8]]) -> None:
        self._python, self._work = python, work
        self._size = list(calibration[0].shape[1:3])
        work.mkdir()
        self._frames = work / "frames.npy"
        np.save(self._frames, np.stack(calibration))
        self._data = write_dataset(work / "data", calibration)

    def network(self) -> None:
        """Make the weights that all exports start from. Raises PeerFailed."""
        self._run(
            {"method": "network", "architecture": ARCHITECTURE, "frames": str(self._frames)}, self._work / "net.pt"
        )

    def all(self) -> tuple[list[Made], list[Skipped]]:
        """Every export, and those that failed."""
        made: list[Made] = []
        skipped: list[Skipped] = []
        for export in EXPORTS:
            progress(export.tool)
            folder = self._work / export.tool.replace(" ", "_").replace(",", "")
            folder.mkdir()
            weights = folder / "net.pt"
            weights.write_bytes((self._work / "net.pt").read_bytes())
            job = {"method": "export", "format": export.format, "quantize": export.quantize, "size": self._size}
            try:
                done = self._run(job | {"data": str(self._data)}, weights)
            except PeerFailed as error:
                skipped.append(Skipped(export.tool, str(error)))
                continue
            made.append(made_of(export, done))
        return made, skipped

    def _run(self, job: dict[str, Any], weights: Path) -> Finished:
        return run_script(
            self._python, "ultralytics_peer.py", job | {"weights": str(weights)}, weights.parent, _no_answer
        )


def made_of(export: Export, done: Finished) -> Made:
    """The row's file and figures."""
    said = done.documents[-1]
    return Made(
        tool=export.tool,
        path=Path(said["file"]),
        settings=export.settings,
        says="FP16" if export.quantize == 16 else "",
        seconds=round(done.seconds, 1),
        cpu_s=round(done.cpu_s, 1),
        rss_mb=done.rss_mb,
        notes=("preprocessing stands outside the graph and is counted in its time; suppression is not",),
        packages=said["packages"],
    )


def _no_answer(document: dict[str, Any]) -> float:
    raise PeerFailed(f"it asked for a score: {document}")


def write_dataset(folder: Path, frames: Sequence[NDArray[np.uint8]]) -> Path:
    """The frames as a dataset that Ultralytics reads, at network size, without objects; its description file."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / "images" / f"{i:04d}.png"), frame[0])
        (folder / "labels" / f"{i:04d}.txt").write_text("", encoding="utf-8")
    description = {"path": str(folder), "train": "images", "val": "images", "names": dict(enumerate(CLASSES))}
    file = folder / "data.yaml"
    file.write_text(json.dumps(description), encoding="utf-8")
    return file


def write_spec(path: Path, size_hw: Sequence[int], threshold: float) -> Path:
    """What `edgetl export` must know of the same network; threshold: from which score a box counts."""
    head = {"decoder": "yolo", "labels": list(CLASSES), "metric": "agreement", "threshold": round(threshold, 4)}
    head |= {"top_candidates": CANDIDATES, "max_detections": MOST, "nms_iou": NMS_IOU}
    spec = {
        "name": "yolo",
        "input": {"size_hw": list(size_hw), "channel_order": "rgb", "mean": [0, 0, 0], "std": [255, 255, 255]},
        "weights": {"source": "random", "licence": "none"},
        "heads": [head],
    }
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path
