"""Rendered scenes on disk: a data set as COCO JSON with masks, a clip as MP4 with JSON lines.

Both are written beside their place under a temporary name and renamed when whole: what stands at the place is
never half-written, and is replaced only with force.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edgetl.roadworld.calibrate import calibration_of
from edgetl.roadworld.labels import MASK_NAMES, Rendered, RenderedObject
from edgetl.roadworld.render import check_request, render_clip
from edgetl.roadworld.scene import CLASSES
from edgetl.roadworld.stills import MASKS, Still, StillLabels, rendered_stills
from edgetl_export.publish import publish_directory
from edgetl_runtime.errors import InputError
from edgetl_runtime.files import staged_file
from edgetl_runtime.geometry.calibration import calibration_yaml

MASK_CLASSES = {
    "drivable": ("background", "drivable"),
    "lanes": ("background", "lane"),
    "classes": MASK_NAMES,
}
"""What the values of each mask mean, from 0 up."""
FEW_IMAGES = 32
"""Fewer are rendered before a worker process has started."""


@dataclass(frozen=True)
class Written:
    """What was written: images (or frames) and labelled objects, those marked ignore counted apart."""

    path: Path
    images: int
    objects: int
    ignored: int
    per_class: dict[str, int]


def write_dataset(
    out: Path,
    *,
    images: int,
    domain: str,
    size_hw: tuple[int, int] = (360, 640),
    seed: int = 0,
    force: bool = False,
    val_fraction: float = 0.2,
    workers: int = 0,
    on_image: Callable[[], None] | None = None,
) -> Written:
    """Render a data set of stills.

    OUT/images/{train,val}/000000.jpg, OUT/annotations/{train,val}.json (COCO), OUT/masks/{drivable,lanes,classes}/
    {train,val}/000000.png with the names of their values in classes.txt, OUT/README.txt. The last `val_fraction` of
    the images are the validation split; every image is a scene, and so a group, of its own. `workers` processes
    render (0: as many as there are cores, at most 8; fewer than 32 images are rendered in this process); the bytes
    are the same for any number. As with every use of multiprocessing, a script that calls this needs
    `if __name__ == "__main__":`. Raises InputError for wrong values, for an existing `out` without force, and when
    the disk refuses.
    """
    check_request(size_hw, domain)
    if images < 1 or seed < 0 or not 0 <= val_fraction < 1:
        raise InputError(
            f"can't write {images} images from seed {seed} with {val_fraction:g} of them for validation",
            remedy="use at least 1 image, a seed from 0 up, and a share from 0 to below 1",
        )
    if workers < 0:
        raise InputError(f"can't render with {workers} workers", remedy="use 1 or more, or 0 for as many as cores")
    held = min(round(images * val_fraction), images - 1)
    splits = {"train": range(images - held), "val": range(images - held, images)}
    counts = _Counts()
    with publish_directory(out, force=force) as work:
        for folder in ("images", *(f"masks/{m}" for m in MASKS)):
            for split in splits:
                (work / folder / split).mkdir(parents=True)
        for layer, names in MASK_CLASSES.items():
            (work / "masks" / layer / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        (work / "annotations").mkdir()
        stills = [Still(work, split, k, index) for split, part in splits.items() for k, index in enumerate(part)]
        documents = {split: _document(domain, seed, split) for split in splits}
        with rendered_stills(stills, seed, size_hw, domain, workers if images >= FEW_IMAGES else 1) as labels:
            for still, found in zip(stills, labels, strict=True):
                _annotate(documents[still.split], still, size_hw, found)
                counts.add(found.objects)
                if on_image:
                    on_image()
        for split, document in documents.items():
            (work / "annotations" / f"{split}.json").write_text(json.dumps(document), encoding="utf-8")
        (work / "README.txt").write_text(_readme(images, held, domain, seed, size_hw), encoding="utf-8")
    return counts.written(out)


def write_clip(
    path_mp4: Path,
    *,
    seconds: float,
    fps: float = 30.0,
    size_hw: tuple[int, int] = (360, 640),
    domain: str = "day",
    seed: int = 0,
    force: bool = False,
    on_frame: Callable[[], None] | None = None,
) -> Written:
    """Render a drive as MP4 (mpeg4), its labels as PATH.labels.jsonl, one frame a line, and its camera's calibration as
    PATH.calibration.yaml, for `edgetl run --calibration`.

    Raises InputError for wrong values, a name that does not end in .mp4, an existing file without force, and
    when the disk or the encoder refuses.
    """
    if path_mp4.suffix.lower() != ".mp4":
        raise InputError(f"{path_mp4}: a clip's name must end in .mp4", remedy=f"use {path_mp4.with_suffix('.mp4')}")
    frames = render_clip(seed, seconds=seconds, fps=fps, size_hw=size_hw, domain=domain)
    sidecar, camera_file = labels_path(path_mp4), calibration_path(path_mp4)
    counts = _Counts()
    path_mp4.parent.mkdir(parents=True, exist_ok=True)
    with (
        staged_file(path_mp4, force=force) as work,
        staged_file(sidecar, force=force) as work_labels,
        staged_file(camera_file, force=force) as work_camera,
    ):
        writer = cv2.VideoWriter(str(work), cv2.VideoWriter.fourcc(*"mp4v"), fps, (size_hw[1], size_hw[0]))
        if not writer.isOpened():
            raise InputError(f"{path_mp4}: can't be written as MP4", remedy="check the folder, or cv2's video support")
        try:
            with work_labels.open("w", encoding="utf-8") as lines:
                for k, frame in enumerate(frames):
                    writer.write(frame.image)
                    lines.write(json.dumps(_frame_line(k, frame)) + "\n")
                    counts.add(frame.objects)
                    if not k:
                        work_camera.write_text(calibration_yaml(calibration_of(frame)), encoding="utf-8")
                    if on_frame:
                        on_frame()
        finally:
            writer.release()
        if _frame_count(work) != counts.images:
            raise InputError(f"{path_mp4}: the video came out incomplete", remedy="check the free space there")
    return counts.written(path_mp4)


def _frame_count(path: Path) -> int:
    """Frames in a video file; the encoder itself reports no failed write."""
    video = cv2.VideoCapture(str(path))
    try:
        return int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()


def labels_path(path_mp4: Path) -> Path:
    """Where a clip's labels lie."""
    return path_mp4.with_name(path_mp4.name + ".labels.jsonl")


