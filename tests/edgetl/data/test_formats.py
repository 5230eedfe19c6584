"""Every format's reader on known answers, and what is said where a directory is none of them, two of them, or wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data import read_dataset, read_mask, same_classes, splits_of
from edgetl.data.cityscapes import LABEL_IDS
from edgetl.data.formats import FORMATS, format_of
from edgetl.roadworld import write_dataset
from edgetl_runtime.errors import InputError


def picture(file: Path, height: int = 50, width: int = 100) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.full((height, width, 3), 90, np.uint8))
    return file


def mask(file: Path, values: list[list[int]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.array(values, np.uint8))
    return file


def text(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def coco_of_one_box(data: Path, width: int, height: int) -> None:
    """Add annotations of the training picture of `voc`, said to be of this size."""
    entry = {"id": 1, "file_name": "JPEGImages/a.jpg", "width": width, "height": height}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    document = {"images": [entry], "annotations": [annotation], "categories": [{"id": 1, "name": "car"}]}
    text(data / "annotations/train.json", json.dumps(document))


OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
BOX = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"


def voc(root: Path) -> Path:
    """Two images; the first holds a car over its left half and a difficult dog over all of it."""
    picture(root / "JPEGImages/a.jpg")
    picture(root / "JPEGImages/b.png")
    body = OBJECT.format("car", 0, BOX.format(1, 1, 50, 50)) + OBJECT.format("a dog", 1, BOX.format(1, 1, 100, 50))
    size = "<size><width>100</width><height>50</height><depth>3</depth></size>"
    text(root / "Annotations/a.xml", f"<annotation><filename>a.jpg</filename>{size}{body}</annotation>")
    text(root / "Annotations/b.xml", "<annotation><filename>gone.jpg</filename></annotation>")
    text(root / "ImageSets/Main/train.txt", "a\n\n")
    text(root / "ImageSets/Main/val.txt", "b\n")
    text(root / "ImageSets/Main/car_train.txt", "a  1\nb -1\n")
    return root


def kitti(root: Path) -> Path:
    """Two images; the first holds a cyclist, a car with decimals, and a place nobody labelled."""
    for name in ("000000", "000001"):
        picture(root / f"training/image_2/{name}.png")
    rest = "1.5 1.6 3.7 1.0 2.0 9.0 0.1"
    lines = [f"Cyclist 0.00 0 -1.5 10 5 20 25 {rest}", f"Car 0.5 1 0.2 0.00 0.00 50.50 25.25 {rest}"]
    lines += ["DontCare -1 -1 -10 60 10 80 20 -1 -1 -1 -1000 -1000 -1000 -10"]
    text(root / "training/label_2/000000.txt", "\n".join(lines) + "\n")
    text(root / "training/label_2/000001.txt", "")
    return root


def bdd(root: Path) -> Path:
    """Two frames of one camera at night: a car, a crowd, a lane, and a trailer."""
    box = {"x1": 10, "y1": 5, "x2": 60, "y2": 30}
    labels = [
        {"category": "car", "box2d": box, "attributes": {"crowd": False}},
        {"category": "pedestrian", "box2d": box, "attributes": {"crowd": True}},
        {"category": "lane/road curb", "poly2d": []},
        {"category": "trailer", "box2d": box},
    ]
    frames = [
        {"name": "cam1-b.jpg", "attributes": {"timeofday": "night"}, "labels": labels},
        {"name": "cam1-a.jpg", "attributes": {"timeofday": "undefined"}, "labels": None, "videoName": "drive"},
    ]
    for frame in frames:
        picture(root / f"images/100k/val/{frame['name']}")
    text(root / "labels/det_20/det_val.json", json.dumps(frames))
    return root


def cityscapes(root: Path) -> Path:
    """One labelled frame of Ulm and one without its mask."""
    for frame in ("000000_000019", "000000_000020"):
        picture(root / f"leftImg8bit/val/ulm/ulm_{frame}_leftImg8bit.png")
    mask(root / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", [[7, 33, 0, 4]])
    return root


def folders(root: Path) -> Path:
    """Signs: stop has two, yield one, of which one bears the name of a stop sign's file; go is empty."""
    for name in ("stop/00001_00000.png", "stop/00002_00000.png", "yield/00001_00000.png"):
        picture(root / "train" / name)
    (root / "train/go").mkdir()
    return root


