"""What all contestants run: one clip, one set of numbered pictures, one network as ONNX, OpenVINO and bundle.

Everything lies in a work folder and is used again while its description stays the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from compilers.processes import PeerFailed, run, run_script
from compilers.yolo_case import ARCHITECTURE, Agreement, boxes_of, to_planes, write_spec
from numpy.typing import NDArray
from stream.number import draw_number

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import load_engine
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.spec import Preprocess

SEED_FRAMES = 32
JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Paths of what was made, and what a contestant must be told of the network.

    candidates, boxes: of a frame, on average, above the threshold, before and after suppression. fp32: the bundle's
    float variant. chosen: its chosen pair.
    """

    clip: Path
    pictures: Path
    onnx: Path
    openvino: Path | None
    bundle: Path
    size: int
    source_hw: tuple[int, int]
    threshold: float
    candidates: float
    boxes: float
    fp32: str
    chosen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be made. frames: of the clip. pictures: numbered JPEG files for the live source."""

    clip: Path
    ultralytics_python: Path
    frames: int
    pictures: int
    size: int = 640


def prepare(wish: Wish, work: Path, say: Any) -> Prepared:
    """Everything, made now or found from before. Raises PeerFailed where Ultralytics or the export fails."""
    described = json.dumps(dataclasses.asdict(wish), default=str, sort_keys=True)
    note = work / "prepared.json"
    if note.is_file():
        found = json.loads(note.read_text(encoding="utf-8"))
        if found["wish"] == described:
            return _prepared(found["made"])
        if _but_frames(found["wish"]) == _but_frames(described):
            made = _prepared(found["made"])
            write_clip(made.clip, there_and_back(read_frames(wish.clip), wish.frames))
            note.write_text(json.dumps({**found, "wish": described}), encoding="utf-8")
            return made
    if work.exists() and any(work.iterdir()) and not note.is_file():
        raise PeerFailed(f"{work} holds something else; name an empty folder")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    note.write_text(json.dumps({"wish": "begun"}), encoding="utf-8")
    made = _make(wish, work, say)
    note.write_text(json.dumps({"wish": described, "made": dataclasses.asdict(made)}, default=str), encoding="utf-8")
    return made


def _but_frames(wish: str) -> dict[str, Any]:
    """What a wish asks for beside the length of the clip."""
    return {k: v for k, v in json.loads(wish).items() if k != "frames"} if wish.startswith("{") else {}


def _prepared(made: dict[str, Any]) -> Prepared:
    paths = {k: made[k] and Path(made[k]) for k in ("clip", "pictures", "onnx", "openvino", "bundle")}
    return Prepared(**{**made, **paths, "source_hw": tuple(made["source_hw"])})


def _make(wish: Wish, work: Path, say: Any) -> Prepared:
    say("clip and numbered pictures")
    frames = read_frames(wish.clip)
    write_clip(work / "clip.mp4", there_and_back(frames, wish.frames))
    write_pictures(work / "pictures", there_and_back(frames, wish.pictures))
    inputs = at_network_size(frames[:: max(len(frames) // SEED_FRAMES, 1)][:SEED_FRAMES], wish.size)
    say(f"{ARCHITECTURE} with random weights, exported by Ultralytics")
    onnx, openvino = export_by_ultralytics(wish, work, inputs)
    threshold, candidates, boxes = judge(onnx, inputs)
    say(f"edgetl export; {boxes:.0f} boxes a frame at a threshold of {threshold:.4f}")
    bundle = work / "yolo.bundle"
    export_by_edgetl(onnx, bundle, size=wish.size, threshold=threshold)
    manifest = open_bundle(bundle).manifest
    return Prepared(
        clip=work / "clip.mp4",
        pictures=work / "pictures",
        onnx=onnx,
        openvino=openvino,
        bundle=bundle,
        size=wish.size,
        source_hw=(frames[0].shape[0], frames[0].shape[1]),
        threshold=threshold,
        candidates=candidates,
        boxes=boxes,
        fp32=next(v.name for v in manifest.variants if v.precision == "fp32"),
        chosen=f"{manifest.chosen.engine} {manifest.chosen.variant}",
    )


def read_frames(clip: Path, most: int = 400) -> list[NDArray[np.uint8]]:
    """The clip's frames at their own size. Raises PeerFailed where it has none."""
    capture = cv2.VideoCapture(str(clip))
    frames: list[NDArray[np.uint8]] = []
    while len(frames) < most:
        good, image = capture.read()
        if not good:
            break
        frames.append(image)
    if not frames:
        raise PeerFailed(f"{clip} gives no frames")
    return frames