def calibration_path(path_mp4: Path) -> Path:
    """Where the calibration of a clip's camera lies."""
    return path_mp4.with_name(path_mp4.name + ".calibration.yaml")


class _Counts:
    """Adds up what was rendered."""

    def __init__(self) -> None:
        self.images = self.objects = self.ignored = 0
        self.per_class = dict.fromkeys(CLASSES, 0)

    def add(self, objects: tuple[RenderedObject, ...]) -> None:
        self.images += 1
        for item in objects:
            if item.ignore:
                self.ignored += 1
            else:
                self.objects += 1
                self.per_class[CLASSES[item.label]] += 1

    def written(self, path: Path) -> Written:
        return Written(path, self.images, self.objects, self.ignored, self.per_class)


def _document(domain: str, seed: int, split: str) -> dict[str, Any]:
    return {
        "info": {"description": "roadworld: rendered driving scenes", "domain": domain, "seed": seed, "split": split},
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
    }


def _annotate(document: dict[str, Any], still: Still, size_hw: tuple[int, int], found: StillLabels) -> None:
    """Add an image and its objects to a COCO document."""
    document["images"].append(
        {
            "id": still.number + 1, "file_name": f"images/{still.split}/{still.number:06d}.jpg", "width": size_hw[1],
            "height": size_hw[0], "group": found.scene_id, "domain": found.domain, "scene_index": still.index,
        }
    )  # fmt: skip
    for item in found.objects:
        x1, y1, x2, y2 = item.box_xyxy
        a1, b1, a2, b2 = item.amodal_xyxy
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1, "image_id": still.number + 1, "category_id": item.label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(item.pixels), "iscrowd": int(item.ignore),
                "amodal_bbox": [a1, b1, a2 - a1, b2 - b1], "visible": round(item.visible, 3),
                "distance_m": round(item.distance_m, 2), "object_id": item.object_id,
            }
        )  # fmt: skip


def _frame_line(k: int, frame: Rendered) -> dict[str, Any]:
    """One line of a clip's labels; places are in base_link under the camera, see contact.Stand."""
    return {
        "frame": k,
        "time_s": round(frame.time_s, 6),
        "domain": frame.domain,
        "camera": {
            "matrix": [[round(float(v), 4) for v in row] for row in frame.matrix],
            "height_m": round(frame.height_m, 4),
            "pitch_rad": round(frame.pitch_rad, 5),
            "x_m": round(frame.pose.x_m, 4),
            "y_m": round(frame.pose.y_m, 4),
            "heading_rad": round(frame.pose.heading_rad, 6),
        },
        "objects": [
            {
                "object_id": o.object_id,
                "label": CLASSES[o.label],
                "class": o.label,
                "box_xyxy": list(o.box_xyxy),
                "amodal_xyxy": list(o.amodal_xyxy),
                "visible": round(o.visible, 3),
                "distance_m": round(o.distance_m, 2),
                "ignore": o.ignore,
                "position_m": _rounded(o.stand.position_m),
                "yaw_rad": round(o.stand.yaw_rad, 5),
                "size_lwh_m": _rounded(o.stand.size_lwh_m),
                "touches_m": [_rounded(corner) for corner in o.stand.touches_m],
            }
            for o in frame.objects
        ],
    }


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(v, 4) for v in values]


def _readme(images: int, held: int, domain: str, seed: int, size_hw: tuple[int, int]) -> str:
    table = "\n".join(f"  {k:3d}  {name}" for k, name in enumerate(MASK_NAMES))
    digits = max(math.ceil(math.log10(images + 1)), 1)
    return f"""roadworld: rendered driving scenes, made by `edgetl data render`. No photograph is among them.

{images - held:{digits}d} images  images/train   annotations/train.json
{held:{digits}d} images  images/val     annotations/val.json
domain {domain}, seed {seed}, {size_hw[1]} x {size_hw[0]} pixels. The same seed renders the same pictures.

annotations: COCO JSON. bbox is the visible part; amodal_bbox the whole object inside the picture; iscrowd 1 marks
what is too small, too far or too hidden to be asked for; distance_m is measured along the ground.
masks/drivable, masks/lanes: 1 where the asphalt, or its paint, is to be seen.
masks/classes: one byte per pixel
{table}
"""
