"""From a checkpoint to a request: what the budget is held against, and the time of a build that can be repeated."""

from __future__ import annotations

import datetime
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import edgetl.exporting
from edgetl.data import Dataset, read_dataset
from edgetl.exporting import ExportOptions, created, export_checkpoint, metric_of, trials_key
from edgetl.heads import heads_for, kinds_of
from edgetl.metrics.predict import Frames
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess

MERGE = ("thing=car,person",)


class Knowing:
    """A network that knows the boxes of the frames that it is shown; it takes `confused` for the next label."""

    def __init__(self, frames: Frames, confused: int = -1) -> None:
        self.frames, self.confused, self.calls = frames, confused, 0

    def __call__(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        index = next(i for i, image in enumerate(self.frames.images) if image is frame)
        sample, place = self.frames.dataset.samples[index], self.frames.shapes[index]
        height, width = place.source_hw
        boxes = place.to_network(sample.boxes * np.array([width, height, width, height], np.float32))
        labels = np.where(sample.labels == self.confused, self.confused + 1, sample.labels)
        return {"boxes": boxes[None], "scores": np.full((1, len(boxes)), 0.9, np.float32), "classes": labels[None]}


class InPlace:
    """Gives the same arrays for each frame, as engines do."""

    def __init__(self, inner: Knowing) -> None:
        self.inner = inner
        self.outputs = {"boxes": np.zeros((1, 99, 4), np.float32), "scores": np.zeros((1, 99), np.float32)}
        self.outputs |= {"classes": np.zeros((1, 99), np.int64), "raw": np.zeros(1, np.float32)}

    def __call__(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        for array in self.outputs.values():
            array[:] = 0
        for name, found in self.inner(frame).items():
            self.outputs[name][:, : found.shape[1]] = found
        return self.outputs


@pytest.fixture(scope="module")
def frames(scenes: Path) -> Frames:
    return Frames(read_dataset(scenes, "val"), Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3))


def test_merged_classes_are_measured_beside_the_others(frames: Frames) -> None:
    classes = frames.dataset.classes
    kinds = kinds_of(heads_for(frames.dataset, ("detect",)), frames.dataset)
    metric = metric_of(frames, kinds, [f"all={','.join(classes)}"])
    sure, confused = Knowing(frames), Knowing(frames, confused=0)
    best, worse = metric(sure), metric(InPlace(confused))
    assert sure.calls == len(frames), "each frame is run once"
    assert best.classes["detect"]["all"] == pytest.approx(1) == worse.classes["detect"]["all"]
    assert worse.classes["detect"][classes[0]] < 0.1 and worse.heads["detect"] < best.heads["detect"]
    assert set(best.classes["detect"]) == {*classes, "all"}


def test_they_are_held_to_the_budget(frames: Frames) -> None:
    kinds = kinds_of(heads_for(frames.dataset, ("detect",)), frames.dataset)
    metric = metric_of(frames, kinds, MERGE)
    best, none = metric(Knowing(frames)), metric(lambda frame: {k: v[:, :0] for k, v in Knowing(frames)(frame).items()})
    options = ExportOptions(data=None, targets=("cpu",), merge=MERGE, max_drop=1.0, max_drop_class={"thing": 0.2})
    verdict = options.budget.judge(best, none)
    assert not verdict.ok and (verdict.what, verdict.limit) == ("thing", 0.2)
    usual = ExportOptions(data=None, targets=("cpu",), merge=MERGE, max_drop=0.5)
    assert usual.budget.classes == {"thing": 0.5}
    usual.budget.check([k.head for k in kinds])
    with pytest.raises(InputError, match="no class 'lorry'"):
        ExportOptions(data=None, targets=("cpu",), max_drop_class={"lorry": 0.1}).budget.check([k.head for k in kinds])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("car=car,person", "there is a class 'car' already"),
        ("thing=car,lorry", "no class 'lorry'"),
        ("thing", "expected NAME=CLASS,CLASS"),
    ],
)
def test_what_cannot_be_merged(frames: Frames, text: str, message: str) -> None:
    kinds = kinds_of(heads_for(frames.dataset, ("detect",)), frames.dataset)
    with pytest.raises(InputError, match=message):
        metric_of(frames, kinds, [text])


