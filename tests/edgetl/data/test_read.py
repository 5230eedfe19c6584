"""Reading COCO and YOLO directories, and every way in which they can be wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edgetl.data import read_dataset, read_image
from edgetl.data.dataset import make_sample
from edgetl_runtime.errors import InputError


def test_coco_boxes_are_shares_and_classes_follow_their_ids(coco_dir: Path) -> None:
    dataset = read_dataset(coco_dir, "train")
    assert dataset.classes == ("car", "person")
    first = dataset.samples[0]
    np.testing.assert_allclose(first.boxes[0], [10 / 160, 20 / 90, 50 / 160, 50 / 90], rtol=1e-6)
    assert first.labels.tolist() == [0, 1]
    assert first.ignore.tolist() == [False, True]
    assert [s.group for s in dataset.samples] == ["drive0", "drive0", "drive1", "drive1"]
    assert first.domain == "day"


def test_coco_ids_may_be_sparse_and_in_any_order(coco_dir: Path) -> None:
    file = coco_dir / "annotations" / "train.json"
    document = json.loads(file.read_text())
    document["categories"] = [{"id": 90, "name": "car"}, {"id": 7, "name": "person"}, {"id": 10, "name": "bus"}]
    document["annotations"] = [
        {"id": 1, "image_id": document["images"][0]["id"], "bbox": [1, 2, 3, 4], "category_id": 90}
    ]
    file.write_text(json.dumps(document))
    dataset = read_dataset(coco_dir, "train")
    assert dataset.classes == ("person", "bus", "car")
    assert dataset.samples[0].labels.tolist() == [2]


def test_yolo_reads_groups_and_images_without_labels(yolo_dir: Path) -> None:
    dataset = read_dataset(yolo_dir, "train")
    assert dataset.classes == ("car", "bus")
    assert [len(s.labels) for s in dataset.samples] == [2, 2, 0]
    np.testing.assert_allclose(dataset.samples[0].boxes[0], [0.375, 0.25, 0.625, 0.75])
    assert dataset.samples[1].group == "cam1"
    assert read_dataset(yolo_dir / "data.yaml", "val").classes == dataset.classes


def test_fingerprint_follows_the_content(coco_dir: Path) -> None:
    before = read_dataset(coco_dir, "train").fingerprint()
    assert before == read_dataset(coco_dir, "train").fingerprint()
    file = coco_dir / "annotations" / "train.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"][2] = 41
    file.write_text(json.dumps(document))
    assert read_dataset(coco_dir, "train").fingerprint() != before


def test_fingerprint_follows_what_is_ignored(coco_dir: Path) -> None:
    dataset = read_dataset(coco_dir, "train")
    first = dataset.samples[0]
    other = dataclasses.replace(first, ignore=~first.ignore)
    assert dataclasses.replace(dataset, samples=(other,)).fingerprint() != dataset.only([0]).fingerprint()


def test_a_box_of_no_area_is_left_out_with_its_label() -> None:
    boxes = [(0.1, 0.1, 0.1, 0.4), (0.2, 0.2, 0.4, 0.4), (0.3, 0.3, 0.5, 0.3), (0.4, 0.4, 0.6, 0.6)]
    sample = make_sample(
        Path("a.png"), boxes, [0, 1, 2, 3], [True, False, False, True], classes=4, label_file=Path("a")
    )
    assert sample.labels.tolist() == [1, 3] and sample.ignore.tolist() == [False, True]
    np.testing.assert_allclose(sample.boxes, [boxes[1], boxes[3]])


def test_take_spreads_over_the_set(coco_dir: Path) -> None:
    dataset = read_dataset(coco_dir, "train")
    assert [s.image.name for s in dataset.take(2).samples] == ["000.png", "003.png"]
    assert len(dataset.take(99)) == 4


def _set(root: Path, where: str, value: object) -> Path:
    file = root / "annotations" / "train.json"
    document = json.loads(file.read_text())
    if where == "class":
        document["annotations"][0]["category_id"] = value
    elif where == "box":
        document["annotations"][0]["bbox"] = value
    elif where == "image_id":
        document["annotations"][0]["image_id"] = value
    elif where == "names":
        for category in document["categories"]:
            category["name"] = "car"
    elif where in {"images", "categories"}:
        document[where].append({**document[where][1], "id": document[where][0]["id"]})
    elif where == "file":
        document["images"][0]["file_name"] = value
    file.write_text(json.dumps(document))
    return file


@pytest.mark.parametrize("names", ["[car, car]", "{0: car, 1: car}"])
def test_two_classes_of_one_name_are_refused(yolo_dir: Path, names: str) -> None:
    (yolo_dir / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: {names}\n")
    with pytest.raises(InputError, match=r"data\.yaml: two classes are called 'car'"):
        read_dataset(yolo_dir, "train")


def test_another_number_of_classes_than_names_is_refused(yolo_dir: Path) -> None:
    file = yolo_dir / "data.yaml"
    file.write_text(file.read_text() + "nc: 2\n")
    assert len(read_dataset(yolo_dir, "train").classes) == 2
    file.write_text(file.read_text().replace("nc: 2", "nc: 3"))
    with pytest.raises(InputError, match=r"data\.yaml: nc is 3, but 2 names are given"):
        read_dataset(yolo_dir, "train")


def test_coco_fields_that_are_null_state_nothing(coco_dir: Path) -> None:
    file = coco_dir / "annotations" / "train.json"
    document = json.loads(file.read_text())
    for image in document["images"]:
        image["group"] = image["domain"] = None
    document["info"] = None
    file.write_text(json.dumps(document))
    samples = read_dataset(coco_dir, "train").samples
    assert [s.group for s in samples] == [s.image.stem for s in samples]
    assert {s.domain for s in samples} == {""}


def test_labels_that_windows_wrote_are_read(coco_dir: Path, yolo_dir: Path) -> None:
    before = [read_dataset(d, "train").fingerprint() for d in (coco_dir, yolo_dir)]
    for file in [*coco_dir.glob("annotations/*.json"), *yolo_dir.glob("labels/*/*.txt"), yolo_dir / "data.yaml"]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert [read_dataset(d, "train").fingerprint() for d in (coco_dir, yolo_dir)] == before


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("class", 77, "unknown class id 77"),
        ("box", [150, 10, 40, 30], "stands outside"),
        ("box", [float("nan"), 10, 40, 30], "stands outside"),
        ("box", [50, 10, -40, 30], "ends before it begins"),
        ("box", [10, 50, 40, -30], "ends before it begins"),
        ("image_id", 1234, "image id 1234"),
        ("images", 1, "two of the images have the id"),
        ("names", 1, "two classes are called 'car'"),
        ("categories", 1, "two of the categories have the id"),
        ("file", "images/train/001.png", "two of the images have the file_name images/train/001.png"),
        ("class", float("inf"), "not in COCO's form"),
        ("file", "images/train/gone.png", "gone.png is missing"),
    ],
)
def test_wrong_coco_names_file_and_fault(coco_dir: Path, where: str, value: object, says: str) -> None:
    file = _set(coco_dir, where, value)
    with pytest.raises(InputError, match=says) as caught:
        read_dataset(coco_dir, "train")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("7 0.5 0.5 0.1 0.1", "class id 7 .* expected 0 to 1"),
        ("99999999999999999999 0.5 0.5 0.1 0.1", "class id 99999999999999999999 .* expected 0 to 1"),
        ("0 0.99 0.5 0.2 0.1", "stands outside"),
        ("0 0.5 0.5", "expected `class cx cy w h`"),
        ("car 0.5 0.5 0.1 0.1", "expected `class cx cy w h`"),
    ],
)
def test_wrong_yolo_line_is_named(yolo_dir: Path, line: str, says: str) -> None:
    file = yolo_dir / "labels" / "day" / "cam0-000.txt"
    file.write_text(line + "\n")
    with pytest.raises(InputError, match=says) as caught:
        read_dataset(yolo_dir, "train")
    assert str(file) in str(caught.value)


def test_unknown_places_say_what_was_looked_for(tmp_path: Path, coco_dir: Path) -> None:
    with pytest.raises(InputError, match="no such dataset"):
        read_dataset(tmp_path / "nowhere", "train")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="is empty"):
        read_dataset(empty, "train")
    (empty / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"\(coco\).*\(yolo\)"):
        read_dataset(empty, "train")
    with pytest.raises(InputError, match="there are train, val"):
        read_dataset(coco_dir, "test")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "frame.jpg"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"frame\.jpg"):
        read_image(file)
