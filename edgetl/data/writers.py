"""One writer for each format: labels as the format has them, images copied byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from numpy.typing import NDArray

from edgetl.data.bdd import NO_TIME
from edgetl.data.dataset import Dataset, MaskLayer, Sample
from edgetl.data.header import image_size
from edgetl.data.kitti import DONT_CARE, written_name
from edgetl.data.listed import CLASSES_FILE
from edgetl.data.masks import ONE_LAYER


@dataclass(frozen=True, slots=True)
class Placed:
    """A sample and the file name that its image gets."""

    sample: Sample
    name: str

    @property
    def stem(self) -> str:
        """The name without its suffix, which the labels go by."""
        return Path(self.name).stem


Splits = Mapping[str, Dataset]
Places = Mapping[str, list[Placed]]
Files = dict[str, list[Path]]
Writer = Callable[[Splits, Places, Path, Callable[[], None]], Files]


def write_masks(splits: Splits, placed: Places, work: Path, *, plain: bool) -> None:
    """Masks beside the images. plain: an only layer `classes` lies in masks/ itself, as where there are no boxes."""
    layers = next(iter(splits.values())).layers
    one = plain and [x.name for x in layers] == [ONE_LAYER]
    for index, layer in enumerate(layers):
        folder = work / "masks" if one else work / "masks" / layer.name
        folder.mkdir(parents=True, exist_ok=True)
        _write_lines((work if one else folder) / CLASSES_FILE, _class_lines(layer))
        for split, places in placed.items():
            (folder / split).mkdir()
            for p in places:
                mask = p.sample.masks[index] if p.sample.masks else None
                if mask is not None:
                    shutil.copyfile(mask, folder / split / f"{p.stem}.png")


def _class_lines(layer: MaskLayer) -> list[str]:
    if not layer.values:
        return list(layer.classes)
    texts = (",".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in layer.values)
    return [f"{name}\t{text}" for name, text in zip(layer.classes, texts, strict=True)]


def _write_lines(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _copy(p: Placed, folder: Path, on_image: Callable[[], None]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(p.sample.image, folder / p.name)
    on_image()
    return folder / p.name


def _pixels(sample: Sample) -> tuple[int, int, NDArray[np.float64]]:
    """Width and height of the image, and the boxes (N, 4) in pixels, to a ten-thousandth of one."""
    width, height = image_size(sample.image)
    scaled = sample.boxes.astype(np.float64) * (width, height, width, height)
    return width, height, scaled.round(4)


def _number(value: float) -> str:
    """Without decimals where there are none, as most tools write and some only read pixels."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _write_list_of_classes(splits: Splits, work: Path) -> None:
    if classes := next(iter(splits.values())).classes:
        _write_lines(work / CLASSES_FILE, list(classes))


def write_coco(splits: Splits, placed: Places, work: Path, on_image: Callable[[], None]) -> Files:
    """images/<split>/, annotations/<split>.json."""
    files: Files = {}
    (work / "annotations").mkdir()
    for split, dataset in splits.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        files[split] = []
        for number, p in enumerate(placed[split], start=1):
            files[split].append(_copy(p, work / "images" / split, on_image))
            width, height, boxes = _pixels(p.sample)
            images.append(
                {
                    "id": number, "file_name": f"images/{split}/{p.name}", "width": width, "height": height,
                    "group": p.sample.group, "domain": p.sample.domain,
                }
            )  # fmt: skip
            for (x1, y1, x2, y2), label, ignore in zip(boxes.tolist(), p.sample.labels, p.sample.ignore, strict=True):
                w, h = round(x2 - x1, 4), round(y2 - y1, 4)
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1,
                        "bbox": [x1, y1, w, h], "area": round(w * h, 4), "iscrowd": int(ignore),
                    }
                )  # fmt: skip
        categories = [{"id": i, "name": name} for i, name in enumerate(dataset.classes, start=1)]
        document = {"info": {"split": split}, "images": images, "annotations": annotations, "categories": categories}
        (work / "annotations" / f"{split}.json").write_text(json.dumps(document), encoding="utf-8")
    return files


def write_yolo(splits: Splits, placed: Places, work: Path, on_image: Callable[[], None]) -> Files:
    """images/<split>/, labels/<split>/, data.yaml."""
    import yaml

    files: Files = {}
    for split in splits:
        files[split] = [_copy(p, work / "images" / split, on_image) for p in placed[split]]
        for p in placed[split]:
            boxes = p.sample.boxes.astype(np.float64)
            rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
            lines = [
                f"{label} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}"
                for label, (cx, cy, w, h) in zip(p.sample.labels.tolist(), rows.tolist(), strict=True)
            ]
            _write_lines(work / "labels" / split / f"{p.stem}.txt", lines)
    names = list(next(iter(splits.values())).classes)
    document = {"path": ".", **{split: f"images/{split}" for split in splits}, "names": names}
    (work / "data.yaml").write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return files


