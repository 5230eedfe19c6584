"""Tiny networks in ONNX, valid bundles around them, a rendered clip and a fake camera.

`python tests/runtime/runtime_support.py DIR` writes the bundle of the detector to DIR.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgetl_runtime.bundle import file_entry, write_manifest
from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.golden import Golden, write_golden
from edgetl_runtime.health import Health
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.prove import check_codes
from edgetl_runtime.result import Frame
from edgetl_runtime.snapshot import Snapshot, stage_times
from edgetl_runtime.spec import (
    SCHEMA_VERSION,
    Chosen,
    ClassifyHead,
    DetectHead,
    FileEntry,
    Head,
    Hop,
    Latency,
    Manifest,
    Preprocess,
    Provenance,
    SegmentHead,
    TargetResult,
    TensorSpec,
    Variant,
)

SIZE_HW = (64, 96)
K = 8
LABELS = ("vehicle", "pedestrian", "light")
CELL = 16
DETECT = DetectHead(labels=LABELS, max_detections=K, thresholds=(0.5, 0.5, 0.5), stride=CELL)
SEGMENT = SegmentHead(name="ground", labels=("background", "road", "lane"), stride=4)
CLASSIFY = ClassifyHead(name="light", labels=("night", "dusk", "day"), thresholds=(0.4, 0.4, 0.4))
HEADS = (DETECT, SEGMENT, CLASSIFY)
LEVELS = (0.0, 0.5, 1.0)
"""The brightness that each class of ground and light stands for."""


def _reads_codes() -> bool:
    try:
        check_codes()
    except InputError:
        return False
    return True


needs_codes = pytest.mark.skipif(not _reads_codes(), reason="this OpenCV was built without QR codes")


def until(met: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for it, so long at the most."""
    end_s = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end_s
        time.sleep(0.002)


def tiny_model(path: Path, *, bias: float = 0.0) -> Path:
    """A detector of bright cells: mean of each 16x16 cell as score, the K brightest become boxes."""
    nodes, constants = _detector(bias)
    return _save(path, nodes, constants, output_specs((DETECT,)))


