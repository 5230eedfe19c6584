"""Feature maps on disk: computed once, kept within bounds, never half."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgetl.data import Dataset, read_dataset, read_image
from edgetl.features import maps as maps_module
from edgetl.features.maps import FeatureMaps, feature_maps
from edgetl.models.normalise import Normalise
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.spec import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))


class Levels(nn.Module):
    """Two levels of features; counts the frames it saw."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.seen = 0

    def forward(self, x: Tensor) -> list[Tensor]:
        self.seen += len(x)
        return [x[:, :, ::4, ::4] * self.gain, x[:, :2, ::8, ::8]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "maps"


@pytest.fixture
def data(scenes: Path) -> Dataset:
    return read_dataset(scenes, "train")


def compute(network: nn.Module, data: Dataset, after_each: Callable[[], None] = lambda: None) -> FeatureMaps:
    return feature_maps(network.eval(), data, PREPROCESS, after_each=after_each)


def test_a_batch_is_what_the_network_gives(data: Dataset) -> None:
    network = Levels(2.0)
    normalise = Normalise(PREPROCESS)
    with compute(network, data) as found:
        assert len(found) == 6
        levels = found.batch([4, 0, 4])
    assert [tuple(x.shape) for x in levels] == [(3, 3, 16, 24), (3, 2, 8, 12)]
    assert all(x.dtype == torch.float32 for x in levels)
    for place, index in enumerate((4, 0, 4)):
        tensor, _ = Letterbox(PREPROCESS)(read_image(data.samples[index].image))
        with torch.inference_mode():
            wanted = network(normalise(torch.from_numpy(tensor)))
        for level, exact in zip(levels, wanted, strict=True):
            torch.testing.assert_close(level[place], exact[0], rtol=1e-3, atol=1e-3)


def test_the_second_time_the_network_sleeps(data: Dataset, folder: Path) -> None:
    first, again, other = Levels(), Levels(), Levels(3.0)
    for network in (first, again, other):
        compute(network, data).close()
    assert (first.seen, again.seen, other.seen) == (6, 0, 6)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("after", [1, 5, 6])
def test_an_interrupted_computation_leaves_nothing(data: Dataset, folder: Path, after: int) -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(Levels(), data, stop)
    assert list(folder.iterdir()) == []
    network = Levels()
    assert len(compute(network, data)) == network.seen == 6


def damage(folder: Path, kind: str) -> None:
    (cached,) = folder.iterdir()
    if kind == "a level cut short":
        (cached / "1.f16").write_bytes((cached / "1.f16").read_bytes()[:-2])
    elif kind == "a level gone":
        (cached / "0.f16").unlink()
    elif kind == "shapes of garbage":
        (cached / "shapes.json").write_text("[[6, 3")
    else:
        (cached / "shapes.json").unlink()


@pytest.mark.parametrize("kind", ["a level cut short", "a level gone", "shapes of garbage", "shapes gone"])
def test_damaged_maps_are_computed_anew(data: Dataset, folder: Path, kind: str) -> None:
    compute(Levels(), data).close()
    damage(folder, kind)
    network = Levels()
    found = compute(network, data)
    assert network.seen == 6 and len(found) == 6 and len(list(folder.iterdir())) == 1


def test_the_longest_unused_are_deleted_beyond_the_limit(
    data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(Levels(1.0), data).close()
    (first,) = folder.iterdir()
    one = sum(f.stat().st_size for f in first.iterdir())
    compute(Levels(2.0), data).close()
    second = next(f for f in folder.iterdir() if f != first)
    monkeypatch.setattr(maps_module, "LIMIT_BYTES", int(2.5 * one))
    os.utime(first, (10, 10))
    os.utime(second, (20, 20))
    compute(Levels(1.0), data).close()  # used again: now the second is the longest unused
    compute(Levels(3.0), data).close()
    assert first.is_dir() and not second.exists() and len(list(folder.iterdir())) == 2


def test_what_was_just_made_is_kept_whatever_the_limit(
    data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps_module, "LIMIT_BYTES", 1)
    assert len(compute(Levels(), data)) == 6
    assert len(list(folder.iterdir())) == 1


def test_what_a_killed_process_left_is_deleted_and_what_another_works_on_is_not(data: Dataset, folder: Path) -> None:
    killed, at_work = folder / ".killed.x", folder / ".at_work.x"
    for unfinished in (killed, at_work):
        unfinished.mkdir(parents=True)
        (unfinished / "0.f16").write_bytes(b"half")
        os.utime(unfinished, (10, 10))
    os.utime(killed / "0.f16", (10, 10))
    compute(Levels(), data).close()
    assert not killed.exists() and (at_work / "0.f16").is_file()


def test_what_another_process_works_on_is_kept_whatever_the_limit(
    data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".at_work.x").mkdir(parents=True)
    (folder / ".at_work.x" / "0.f16").write_bytes(b"half")
    monkeypatch.setattr(maps_module, "LIMIT_BYTES", 1)
    compute(Levels(), data).close()
    assert (folder / ".at_work.x" / "0.f16").is_file()


@pytest.mark.parametrize("when", ["the same comes first", "it is replaced at once", "it is gone at once"])
def test_two_processes_compute_the_same_at_once(
    data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    rename = Path.rename

    def beside_another(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        if when == "the same comes first":
            compute(Levels(), data).close()
        done = rename(self, target)
        if when != "the same comes first":
            shutil.rmtree(target)
        if when == "it is replaced at once":
            compute(Levels(), data).close()
        return done

    monkeypatch.setattr(Path, "rename", beside_another)
    with compute(Levels(), data) as found:
        assert len(found) == 6 and found.batch([5])[0].shape == (1, 3, 16, 24)
    assert len(list(folder.iterdir())) == (when != "it is gone at once")


def test_another_process_tidies_up_at_once(data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute(Levels(1.0), data).close()
    (other,) = folder.iterdir()
    is_dir = Path.is_dir

    def seen_and_gone(self: Path) -> bool:
        seen = is_dir(self)
        if self == other:
            shutil.rmtree(other, ignore_errors=True)
        return seen

    monkeypatch.setattr(Path, "is_dir", seen_and_gone)
    assert len(compute(Levels(2.0), data)) == 6


def test_a_full_disk_is_said_before_anything_is_written(
    data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"maps: no space .*GB needed.*EDGETL_CACHE.*--recipe full"):
        compute(Levels(), data)
    assert list(folder.iterdir()) == []


def test_a_broken_image_is_named_and_nothing_is_left(data: Dataset, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    broken = dataclasses.replace(data.samples[3], image=tmp_path / "broken.png")
    data = dataclasses.replace(data, samples=(*data.samples[:3], broken))
    with pytest.raises(InputError, match=r"broken\.png"):
        compute(Levels(), data)
    assert list(folder.iterdir()) == []


def test_half_precision_is_enough_for_large_features(data: Dataset) -> None:
    with compute(Levels(1000.0), data) as found:
        assert all(np.isfinite(level.numpy()).all() for level in found.batch([0, 1]))
