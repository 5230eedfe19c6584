"""One vector an image: means and deviations that numpy finds too, and what they are kept by."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgetl.data import Dataset, read_dataset, read_image
from edgetl.features.frozen import images_sha256, state_sha256
from edgetl.features.pooled import pooled_features
from edgetl_runtime.letterbox import reference_letterbox
from edgetl_runtime.spec import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))


class Colours(nn.Module):
    """Two levels: the frame itself, and its red channel halved in size; counts how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, x: Tensor) -> list[Tensor]:
        self.calls += len(x)
        return [x * self.gain, x[:, :1, ::2, ::2]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(scenes: Path) -> Dataset:
    return read_dataset(scenes, "train")


def test_means_and_deviations_by_numpy(data: Dataset) -> None:
    found = pooled_features(Colours(), PREPROCESS, data)
    assert [m.shape for m in found.means] == [(6, 3), (6, 1)] == [d.shape for d in found.deviations]
    for i, sample in enumerate(data.samples):
        x = reference_letterbox(read_image(sample.image), PREPROCESS)[0, :, :, ::-1].astype(np.float64)
        x = (x - PREPROCESS.mean) / PREPROCESS.std
        np.testing.assert_allclose(found.means[0][i], x.mean((0, 1)), atol=0.02)
        np.testing.assert_allclose(found.deviations[0][i], x.std((0, 1)), atol=0.02)
        np.testing.assert_allclose(found.embedding[i], x[::2, ::2, :1].mean((0, 1)), atol=0.02)


def test_the_second_time_the_network_sleeps(data: Dataset) -> None:
    first, again = Colours(), Colours()
    one = pooled_features(first, PREPROCESS, data)
    two = pooled_features(again, PREPROCESS, data)
    assert (first.calls, again.calls) == (6, 0)
    assert all(np.array_equal(a, b) for a, b in zip(one.means, two.means, strict=True))


@pytest.mark.parametrize("what", ["weights", "preprocess", "images", "their order"])
def test_what_changes_the_features_changes_the_key(data: Dataset, what: str) -> None:
    pooled_features(Colours(), PREPROCESS, data)
    network, preprocess = Colours(), PREPROCESS
    if what == "weights":
        network.gain.data += 1
    elif what == "preprocess":
        preprocess = msgspec.structs.replace(PREPROCESS, pad_value=0)
    elif what == "images":
        data = data.only([0, 1, 2])
    else:
        data = data.only([1, 0, 2, 3, 4, 5])
    pooled_features(network, preprocess, data)
    assert network.calls == len(data)


def test_labels_do_not_change_the_key(data: Dataset) -> None:
    bare = dataclasses.replace(data, name="other", classes=("x",), layers=())
    pooled_features(Colours(), PREPROCESS, data)
    network = Colours()
    pooled_features(network, PREPROCESS, bare)
    assert network.calls == 0


def test_an_image_that_was_written_anew_is_another(data: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(data.samples[0].image.read_bytes())
    one = dataclasses.replace(data, samples=(dataclasses.replace(data.samples[0], image=copy),))
    before = images_sha256(one)
    assert images_sha256(one) == before
    os.utime(copy, ns=(1, 1))
    assert images_sha256(one) != before


def test_the_same_size_at_the_same_time_elsewhere_is_another(data: Dataset, tmp_path: Path) -> None:
    def sha(name: str, content: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        os.utime(path, ns=(5, 5))
        return images_sha256(dataclasses.replace(data, samples=(dataclasses.replace(data.samples[0], image=path),)))

    assert len({sha("a.png", b"one"), sha("b.png", b"one"), sha("a.png", b"three")}) == 3


def test_a_network_in_training_is_looked_through_as_it_will_drive(data: Dataset) -> None:
    class Noisy(Colours):
        def forward(self, x: Tensor) -> list[Tensor]:
            return super().forward(x + 100 * self.training)

    found, other = pooled_features(Noisy().train(), PREPROCESS, data), pooled_features(Colours(), PREPROCESS, data)
    np.testing.assert_array_equal(found.means[0], other.means[0])


def test_the_state_tells_networks_apart() -> None:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    same = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    same.load_state_dict(first.state_dict())
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU())
    other.load_state_dict(first.state_dict())
    assert state_sha256(first) == state_sha256(same) != state_sha256(other)