def mask_pairs(root: Path) -> Path:
    """Two images of one layer, the second without a mask."""
    picture(root / "images/train/seq_1.png")
    picture(root / "images/train/seq_2.png")
    mask(root / "masks/train/seq_1.png", [[0, 1, 2, 9]])
    text(root / "classes.txt", "road\n\nsky\nped estrian\n")
    return root


FIRST = "images/train/000.png"
MAKERS: dict[str, Callable[[Path], Path]] = {
    "voc": voc, "kitti": kitti, "bdd": bdd, "cityscapes": cityscapes, "folders": folders, "masks": mask_pairs,
}  # fmt: skip


def test_labels_of_a_stored_picture_that_is_shown_turned_are_refused(tmp_path: Path) -> None:
    data, exif = voc(tmp_path / "voc"), b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    image = data / "JPEGImages/a.jpg"
    encoded = image.read_bytes()
    image.write_bytes(encoded[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + encoded[2:])
    with pytest.raises(InputError, match=r"a\.xml: states 100 x 50 .* shows as 50 x 100"):
        read_dataset(data, "train")
    for width, height, wrong in ((100, 50, True), (50, 100, False)):
        coco_of_one_box(data, width, height)
        if wrong:
            with pytest.raises(InputError, match=r"train\.json: states 100 x 50 .* shows as 50 x 100"):
                read_dataset(data, "train", format="coco")
        else:
            assert len(read_dataset(data, "train", format="coco").samples[0].boxes) == 1


@pytest.mark.parametrize("scale", [1, 2])
def test_labels_of_a_picture_that_lies_on_its_side_are_refused(tmp_path: Path, scale: int) -> None:
    """Width and height swapped, at whatever scale; a picture that was stretched has its labels where they are."""
    data = voc(tmp_path / "voc")
    for width, height, wrong in ((50, 100, True), (100, 50, False), (70, 100, False)):
        coco_of_one_box(data, scale * width, scale * height)
        if wrong:
            with pytest.raises(InputError, match=rf"states {scale * 50} x {scale * 100} .* which has 100 x 50"):
                read_dataset(data, "train", format="coco")
        else:
            assert len(read_dataset(data, "train", format="coco").samples[0].boxes) == 1


def test_kitti_and_bdd_labels_that_windows_wrote_are_read(tmp_path: Path) -> None:
    roots = {name: (MAKERS[name](tmp_path / name), split) for name, split in (("kitti", "train"), ("bdd", "val"))}
    before = [read_dataset(root, split).fingerprint() for root, split in roots.values()]
    files = [*roots["kitti"][0].glob("training/label_2/*.txt"), *roots["bdd"][0].glob("labels/*/*.json")]
    for file in files:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert [read_dataset(root, split).fingerprint() for root, split in roots.values()] == before


@pytest.mark.parametrize("name", [f.name for f in FORMATS])
def test_a_file_is_of_no_format_that_is_a_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"is not of format {name}"):
        read_dataset(text(tmp_path / "labels.txt", ""), "train", format=name)


@pytest.mark.parametrize("name", MAKERS)
def test_each_format_is_known_for_what_it_is(tmp_path: Path, name: str) -> None:
    assert format_of(MAKERS[name](tmp_path / "data")).name == name


def test_coco_and_yolo_are_known(coco_dir: Path, yolo_dir: Path) -> None:
    assert format_of(coco_dir).name == "coco"
    assert format_of(yolo_dir).name == format_of(yolo_dir / "data.yaml").name == "yolo"
    assert splits_of(coco_dir) == ("train", "val")


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    root = voc(tmp_path)
    assert splits_of(root) == ("train", "val")
    dataset = read_dataset(root, "train")
    assert dataset.classes == ("a dog", "car") == read_dataset(root, "val").classes
    (sample,) = dataset.samples
    np.testing.assert_allclose(sample.boxes, [[0, 0, 0.5, 1], [0, 0, 1, 1]])
    assert sample.labels.tolist() == [1, 0]
    assert sample.ignore.tolist() == [False, True]
    assert [s.image.name for s in read_dataset(root, "val").samples] == ["b.png"]


