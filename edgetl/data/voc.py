"""Pascal VOC: Annotations/<id>.xml, JPEGImages/<id>.jpg, ImageSets/Main/<split>.txt (IJCV 88:303, 2010).

Pixels count from 1, and a box holds its last row and column: xmin 1, xmax 10 are the ten leftmost pixels. VOC lists
no classes: they are the names that occur anywhere, sorted, or the lines of root/classes.txt.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from edgetl.data.dataset import Dataset, Sample, each_sample, make_sample
from edgetl.data.header import image_size, refuse_turned
from edgetl.data.listed import check_listed, find_image, listed_classes, read_list
from edgetl_runtime.errors import InputError

WHOLE = "train"
"""The split that all images are in, where nothing says which belongs where."""


def is_voc(root: Path) -> bool:
    """Whether images and XML lie as VOC packs them."""
    return (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir()


def voc_splits(root: Path) -> dict[str, Path]:
    """Split name -> its list of images; all are `train` where there is no list. Lists of one class are left out."""
    lists = sorted((root / "ImageSets" / "Main").glob("*.txt"))
    splits = {file.stem: file for file in lists if not _is_class_list(root, file)}
    return splits or {WHOLE: root / "Annotations"}


def _is_class_list(root: Path, file: Path) -> bool:
    """`car_train.txt` holds lines like `000012 -1`."""
    first = next(iter(read_list(file)), "")
    return first.split()[-1:] in [["1"], ["-1"], ["0"]] and " " in first and not _xml(root, first).is_file()


def read_voc(root: Path, split: str) -> Dataset:
    """One split as a Dataset; `difficult` becomes ignore.

    Raises InputError naming the file for XML that is none or brings a DTD, for missing images and unknown classes.
    """
    place = voc_splits(root)[split]
    names = sorted(p.stem for p in place.glob("*.xml")) if place.is_dir() else read_list(place)
    known = listed_classes(root)
    parsed = {name: _parse(_xml(root, name)) for name in names}
    classes = known or tuple(sorted(_all_names(root, parsed)))
    samples = each_sample(names, lambda name: _sample(root, name, parsed[name], classes))
    return Dataset(f"{root.name}/{split}", classes, samples)


def _xml(root: Path, name: str) -> Path:
    return root / "Annotations" / f"{name}.xml"


def _all_names(root: Path, parsed: dict[str, Element]) -> set[str]:
    """Class names of every annotation, so that all splits agree on them."""
    others = (f for f in (root / "Annotations").glob("*.xml") if f.stem not in parsed)
    trees = itertools.chain(parsed.values(), (_parse(f) for f in others))
    return {_text(item, "name") for tree in trees for item in tree.iter("object")}


def _parse(file: Path) -> Element:
    """The XML of a file. A document type could name other files or grow without end, so it is refused."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise InputError(f"{file}: brings a document type (DTD), which VOC has not", remedy="remove the declaration")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(file.read_bytes(), True)
    except (OSError, ValueError, expat.ExpatError) as error:
        raise InputError(f"{file}: not readable as XML ({error})", remedy="restore the file") from error
    return builder.close()


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _sample(root: Path, name: str, tree: Element, classes: tuple[str, ...]) -> Sample:
    file = _xml(root, name)
    folder = root / "JPEGImages"
    stated = folder / Path(_text(tree, "filename") or "?").name
    image = stated if stated.stem == name and stated.is_file() else find_image(folder, name)
    if image is None:
        raise InputError(f"{file}: image {name} is missing in {folder}", remedy="restore or unlist it")
    boxes, labels, ignore = [], [], []
    try:
        width, height = (int(float(_text(tree, f"size/{side}") or 0)) for side in ("width", "height"))
        if width < 1 or height < 1:
            width, height = image_size(image)
        refuse_turned(image, (width, height), file)
        for item in tree.iter("object"):
            x1, y1, x2, y2 = (float(_text(item, f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append(((x1 - 1) / width, (y1 - 1) / height, x2 / width, y2 / height))
            labels.append(check_listed(_text(item, "name"), classes, file))
            ignore.append(_text(item, "difficult") == "1")
    except ValueError as error:
        raise InputError(f"{file}: not in VOC's form ({error})", remedy="correct the entry") from error
    return make_sample(image, boxes, labels, ignore, classes=len(classes), label_file=file)
