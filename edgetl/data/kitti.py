"""KITTI's objects: training/image_2/<id>.png and training/label_2/<id>.txt (CVPR 2012, object development kit).

Pixels count from 0 and may have decimals. Only the boxes in the image are read. `DontCare` marks a place where
nothing was labelled: an ignored box of every class. ImageSets/<split>.txt lists a split's images; without a list all
are `train`. KITTI lists no classes: they are those that occur anywhere, or the lines of root/classes.txt, whose
blanks are underscores in the labels.
"""

from __future__ import annotations

from pathlib import Path

from edgetl.data.dataset import Dataset, Sample, each_sample, image_files, make_sample
from edgetl.data.header import image_size
from edgetl.data.listed import check_listed, find_image, listed_classes, read_list
from edgetl.data.voc import WHOLE
from edgetl_runtime.errors import InputError

DONT_CARE = "DontCare"
CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
"""In the order of the development kit."""
FIELDS = (15, 16)
"""Of a label's line; results have a score as well."""


def is_kitti(root: Path) -> bool:
    """Whether images and labels lie as KITTI packs them."""
    return (root / "training" / "image_2").is_dir() and (root / "training" / "label_2").is_dir()


def kitti_splits(root: Path) -> dict[str, Path]:
    """Split name -> its list of images, or the folder of all of them."""
    splits = {file.stem: file for file in sorted((root / "ImageSets").glob("*.txt"))}
    return splits or {WHOLE: root / "training" / "image_2"}


def read_kitti(root: Path, split: str) -> Dataset:
    """One split as a Dataset. The `test` split lies in testing/, unlabelled, where there is such a folder.

    Raises InputError naming file and line for anything malformed, and for missing files.
    """
    place = kitti_splits(root)[split]
    names = [p.stem for p in image_files(place)] if place.is_dir() else read_list(place)
    unlabelled = split == "test" and (root / "testing" / "image_2").is_dir()
    folder = root / ("testing" if unlabelled else "training")
    classes = listed_classes(root) or _all_names(root)
    samples = each_sample(names, lambda name: _sample(folder, name, classes, labelled=not unlabelled))
    return Dataset(f"{root.name}/{split}", classes, samples)


def written_name(name: str) -> str:
    """A class as a label's line holds it: without blanks."""
    return "_".join(name.split())


def _all_names(root: Path) -> tuple[str, ...]:
    files = sorted((root / "training" / "label_2").glob("*.txt"))
    found = {line.split()[0] for f in files for line in read_list(f)} - {DONT_CARE}
    return (*(c for c in CLASSES if c in found), *sorted(found.difference(CLASSES)))


def _sample(folder: Path, name: str, classes: tuple[str, ...], *, labelled: bool) -> Sample:
    image = find_image(folder / "image_2", name)
    file = folder / "label_2" / f"{name}.txt"
    if image is None:
        raise InputError(f"{folder / 'image_2'}: image {name} is missing", remedy="restore or unlist it")
    if labelled and not file.is_file():
        raise InputError(f"{file}: the labels of image {image.name} are missing", remedy="restore or unlist them")
    boxes, labels, ignore = [], [], []
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if labelled else []
    width, height = image_size(image) if any(lines) else (1, 1)
    written = tuple(written_name(c) for c in classes)
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            x1, y1, x2, y2 = (float(v) for v in fields[4:8])
            if len(fields) not in FIELDS:
                raise ValueError
        except ValueError:
            raise InputError(
                f"{file}:{number}: expected a class and 14 figures, found {line[:60]!r}", remedy="correct the line"
            ) from None
        care = fields[0] != DONT_CARE
        of = [check_listed(fields[0], written, file)] if care else list(range(len(classes)))
        boxes += [(x1 / width, y1 / height, x2 / width, y2 / height)] * len(of)
        labels += of
        ignore += [not care] * len(of)
    return make_sample(image, boxes, labels, ignore, classes=len(classes), label_file=file)