def test_a_list_that_holds_no_name_is_named(tmp_path: Path) -> None:
    root = voc(tmp_path)
    text(root / "ImageSets/Main/train.txt", "a\0b\n")
    with pytest.raises(InputError, match="not readable as XML"):
        read_dataset(root, "train")


def test_voc_without_lists_is_one_split(tmp_path: Path) -> None:
    root = voc(tmp_path)
    for file in (root / "ImageSets/Main").iterdir():
        file.unlink()
    assert splits_of(root) == ("train",)
    assert len(read_dataset(root, "train")) == 2


@pytest.mark.parametrize(
    "declared",
    [
        '<!DOCTYPE annotation [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE annotation SYSTEM "file:///etc/hostname">',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_voc_with_a_document_type_is_refused(tmp_path: Path, declared: str, encoding: str) -> None:
    root = voc(tmp_path)
    file = root / "Annotations/a.xml"
    start = f'<?xml version="1.0" encoding="{encoding}"?>'
    file.write_bytes((start + declared + "<annotation><filename>a.jpg</filename></annotation>").encode(encoding))
    with pytest.raises(InputError, match=r"a\.xml: brings a document type"):
        read_dataset(root, "train")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("</annotation>", "", "not readable as XML"),
        ("<xmin>1</xmin>", "<xmin>one</xmin>", "not in VOC's form"),
        ("<xmin>1</xmin>", "", "not in VOC's form"),
        ("<xmax>50</xmax>", "<xmax>150</xmax>", "stands outside"),
    ],
)
def test_wrong_voc_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    root = voc(tmp_path)
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"a\.xml: .*{says}"):
        read_dataset(root, "train")


def test_voc_images_and_classes_that_are_not_there(tmp_path: Path) -> None:
    root = voc(tmp_path)
    text(root / "classes.txt", "car\nbus\n")
    with pytest.raises(InputError, match=r"class 'a dog' is not in classes\.txt"):
        read_dataset(root, "train")
    (root / "JPEGImages/b.png").unlink()
    with pytest.raises(InputError, match=r"b\.xml: image b is missing"):
        read_dataset(root, "val")


def test_kitti_ignores_what_nobody_labelled_for_every_class(tmp_path: Path) -> None:
    dataset = read_dataset(kitti(tmp_path), "train")
    assert dataset.classes == ("Car", "Cyclist")
    first, second = dataset.samples
    wanted = [[0.1, 0.1, 0.2, 0.5], [0, 0, 0.505, 0.505], [0.6, 0.2, 0.8, 0.4], [0.6, 0.2, 0.8, 0.4]]
    np.testing.assert_allclose(first.boxes, wanted, atol=1e-6)
    assert first.labels.tolist() == [1, 0, 0, 1]
    assert first.ignore.tolist() == [False, False, True, True]
    assert len(second.labels) == 0


def test_a_class_may_be_called_as_kittis_folder(tmp_path: Path) -> None:
    picture(tmp_path / "train/image_2/a.png")
    picture(tmp_path / "train/other/b.png")
    assert read_dataset(tmp_path, "train").categories == ("image_2", "other")


def test_kitti_lists_and_its_unlabelled_test_folder(tmp_path: Path) -> None:
    root = kitti(tmp_path)
    text(root / "ImageSets/val.txt", "000001\n")
    text(root / "ImageSets/test.txt", "000000\n")
    picture(root / "testing/image_2/000000.png")
    assert splits_of(root) == ("test", "val")
    assert [s.image.name for s in read_dataset(root, "val").samples] == ["000001.png"]
    (sample,) = read_dataset(root, "test").samples
    assert sample.image.parts[-3] == "testing"
    assert len(sample.labels) == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Car 0 0 0 1 2 3", r":1: expected a class and 14 figures"),
        ("Car 0 0 0 a b c d 1 1 1 1 1 1 1", r":1: expected a class and 14 figures"),
        ("Car 0 0 0 10 10 400 20 1 1 1 1 1 1 1", "stands outside"),
    ],
)
def test_wrong_kitti_lines_are_named(tmp_path: Path, line: str, says: str) -> None:
    root = kitti(tmp_path)
    text(root / "training/label_2/000001.txt", line)
    with pytest.raises(InputError, match=rf"000001\.txt.*{says}"):
        read_dataset(root, "train")


