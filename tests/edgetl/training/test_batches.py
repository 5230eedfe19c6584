"""What a step is given: orders, balance of classes, whole frames, masks, and threads that stop."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgetl.data import VOID, Dataset, MaskLayer, Sample, read_dataset
from edgetl.heads import heads_for, kinds_of
from edgetl.training.augment import AugmentConfig
from edgetl.training.batches import _ahead, augmented_batches, balanced_order, epoch_order, letterboxed_labels
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Letterbox, geometry
from edgetl_runtime.spec import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3)


def labelled(*classes: tuple[int, ...], categories: tuple[int, ...] = ()) -> Dataset:
    """Images that show these classes, without files."""
    samples = []
    for i, shown in enumerate(classes):
        n = len(shown)
        boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (n, 1))
        category = categories[i] if categories else -1
        sample = Sample(
            Path(f"{i}"), boxes, np.array(shown, np.int64), np.zeros(n, np.bool_), str(i), category=category
        )
        samples.append(sample)
    return Dataset("d", ("a", "b", "c"), tuple(samples), ("x", "y"))


def test_an_order_is_a_permutation_that_seed_and_epoch_name() -> None:
    orders = [epoch_order(20, seed=s, epoch=e) for s, e in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1] and orders[0] != orders[2] != orders[3] != orders[0]
    assert all(sorted(o) == list(range(20)) for o in orders)


def test_rare_classes_return_as_often_as_the_formula_says() -> None:
    """One image in 50 shows `b`: for a share of 0.32 it is wanted sqrt(0.32 / 0.02) = 4 times as often."""
    data = labelled(*[(0,)] * 49, (1,))
    seen: Counter[int] = Counter()
    epochs = 400
    for epoch in range(epochs):
        order = balanced_order(data, 0.32, seed=0, epoch=epoch)
        assert len(order) == 50
        seen.update(order)
    common = sum(seen[i] for i in range(49)) / 49
    assert seen[49] / common == pytest.approx(4, rel=0.05)
    assert min(seen[i] for i in range(49)) > 0.7 * common, "no image may be forgotten"


def test_the_rarest_class_of_an_image_decides() -> None:
    """f is 1 for a, 0.25 for b: images with b count sqrt(0.5 / 0.25)."""
    data = labelled((0,), (0,), (0,), (0, 1))
    seen = Counter(i for e in range(2000) for i in balanced_order(data, 0.5, seed=1, epoch=e))
    assert seen[3] / seen[0] == pytest.approx(2**0.5, rel=0.05)


def test_nothing_rare_leaves_every_image_once() -> None:
    data = labelled((0, 1), (0,), (1,), (0, 1), ())
    for epoch in range(20):
        assert sorted(balanced_order(data, 0.3, seed=0, epoch=epoch)) == [0, 1, 2, 3, 4]
        assert balanced_order(data, 0.0, seed=0, epoch=epoch) == epoch_order(5, seed=0, epoch=epoch)


def test_categories_are_balanced_and_ignored_boxes_do_not_count() -> None:
    data = labelled((), (), (), (), categories=(0, 0, 0, 1))
    seen = Counter(i for e in range(1000) for i in balanced_order(data, 1.0, seed=0, epoch=e))
    assert seen[3] / seen[0] == pytest.approx((1 / 0.25) ** 0.5 / (1 / 0.75) ** 0.5, rel=0.06)
    rare = labelled((0,), (0,), (0,), (0, 1))
    hidden = dataclasses.replace(rare.samples[3], ignore=np.array([False, True]))
    rare = dataclasses.replace(rare, samples=(*rare.samples[:3], hidden))
    assert sorted(balanced_order(rare, 0.9, seed=0, epoch=0)) == [0, 1, 2, 3]


def test_classes_of_masks_are_balanced(tmp_path: Path) -> None:
    """Every mask shows `road`, one of four `kerb` too, and one image has no mask."""
    samples = []
    for i, sample in enumerate(labelled(*[()] * 5).samples):
        mask = np.ones((4, 6), np.uint8)
        mask[0, 0] = 2 if i == 3 else 1
        cv2.imwrite(str(tmp_path / f"{i}.png"), mask)
        samples.append(dataclasses.replace(sample, masks=(tmp_path / f"{i}.png" if i < 4 else None,)))
    layers = (MaskLayer("ground", ("sky", "road", "kerb")),)
    data = Dataset("d", (), tuple(samples), layers=layers)
    seen = Counter(i for e in range(1000) for i in balanced_order(data, 0.8, seed=0, epoch=e))
    assert seen[3] / seen[0] == pytest.approx(2, rel=0.06), "sqrt(0.8 / 0.2) for one image in five"
    assert seen[4] / seen[0] == pytest.approx(1, rel=0.06)


def batches(data: Dataset, tasks: tuple[str, ...], **more: object) -> list[object]:
    kinds = kinds_of(heads_for(data, tasks), data)
    settings = {"crop_hw": (32, 64), "network_hw": (64, 96), "batch": 2, "seed": 0, "epoch": 0, **more}
    return list(augmented_batches(data, kinds, config=AugmentConfig(), **settings))  # type: ignore[arg-type]


def test_a_batch_of_boxes_and_masks(scenes: Path) -> None:
    data = read_dataset(scenes, "train")
    found = batches(data, ("detect", "segment"))
    assert len(found) == 3
    for batch in found:
        assert batch.frames.shape == (2, 32, 64, 3) and batch.frames.dtype == torch.uint8
        assert [tuple(t.shape) for t in batch.targets["detect"]] == [
            (2, 2, 8, 16),
            (2, 4, 8, 16),
            (2, 8, 16),
            (2, 8, 16),
        ]
        (mask,) = batch.targets["ground"]
        assert tuple(mask.shape) == (2, 16, 32) and set(mask.unique().tolist()) <= {0, 1, VOID}
    names = [n for b in found for n in b.names]
    assert sorted(names) == sorted(s.image.name for s in data.samples)


def test_categories_alone_are_seen_whole(signs: Path) -> None:
    data = read_dataset(signs, "train")
    found = batches(data, ("classify",), batch=4)
    assert [tuple(b.frames.shape) for b in found] == [(4, 64, 96, 3)] * 2, "the crop's size is for crops"
    for batch in found:
        (truth,) = batch.targets["classify"]
        assert truth.dtype == torch.int64 and set(truth.tolist()) <= {0, 1}


def test_skipping_gives_the_rest_of_the_same_epoch(scenes: Path) -> None:
    data = read_dataset(scenes, "train")
    whole, rest = batches(data, ("detect", "segment")), batches(data, ("detect", "segment"), skip=2)
    assert len(rest) == 1 and rest[0].names == whole[2].names
    assert torch.equal(rest[0].frames, whole[2].frames)
    assert torch.equal(rest[0].targets["ground"][0], whole[2].targets["ground"][0])


def test_fewer_images_than_a_batch_are_one_batch(scenes: Path) -> None:
    found = batches(read_dataset(scenes, "train").only([0, 1, 2]), ("detect",), batch=8)
    assert [len(b.names) for b in found] == [3]


def test_an_unreadable_image_is_named(scenes: Path, tmp_path: Path) -> None:
    data = read_dataset(scenes, "train")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    wrong = dataclasses.replace(data.samples[2], image=tmp_path / "broken.png")
    data = dataclasses.replace(data, samples=(*data.samples[:2], wrong))
    with pytest.raises(InputError, match=r"broken\.png"):
        batches(data, ("detect",))


@pytest.mark.parametrize("source_hw", [(90, 160), (128, 192), (50, 40)])
def test_letterboxed_masks_and_boxes_lie_where_the_image_does(tmp_path: Path, source_hw: tuple[int, int]) -> None:
    """The image is white where the mask is 1 and the box stands; the network must see all three at one place."""
    height, width = source_hw
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    top, left = height // 4, width // 4
    image[top : 2 * top, left : 3 * left], mask[top : 2 * top, left : 3 * left] = 255, 1
    cv2.imwrite(str(tmp_path / "i.png"), image)
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    box = np.array([[left / width, top / height, 3 * left / width, 2 * top / height]], np.float32)
    one = Sample(tmp_path / "i.png", box, np.array([0]), np.array([False]), "a", masks=(tmp_path / "m.png", None))
    data = Dataset("d", ("a",), (one,), layers=(MaskLayer("m", ("no", "yes")), MaskLayer("n", ("no", "yes"))))
    view = letterboxed_labels(data, 0, PREPROCESS)
    seen_image = Letterbox(PREPROCESS)(image)[0][0]
    assert view.image.shape == seen_image.shape == (64, 96, 3) and view.masks[0].shape == (64, 96)
    assert (view.masks[1] == VOID).all(), "an image without a mask is void"
    bright = seen_image[..., 0].astype(int) > 127
    place = geometry(source_hw, (64, 96))
    inside = np.zeros((64, 96), bool)
    inside[place.pad_top : place.pad_top + place.new_hw[0], place.pad_left : place.pad_left + place.new_hw[1]] = True
    assert ((view.masks[0] == VOID) == ~inside).all()
    seen = bright & (seen_image[..., 0] != PREPROCESS.pad_value)
    assert (seen[inside] != (view.masks[0] == 1)[inside]).mean() < 0.03
    rows, columns = np.nonzero(view.masks[0] == 1)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(view.boxes[0], edges, atol=1)
    cv2.imwrite(str(tmp_path / "m.png"), mask.T)
    with pytest.raises(
        InputError, match=rf"m\.png: a mask of {height}x{width} pixels for an image of {width}x{height}"
    ):
        letterboxed_labels(data, 0, PREPROCESS)


def test_work_ahead_is_in_order_and_stops_when_nobody_listens() -> None:
    done: list[int] = []

    def prepare(chunk: range) -> int:
        time.sleep(0.002)
        done.append(chunk[0])
        return chunk[0]

    chunks = [range(i, i + 1) for i in range(40)]
    assert list(_ahead(prepare, chunks)) == list(range(40))  # type: ignore[arg-type]
    done.clear()
    listening = _ahead(prepare, chunks)  # type: ignore[arg-type]
    assert list(itertools.islice(listening, 3)) == [0, 1, 2]
    listening.close()  # type: ignore[attr-defined]
    assert len(done) < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_work_ahead_takes_one_core_and_leaves_the_others_theirs() -> None:
    def threads(_: object = None) -> int:
        torch.ones(64, 64) @ torch.ones(64, 64)
        return torch.get_num_threads()

    torch.set_num_threads(2)
    ahead = _ahead(threads, [range(1)] * 4)  # type: ignore[arg-type]
    found = [next(ahead)]
    with ThreadPoolExecutor(1) as later:
        assert (threads(), later.submit(threads).result()) == (2, 2)
    assert [*found, *ahead] == [1] * 4
    with ThreadPoolExecutor(1) as later:
        assert (threads(), later.submit(threads).result()) == (2, 2)
