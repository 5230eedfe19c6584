"""From one form to any format and back: nothing that the format can hold is lost, and what it can't is counted."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetl.data import Dataset, MaskLayer, Sample, read_dataset
from edgetl.data.header import image_size
from edgetl.data.leaks import find_leaks, groups_of
from edgetl.data.write import INSTEAD, WrittenDataset, write_dataset_as, written_format
from edgetl_runtime.errors import InputError

BOXED = ("coco", "yolo", "voc", "kitti", "bdd")
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\"), min_size=1, max_size=8).filter(
    lambda n: n.isprintable() and n == n.strip() and n != "DontCare" and not n.startswith(".")
)
GROUPS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=8)
DOMAINS = st.just("") | GROUPS.filter(lambda d: d != "undefined")


def class_names(draw: st.DrawFn) -> tuple[str, ...]:
    """One to three names that stay apart when blanks become underscores, as KITTI needs it."""
    return tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique_by=lambda n: "_".join(n.split()))))


def draw_picture(file: Path, seed: int, width: int, height: int) -> Path:
    """A picture that no other seed gives."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    assert cv2.imwrite(str(file), pixels)
    return file


def draw_mask(file: Path, seed: int, values: list[int]) -> Path:
    """A mask of these values."""
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.random.default_rng(seed).choice(values, (12, 16)).astype(np.uint8))
    return file