def test_kitti_and_voc_images_with_suffixes_in_capitals(tmp_path: Path) -> None:
    kitti(tmp_path / "kitti")
    image = tmp_path / "kitti/training/image_2/000000.png"
    image.rename(image.with_suffix(".PNG"))
    assert [s.image.name for s in read_dataset(tmp_path / "kitti", "train").samples] == ["000000.PNG", "000001.png"]
    voc(tmp_path / "voc")
    (tmp_path / "voc/JPEGImages/b.png").rename(tmp_path / "voc/JPEGImages/b.PNG")
    assert read_dataset(tmp_path / "voc", "val").samples[0].image.name == "b.PNG"


def test_kitti_without_a_label_file_is_refused(tmp_path: Path) -> None:
    root = kitti(tmp_path)
    (root / "training/label_2/000001.txt").unlink()
    with pytest.raises(InputError, match=r"the labels of image 000001\.png are missing"):
        read_dataset(root, "train")


def test_bdd_times_videos_and_what_its_evaluation_leaves_out(tmp_path: Path) -> None:
    dataset = read_dataset(bdd(tmp_path), "val")
    assert dataset.classes[:4] == ("pedestrian", "rider", "car", "truck")
    first, second = dataset.samples
    assert [dataset.classes[i] for i in first.labels] == ["car", "pedestrian", "truck"]
    assert first.ignore.tolist() == [False, True, True]
    np.testing.assert_allclose(first.boxes[0], [0.1, 0.1, 0.6, 0.6], atol=1e-6)
    assert (first.group, first.domain) == ("cam1", "night")
    assert (second.group, second.domain) == ("drive", "")


def test_bdd_of_the_older_release_keeps_its_own_names(tmp_path: Path) -> None:
    root = bdd(tmp_path)
    (root / "labels/det_20").rename(root / "labels/old")
    frames = json.loads((root / "labels/old/det_val.json").read_text())
    for label in frames[0]["labels"]:
        label["category"] = {"pedestrian": "person", "trailer": "motor"}.get(label["category"], label["category"])
    text(root / "labels/bdd100k_labels_images_val.json", json.dumps({"frames": frames}))
    dataset = read_dataset(root, "val")
    assert dataset.classes == ("car", "motor", "person")
    assert splits_of(root) == ("val",)


def test_bdd_bitmaps_become_layers(tmp_path: Path) -> None:
    root = bdd(tmp_path)
    mask(root / "labels/drivable/masks/val/cam1-b.png", [[0, 1, 2, 255]])
    mask(root / "labels/lane/masks/val/cam1-b.png", [[255, 6, 48, 8, 64]])
    dataset = read_dataset(root, "val")
    drivable, lane = dataset.layers
    first, second = dataset.samples
    assert first.masks[0] is not None
    assert first.masks[1] is not None
    assert read_mask(first.masks[0], drivable).tolist() == [[1, 2, 0, 255]]
    assert read_mask(first.masks[1], lane).tolist() == [[0, 1, 1, 0, 255]]
    assert second.masks == (None, None)


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"frames": 3}', '[{"labels": []}]', '[{"name": "cam1-a.jpg", "labels": [{"box2d": 1}]}]']
)
def test_wrong_bdd_is_named(tmp_path: Path, content: str) -> None:
    root = bdd(tmp_path)
    text(root / "labels/det_20/det_val.json", content)
    with pytest.raises(InputError, match=r"det_val\.json: not "):
        read_dataset(root, "val")


def test_cityscapes_has_its_nineteen_classes(tmp_path: Path) -> None:
    dataset = read_dataset(cityscapes(tmp_path), "val")
    (layer,) = dataset.layers
    assert len(layer.classes) == len(LABEL_IDS) == 19
    labelled, bare = dataset.samples
    assert labelled.masks[0] is not None
    assert read_mask(labelled.masks[0], layer).tolist() == [[0, 18, 255, 255]]
    assert bare.masks == (None,)
    assert labelled.group == bare.group == "ulm_000000"


