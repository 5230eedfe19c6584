"""Picked places are the same for every network, and features are read where the labels are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.data import Dataset, MaskLayer, Sample
from edgetl.features.objects import PER_CLASS, PIXELS, labelled_features, pick
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess

PREPROCESS = Preprocess(size_hw=(64, 128), mean=(0, 0, 0), std=(1, 1, 1))


class Position(nn.Module):
    """Maps that say where they are: the x and y of each cell as shares of the input, and the mean blue."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> list[Tensor]:
        self.calls += 1
        maps = []
        for stride in (4, 8, 16, 32):
            small = F.avg_pool2d(x, stride)
            height, width = small.shape[2:]
            across = ((torch.arange(width) + 0.5) / width).expand(1, 1, height, width)
            down = ((torch.arange(height) + 0.5) / height).view(1, 1, -1, 1).expand(1, 1, height, width)
            maps.append(torch.cat([across, down, small[:, 2:3]], dim=1))
        return maps


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))


def _image(folder: Path, name: str, size_hw: tuple[int, int] = (64, 128)) -> Path:
    path = folder / f"{name}.png"
    picture = np.zeros((*size_hw, 3), np.uint8)
    picture[: size_hw[0] // 2] = (200, 0, 0)
    cv2.imwrite(str(path), picture)
    return path


def _sample(path: Path, boxes: list[list[float]], labels: list[int], ignore: list[bool] | None = None) -> Sample:
    return Sample(
        path,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore or [False] * len(labels), np.bool_),
        path.stem,
    )


def _touches(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())


def test_boxes_are_capped_by_class_and_background_touches_nothing(tmp_path: Path) -> None:
    boxes = [[0.1 * i, 0.0, 0.1 * i + 0.08, 0.2] for i in range(9)] + [[0.4, 0.5, 0.5, 0.9]]
    sample = _sample(_image(tmp_path, "a"), boxes, [0] * 9 + [1], [False] * 8 + [True] + [False])
    picks = pick(Dataset("d", ("car", "bus"), (sample,)), "detect")
    assert np.bincount(picks.labels)[:2].tolist() == [PER_CLASS, 1]
    background = picks.places[0][picks.labels == 2]
    assert len(background) == PER_CLASS + 1
    assert not any(_touches(b, t) for b in background for t in sample.boxes)
    assert (background >= 0).all()
    assert (background <= 1).all()
    sizes = [tuple((b[2:] - b[:2]).round(4)) for b in picks.places[0]]
    assert sorted(sizes[: PER_CLASS + 1]) == sorted(sizes[PER_CLASS + 1 :])


def test_ignored_objects_are_not_picked_and_each_image_has_its_own_chance(tmp_path: Path) -> None:
    boxes = [[0.0, 0.0, 0.1, 0.2], [0.5, 0.5, 0.6, 0.8]]
    samples = tuple(_sample(_image(tmp_path, name), boxes, [0, 0], [True, False]) for name in "ab")
    picks = pick(Dataset("d", ("car",), samples), "detect")
    assert picks.labels.tolist() == [0, 1, 0, 1]
    assert all(np.allclose(p[0], boxes[1]) for p in picks.places)
    assert not np.array_equal(picks.places[0][1], picks.places[1][1])


def test_boxes_of_one_class_without_background_are_refused(tmp_path: Path) -> None:
    full = _sample(_image(tmp_path, "a"), [[0, 0, 1, 1]], [0])
    with pytest.raises(InputError, match="boxes of at least two classes"):
        pick(Dataset("d", ("car",), (full,)), "detect")


def test_another_layer_of_masks_has_its_own_classes(tmp_path: Path) -> None:
    for name, value in (("ground", 0), ("lanes", 1)):
        mask = np.full((64, 128), value, np.uint8)
        mask[:32] = 2
        cv2.imwrite(str(tmp_path / f"{name}.png"), mask)
    bare = _sample(_image(tmp_path, "a"), [], [])
    sample = dataclasses.replace(bare, masks=(tmp_path / "ground.png", tmp_path / "lanes.png"))
    layers = (MaskLayer("ground", ("road", "grass", "sky")), MaskLayer("lanes", ("none", "line", "curb")))
    picks = pick(Dataset("d", (), (sample,), layers=layers), "segment", layer=1)
    assert set(picks.labels.tolist()) == {1, 2} and picks.names == layers[1].classes


def test_an_object_that_fills_the_image_leaves_no_background(tmp_path: Path) -> None:
    full = _sample(_image(tmp_path, "a"), [[0, 0, 1, 1]], [0])
    small = _sample(_image(tmp_path, "b"), [[0, 0, 0.1, 0.1]], [0])
    picks = pick(Dataset("d", ("car",), (full, small)), "detect")
    assert [len(p) for p in picks.places] == [1, 2]
    assert picks.groups.tolist() == [0, 1, 1]


