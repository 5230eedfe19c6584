"""A tiny detector in ONNX, a valid bundle around it, a rendered clip and a fake camera."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgetl_runtime.bundle import file_entry, write_manifest
from edgetl_runtime.errors import CameraError
from edgetl_runtime.golden import Golden, write_golden
from edgetl_runtime.result import Frame
from edgetl_runtime.spec import (
    SCHEMA_VERSION,
    Chosen,
    Decode,
    Hop,
    Latency,
    Manifest,
    Preprocess,
    Provenance,
    TargetResult,
    TensorSpec,
    Variant,
)

SIZE_HW = (64, 96)
K = 8
LABELS = ("vehicle", "pedestrian", "light")
CELL = 16


def tiny_model(path: Path, *, bias: float = 0.0) -> Path:
    """A detector of bright cells: mean of each 16x16 cell as score, the K brightest become boxes."""
    rows, columns = SIZE_HW[0] // CELL, SIZE_HW[1] // CELL
    cells = rows * columns
    y, x = np.divmod(np.arange(cells), columns)
    grid = np.stack([x * CELL, y * CELL, (x + 1) * CELL, (y + 1) * CELL], 1).astype(np.float32)
    kernel = np.full((1, 3, CELL, CELL), 1 / (3 * CELL * CELL * 255), np.float32)
    constants = {
        "kernel": kernel,
        "bias": np.array([bias], np.float32),
        "flat": np.array([1, cells], np.int64),
        "k": np.array([K], np.int64),
        "grid": grid,
        "classes_by_cell": (np.arange(cells) % len(LABELS)).astype(np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["map"], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["map", "flat"], ["flat_map"]),
        helper.make_node("TopK", ["flat_map", "k"], ["scores", "index"], axis=1),
        helper.make_node("Gather", ["grid", "index"], ["boxes"]),
        helper.make_node("Gather", ["classes_by_cell", "index"], ["classes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, K, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, K]),
            helper.make_tensor_value_info("classes", TensorProto.INT64, [1, K]),
        ],
        [onnx.numpy_helper.from_array(v, name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def expected_outputs(frames: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The tiny model in plain numpy."""
    rows, columns = SIZE_HW[0] // CELL, SIZE_HW[1] // CELL
    mean = frames.astype(np.float64).reshape(-1, rows, CELL, columns, CELL * 3).mean((2, 4)) / 255
    flat = mean.reshape(len(frames), -1)
    index = np.argsort(-flat, axis=1, kind="stable")[:, :K]
    y, x = np.divmod(index, columns)
    return {
        "boxes": (np.stack([x, y, x + 1, y + 1], 2) * CELL).astype(np.float32),
        "scores": np.take_along_axis(flat, index, 1).astype(np.float32),
        "classes": (index % len(LABELS)).astype(np.int64),
    }


def scene(height: int, width: int, step: int = 0) -> NDArray[np.uint8]:
    """A dark picture with one bright square that moves with `step`."""
    image = np.full((height, width, 3), 20, np.uint8)
    side = max(height // 3, 1)
    left = (step * max(width // 20, 1)) % max(width - side, 1)
    image[height // 3 : height // 3 + side, left : left + side] = (230, 240, 250)
    return image


def write_clip(path: Path, *, frames: int = 12, height: int = 180, width: int = 320, fps: float = 30.0) -> Path:
    """An mp4 of `scene`."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    for i in range(frames):
        writer.write(scene(height, width, i))
    writer.release()
    return path


def make_manifest(folder: Path, **changes: Any) -> Manifest:
    """The manifest of the test bundle, listing every file in `folder`."""
    listed = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": "tiny",
        "task": "detect",
        "labels": LABELS,
        "preprocess": Preprocess(size_hw=SIZE_HW, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        "inputs": (TensorSpec(name="frame", dtype="uint8", shape=(1, *SIZE_HW, 3)),),
        "outputs": (
            TensorSpec(name="boxes", dtype="float32", shape=(1, K, 4)),
            TensorSpec(name="scores", dtype="float32", shape=(1, K)),
            TensorSpec(name="classes", dtype="int64", shape=(1, K)),
        ),
        "decode": Decode(max_detections=K, score_threshold=0.5, stride=CELL),
        "variants": (
            Variant(name="fp32", file="model.fp32.onnx", precision="fp32", engines=("onnxruntime", "openvino")),
        ),
        "chosen": Chosen(variant="fp32", engine="onnxruntime", reason="the only one"),
        "targets": {"cpu": TargetResult(variant="fp32", engine="onnxruntime", deployable=True)},
        "hops": (Hop(hop="torch -> onnx", metric="ap50", value=0.8, max_rel_error=1e-6, cosine=1.0, passed=True),),
        "latencies": (Latency(engine="onnxruntime", variant="fp32", p50_ms=0.2, p95_ms=0.3, p99_ms=0.4, runs=50),),
        "golden": "golden.npz",
        "files": {p.relative_to(folder).as_posix(): file_entry(p) for p in listed},
        "provenance": Provenance(
            edgetl="0.1.0",
            created="2025-01-01T00:00:00Z",
            architecture="tiny",
            weights="made by hand",
            weights_sha256="0" * 64,
            weights_licence="Apache-2.0",
            dataset="squares",
            dataset_sha256="0" * 64,
            machine="test",
        ),
    }
    return Manifest(**(values | changes))


def write_test_bundle(folder: Path, **changes: Any) -> Path:
    """A valid bundle in `folder`; `changes` replace parts of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(folder / "model.fp32.onnx")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (folder / "report.html").write_text("<!doctype html><title>tiny</title>")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, *SIZE_HW, 3), np.uint8)
    frames[:, :CELL, :CELL] = 250
    write_golden(folder / "golden.npz", Golden(frames=frames, **expected_outputs(frames)))
    write_manifest(folder, make_manifest(folder, **changes))
    return folder


@dataclass
class FakeCamera:
    """A camera fed by arrays; `delay_s` between frames, `fail_at` raises there, `live` picks the policy."""

    images: list[NDArray[np.uint8]]
    live: bool = True
    fps: float = 30.0
    delay_s: float = 0.0
    fail_at: int = -1
    camera_id: str = "fake"
    failed: int = 0
    notes: list[str] = field(default_factory=list)
    closed: bool = False
    reads: int = 0

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the first picture."""
        return self.images[0].shape[0], self.images[0].shape[1]

    @property
    def frame_count(self) -> int | None:
        """How many pictures there are."""
        return len(self.images)

    def read(self) -> Frame | None:
        """The next picture, or None at the end."""
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.reads == self.fail_at:
            raise CameraError("the cable is out")
        if self.reads >= len(self.images):
            return None
        self.reads += 1
        stamp = time.monotonic_ns()
        return Frame(self.images[self.reads - 1], self.reads - 1, self.camera_id, stamp)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


if __name__ == "__main__":
    import sys

    write_test_bundle(Path(sys.argv[1]))