def test_cityscapes_without_any_mask_is_refused(tmp_path: Path) -> None:
    root = cityscapes(tmp_path)
    next((root / "gtFine").rglob("*.png")).unlink()
    with pytest.raises(InputError, match="expected <city>/ulm_000000_000019_gtFine_labelIds"):
        read_dataset(root, "val")


def test_folders_are_categories_and_groups_never_span_two(tmp_path: Path) -> None:
    dataset = read_dataset(folders(tmp_path), "train")
    assert dataset.categories == ("go", "stop", "yield")
    assert dataset.classes == ()
    assert [s.category for s in dataset.samples] == [1, 1, 2]
    assert [s.group for s in dataset.samples] == ["stop/00001_00000", "stop/00002_00000", "yield/00001_00000"]
    tracks = read_dataset(tmp_path, "train", group_pattern=r"^(\d+)_")
    assert [s.group for s in tracks.samples] == ["stop/00001", "stop/00002", "yield/00001"]
    text(tmp_path / "classes.txt", "yield\nstop\n")
    with pytest.raises(InputError, match="doesn't name the folder go"):
        read_dataset(tmp_path, "train")


def test_one_image_of_one_class_is_a_dataset(tmp_path: Path) -> None:
    picture(tmp_path / "train/stop/a.png")
    dataset = read_dataset(tmp_path, "train")
    assert (len(dataset), dataset.categories) == (1, ("stop",))


def test_masks_alone(tmp_path: Path) -> None:
    dataset = read_dataset(mask_pairs(tmp_path), "train", group_pattern="^([^_]+)_")
    (layer,) = dataset.layers
    assert (layer.name, layer.classes) == ("classes", ("road", "sky", "ped estrian"))
    first, second = dataset.samples
    assert first.masks[0] is not None
    assert read_mask(first.masks[0], layer).tolist() == [[0, 1, 2, 255]]
    assert second.masks == (None,)
    assert first.group == second.group == "seq"


def test_layers_with_values_of_their_own(tmp_path: Path) -> None:
    root = mask_pairs(tmp_path)
    (root / "classes.txt").unlink()
    (root / "masks/train").rename(root / "train")
    (root / "masks/lane").mkdir()
    (root / "train").rename(root / "masks/lane/train")
    text(root / "masks/lane/classes.txt", "none\t0,9\nlane\t2\n")
    dataset = read_dataset(root, "train")
    (layer,) = dataset.layers
    assert (layer.name, layer.values) == ("lane", ((0, 9), 2))
    assert dataset.samples[0].masks[0] is not None
    assert read_mask(dataset.samples[0].masks[0], layer).tolist() == [[0, 255, 1, 0]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "1 to 255 different class names"),
        ("a\na\n", "1 to 255 different class names"),
        ("a\t1\nb\n", "expected pixel values"),
        ("a\t1\nb\t1\n", "expected pixel values"),
        ("a\t1\nb\t256\n", "expected pixel values"),
        ("a\tx\nb\t2\n", "expected pixel values"),
    ],
)
def test_wrong_lists_of_classes_are_named(tmp_path: Path, content: str, says: str) -> None:
    root = mask_pairs(tmp_path)
    text(root / "classes.txt", content)
    with pytest.raises(InputError, match=rf"classes\.txt: .*{says}"):
        read_dataset(root, "train")


def test_masks_without_names_or_without_images_are_refused(tmp_path: Path) -> None:
    root = mask_pairs(tmp_path)
    (root / "masks/train/seq_1.png").rename(root / "masks/train/other.png")
    with pytest.raises(InputError, match=r"no mask belongs to an image .* name its mask seq_1\.png"):
        read_dataset(root, "train")
    (root / "classes.txt").unlink()
    with pytest.raises(InputError, match="nothing says what the masks' values mean"):
        read_dataset(root, "train")
    text(root / "masks/Lane/classes.txt", "a\n")
    with pytest.raises(InputError, match=r"train has no classes\.txt, Lane has"):
        read_dataset(root, "train")
    (root / "masks/train").rename(root / "masks/Lane/train")
    with pytest.raises(InputError, match="a layer's name becomes the name of a head"):
        read_dataset(root, "train")


