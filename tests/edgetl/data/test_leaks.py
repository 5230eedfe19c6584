"""Leaks are found by group, by bytes and by look, and nothing else is called one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_pictures import boxed, dataset, save, scene
from numpy.typing import NDArray

from edgetl.data import Dataset, read_dataset, read_image
from edgetl.data.leaks import copies, find_leaks, groups_of, refuse_leaks
from edgetl.data.looks import LENGTH, SAME, SAME_SMALL, Looks, describe, looks_of, most_alike, same_pictures
from edgetl_runtime.errors import InputError


def _folder(root: Path, seeds: range, name: str, groups: str = "") -> Dataset:
    files = [save(root / f"{seed:03d}.png", scene(seed)) for seed in seeds]
    return dataset([boxed(f, group=f"{groups}{i // 2}" if groups else "") for i, f in enumerate(files)], name)


def test_different_pictures_do_not_leak_though_their_files_are_named_alike(tmp_path: Path) -> None:
    a, b = _folder(tmp_path / "a", range(4), "a"), _folder(tmp_path / "b", range(10, 14), "b")
    b = replace(b, samples=tuple(replace(s, group=s.image.stem) for s in b.samples))
    save(tmp_path / "b" / "000.png", scene(50))
    b = replace(b, samples=(*b.samples, boxed(tmp_path / "b" / "000.png")))
    assert not find_leaks(a, b)
    assert refuse_leaks(a, b, full=True).total == 0


def test_a_group_on_both_sides_is_named_once_and_all_its_images_count(tmp_path: Path) -> None:
    a, b = _folder(tmp_path / "a", range(4), "a", "drive"), _folder(tmp_path / "b", range(10, 16), "b", "drive")
    leaks = find_leaks(a, b, full=False)
    assert [(p.why, p.group) for p in leaks.pairs] == [("same group", "drive0"), ("same group", "drive1")]
    assert leaks.images == {"same group": 4, "same file": 0, "same picture": 0}
    assert leaks.total == 4
    assert "drive0" in leaks.line(leaks.pairs[0])


def test_a_group_of_a_class_folder_that_is_the_file_name_states_nothing(tmp_path: Path) -> None:
    one = boxed(save(tmp_path / "a" / "7.png", scene(1)), group="stop/7")
    two = boxed(save(tmp_path / "b" / "7.png", scene(2)), group="stop/7")
    assert not find_leaks(dataset([one]), dataset([two]))
    assert groups_of(dataset([one, replace(two, group="stop/track7")])) == {"stop/track7": [1]}


def test_a_drive_that_is_named_after_its_first_frame_leaks_by_it(tmp_path: Path) -> None:
    first = boxed(save(tmp_path / "a" / "drive1.png", scene(1)))
    others = [boxed(save(tmp_path / "b" / f"drive1_{i}.png", scene(2 + i)), group="drive1") for i in range(2)]
    for a, b in ((dataset([first]), dataset(others)), (dataset(others), dataset([first]))):
        leaks = find_leaks(a, b, full=False)
        assert [(p.why, p.group) for p in leaks.pairs] == [("same group", "drive1")]
        assert leaks.total == len(b)
    assert groups_of(dataset([first, *others])) == {"drive1": [0, 1, 2]}


@pytest.mark.parametrize("full", [False, True])
def test_the_same_bytes_are_found_in_both_modes(tmp_path: Path, full: bool) -> None:
    a, b = _folder(tmp_path / "a", range(3), "a"), _folder(tmp_path / "b", range(10, 12), "b")
    copy = tmp_path / "b" / "copy.png"
    copy.write_bytes(a.samples[1].image.read_bytes())
    leaks = find_leaks(a, replace(b, samples=(*b.samples, boxed(copy))), full=full)
    assert [(p.first, p.second, p.why) for p in leaks.pairs] == [(1, 2, "same file")]
    assert leaks.total == 1


def test_the_cheap_mode_reads_only_files_of_equal_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _folder(tmp_path / "a", range(3), "a"), _folder(tmp_path / "b", range(10, 13), "b")
    sizes = {s.image.stat().st_size for s in a.samples} & {s.image.stat().st_size for s in b.samples}
    assert not sizes  # drawn pictures of other sizes
    monkeypatch.setattr("edgetl.data.leaks.file_sha256", lambda path: pytest.fail(f"read {path}"))
    assert not find_leaks(a, b, full=False)


def _brighter(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.convertScaleAbs(image, alpha=1.2, beta=15), dtype=np.uint8)


def _half(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA), dtype=np.uint8)


@pytest.mark.parametrize(("change", "quality"), [(np.copy, 20), (_brighter, 90), (_half, 90)])
def test_a_changed_copy_is_found_in_the_full_mode_only(tmp_path: Path, change: object, quality: int) -> None:
    a = _folder(tmp_path / "a", range(6), "a")
    assert callable(change)
    changed = [save(tmp_path / "b" / f"x{i}.jpg", change(scene(i)), quality) for i in (4, 2, 30)]
    b = dataset([boxed(f) for f in changed], "b")
    leaks = find_leaks(a, b)
    assert [(p.first, p.second, p.why) for p in leaks.pairs] == [(4, 0, "same picture"), (2, 1, "same picture")]
    assert all(SAME <= p.likeness <= 1 for p in leaks.pairs)
    assert not find_leaks(a, b, full=False)


def test_refusal_names_the_first_pairs_the_count_and_what_to_do(tmp_path: Path) -> None:
    a, b = _folder(tmp_path / "a", range(12), "set/train", "g"), _folder(tmp_path / "b", range(20, 32), "set/val", "g")
    with pytest.raises(InputError) as error:
        refuse_leaks(a, b)
    text = str(error.value)
    assert "12 of 12 images of set/val leak from set/train (12 by group)" in text
    assert "group g0 is in both (a/000.png and b/020.png)" in text
    assert "and 3 more" in text
    assert "edgetl data split" in text and "--allow-leaks" in text
    assert "\n" not in text
    assert refuse_leaks(a, b, allow=True).total == 12


def test_empty_and_unreadable_files_are_no_copies_of_each_other(tmp_path: Path) -> None:
    good = boxed(save(tmp_path / "a.png", scene(1)))
    broken = boxed(tmp_path / "broken.jpg")
    broken.image.write_bytes(b"\xff\xd8 not a picture")
    missing = [boxed(tmp_path / f"gone{i}.png") for i in range(2)]
    assert not find_leaks(dataset([]), dataset([good]))
    assert not find_leaks(dataset([good, missing[0]]), dataset([broken, missing[1]]))
    with pytest.raises(InputError, match=r"gone0\.png"):
        find_leaks(dataset([missing[0]]), dataset([good]), full=False)


def test_copies_pairs_each_file_with_the_first_of_its_bytes(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{i}.png", scene(seed)) for i, seed in enumerate((1, 2, 1, 3, 1))]
    assert copies(dataset([boxed(f) for f in files])) == [(0, 2), (0, 4)]


def test_a_flat_picture_resembles_nothing() -> None:
    assert not describe(np.full((40, 60, 3), 77, np.uint8)).any()
    assert np.linalg.norm(describe(scene(0))) == pytest.approx(1, abs=1e-5)


def _random_looks(rng: np.random.Generator, count: int, size: int = 200) -> Looks:
    rows = rng.normal(size=(count, LENGTH)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hashes = rng.integers(0, 256, (count, 32)).astype(np.uint8)
    sizes = np.full((count, 2), size, np.int32)
    eights, yes = np.full(count, 8, np.uint8), np.ones(count, np.bool_)
    return Looks(hashes, sizes, rows, eights, ~yes, yes)


def test_pairs_agree_with_comparing_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl.data.looks.BLOCK", 7)  # several blocks
    rng = np.random.default_rng(0)
    a, b = _random_looks(rng, 30), _random_looks(rng, 20)
    for j in range(20):  # most of b are near one or two of a
        near = a.descriptors[rng.integers(0, 30)] + rng.normal(scale=0.01 + 0.0012 * j, size=LENGTH).astype(np.float32)
        b.descriptors[j] = near / np.linalg.norm(near)
    a.descriptors[29] = a.descriptors[3]
    a.size_hw[5:9] = 40
    expected = {}
    for i in range(30):
        for j in range(20):
            likeness = float(a.descriptors[i] @ b.descriptors[j])
            if likeness >= (SAME_SMALL if a.size_hw[i].min() < 64 else SAME):
                expected[i, j] = likeness
    found = {
        (i, j): v
        for rows, columns, values in same_pictures(a, b)
        for i, j, v in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True)
    }
    assert found.keys() == expected.keys()
    assert len(found) > 5
    partner, likeness = most_alike(a, b)
    for j in range(20):
        mine = [v for (_, k), v in expected.items() if k == j]
        assert likeness[j] == pytest.approx(max(mine, default=0), abs=1e-5)
        assert (partner[j] >= 0) == bool(mine)
    assert (most_alike(a, b, among=lambda i, j: i < 0)[0] == -1).all()


def test_five_thousand_against_a_thousand_take_seconds() -> None:
    rng = np.random.default_rng(1)
    a, b = _random_looks(rng, 5000), _random_looks(rng, 1000)
    b.descriptors[:] = a.descriptors[:1000]
    start = time.perf_counter()
    partner, _ = most_alike(a, b)
    assert time.perf_counter() - start < 8  # 0.2 s on an idle core
    np.testing.assert_array_equal(partner, np.arange(1000))


def test_looks_come_from_the_cache_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _folder(tmp_path, range(3), "a")
    first = looks_of(data)
    with monkeypatch.context() as patch:
        patch.setattr("edgetl.data.looks._look_at", lambda path: pytest.fail(f"looked at {path} again"))
        again = looks_of(data)
    np.testing.assert_array_equal(first.sha256, again.sha256)
    np.testing.assert_array_equal(first.descriptors, again.descriptors)
    save(data.samples[1].image, scene(60))
    changed = looks_of(data)
    assert [bool((changed.sha256[i] == first.sha256[i]).all()) for i in range(3)] == [True, False, True]


def test_what_a_file_is(tmp_path: Path) -> None:
    deep = (scene(1).astype(np.uint16) * 256)[:40]
    grey = cv2.cvtColor(scene(2), cv2.COLOR_BGR2GRAY)
    cut = save(tmp_path / "cut.png", scene(3))
    cut.write_bytes(cut.read_bytes()[:-500])
    files = [save(tmp_path / "deep.png", deep), save(tmp_path / "grey.jpg", grey), cut, tmp_path / "gone.png"]
    files.append(save(tmp_path / "deep.tiff", deep))
    looks = looks_of(dataset([boxed(f) for f in files]))
    assert looks.bits.tolist() == [16, 8, 8, 8, 16]
    assert looks.grey.tolist() == [False, True, False, False, False]
    assert looks.whole.tolist() == [True, True, False, False, True]
    assert looks.size_hw.tolist()[:2] == [[40, 160], [90, 160]]
    assert looks.readable.tolist()[3] is False


@pytest.mark.real_data
def test_real_drives_of_other_cameras_do_not_leak_and_their_copies_do(real_data: Path, tmp_path: Path) -> None:
    train = read_dataset(real_data / "bdd", "train")
    val = read_dataset(real_data / "bdd", "val").take(60)
    assert not find_leaks(train, val)
    changed = []
    for i, sample in enumerate(val.samples):
        image = read_image(sample.image)
        image = (cv2.resize(image, (300, 200)), cv2.convertScaleAbs(image, alpha=1.4), image)[i % 3]
        changed.append(boxed(save(tmp_path / f"{i}.jpg", image, 30)))
    leaks = find_leaks(val, dataset(changed, "copies", val.classes))
    assert [(p.first, p.second) for p in leaks.pairs] == [(i, i) for i in range(60)]


@pytest.mark.real_data
def test_traffic_signs_leak_by_track_when_split_at_random(real_data: Path) -> None:
    signs = read_dataset(real_data / "gtsrb", "train", group_pattern="^[0-9]+")
    order = np.random.default_rng(0).permutation(len(signs))
    leaks = find_leaks(signs.only(order[:3000].tolist()), signs.only(order[3000:].tolist()), full=False)
    assert leaks.images["same group"] > 0.9 * len(leaks.second)