def draw_boxes(draw: st.DrawFn, classes: int, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, labels and ignore that format `what` can hold."""
    side = st.floats(0, 0.9375, width=32)
    boxes, labels, ignore = [], [], []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1, w, h = draw(side), draw(side), draw(side), draw(side)
        box = (x1, y1, min(x1 + w + 0.05, 1.0), min(y1 + h + 0.05, 1.0))
        skip = what != "yolo" and draw(st.booleans())
        of = list(range(classes)) if skip and what == "kitti" else [draw(st.integers(0, classes - 1))]
        boxes += [box] * len(of)
        labels += of
        ignore += [skip] * len(of)
    return (
        np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(ignore, np.bool_)
    )  # fmt: skip


@st.composite
def data_sets(draw: st.DrawFn, what: str) -> dict[str, Dataset]:
    """Two splits that format `what` can hold in full; their files are drawn by `materialise`."""
    classes = class_names(draw) if what in BOXED else ()
    categories = class_names(draw) if what == "folders" else ()
    layers: tuple[MaskLayer, ...] = ()
    if what == "masks":
        values: tuple[int | tuple[int, ...], ...] = draw(st.sampled_from([(), (7, 3), ((200, 201), 0)]))
        layers = (MaskLayer(draw(st.sampled_from(["classes", "lane"])), ("a b", "c"), values),)
    if what == "masks" or (what in BOXED and draw(st.booleans())):
        layers += (MaskLayer("road", ("no", "yes")),)
    splits = {}
    for split in ("train", "val-2"):
        samples = []
        for number in range(draw(st.integers(1, 3))):
            boxes, labels, ignore = draw_boxes(draw, len(classes), what) if classes else draw_boxes(draw, 1, "none")
            if not classes:
                boxes, labels, ignore = boxes[:0], labels[:0], ignore[:0]
            # Folders in which the same name comes again.
            image = Path(
                draw(st.sampled_from(["a", "b"])), f"{number // 2:03d}{draw(st.sampled_from(['.png', '.bmp']))}"
            )
            masks = tuple(
                Path(f"{split}{number}{x.name}.png") if number == 0 or draw(st.booleans()) else None for x in layers
            )
            category = draw(st.integers(0, len(categories) - 1)) if categories else -1
            samples.append(
                Sample(image, boxes, labels, ignore, draw(GROUPS), draw(DOMAINS), category, masks)
            )  # fmt: skip
        splits[split] = Dataset(split, classes, tuple(samples), categories, layers)
    return splits


def materialise(splits: dict[str, Dataset], folder: Path) -> dict[str, Dataset]:
    """The same with its files on disk, each picture different."""
    made, seed = {}, 0
    for split, dataset in splits.items():
        samples = []
        for number, s in enumerate(dataset.samples):
            seed += 1
            image = draw_picture(folder / f"{split}{number}" / s.image, seed, 20 + 3 * seed, 60 - 2 * seed)
            masks = tuple(m and draw_mask(folder / "m" / m, seed, [0, 1, 3, 7, 200, 201]) for m in s.masks)
            samples.append(dataclasses.replace(s, image=image, masks=masks))
        made[split] = dataclasses.replace(dataset, samples=tuple(samples))
    return made


def plain(dataset: Dataset) -> dict[bytes, object]:
    """All that must survive, by the image's bytes; an image's boxes in any order."""
    by_image: dict[bytes, object] = {}
    for s in dataset.samples:
        rows = zip(s.labels.tolist(), s.ignore.tolist(), s.boxes.astype(float).tolist(), strict=True)
        masks = {x.name: m and m.read_bytes() for x, m in zip(dataset.layers, s.masks, strict=True)}
        by_image[s.image.read_bytes()] = (
            sorted(rows),
            s.group, s.domain, s.category, masks,
        )  # fmt: skip
    assert len(by_image) == len(dataset.samples)
    return by_image


def assert_same(found: Dataset, wanted: Dataset) -> None:
    """Nothing of `wanted` is lost or altered; boxes may move by 1e-4 of the image's side."""
    assert found.classes == wanted.classes
    assert found.categories == wanted.categories
    assert sorted(found.layers, key=lambda x: x.name) == sorted(wanted.layers, key=lambda x: x.name)
    ours, theirs = plain(found), plain(wanted)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        boxes, *rest = value  # type: ignore[misc]
        found_boxes, *found_rest = ours[key]  # type: ignore[misc]
        assert found_rest == rest
        assert len(found_boxes) == len(boxes)
        for label_skip in {row[:2] for row in boxes}:
            one = sorted(row[2] for row in boxes if row[:2] == label_skip)
            other = sorted(row[2] for row in found_boxes if row[:2] == label_skip)
            assert len(one) == len(other)
            left = list(other)
            for box in one:  # the order of near-equal boxes may turn, so each finds its own
                near = min(left, key=lambda b: np.abs(np.subtract(b, box)).max())
                np.testing.assert_allclose(near, box, atol=1e-4)
                left.remove(near)


@pytest.mark.parametrize("what", [*BOXED, "folders", "masks"])
def test_there_and_back_loses_nothing(what: str) -> None:
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(drawn=data_sets(what))
    def check(drawn: dict[str, Dataset]) -> None:
        with tempfile.TemporaryDirectory() as name:
            splits = materialise(drawn, Path(name, "source"))
            done = write_dataset_as(what, splits, Path(name, "out"))
            assert done.dropped == {}
            for split, dataset in splits.items():
                back = read_dataset(Path(name, "out"), split)
                assert_same(back, dataset)
                assert done.splits[split] == {
                    "images": len(dataset), "objects": sum(len(s.labels) for s in dataset.samples)
                }  # fmt: skip

    check()


@pytest.mark.parametrize("first", BOXED)
@pytest.mark.parametrize("second", BOXED)
def test_from_any_format_to_any_other(tmp_path: Path, first: str, second: str) -> None:
    one = one_sample(tmp_path)
    images = [draw_picture(tmp_path / f"{i}.png", i, 64, 48) for i in (5, 6)]
    more = tuple(dataclasses.replace(one.samples[0], image=i, group=f"drive {i.stem}", domain="fog") for i in images)
    source = {"train": dataclasses.replace(one, classes=("traffic light", "bus"), samples=(*one.samples, *more))}
    write_dataset_as(first, source, tmp_path / "1")
    write_dataset_as(second, {"train": read_dataset(tmp_path / "1", "train")}, tmp_path / "2")
    assert_same(read_dataset(tmp_path / "2", "train"), source["train"])


def one_sample(folder: Path, **values: object) -> Dataset:
    """A dataset of one image with one box, with some fields of its sample replaced."""
    image = draw_picture(folder / "only.png", 1, 64, 48)
    box = np.array([[0.25, 0.25, 0.5, 0.5]], np.float32)
    sample = Sample(image, box, np.array([0]), np.array([False]), "g")
    return Dataset("one/train", ("car", "bus"), (dataclasses.replace(sample, **values),))  # type: ignore[arg-type]


def test_whole_pixels_are_written_without_decimals(tmp_path: Path) -> None:
    dataset = one_sample(tmp_path)
    write_dataset_as("voc", {"train": dataset}, tmp_path / "voc")
    text = (tmp_path / "voc/Annotations/only.xml").read_text()
    for field in ("<xmin>17</xmin>", "<ymin>13</ymin>", "<xmax>32</xmax>", "<ymax>24</ymax>"):
        assert field in text
    write_dataset_as("kitti", {"train": dataset}, tmp_path / "kitti")
    line = (tmp_path / "kitti/training/label_2/only.txt").read_text().split()
    assert line == ["car", "-1", "-1", "-10", "16", "12", "32", "24", *["-1"] * 3, *["-1000"] * 3, "-10"]


def test_what_a_format_cannot_hold_is_refused_then_dropped_and_counted(tmp_path: Path) -> None:
    ignored = one_sample(tmp_path, ignore=np.array([True]))
    with pytest.raises(InputError, match=r"yolo can't hold 1 ignored boxes; leave them out with --drop"):
        write_dataset_as("yolo", {"train": ignored}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = write_dataset_as("yolo", {"train": ignored}, tmp_path / "out", drop=True)
    assert done == WrittenDataset(
        tmp_path / "out", "yolo", {"train": {"images": 1, "objects": 0}}, {"ignored boxes": 1}
    )  # fmt: skip
    assert len(read_dataset(tmp_path / "out", "train").samples[0].labels) == 0
    # KITTI keeps the place, but can't say that it was a car.
    done = write_dataset_as("kitti", {"train": ignored}, tmp_path / "kitti", drop=True)
    assert list(done.dropped.values()) == [1]
    back = read_dataset(tmp_path / "kitti", "train").samples[0]
    assert back.labels.tolist() == [0, 1]
    assert back.ignore.all()


def test_pictures_without_a_category_do_not_become_a_class(tmp_path: Path) -> None:
    dataset = dataclasses.replace(one_sample(tmp_path, category=1), categories=("stop", "go"))
    other = dataclasses.replace(dataset.samples[0], category=-1)
    both = dataclasses.replace(dataset, samples=(*dataset.samples, other))
    with pytest.raises(InputError, match="1 images without a category"):
        write_dataset_as("folders", {"train": both}, tmp_path / "out")
    done = write_dataset_as("folders", {"train": both}, tmp_path / "out", drop=True)
    assert done.splits == {"train": {"images": 1, "objects": 0}}
    assert done.dropped == {"boxes": 1, "images without a category": 1}
    back = read_dataset(tmp_path / "out", "train")
    assert (back.categories, back.samples[0].category) == (("stop", "go"), 1)


@pytest.mark.parametrize("what", ["voc", "kitti", "yolo", "coco", "bdd"])
def test_images_of_one_name_in_several_splits_become_no_group(tmp_path: Path, what: str) -> None:
    base = one_sample(tmp_path)
    images = {(n, f): draw_picture(tmp_path / n / f / "7.png", 3 * i + j, 32, 32)
              for i, n in enumerate(("test", "train", "val")) for j, f in enumerate("abc")}  # fmt: skip
    sample = dataclasses.replace(base.samples[0], ignore=np.zeros(len(base.samples[0].labels), np.bool_))
    splits = {
        n: dataclasses.replace(
            base, samples=tuple(dataclasses.replace(sample, image=images[n, f], group="7") for f in "abc")
        )
        for n in ("test", "train", "val")
    }
    write_dataset_as(what, splits, tmp_path / "out")
    back = [read_dataset(tmp_path / "out", n) for n in splits]
    assert [groups_of(d) for d in back] == [{}, {}, {}]
    assert not find_leaks(back[1], back[2], full=False)


@pytest.mark.parametrize("suffix", [".PNG", ".Png"])
@pytest.mark.parametrize("what", BOXED)
def test_suffixes_in_capitals_are_found_again(tmp_path: Path, what: str, suffix: str) -> None:
    base = one_sample(tmp_path)
    image = draw_picture(tmp_path / "7.png", 1, 32, 32).rename(tmp_path / f"DSC7{suffix}")
    sample = dataclasses.replace(base.samples[0], image=image, ignore=np.zeros(len(base.samples[0].labels), np.bool_))
    write_dataset_as(what, {"train": dataclasses.replace(base, samples=(sample,))}, tmp_path / "out")
    assert len(read_dataset(tmp_path / "out", "train").samples[0].boxes) == len(sample.boxes)


@pytest.mark.parametrize("what", ["voc", "yolo", "coco"])
def test_a_file_that_bears_the_name_of_its_group_stays_in_it_under_another_name(tmp_path: Path, what: str) -> None:
    base = one_sample(tmp_path)
    sample = dataclasses.replace(base.samples[0], ignore=np.zeros(len(base.samples[0].labels), np.bool_))
    images = [draw_picture(tmp_path / f, i, 32, 32) for i, f in enumerate(("a/7.png", "b/7.png", "b/8.png"))]
    samples = tuple(dataclasses.replace(sample, image=i, group="7") for i in images)
    write_dataset_as(what, {"train": dataclasses.replace(base, samples=samples)}, tmp_path / "out")
    assert groups_of(read_dataset(tmp_path / "out", "train")) == {"7": [0, 1, 2]}


@pytest.mark.parametrize("what", ["folders", "masks"])
def test_nothing_to_hold_is_refused_even_with_drop(tmp_path: Path, what: str) -> None:
    with pytest.raises(InputError, match=f"nothing that format {what} can hold"):
        write_dataset_as(what, {"train": one_sample(tmp_path)}, tmp_path / "out", drop=True)


def test_equal_names_from_several_folders_stay_apart(tmp_path: Path) -> None:
    images = [draw_picture(tmp_path / f / "000000.png", i, 32, 32) for i, f in enumerate("abc")]
    base = one_sample(tmp_path)
    samples = tuple(dataclasses.replace(base.samples[0], image=i, group=i.parent.name) for i in images)
    splits = {
        "train": dataclasses.replace(base, samples=samples[:2]), "val": dataclasses.replace(base, samples=samples[2:])
    }  # fmt: skip
    write_dataset_as("kitti", splits, tmp_path / "out")
    assert sorted(p.stem for p in (tmp_path / "out/training/image_2").iterdir()) == [
        "000000", "train_000000", "val_000000"
    ]  # fmt: skip
    assert [s.group for n in splits for s in read_dataset(tmp_path / "out", n).samples] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("what", "name"), [("folders", "a/b"), ("folders", ".."), ("kitti", "DontCare"), ("voc", " car"), ("coco", "a\tb")]
)
def test_names_that_a_format_cannot_write_are_refused(tmp_path: Path, what: str, name: str) -> None:
    dataset = one_sample(tmp_path, category=0)
    dataset = dataclasses.replace(dataset, classes=(name, "bus"), categories=(name,))
    with pytest.raises(InputError, match=r"the class name .* can't be written"):
        write_dataset_as(what, {"train": dataset}, tmp_path / "out", drop=True)


@pytest.mark.parametrize(("what", "split"), [("yolo", "names"), ("folders", "images"), ("coco", "../up"), ("coco", "")])
def test_names_of_splits_that_would_be_something_else_are_refused(tmp_path: Path, what: str, split: str) -> None:
    with pytest.raises(InputError, match="can't be the name of a split"):
        write_dataset_as(what, {split: one_sample(tmp_path)}, tmp_path / "out")


def test_splits_must_agree_and_exist(tmp_path: Path) -> None:
    one = one_sample(tmp_path)
    with pytest.raises(InputError, match="only one/train has bus"):
        write_dataset_as("coco", {"a": one, "b": dataclasses.replace(one, classes=("car",))}, tmp_path / "out")
    layers = [(MaskLayer("road", ("a", "b"), v),) for v in ((), (3, 4))]
    a, b = (dataclasses.replace(one, layers=x, samples=()) for x in layers)
    with pytest.raises(InputError, match="different values"):
        write_dataset_as("masks", {"a": a, "b": b}, tmp_path / "out")
    with pytest.raises(InputError, match="no split"):
        write_dataset_as("coco", {}, tmp_path / "out")
    with pytest.raises(InputError, match=r"'coca' can't be written; formats: coco, yolo"):
        write_dataset_as("coca", {"a": one}, tmp_path / "out")


def test_the_source_is_never_replaced_by_its_copy(coco_dir: Path) -> None:
    splits = {"train": read_dataset(coco_dir, "train")}
    for out in (coco_dir, coco_dir.parent, coco_dir / "images"):
        with pytest.raises(InputError, match="holds the images"):
            write_dataset_as("coco", splits, out, force=True)
    assert read_dataset(coco_dir, "train").fingerprint() == splits["train"].fingerprint()


def test_an_existing_place_is_kept_unless_forced(coco_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    splits = {"train": read_dataset(coco_dir, "train")}
    with pytest.raises(InputError, match="--force"):
        write_dataset_as("coco", splits, out)
    assert (out / "mine.txt").read_text() == "keep"
    calls: list[int] = []
    write_dataset_as("coco", splits, out, force=True, on_image=lambda: calls.append(1))
    assert not (out / "mine.txt").exists()
    assert len(calls) == 4


def test_an_image_that_vanishes_leaves_nothing_behind(coco_dir: Path, tmp_path: Path) -> None:
    splits = {"train": read_dataset(coco_dir, "train")}
    splits["train"].samples[-1].image.unlink()
    with pytest.raises(InputError):
        write_dataset_as("voc", splits, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coco"]


def test_a_turned_jpeg_keeps_its_boxes(tmp_path: Path) -> None:
    base = one_sample(tmp_path)
    encoded = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(encoded[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + encoded[2:])
    assert image_size(turned) == (48, 64)
    dataset = dataclasses.replace(base, samples=(dataclasses.replace(base.samples[0], image=turned),))
    for what in BOXED:
        write_dataset_as(what, {"train": dataset}, tmp_path / what)
        back = read_dataset(tmp_path / what, "train").samples[0]
        np.testing.assert_allclose(back.boxes, dataset.samples[0].boxes, atol=1e-6)
    assert "<width>48</width>" in (tmp_path / "voc/Annotations/turned.xml").read_text()


def test_every_format_that_is_read_can_be_written_as_something() -> None:
    assert written_format("cityscapes") == INSTEAD["cityscapes"] == "masks"
    assert written_format("coco") == "coco"
    with pytest.raises(InputError, match="formats:"):
        written_format("zip")


@pytest.mark.real_data
def test_real_boxes_survive_every_format(real_data: Path, tmp_path: Path) -> None:
    source = read_dataset(real_data / "bdd", "val", group_pattern="^[^-]+").take(40)
    for what in BOXED:
        write_dataset_as(what, {"val": source}, tmp_path / what)
        assert_same(read_dataset(tmp_path / what, "val"), source)


@pytest.mark.real_data
def test_real_signs_and_masks_survive(real_data: Path, tmp_path: Path) -> None:
    signs = read_dataset(real_data / "gtsrb", "train", group_pattern=r"^(\d+)_").take(60)
    write_dataset_as("folders", {"train": signs}, tmp_path / "signs")
    assert_same(read_dataset(tmp_path / "signs", "train"), signs)
    streets = read_dataset(real_data / "camvid", "val").take(8)
    write_dataset_as("masks", {"val": streets}, tmp_path / "streets")
    assert_same(read_dataset(tmp_path / "streets", "val"), streets)