def test_masks_beside_boxes_are_layers_of_one_dataset(coco_dir: Path, yolo_dir: Path) -> None:
    for name in ("000", "001"):
        mask(coco_dir / f"masks/drivable/train/{name}.png", [[0, 1]])
    text(coco_dir / "masks/drivable/classes.txt", "background\ndrivable\n")
    dataset = read_dataset(coco_dir, "train")
    assert [x.name for x in dataset.layers] == ["drivable"]
    assert [m is not None for s in dataset.samples for m in s.masks] == [True, True, False, False]
    assert len(dataset.samples[0].labels) == 2
    mask(yolo_dir / "masks/day/cam0-000.png", [[0, 1]])
    text(yolo_dir / "classes.txt", "a\nb\n")
    samples = read_dataset(yolo_dir, "val").samples
    assert [bool(s.masks[0]) for s in samples] == [True, False, False]


def test_rendered_scenes_bring_boxes_and_three_layers(tmp_path: Path) -> None:
    write_dataset(tmp_path / "rw", images=2, domain="day", size_hw=(96, 160), val_fraction=0.5)
    dataset = read_dataset(tmp_path / "rw", "val")
    assert [x.name for x in dataset.layers] == ["classes", "drivable", "lanes"]
    by_name = dict(zip([x.name for x in dataset.layers], dataset.samples[0].masks, strict=True))
    for layer in dataset.layers:
        file = by_name[layer.name]
        assert file is not None
        assert file.parts[-3:] == (layer.name, "val", "000000.png")
        assert read_mask(file, layer).max() < len(layer.classes)
    assert dataset.classes


def test_two_formats_at_once_are_named_and_one_can_be_chosen(coco_dir: Path, tmp_path: Path) -> None:
    text(coco_dir / "data.yaml", "train: images/train\nnames: [car]\n")
    with pytest.raises(InputError, match=r"2 formats at once: coco .* and yolo .*; name one, like --format coco"):
        read_dataset(coco_dir, "train")
    assert read_dataset(coco_dir, "train", format="yolo").classes == ("car",)
    assert read_dataset(coco_dir, "train", format="coco").classes == ("car", "person")
    with pytest.raises(InputError, match="is not of format kitti; looked for training/image_2"):
        read_dataset(coco_dir, "train", format="kitti")
    with pytest.raises(InputError, match="no dataset format 'coca'; formats: coco, yolo"):
        read_dataset(coco_dir, "train", format="coca")


def test_no_format_lists_all_that_was_looked_for(tmp_path: Path) -> None:
    text(tmp_path / "notes.txt", "x")
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path, "train")
    assert all(f.looks_for in str(caught.value) for f in FORMATS)
    with pytest.raises(InputError, match="no known dataset format"):
        read_dataset(tmp_path / "notes.txt", "train")


@pytest.mark.parametrize("name", MAKERS)
def test_an_unknown_split_names_those_there_are(tmp_path: Path, name: str) -> None:
    root = MAKERS[name](tmp_path)
    with pytest.raises(InputError, match=rf"no split 'nope', there are {', '.join(splits_of(root))}"):
        read_dataset(root, "nope")


def test_group_patterns(coco_dir: Path, yolo_dir: Path) -> None:
    assert [s.group for s in read_dataset(coco_dir, "train").samples] == ["drive0", "drive0", "drive1", "drive1"]
    assert [s.group for s in read_dataset(coco_dir, "train", group_pattern="[01]$").samples] == ["0", "1", "002", "003"]
    # The argument wins over data.yaml's own, which takes all before the dash.
    assert [s.group for s in read_dataset(yolo_dir, "train").samples] == ["cam0", "cam1", "cam2"]
    assert {s.group for s in read_dataset(yolo_dir, "train", group_pattern="(cam)([0-9])").samples} == {"cam"}
    with pytest.raises(InputError, match="not a regular expression"):
        read_dataset(coco_dir, "train", group_pattern="(")
    with pytest.raises(InputError, match=r"'x\+' fits no file name; the first is 000"):
        read_dataset(coco_dir, "train", group_pattern="x+")