def test_picks_are_the_same_again_and_depend_on_the_seed(tmp_path: Path) -> None:
    sample = _sample(_image(tmp_path, "a"), [[0.1, 0.1, 0.2, 0.3]], [0])
    dataset = Dataset("d", ("car",), (sample,))
    once, again, other = (pick(dataset, "detect", seed=s).places[0] for s in (0, 0, 1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_pixels_are_shared_evenly_by_the_classes_and_never_void(tmp_path: Path) -> None:
    mask = np.full((64, 128), 7, np.uint8)  # no class has the value 7: void
    mask[:2], mask[60:], mask[30, 40] = 0, 1, 2
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    empty = _sample(_image(tmp_path, "b"), [], [])
    sample = Sample(
        _image(tmp_path, "a"), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_), "g",
        masks=(tmp_path / "m.png",),
    )  # fmt: skip
    layer = MaskLayer("classes", ("sky", "road", "pole"))
    dataset = Dataset("d", (), (sample, empty), layers=(layer,))
    picks = pick(dataset, "segment")
    assert np.bincount(picks.labels).tolist() == [PIXELS // 3 + 1, PIXELS // 3, 1]
    x, y = (picks.places[0][:, i] * n for i, n in ((0, 128), (1, 64)))
    assert (mask[y.astype(int), x.astype(int)] == picks.labels).all()
    assert len(picks.places[1]) == 0


@pytest.mark.parametrize("task", ["classify", "detect", "segment"])
def test_data_without_such_labels_is_refused_in_one_line(tmp_path: Path, task: str) -> None:
    sample = _sample(_image(tmp_path, "a"), [], [])
    with pytest.raises(InputError, match="no labels to"):
        pick(Dataset("d", (), (sample,)), task)  # type: ignore[arg-type]


def test_box_features_are_the_means_inside_the_box_whatever_the_letterbox(tmp_path: Path) -> None:
    boxes = [[0.25, 0.25, 0.75, 0.75], [0.0, 0.0, 1.0, 0.5]]
    tall = _sample(_image(tmp_path, "a", (128, 128)), boxes, [0, 1])  # 64 x 64 in the middle of 64 x 128
    dataset = Dataset("d", ("car", "bus"), (tall,))
    found = labelled_features(Position(), PREPROCESS, dataset, pick(dataset, "detect"), "detect").vectors
    assert found.shape[1] == 9
    stride8 = found[0].reshape(3, 3)[0]
    assert stride8[:2] == pytest.approx([0.5, 0.5], abs=0.01)
    upper = found[1].reshape(3, 3)[0]
    assert upper[:2] == pytest.approx([0.5, 0.25], abs=0.02)
    assert upper[2] == pytest.approx(200, rel=0.15)


def test_boxes_are_read_in_the_three_coarsest_levels_and_pixels_in_all(tmp_path: Path) -> None:
    class Strides(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [torch.full((1, 1, 64 // s, 128 // s), float(s)) for s in (4, 8, 16, 32)]

    sample = _sample(_image(tmp_path, "a"), [[0.4, 0.4, 0.6, 0.6]], [0])
    dataset = Dataset("d", ("car", "bus"), (sample,))
    picks = dataclasses.replace(pick(dataset, "detect"), places=(sample.boxes,), labels=np.zeros(1, np.int64))
    assert labelled_features(Strides(), PREPROCESS, dataset, picks, "detect").vectors.tolist() == [[8, 16, 32]]
    assert labelled_features(Strides(), PREPROCESS, dataset, picks, "segment").vectors.tolist() == [[4, 8, 16, 32]]


def test_pixel_features_are_bilinear_values_at_the_pixel(tmp_path: Path) -> None:
    mask = np.zeros((64, 128), np.uint8)
    mask[32:] = 1
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    sample = Sample(
        _image(tmp_path, "a"), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_), "g",
        masks=(tmp_path / "m.png",),
    )  # fmt: skip
    dataset = Dataset("d", (), (sample,), layers=(MaskLayer("classes", ("sky", "road")),))
    picks = pick(dataset, "segment")
    vectors = labelled_features(Position(), PREPROCESS, dataset, picks, "segment").vectors
    x, y = picks.places[0][:, 0], picks.places[0][:, 1]
    inside = (x > 0.02) & (x < 0.98) & (y > 0.05) & (y < 0.95)
    assert vectors.shape == (PIXELS, 12)
    assert vectors[inside, 0] == pytest.approx(x[inside], abs=1e-4)
    assert vectors[inside, 1] == pytest.approx(y[inside], abs=1e-4)


def test_features_are_computed_once_and_anew_for_other_places(tmp_path: Path) -> None:
    sample = _sample(_image(tmp_path, "a"), [[0.1, 0.1, 0.3, 0.6]], [0])
    dataset, network = Dataset("d", ("car",), (sample,)), Position()
    first = labelled_features(network, PREPROCESS, dataset, pick(dataset, "detect"), "detect")
    again = labelled_features(network, PREPROCESS, dataset, pick(dataset, "detect"), "detect")
    assert network.calls == 1
    assert np.array_equal(first.vectors, again.vectors)
    labelled_features(network, PREPROCESS, dataset, pick(dataset, "detect", seed=5), "detect")
    assert network.calls == 2


def test_whole_images_without_a_category_are_left_out(tmp_path: Path) -> None:
    plain = [_sample(_image(tmp_path, name), [], []) for name in "abc"]
    samples = tuple(dataclasses.replace(s, category=c) for s, c in zip(plain, (1, -1, 0), strict=True))
    dataset = Dataset("d", (), samples, categories=("stop", "yield"))
    data = labelled_features(Position(), PREPROCESS, dataset, pick(dataset, "classify"), "classify")
    assert data.labels.tolist() == [1, 0]
    assert data.vectors.shape == (2, 3)
    assert data.groups.tolist() == [0, 2]
