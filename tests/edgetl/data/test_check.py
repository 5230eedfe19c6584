"""The check finds what was planted, one flaw at a time, and nothing in a sound dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_pictures import boxed, dataset, save, scene

from edgetl.data import Dataset, MaskLayer, Sample, read_dataset
from edgetl.data.check import MOST_ERRORS, Findings, check
from edgetl.data.check_page import check_report, typical
from edgetl.data.dataset import LabelErrors
from edgetl.data.draw import colour_of, draw_sample, side_by_side
from edgetl.data.findings import EXAMPLES, Finding, counted
from edgetl_export.report.page import render
from edgetl_runtime.errors import InputError

BOX = [0.2, 0.2, 0.6, 0.7]
OTHER = [0.5, 0.1, 0.8, 0.6]


def _sound(root: Path, count: int = 24, first: int = 0, name: str = "set/train") -> Dataset:
    files = [save(root / f"{i}.png", scene(first + i)) for i in range(count)]
    return dataset([boxed(f, [BOX, OTHER], [0, 1]) for f in files], name)


def _only(found: Findings, code: str) -> Finding:
    matching = [f for f in found.findings if f.code == code]
    assert len(matching) == 1, [f.code for f in found.findings]
    return matching[0]


def _with(data: Dataset, *samples: Sample) -> Dataset:
    return replace(data, samples=(*data.samples, *samples))


def test_nothing_is_found_in_a_sound_dataset(tmp_path: Path) -> None:
    train, val = _sound(tmp_path / "a"), _sound(tmp_path / "b", first=100, name="set/val")
    found = check({"train": train, "val": val})
    assert found.findings == ()
    assert found.leaks == ()
    facts = found.splits["train"]
    assert (facts.images, facts.boxes, facts.unlabelled, facts.groups) == (24, 48, 0, 0)
    assert facts.classes == {"boxes": {"car": 24, "person": 24}}
    assert facts.size_hw_min == facts.size_hw_max == (90, 160)
    assert sum(facts.box_px) == 48


def test_broken_and_cut_files_are_errors_and_named(tmp_path: Path) -> None:
    data = _sound(tmp_path)
    bad, cut = tmp_path / "bad.jpg", save(tmp_path / "cut.png", scene(70))
    bad.write_bytes(b"\xff\xd8nothing")
    cut.write_bytes(cut.read_bytes()[:-800])
    found = check({"train": _with(data, boxed(bad, [BOX], [0]), boxed(cut, [BOX], [1]))})
    files = {f for x in found.findings if x.severity == "error" for f in x.files}
    assert files == {str(bad), str(cut)}
    assert _only(found, "image-unreadable").severity == "error"
    assert str(bad) in _only(found, "image-unreadable").text


def test_a_jpeg_without_its_end_is_an_error_even_where_it_decodes(tmp_path: Path) -> None:
    data = _sound(tmp_path)
    file = save(tmp_path / "x.jpg", scene(71))
    file.write_bytes(file.read_bytes().removesuffix(b"\xff\xd9"))
    found = check({"train": _with(data, boxed(file, [BOX], [0]))})
    assert found.count("error") == 1
    assert [f.files for f in found.findings if f.severity == "error"] == [(str(file),)]


@pytest.mark.parametrize(
    ("code", "image"),
    [
        ("image-tiny", scene(60)[:12, :24]),
        ("image-16-bit", scene(61).astype(np.uint16) * 256),
        ("image-grey", cv2.cvtColor(scene(62), cv2.COLOR_BGR2GRAY)),
        ("image-shapes", scene(63, 320, 60)),
    ],
)
def test_odd_images_are_notes(tmp_path: Path, code: str, image: np.ndarray) -> None:
    file = save(tmp_path / "odd.png", image)
    found = check({"train": _with(_sound(tmp_path), boxed(file, [[0.0, 0.0, 0.7, 0.7]], [0]))})
    finding = _only(found, code)
    assert (finding.severity, finding.files, finding.count) == ("note", (str(file),), 1)


def test_large_images_are_noted_with_their_memory(tmp_path: Path) -> None:
    file = save(tmp_path / "large.png", np.zeros((5000, 5000), np.uint8))
    finding = _only(check({"a": dataset([boxed(file, [BOX], [0])])}), "image-large")
    assert "75 MB" in finding.text


@pytest.mark.parametrize(
    ("code", "severity", "boxes"),
    [
        ("box-degenerate", "warning", [[0.5, 0.5, 0.503, 0.9]]),
        ("box-repeated", "warning", [BOX, BOX]),
        ("box-whole-image", "note", [[0, 0, 1, 1]]),
        ("box-small", "note", [[0.5, 0.5, 0.512, 0.52]]),
    ],
)
def test_flawed_boxes_are_counted(tmp_path: Path, code: str, severity: str, boxes: list[list[float]]) -> None:
    file = save(tmp_path / "x.png", scene(80))
    found = check({"train": _with(_sound(tmp_path), boxed(file, boxes, [0] * len(boxes)))})
    finding = _only(found, code)
    assert (finding.severity, finding.count) == (severity, 1)


def test_boxes_of_one_pixel_are_not_less_than_one(tmp_path: Path) -> None:
    file = save(tmp_path / "x.png", scene(1, 90, 640))
    boxes = [[x / 640, 0.1, (x + 1) / 640, 0.9] for x in range(0, 640, 5)]
    found = check({"train": dataset([boxed(file, boxes, [0] * len(boxes))])})
    assert "box-degenerate" not in {f.code for f in found.findings}


def test_ignored_and_other_class_boxes_are_not_repeated(tmp_path: Path) -> None:
    file = save(tmp_path / "x.png", scene(80))
    sample = boxed(file, [BOX, BOX, BOX], [0, 1, 0], ignore=[False, False, True])
    assert not check({"train": _with(_sound(tmp_path), sample)}).findings


def test_box_sizes_are_those_in_the_network_input(tmp_path: Path) -> None:
    file = save(tmp_path / "x.png", scene(1, 180, 320))  # letterboxed to 640x352: scale min(352 / 180, 2)
    scale = 352 / 180
    sides = [7.9, 8.1, 40.0, 127.0, 129.0]
    boxes = [[0.1, 0.1, 0.1 + s / scale / 320, 0.1 + s / scale / 180] for s in sides]
    found = check({"train": dataset([boxed(file, boxes, [0] * 5)])})
    assert found.splits["train"].box_px == (1, 1, 0, 1, 1, 1)
    assert _only(found, "box-small").severity == "note"  # 20 % and not more
    larger = check({"train": dataset([boxed(file, boxes, [0] * 5)])}, size_hw=(704, 1280))
    assert larger.splits["train"].box_px == (0, 1, 1, 0, 1, 2)


def test_copies_and_copies_with_other_labels(tmp_path: Path) -> None:
    data = _sound(tmp_path)
    same, torn = tmp_path / "same.png", tmp_path / "torn.png"
    for copy in (same, torn):
        copy.write_bytes(data.samples[3].image.read_bytes())
    found = check({"train": _with(data, boxed(same, [OTHER, BOX], [1, 0]), boxed(torn, [BOX], [1]))})
    assert _only(found, "duplicate-file").files == (str(same), str(torn))
    assert _only(found, "duplicate-labels").files == (str(torn),)
    assert _only(found, "duplicate-labels").severity == "error"


def test_near_duplicates_are_noted_unless_they_are_of_one_drive(tmp_path: Path) -> None:
    data = _sound(tmp_path)
    file = save(tmp_path / "again.jpg", scene(3), 40)
    found = check({"train": _with(data, boxed(file, [BOX, OTHER], [0, 1]))})
    assert _only(found, "near-duplicate").text.endswith("such as again.jpg of 3.png")
    drive = replace(data, samples=tuple(replace(s, group="drive") for s in data.samples))
    assert not check({"train": _with(drive, boxed(file, [BOX, OTHER], [0, 1], group="drive"))}).findings


def test_images_without_labels(tmp_path: Path) -> None:
    train, val = _sound(tmp_path / "a"), _sound(tmp_path / "b", first=100)

    def bare(data: Dataset, count: int) -> Dataset:
        return replace(data, samples=tuple(boxed(s.image) if i < count else s for i, s in enumerate(data.samples)))

    for count, severity in ((1, "note"), (20, "warning"), (24, "note")):
        finding = _only(check({"train": train, "val": bare(val, count)}), "unlabelled")
        assert (finding.severity, finding.split, finding.count) == (severity, "val", count)


def test_classes_that_lack_are_rare_or_out_of_proportion(tmp_path: Path) -> None:
    train, val = _sound(tmp_path / "a", 60), _sound(tmp_path / "b", 60, first=100)
    classes = ("car", "person", "bus", "tram")
    few = boxed(save(tmp_path / "x.png", scene(90)), [BOX], [2])
    train = replace(_with(train, few), classes=classes)
    val = replace(val, classes=classes, samples=tuple(boxed(s.image, [BOX], [0]) for s in val.samples))
    found = check({"train": train, "val": val})
    assert "tram" in _only(found, "class-unseen").text
    assert _only(found, "class-missing-in-split").split == "val"
    assert "person, bus" in _only(found, "class-missing-in-split").text
    assert "bus (1)" in _only(found, "class-rare").text
    assert "car has 120 boxes, bus 1: 120 to 1" in _only(found, "class-imbalance").text
    shift = _only(found, "class-shift")
    assert shift.text.startswith("50 %") and shift.severity == "warning"
    assert found.count("error") == 0


def test_other_class_lists_are_one_error_and_not_compared(tmp_path: Path) -> None:
    train, val = _sound(tmp_path / "a"), _sound(tmp_path / "b", first=100)
    found = check({"train": train, "val": replace(val, classes=("person", "car"))})
    assert [f.code for f in found.findings] == ["classes-differ"]


def _masked(root: Path, masks: list[np.ndarray]) -> Dataset:
    samples = []
    for i, mask in enumerate(masks):
        image = save(root / f"{i}.png", scene(i))
        samples.append(replace(boxed(image), masks=(save(root / "masks" / f"{i}.png", mask),)))
    return replace(dataset(samples, classes=()), layers=(MaskLayer("road", ("no", "yes")),))


def test_flawed_masks(tmp_path: Path) -> None:
    half = np.repeat([[0], [1]], 45, axis=0).repeat(160, axis=1).astype(np.uint8)
    void = half.copy()
    void[:9] = 255
    data = _masked(tmp_path, [half] * 20 + [void, half[:50], scene(3), np.full_like(half, 7)])
    data = _with(data, replace(boxed(save(tmp_path / "n.png", scene(99))), masks=(None,)))
    found = check({"train": data})
    names = {f.code: [Path(x).stem for x in f.files] for f in found.findings}
    assert names["mask-size"] == ["21"]
    assert "160x50, its image 160x90" in _only(found, "mask-size").text
    assert names["mask-unreadable"] == ["22"]
    assert names["mask-empty"] == ["23"]
    assert names["mask-missing"] == ["n"]
    assert _only(found, "mask-void").severity == "note"
    assert "7 (" in _only(found, "mask-void").text and "255 (" in _only(found, "mask-void").text
    assert found.count("error") == 2
    assert names["unlabelled"] == ["22", "23", "n"]


def test_leaks_are_errors_where_a_split_is_trained_on_and_the_other_scored(tmp_path: Path) -> None:
    train, val = _sound(tmp_path / "a"), _sound(tmp_path / "b", first=100)
    shared = [boxed(save(tmp_path / f"{n}.png", scene(n)), [BOX, OTHER], [0, 1], group="drive") for n in (40, 50)]
    a, b = _with(train, shared[0]), _with(val, shared[1])
    found = check({"train": a, "val": b})
    assert [(f.severity, f.code, f.split) for f in found.findings] == [("error", "leak-group", "train, val")]
    assert [f.severity for f in check({"train": _sound(tmp_path / "c", 24, 200), "val": a, "test": b}).findings] == [
        "warning"
    ]
    assert [f.severity for f in check({"x": a, "y": b}).findings] == ["error"]
    bare = replace(b, samples=tuple(boxed(s.image, group=s.group) for s in b.samples))
    assert "error" not in {f.severity for f in check({"train": a, "night": bare}).findings}


def test_every_wrong_label_is_listed_up_to_a_limit() -> None:
    errors = [InputError(f"labels/{i}.txt:1: wrong", remedy="correct it") for i in range(MOST_ERRORS + 3)]
    few, many = (check({}, unreadable={"val": LabelErrors(errors[:n])}).findings for n in (2, len(errors)))
    assert [f.text for f in few] == ["labels/0.txt:1: wrong", "labels/1.txt:1: wrong"]
    assert len(many) == MOST_ERRORS + 1 and many[-1].text.startswith("3 more entries") and many[-1].count == 3


def test_unreadable_labels_are_an_error_and_an_empty_check_is_none() -> None:
    found = check({}, unreadable={"val": InputError("labels/3.txt:2: expected numbers", remedy="correct the line")})
    assert [(f.severity, f.code, f.split, f.remedy) for f in found.findings] == [
        ("error", "labels-unreadable", "val", "correct the line")
    ]
    assert check({"train": dataset([])}).splits["train"].images == 0


def test_examples_are_few_and_numbers_are_plain(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(30)]
    for file in files:
        file.write_bytes(b"x")
    finding = _only(check({"train": dataset([boxed(f) for f in files])}), "image-unreadable")
    assert (len(finding.files), finding.count) == (EXAMPLES, 30)
    assert counted(3, 3, "x") == "3 of 3 x"
    assert counted(1, 3, "x") == "1 of 3 x (33.3 %)"
    assert counted(1, 9999, "x") == "1 of 9999 x (under 0.1 %)"


def test_the_page_shows_findings_charts_and_pictures(tmp_path: Path) -> None:
    train, val = _sound(tmp_path / "a"), _sound(tmp_path / "b", first=100, name="set/val")
    val = _with(val, boxed(save(tmp_path / "copy.jpg", scene(2), 50), [BOX], [0]))
    broken = boxed(tmp_path / "gone<b>.png")
    data = {"train": _with(train, broken), "val": val, "empty": dataset([])}
    found = check(data)
    html = render(check_report("Check of set", data, found))
    assert "the same picture (" in html
    assert "copy.jpg" in html and "gone&lt;b&gt;.png" in html and "gone<b>" not in html
    assert html.count("data:image/jpeg") == 1 + 6 + 6  # the pair, and examples of two splits
    for text in ("2 errors", "train: share of boxes", "val: share of 49 boxes"):
        assert text in html


def test_drawing_shows_boxes_masks_and_a_legend(tmp_path: Path) -> None:
    image = save(tmp_path / "x.png", np.full((100, 200, 3), 100, np.uint8))
    plain = draw_sample(boxed(image), dataset([]), width=200)
    assert plain.shape == (100, 200, 3) and (plain == 100).all()
    drawn = draw_sample(boxed(image, [BOX, OTHER], [0, 1], ignore=[False, True]), dataset([]), width=200)
    assert drawn.shape[0] > 100
    np.testing.assert_allclose(drawn[20, 60], colour_of(0), atol=20)  # lines are smoothed
    np.testing.assert_allclose(drawn[10, 130], 150, atol=20)
    mask = np.zeros((100, 200), np.uint8)
    mask[60:] = 1
    file = save(tmp_path / "m.png", mask)
    layered = replace(dataset([]), layers=(MaskLayer("road", ("background", "road")),))
    painted = draw_sample(replace(boxed(image), masks=(file,)), layered, width=200)
    assert (painted[:59] == 100).all() and (painted[61:100] != 100).any()
    assert side_by_side(boxed(image), boxed(tmp_path / "gone.png"), width=200).shape == (56, 200, 3)


def test_typical_samples_are_different_and_not_the_emptiest() -> None:
    rows = [boxed(Path(f"{i}.png"), [BOX] * (i % 10), [0] * (i % 10)) for i in range(50)]
    chosen = typical(dataset(rows), 4)
    assert len(set(chosen)) == 4
    assert all(i % 10 >= 3 for i in chosen)
    assert typical(dataset([]), 4) == [] and typical(dataset(rows[:1]), 4) == [0]


@pytest.mark.real_data
def test_the_usual_camvid_split_leaks_by_sequence(real_data: Path) -> None:
    splits = ("train", "val", "test")
    found = check({s: read_dataset(real_data / "camvid", s, group_pattern="^[^_]+") for s in splits})
    leaks = {f.split: f.count for f in found.findings if f.code == "leak-group"}
    assert leaks == {"train, val": 101, "train, test": 62}
    assert {f.code for f in found.findings if f.severity == "error"} == {"leak-group"}