def test_a_pattern_for_one_split_leaves_the_other_as_it_is(tmp_path: Path) -> None:
    root = folders(tmp_path)
    picture(root / "test/stop/00579.png")
    assert [s.group for s in read_dataset(root, "test", group_pattern=r"^(\d+)_").samples] == ["stop/00579"]


def test_groups_csv_wins_over_the_format(coco_dir: Path) -> None:
    text(coco_dir / "groups.csv", 'file,group,domain\nimages/train/000.png,"a, b",\nimages/train/001.png,,fog\n')
    samples = read_dataset(coco_dir, "train").samples
    assert [(s.group, s.domain) for s in samples[:3]] == [("a, b", "day"), ("drive0", "fog"), ("drive1", "day")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "expected the header"),
        ("image,group\n", "expected the header"),
        ("file,group,domain\na,b\n", r":2: .*found 2 fields"),
        ("file,group,domain\n000.png,a,\n001.png,b,\n", r"none of its 2 lines names a file; the first is '000\.png'"),
        ("file,group,domain\nimages\\train\\000.png,a,\n", "none of its 1 lines names a file"),
        (f"file,group,domain\n{FIRST},a,\n{FIRST},a,\n{FIRST},b,\n", rf":4: {FIRST} has another group"),
    ],
)
def test_wrong_groups_csv_is_named(coco_dir: Path, content: str, says: str) -> None:
    text(coco_dir / "groups.csv", content)
    with pytest.raises(InputError, match=rf"groups\.csv.*{says}"):
        read_dataset(coco_dir, "train")


def test_coco_years_are_no_splits_but_other_numbers_are(coco_dir: Path) -> None:
    folder = coco_dir / "annotations"
    (folder / "train.json").rename(folder / "instances_train2017.json")
    (folder / "val.json").rename(folder / "fold_2.json")
    assert splits_of(coco_dir) == ("fold_2", "train")
    (folder / "instances_train2014.json").write_bytes((folder / "instances_train2017.json").read_bytes())
    assert splits_of(coco_dir) == ("fold_2", "train", "train2017")


def test_classes_that_differ_are_named(coco_dir: Path, tmp_path: Path) -> None:
    train, val = (read_dataset(coco_dir, n) for n in ("train", "val"))
    same_classes(train, val)
    with pytest.raises(InputError, match=r"only coco/train has car; only coco/val has bus"):
        same_classes(train, dataclasses.replace(val, classes=("person", "bus")))
    with pytest.raises(InputError, match="in another order"):
        same_classes(train, dataclasses.replace(val, classes=("person", "car")))
    root = folders(tmp_path)
    picture(root / "val/stop/x.png")
    with pytest.raises(InputError, match=r"categories of .* differ: only .*/train has go, yield"):
        same_classes(read_dataset(root, "train"), read_dataset(root, "val"))
    layers = mask_pairs(tmp_path / "m")
    masks = read_dataset(layers, "train")
    other = dataclasses.replace(masks.layers[0], classes=("road", "sky", "car"))
    with pytest.raises(InputError, match=r"mask layer classes of .* differ: only .* has ped estrian"):
        same_classes(masks, dataclasses.replace(masks, layers=(other,)))
    with pytest.raises(InputError, match=r"the mask layers of .* differ"):
        same_classes(masks, dataclasses.replace(masks, layers=()))


@pytest.mark.real_data
def test_real_masks_and_signs(real_data: Path) -> None:
    for split, count in (("train", 367), ("val", 101), ("test", 233)):
        camvid = read_dataset(real_data / "camvid", split, group_pattern="^[^_]+")
        assert len(camvid) == count
        assert len(camvid.layers[0].classes) == 11
        assert all(s.masks[0] for s in camvid.samples)
    signs = read_dataset(real_data / "gtsrb", "train", group_pattern=r"^(\d+)_")
    assert (len(signs), len(signs.categories), len({s.group for s in signs.samples})) == (3921, 43, 1307)
    same_classes(signs, read_dataset(real_data / "gtsrb", "test"))
