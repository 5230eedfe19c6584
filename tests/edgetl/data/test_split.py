"""Splits keep groups whole, come near their shares with the classes in balance, and are the same for one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_pictures import boxed, dataset, save, scene
from hypothesis import given
from hypothesis import strategies as st

from edgetl.data import Dataset, MaskLayer, Sample, read_dataset
from edgetl.data.histograms import box_counts, category_counts, mask_counts
from edgetl.data.leaks import find_leaks
from edgetl.data.split import pooled, same_picture_pairs, split_by_group
from edgetl_runtime.errors import InputError

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def _samples(groups: list[int], labels: list[list[int]]) -> list[Sample]:
    box = [0.1, 0.1, 0.5, 0.5]
    return [
        boxed(Path(f"{i}.png"), [box] * len(found), found, group=f"drive{g}" if g >= 0 else "")
        for i, (g, found) in enumerate(zip(groups, labels, strict=True))
    ]


def _names(splits: dict[str, Dataset]) -> dict[str, list[str]]:
    return {name: [s.image.name for s in d.samples] for name, d in splits.items()}


@given(
    st.lists(st.tuples(st.integers(-1, 12), st.lists(st.integers(0, 3), max_size=4)), min_size=3, max_size=60),
    st.integers(0, 5),
)
def test_every_image_is_in_one_split_with_all_of_its_group(rows: list[tuple[int, list[int]]], seed: int) -> None:
    data = dataset(_samples([g for g, _ in rows], [x for _, x in rows]), classes="abcd")
    units = len({g for g, _ in rows if g >= 0}) + sum(g < 0 for g, _ in rows)
    if units < len(SHARES):
        with pytest.raises(InputError, match=f"{units} group"):
            split_by_group(data, SHARES, seed=seed)
        return
    splits = split_by_group(data, SHARES, seed=seed)
    assert sorted(n for names in _names(splits).values() for n in names) == sorted(s.image.name for s in data.samples)
    assert all(len(d) for d in splits.values())
    sides: dict[str, set[str]] = {}
    for name, part in splits.items():
        assert part.classes == data.classes
        for sample in part.samples:
            sides.setdefault(sample.group, set()).add(name)
    assert all(len(names) == 1 for names in sides.values())
    assert _names(splits) == _names(split_by_group(data, SHARES, seed=seed))


def test_shares_and_classes_are_balanced_where_groups_allow_it() -> None:
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 120, 900)).tolist()
    kind = rng.integers(0, 3, 120)  # a drive has mostly one class, so whole drives must be chosen by class
    labels = [[int(kind[g])] * int(rng.integers(1, 4)) + [3] * int(rng.random() < 0.1) for g in groups]
    data = dataset(_samples(groups, labels), classes="abcd")
    splits = split_by_group(data, SHARES)
    totals = box_counts(data).sum(axis=0)
    for name, part in splits.items():
        assert len(part) / len(data) == pytest.approx(SHARES[name], abs=0.02)
        np.testing.assert_allclose(box_counts(part).sum(axis=0) / totals, SHARES[name], atol=0.05)
    assert _names(splits) != _names(split_by_group(data, SHARES, seed=1))


def test_ignored_boxes_do_not_count() -> None:
    one = boxed(Path("a.png"), [[0, 0, 1, 1]] * 3, [0, 1, 1], ignore=[False, True, False])
    np.testing.assert_array_equal(box_counts(dataset([one, boxed(Path("b.png"))])), [[1, 1], [0, 0]])
    assert box_counts(dataset([])).shape == (0, 2)


def test_domains_and_categories_are_balanced() -> None:
    rows = [boxed(Path(f"{i}.png"), group=f"g{i // 2}") for i in range(200)]
    rows = [replace(s, domain="night" if i < 40 else "day", category=i // 20 % 5) for i, s in enumerate(rows)]
    data = replace(dataset(rows, classes=()), categories=tuple("abcde"))
    splits = split_by_group(data, {"train": 0.5, "val": 0.5})
    for part in splits.values():
        assert sum(s.domain == "night" for s in part.samples) == 20
        np.testing.assert_array_equal(category_counts(part).sum(axis=0), 20)


def test_pixels_of_masks_are_balanced(tmp_path: Path) -> None:
    samples = []
    for i in range(40):
        mask = np.full((8, 8), 255, np.uint8)
        mask[: 1 + i % 4] = i % 2
        file = save(tmp_path / f"m{i}.png", mask)
        samples.append(replace(boxed(tmp_path / f"{i}.png"), masks=(file,)))
    data = replace(dataset(samples, classes=()), layers=(MaskLayer("road", ("no", "yes")),))
    parts = split_by_group(data, {"a": 0.5, "b": 0.5})
    pixels = {n: mask_counts(d, 0).per_class(d.layers[0]).sum(axis=0) for n, d in parts.items()}
    np.testing.assert_allclose(pixels["a"], pixels["b"], rtol=0.05)
    assert sum(pixels.values()).tolist() == [10 * 8 + 10 * 24, 10 * 16 + 10 * 32]


def test_one_group_for_each_split_leaves_none_empty() -> None:
    data = dataset(_samples([0] * 50 + [1] + [2], [[0]] * 52))
    splits = split_by_group(data, SHARES)
    assert sorted(len(d) for d in splits.values()) == [1, 1, 50]
    assert len(splits["train"]) == 50


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.2, "b": -0.2}, {"a": 1.0, "b": 0.0}])
def test_wrong_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InputError, match="add up to 1"):
        split_by_group(dataset(_samples([0, 1], [[], []])), shares)


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(InputError, match="0 groups"):
        split_by_group(dataset([]), SHARES)


def test_pictures_that_look_the_same_stay_together_by_look(tmp_path: Path) -> None:
    files = []
    for i in range(12):
        files += [save(tmp_path / f"{i}.png", scene(i)), save(tmp_path / f"{i}again.jpg", scene(i), 30)]
    data = dataset([boxed(f) for f in files])
    pairs = same_picture_pairs(data)
    assert sorted(pairs) == [(2 * i, 2 * i + 1) for i in range(12)]
    splits = split_by_group(data, {"train": 0.5, "val": 0.5}, together=pairs)
    assert len(splits["train"]) == 12
    assert not find_leaks(splits["train"], splits["val"])
    assert find_leaks(*split_by_group(data, {"train": 0.5, "val": 0.5}).values())


def test_pooling_takes_an_image_once_and_keeps_images_of_one_name_apart(tmp_path: Path) -> None:
    a = dataset([boxed(tmp_path / "a" / "0.png"), boxed(tmp_path / "a" / "1.png", group="drive")], "set/a")
    b = dataset(
        [boxed(tmp_path / "b" / "0.png"), a.samples[1], boxed(tmp_path / "b" / "2.png", group="drive")], "set/b"
    )
    whole = pooled([a, b], "set")
    assert [s.image.parent.name + s.image.stem for s in whole.samples] == ["a0", "a1", "b0", "b2"]
    assert [s.group for s in whole.samples] == ["0", "drive", "set/b/0", "drive"]
    splits = split_by_group(whole, {"x": 0.5, "y": 0.25, "z": 0.25})
    assert sorted(len(d) for d in splits.values()) == [1, 1, 2]


def test_a_drive_that_is_named_after_its_first_frame_stays_whole(tmp_path: Path) -> None:
    frames = [boxed(tmp_path / f"drive{d}{end}.png", group=f"drive{d}") for d in range(6) for end in ("", "_1", "_2")]
    splits = split_by_group(dataset(frames), {"x": 0.5, "y": 0.5})
    assert all(len({s.group for s in d.samples}) * 3 == len(d) == 9 for d in splits.values())
    a, b = dataset(frames[:1], "a"), dataset([*frames[1:3], boxed(tmp_path / "b" / "drive1.png")], "b")
    assert [s.group for s in pooled([b, a], "set").samples] == ["drive0", "drive0", "drive1", "drive0"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "split", "pattern", "counts"),
    [("gtsrb", "train", "^[0-9]+", category_counts), ("bdd", "train", "^[^-]+", box_counts)],
)
def test_real_data_splits_by_group_without_leaks(
    real_data: Path, folder: str, split: str, pattern: str, counts: Callable[[Dataset], np.ndarray]
) -> None:
    data = read_dataset(real_data / folder, split, group_pattern=pattern)
    splits = split_by_group(data, {"train": 0.8, "val": 0.2})
    assert not find_leaks(splits["train"], splits["val"], full=False)
    assert len(splits["val"]) / len(data) == pytest.approx(0.2, abs=0.01)
    totals = counts(data).sum(axis=0)
    share = counts(splits["val"]).sum(axis=0)[totals > 60] / totals[totals > 60]
    np.testing.assert_allclose(share, 0.2, atol=0.05)