def many_model(path: Path) -> Path:
    """The detector with two more heads and an embedding.

    Every 4x4 cell is of the class whose level its brightness is nearest to, so is the whole frame; the embedding is
    the mean colour.
    """
    nodes, constants = _detector(0.0)
    level = np.array(LEVELS, np.float32)
    # |b - level|^2 without the b^2 that all classes share; 10 makes the softmax decided.
    constants |= {
        "slope": np.repeat(2 * level[:, None] / (3 * 255), 3, axis=1).reshape(3, 3, 1, 1).astype(np.float32),
        "offset": -(level**2),
        "ten": np.array(10, np.float32),
        "full": np.array(255, np.float32),
        "row": np.array([1, 3], np.int64),
    }
    step = [SEGMENT.stride, SEGMENT.stride]
    nodes += [
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=step, strides=step),
        helper.make_node("Conv", ["cells", "slope", "offset"], ["ground_map"]),
        helper.make_node("ArgMax", ["ground_map"], ["ground_index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["ground_index"], ["mask_ground"], to=TensorProto.UINT8),
        helper.make_node("GlobalAveragePool", ["planes"], ["colour"]),
        helper.make_node("Conv", ["colour", "slope", "offset"], ["light_map"]),
        helper.make_node("Reshape", ["light_map", "row"], ["light_row"]),
        helper.make_node("Mul", ["light_row", "ten"], ["light_logits"]),
        helper.make_node("Softmax", ["light_logits"], ["probabilities"], axis=1),
        helper.make_node("Div", ["colour", "full"], ["share"]),
        helper.make_node("Reshape", ["share", "row"], ["embedding"]),
    ]
    return _save(path, nodes, constants, output_specs(HEADS))


def _detector(bias: float) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    rows, columns = SIZE_HW[0] // CELL, SIZE_HW[1] // CELL
    cells = rows * columns
    y, x = np.divmod(np.arange(cells), columns)
    constants = {
        "kernel": np.full((1, 3, CELL, CELL), 1 / (3 * CELL * CELL * 255), np.float32),
        "bias": np.array([bias], np.float32),
        "flat": np.array([1, cells], np.int64),
        "k": np.array([K], np.int64),
        "grid": np.stack([x * CELL, y * CELL, (x + 1) * CELL, (y + 1) * CELL], 1).astype(np.float32),
        "classes_by_cell": (np.arange(cells) % len(LABELS)).astype(np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["map"], "/cells/Conv", strides=[CELL, CELL]),
        helper.make_node("Reshape", ["map", "flat"], ["flat_map"]),
        helper.make_node("TopK", ["flat_map", "k"], ["scores", "index"], axis=1),
        helper.make_node("Gather", ["grid", "index"], ["boxes"]),
        helper.make_node("Gather", ["classes_by_cell", "index"], ["classes"]),
    ]
    return nodes, constants


def _save(
    path: Path, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], outputs: tuple[TensorSpec, ...]
) -> Path:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])],
        [helper.make_tensor_value_info(t.name, kinds[t.dtype], list(t.shape)) for t in outputs],
        [onnx.numpy_helper.from_array(v, name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def output_specs(heads: tuple[Head, ...]) -> tuple[TensorSpec, ...]:
    """The outputs of the detector, or of the network with several heads."""
    boxes = (
        TensorSpec(name="boxes", dtype="float32", shape=(1, K, 4)),
        TensorSpec(name="scores", dtype="float32", shape=(1, K)),
        TensorSpec(name="classes", dtype="int64", shape=(1, K)),
    )
    if heads == (DETECT,):
        return boxes
    cells = (1, SIZE_HW[0] // SEGMENT.stride, SIZE_HW[1] // SEGMENT.stride)
    return (
        *boxes,
        TensorSpec(name="mask_ground", dtype="uint8", shape=cells),
        TensorSpec(name="probabilities", dtype="float32", shape=(1, len(CLASSIFY.labels))),
        TensorSpec(name="embedding", dtype="float32", shape=(1, 3)),
    )


def expected_outputs(frames: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The detector in plain numpy."""
    flat = _brightness(frames, CELL).reshape(len(frames), -1)
    index = np.argsort(-flat, axis=1, kind="stable")[:, :K]
    y, x = np.divmod(index, SIZE_HW[1] // CELL)
    return {
        "boxes": (np.stack([x, y, x + 1, y + 1], 2) * CELL).astype(np.float32),
        "scores": np.take_along_axis(flat, index, 1).astype(np.float32),
        "classes": (index % len(LABELS)).astype(np.int64),
    }


def expected_many(frames: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The network with several heads in plain numpy."""
    levels = np.array(LEVELS)
    far = np.abs(_brightness(frames, SEGMENT.stride)[..., None] - levels)
    logits = -10 * (frames.mean((1, 2, 3))[:, None] / 255 - levels) ** 2
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return expected_outputs(frames) | {
        "mask_ground": far.argmin(-1).astype(np.uint8),
        "probabilities": (shares / shares.sum(1, keepdims=True)).astype(np.float32),
        "embedding": (frames.mean((1, 2)) / 255).astype(np.float32),
    }


def _brightness(frames: NDArray[np.uint8], cell: int) -> NDArray[np.float64]:
    """(N, rows, columns) mean of each cell in 0..1."""
    rows, columns = SIZE_HW[0] // cell, SIZE_HW[1] // cell
    means: NDArray[np.float64] = frames.reshape(-1, rows, cell, columns, cell * 3).mean((2, 4)) / 255
    return means


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


def manifest_of(**changes: Any) -> Manifest:
    """A manifest of the detector's bundle, with its files not on disk; `changes` replace parts of it."""
    heads = changes.get("heads", (DETECT,))
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": "tiny",
        "heads": heads,
        "preprocess": Preprocess(size_hw=SIZE_HW, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        "inputs": (TensorSpec(name="frame", dtype="uint8", shape=(1, *SIZE_HW, 3)),),
        "outputs": output_specs(heads),
        "variants": (
            Variant(name="fp32", file="model.fp32.onnx", precision="fp32", engines=("onnxruntime", "openvino")),
        ),
        "chosen": Chosen(variant="fp32", engine="onnxruntime", reason="the only one"),
        "targets": {"cpu": TargetResult(variant="fp32", engine="onnxruntime", deployable=True)},
        "hops": (Hop(hop="torch -> onnx", metric="ap50", value=0.8, max_rel_error=1e-6, cosine=1.0, passed=True),),
        "latencies": (Latency(engine="onnxruntime", variant="fp32", p50_ms=0.2, p95_ms=0.3, p99_ms=0.4, runs=50),),
        "golden": "golden.npz",
        "files": {n: FileEntry(sha256="ab" * 32, bytes=1_500_000) for n in ("golden.npz", "model.fp32.onnx")},
        "provenance": Provenance(
            edgetl="0.1.0",
            created="2025-01-01T00:00:00Z",
            architecture="tiny",
            weights="made by hand",
            weights_sha256="0" * 64,
            weights_licence="Apache-2.0",
            dataset="squares",
            dataset_sha256="1" * 64,
            machine="test",
        ),
    }
    return Manifest(**(values | changes))


def make_manifest(folder: Path, **changes: Any) -> Manifest:
    """The manifest of the bundle in `folder`, listing every file there."""
    listed = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    files = {p.relative_to(folder).as_posix(): file_entry(p) for p in listed}
    return manifest_of(**({"files": files} | changes))


def write_test_bundle(folder: Path, **changes: Any) -> Path:
    """A valid bundle in `folder`, of the detector or with heads=HEADS; `changes` replace parts of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, *SIZE_HW, 3), np.uint8)
    frames[:, :CELL, :CELL] = 250
    if changes.get("heads", (DETECT,)) == (DETECT,):
        tiny_model(folder / "model.fp32.onnx")
        outputs = expected_outputs(frames)
    else:
        frames[1], frames[2] = frames[1] // 4, 255 - frames[2] // 4
        many_model(folder / "model.fp32.onnx")
        outputs = expected_many(frames)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (folder / "report.html").write_text("<!doctype html><title>tiny</title>")
    write_golden(folder / "golden.npz", Golden(frames=frames, outputs=outputs))
    write_manifest(folder, make_manifest(folder, **changes))
    return folder


@contextmanager
def small_disk(most: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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


def snapshot_of(*, health: Health | None = None, ledger: Ledger | None = None, **changes: Any) -> Snapshot:
    """A snapshot of a loop that has done nothing; `changes` replace parts of it."""
    health = health or Health("cam")
    t_ns = time.monotonic_ns()
    values: dict[str, Any] = {
        "t_ns": t_ns,
        "t_unix_s": 1_700_000_000.0,
        "uptime_s": 12.0,
        "turned_ns": t_ns,
        "bundle": "tiny",
        "engine": "onnxruntime",
        "precision": "fp32",
        "camera_id": "cam",
        "captured": 0,
        "processed": 0,
        "dropped": 0,
        "failed": 0,
        "lost": 0,
        "states": {},
        "newest": None,
        "status": health.status(),
        "events": health.recent(),
        "stages": stage_times(ledger or Ledger()),
        "rss_mb": 100.0,
    }
    return Snapshot(**(values | changes))


if __name__ == "__main__":
    import sys

    write_test_bundle(Path(sys.argv[1]))