def write_voc(splits: Splits, placed: Places, work: Path, on_image: Callable[[], None]) -> Files:
    """JPEGImages/, Annotations/, ImageSets/Main/<split>.txt, classes.txt.

    A box that doesn't lie on whole pixels keeps its decimals: rounded it would move by up to half a pixel.
    """
    files: Files = {}
    (work / "Annotations").mkdir()
    for split, dataset in splits.items():
        files[split] = [_copy(p, work / "JPEGImages", on_image) for p in placed[split]]
        for p in placed[split]:
            tree = _voc_tree(p, dataset.classes)
            indent(tree)
            ElementTree(tree).write(work / "Annotations" / f"{p.stem}.xml", encoding="utf-8")
        _write_lines(work / "ImageSets" / "Main" / f"{split}.txt", [p.stem for p in placed[split]])
    _write_list_of_classes(splits, work)
    return files


def _voc_tree(p: Placed, classes: tuple[str, ...]) -> Element:
    width, height, boxes = _pixels(p.sample)
    tree = Element("annotation")
    SubElement(tree, "folder").text = "JPEGImages"
    SubElement(tree, "filename").text = p.name
    size = SubElement(tree, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        SubElement(size, key).text = str(value)
    for (x1, y1, x2, y2), label, ignore in zip(boxes.tolist(), p.sample.labels, p.sample.ignore, strict=True):
        item = SubElement(tree, "object")
        SubElement(item, "name").text = classes[label]
        SubElement(item, "difficult").text = str(int(ignore))
        box = SubElement(item, "bndbox")
        for key, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            SubElement(box, key).text = _number(value)
    return tree


def write_kitti(splits: Splits, placed: Places, work: Path, on_image: Callable[[], None]) -> Files:
    """training/image_2/, training/label_2/, ImageSets/<split>.txt, classes.txt; what isn't known of a box is -1."""
    files: Files = {}
    for split, dataset in splits.items():
        files[split] = [_copy(p, work / "training" / "image_2", on_image) for p in placed[split]]
        names = [written_name(c) for c in dataset.classes]
        for p in placed[split]:
            _, _, boxes = _pixels(p.sample)
            rows = [
                (DONT_CARE if ignore else names[label], *map(_number, box))
                for box, label, ignore in zip(boxes.tolist(), p.sample.labels, p.sample.ignore, strict=True)
            ]
            # One DontCare, at the end, stands for the ignored boxes of all classes in one place.
            cared = [row for row in rows if row[0] != DONT_CARE]
            unique = dict.fromkeys(row for row in rows if row[0] == DONT_CARE)
            _write_lines(work / "training" / "label_2" / f"{p.stem}.txt", [_kitti_line(r) for r in (*cared, *unique)])
        _write_lines(work / "ImageSets" / f"{split}.txt", [p.stem for p in placed[split]])
    _write_list_of_classes(splits, work)
    return files


def _kitti_line(row: tuple[str, ...]) -> str:
    name, *box = row
    return f"{name} -1 -1 -10 {' '.join(box)} -1 -1 -1 -1000 -1000 -1000 -10"


def write_bdd(splits: Splits, placed: Places, work: Path, on_image: Callable[[], None]) -> Files:
    """images/100k/<split>/, labels/det_20/det_<split>.json, classes.txt."""
    files: Files = {}
    (work / "labels" / "det_20").mkdir(parents=True)
    for split, dataset in splits.items():
        files[split] = [_copy(p, work / "images" / "100k" / split, on_image) for p in placed[split]]
        frames = [_bdd_frame(p, dataset.classes) for p in placed[split]]
        (work / "labels" / "det_20" / f"det_{split}.json").write_text(json.dumps(frames), encoding="utf-8")
    _write_list_of_classes(splits, work)
    return files


def _bdd_frame(p: Placed, classes: tuple[str, ...]) -> dict[str, Any]:
    _, _, boxes = _pixels(p.sample)
    labels = [
        {
            "id": str(number),
            "category": classes[label],
            "attributes": {"crowd": bool(ignore)},
            "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
        }
        for number, (box, label, ignore) in enumerate(
            zip(boxes.tolist(), p.sample.labels, p.sample.ignore, strict=True)
        )
    ]
    time = p.sample.domain or NO_TIME
    return {"name": p.name, "videoName": p.sample.group, "attributes": {"timeofday": time}, "labels": labels}


def write_folders(splits: Splits, placed: Places, work: Path, on_image: Callable[[], None]) -> Files:
    """<split>/<class>/, empty classes too; classes.txt where their order isn't the alphabet's."""
    files: Files = {}
    for split, dataset in splits.items():
        for name in dataset.categories:
            (work / split / name).mkdir(parents=True)
        files[split] = [
            _copy(p, work / split / dataset.categories[p.sample.category], on_image) for p in placed[split]
        ]  # fmt: skip
    categories = next(iter(splits.values())).categories
    if list(categories) != sorted(categories):
        _write_lines(work / CLASSES_FILE, list(categories))
    return files


def write_mask_pairs(splits: Splits, placed: Places, work: Path, on_image: Callable[[], None]) -> Files:
    """images/<split>/; the masks beside them are written for every format alike."""
    return {split: [_copy(p, work / "images" / split, on_image) for p in placed[split]] for split in splits}


WRITERS: dict[str, Writer] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "kitti": write_kitti,
    "bdd": write_bdd,
    "folders": write_folders,
    "masks": write_mask_pairs,
}