def test_masks_have_no_classes_to_merge(frames: Frames) -> None:
    kinds = kinds_of(heads_for(frames.dataset, ("segment",)), frames.dataset)
    with pytest.raises(InputError, match="no head of this network gives boxes"):
        metric_of(frames, kinds, ["thing=road,lane"])


def test_a_further_split_has_labels_for_every_head_in_the_images_that_are_taken(
    frames: Frames, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = heads_for(frames.dataset, ("detect", "segment"))

    def read(root: Path, split: str) -> Dataset:
        found = read_dataset(root, "train" if split == "night" else split)
        none = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64), "ignore": np.zeros(0, bool)}
        first, *rest, last = found.samples
        bare = (replace(first, **none), *rest, replace(last, **none))
        return replace(found, name="scenes/night", samples=bare) if split == "night" else found

    card = SimpleNamespace(
        heads=heads,
        backbone="",
        data_from=lambda given, reading: (given, SimpleNamespace(read=read)),
        preprocess=Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3),
    )
    monkeypatch.setattr(edgetl.exporting, "load_network", lambda _: (None, card))
    options = ExportOptions(data=scenes, targets=("cpu",), also_val=("night",), val_images=2)
    with pytest.raises(InputError, match="night has no labels for the head detect"):
        export_checkpoint(tmp_path, tmp_path / "b", options, name="b")


def test_other_merged_classes_are_other_trials(frames: Frames) -> None:
    heads = heads_for(frames.dataset, ("detect",))
    assert trials_key([frames], heads) != trials_key([frames], heads, MERGE)


def test_the_same_labels_under_other_names_are_other_trials(frames: Frames) -> None:
    heads = heads_for(frames.dataset, ("detect", "segment"))
    keys = {trials_key([frames], heads), trials_key([frames], heads, agreeing=["segment"])}
    renamed = replace(frames.dataset, classes=frames.dataset.classes[::-1])
    (first, *rest) = frames.dataset.layers
    otherwise = replace(frames.dataset, layers=(replace(first, values=tuple(range(len(first.classes)))[::-1]), *rest))
    for dataset in (renamed, otherwise):
        other = Frames(dataset, Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3))
        keys.add(trials_key([other], heads))
    assert len(keys) == 4


def test_other_code_measures_anew(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept is what the code of then found out: the same version may have been mended since."""
    heads = heads_for(frames.dataset, ("detect",))
    before = trials_key([frames], heads)
    monkeypatch.setattr("edgetl.exporting.code_sha256", lambda: "mended")
    assert trials_key([frames], heads) != before


def test_a_mask_with_its_time_kept_is_another(frames: Frames, tmp_path: Path) -> None:
    """As `cp -p`, rsync and archives write it."""
    heads = heads_for(frames.dataset, ("segment",))
    mask = tmp_path / "mask.png"
    (sample, *rest) = frames.dataset.samples
    shutil.copy(sample.masks[0] or "", mask)
    place = replace(sample, masks=(mask, *sample.masks[1:]))
    dataset = replace(frames.dataset, samples=(place, *rest))
    other = Frames(dataset, Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3))
    before, time = trials_key([other], heads), mask.stat().st_mtime_ns
    mask.write_bytes(mask.read_bytes() + b" ")
    os.utime(mask, ns=(time, time))
    assert trials_key([other], heads) != before


def test_source_date_epoch_is_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert created() == "2023-11-14T22:13:20+00:00"


def test_without_it_the_time_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(created())
    assert 0 <= age.total_seconds() < 60


@pytest.mark.parametrize("text", ["", "yesterday", "1.5", "9" * 30])
def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(InputError, match=r"SOURCE_DATE_EPOCH is .*expected seconds since 1970"):
        created()