def there_and_back(frames: Sequence[NDArray[np.uint8]], count: int) -> list[NDArray[np.uint8]]:
    """`count` frames of a clip played forwards and backwards, so that no cut is in it."""
    turn = [*frames, *frames[-2:0:-1]]
    return [turn[i % len(turn)] for i in range(count)]


def write_clip(path: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """MPEG-4 at 30 frames/s. Raises PeerFailed where this OpenCV can't."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (width, height))
    if not writer.isOpened():
        raise PeerFailed("this OpenCV writes no MPEG-4")
    for frame in frames:
        writer.write(frame)
    writer.release()


def write_pictures(folder: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """A JPEG file for each frame, its place in the sequence drawn into it."""
    folder.mkdir()
    for i, frame in enumerate(frames):
        picture = frame.copy()
        draw_number(picture, i)
        cv2.imwrite(str(folder / f"{i:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def at_network_size(frames: Sequence[NDArray[np.uint8]], size: int) -> list[NDArray[np.uint8]]:
    """Each letterboxed, (1, size, size, 3)."""
    letterbox = Letterbox(Preprocess(size_hw=(size, size), mean=(0.0,) * 3, std=(1.0,) * 3))
    return [letterbox(f)[0].copy() for f in frames]


def export_by_ultralytics(wish: Wish, work: Path, inputs: Sequence[NDArray[np.uint8]]) -> tuple[Path, Path | None]:
    """The network as ONNX, and as an OpenVINO folder where that export works."""
    folder = work / "ultralytics"
    folder.mkdir()
    np.save(folder / "frames.npy", np.stack(inputs))
    weights = str(folder / "net.pt")
    common: dict[str, Any] = {"weights": weights, "frames": str(folder / "frames.npy"), "architecture": ARCHITECTURE}
    common |= {"quantize": None, "size": [wish.size, wish.size], "data": None}

    def step(**job: Any) -> Path:
        done = run_script(wish.ultralytics_python, "ultralytics_peer.py", common | job, folder, lambda _: 0.0)
        return Path(done.documents[-1]["file"])

    step(method="network")
    onnx = step(method="export", format="onnx")
    try:
        named = step(method="export", format="openvino")
    except PeerFailed:
        return onnx, None
    for copy in named.parent.glob("named.*"):  # for this project's engines; Ultralytics shall find its own file
        copy.unlink()
    return onnx, named.parent


def judge(onnx: Path, inputs: Sequence[NDArray[np.uint8]]) -> tuple[float, float, float]:
    """A threshold at which some SHOWN boxes a frame survive; candidates and boxes of a frame at it."""
    engine = load_engine("onnxruntime", onnx, precision="fp32")
    try:
        outputs = [engine.infer({engine.inputs[0].name: to_planes(frame)}) for frame in inputs]
    finally:
        engine.close()
    answers = iter(outputs)
    threshold = round(Agreement(lambda _: next(answers), inputs).threshold, 4)
    scores = [np.asarray(next(iter(o.values())))[0, 4:].max(axis=0) for o in outputs]
    candidates = float(np.mean([(s >= threshold).sum() for s in scores]))
    boxes = float(np.mean([(boxes_of(o).scores >= threshold).sum() for o in outputs]))
    return threshold, candidates, boxes


def export_by_edgetl(onnx: Path, bundle: Path, *, size: int, threshold: float) -> None:
    """The same file as a bundle, with everything that belongs to the frame in its graph.

    Calibrated on rendered driving: frames of one clip show one scene, which the export refuses.
    """
    data = bundle.with_name("data")
    _edgetl(["data", "render", str(data), "--images", "80"], bundle.with_name("render.log"))
    spec = write_spec(bundle.with_name("spec.yaml"), (size, size), threshold)
    options = ["--spec", str(spec), "--data", str(data), "--targets", "cpu", "--max-drop", "100", "--fresh"]
    _edgetl(["export", str(onnx), "--out", str(bundle), *options], bundle.with_suffix(".log"))


def _edgetl(arguments: Sequence[str], log: Path) -> None:
    run([sys.executable, "-m", "edgetl.cli", *arguments, "--json"], log, dict(os.environ))
