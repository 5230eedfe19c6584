"""edgetl tune on drawn data: every task and recipe, teachers and starts, and what it refuses."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import edgetl.exporting
from edgetl.commands import tune as command
from edgetl.data import Dataset, Reading, read_dataset
from edgetl.exporting import ExportOptions, export_checkpoint
from edgetl.heads import HeadMetric, kinds_of
from edgetl.metrics.predict import Evaluation, Frames
from edgetl.models.network import Network
from edgetl.training import keep as keep_module
from edgetl.training import tune as tune_module
from edgetl.training.batches import Batch, augmented_batches
from edgetl.training.checkpoint import load_checkpoint, load_network
from edgetl.training.config import TuneConfig
from edgetl.training.logs import read_curve
from edgetl.training.tune import TuneStopped, tune
from edgetl_export.export import ExportRequest
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, SegmentHead

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ("--size", "96x64", "--batch", "2", "--epochs", "1", "--probe-epochs", "1", "--val-images", "4")


def call(data: Path, *arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    document = command.run(parser.parse_args([str(a) for a in (data, *SMALL, *arguments)]))
    json.dumps(document)
    return document


def test_masks(scenes: Path, tmp_path: Path) -> None:
    document = call(scenes, "--task", "segment", "--mask-stride", 4, "--out", tmp_path / "run", "--epochs", 4)
    assert document["metric"] == "miou" and document["value"] > 0.5, "pretrained features know sky from road"
    assert document["heads"] == {"ground": document["value"]} and document["steps"] == 12
    network, card = load_network(tmp_path / "run")
    assert isinstance(network, Network) and network.neck is not None
    (head,) = card.heads
    assert isinstance(head, SegmentHead) and (head.labels, head.stride) == (("other", "road"), 4)
    assert card.reliability == {}, "a mask has no score"
    columns = {k for row in read_curve(tmp_path / "run" / "metrics.csv") for k in row}
    assert {"ground_mask", "ground_dice", "val_ground"} <= columns


def test_categories(signs: Path, tmp_path: Path) -> None:
    document = call(signs, "--task", "classify", "--out", tmp_path / "run", "--epochs", 6, "--probe-epochs", 12)
    assert document["metric"] == "accuracy" and document["value"] == 1.0
    network, card = load_network(tmp_path / "run")
    assert network.neck is None, "a category needs no pyramid"
    (head,) = card.heads
    assert isinstance(head, ClassifyHead) and head.labels == ("go", "stop")
    assert card.reliability["classify"].answers == 6, "all of the split, not only --val-images of it"


@pytest.mark.parametrize(
    ("given", "size_hw"),
    [
        (("--task", "classify"), (128, 128)),
        (("--task", "classify", "--size", "64x96"), (96, 64)),
        (("--task", "detect"), (352, 640)),
        (("--task", "detect,classify"), (352, 640)),
    ],
)
def test_categories_alone_need_no_wide_input(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], size_hw: tuple[int, int]
) -> None:
    asked: list[TuneConfig] = []

    def stop(train: Dataset, val: Dataset, out: Path, config: TuneConfig, **more: object) -> None:
        asked.append(config)
        raise TuneStopped("seen", remedy="none")

    monkeypatch.setattr(tune_module, "tune", stop)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(TuneStopped):
        command.run(parser.parse_args([str(scenes), *given, "--out", str(tmp_path / "run")]))
    assert (asked[0].size_hw, asked[0].crop_hw) == (size_hw, size_hw)


def test_boxes_and_masks_together(scenes: Path, tmp_path: Path) -> None:
    document = call(scenes, "--task", "detect,segment", "--out", tmp_path / "run")
    assert document["metric"] == "mean" and set(document["heads"]) == {"detect", "ground"}
    assert document["value"] == pytest.approx(np.mean(list(document["heads"].values())))
    card = load_checkpoint(tmp_path / "run").card
    assert [h.name for h in card.heads] == ["detect", "ground"] and set(card.reliability) == {"detect"}
    rows = read_curve(tmp_path / "run" / "metrics.csv")
    fine = next(r for r in rows if r["phase"] == "fine-tune" and "loss" in r)
    assert {"detect_heat", "detect_box", "ground_mask", "ground_dice"} <= set(fine)
    assert (tmp_path / "run" / "augmentation.jpg").is_file()


def changed_parts(run: Path) -> set[str]:
    """Top-level parts of the network that are not as the package's weights, or as the seed made them."""
    training = load_checkpoint(run / "last.pt").training
    assert training is not None
    before = _untouched(load_checkpoint(run / "last.pt").card.heads)
    changed = {k for k, v in training["live"].items() if k in before and not torch.equal(v, before[k])}
    return {".".join(k.split(".")[:3]) if k.startswith("backbone.blocks") else k.split(".")[0] for k in changed}


def _untouched(heads: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    from edgetl.heads import network_of
    from edgetl.models.backbone import build_backbone

    torch.manual_seed(0)
    network = network_of(build_backbone("tf_efficientnet_lite0", "package", fold=True), kinds_of(heads))
    return dict(network.state_dict())


@pytest.mark.parametrize(
    ("recipe", "steps", "blocks"),
    [
        (("--recipe", "probe"), 0, set()),
        (("--recipe", "full"), 3, set(range(7))),
        (("--recipe", "surgical", "--surgical-strides", "8"), 3, {2}),
        (("--recipe", "probe-finetune"), 3, set(range(2, 7))),
    ],
    ids=["probe", "full", "surgical", "probe-finetune"],
)
def test_recipes_train_what_they_say(
    scenes: Path, tmp_path: Path, recipe: tuple[str, ...], steps: int, blocks: set[int]
) -> None:
    document = call(scenes, "--task", "segment", *recipe, "--out", tmp_path / "run")
    assert document["steps"] == steps
    parts = changed_parts(tmp_path / "run")
    assert {int(p.split(".")[2]) for p in parts if p.startswith("backbone.blocks")} == blocks
    assert ("backbone" in parts) is (recipe[1] == "full"), "the stem"
    assert {"neck", "dense"} <= parts
    phases = [r["phase"] for r in read_curve(tmp_path / "run" / "metrics.csv")]
    assert ("probe" in phases) is (recipe[1] != "full") and ("fine-tune" in phases) is (steps > 0)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run with boxes and masks, to start from and to learn from."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("tune") / "first"
    call(scenes, "--task", "detect,segment", "--weights", "none", "--epochs", 4, "--out", out)
    torch.set_num_threads(before)
    return out


def test_start_goes_on_from_a_checkpoint(scenes: Path, first: Path, tmp_path: Path) -> None:
    arguments = ("--task", "detect,segment", "--out", tmp_path / "run", "--epochs", 0)
    call(scenes, *arguments, "--start", first / "best.pt")
    old, new = load_checkpoint(first), load_checkpoint(tmp_path / "run")
    assert all(torch.equal(v, old.model[k]) for k, v in new.model.items()), "no epochs, the same weights"
    assert new.card.history[-2] == "from scenes/train" and new.card.value == pytest.approx(old.card.value, abs=1e-6)
    assert "probe" not in {r["phase"] for r in read_curve(tmp_path / "run" / "metrics.csv")}


def test_what_comes_of_a_start_must_be_better_than_it(scenes: Path, first: Path, tmp_path: Path) -> None:
    """Rates that wreck the network: the start stays the best, and the curve shows its value first."""
    rates = ("--epochs", 1, "--head-lr", 0.3, "--backbone-lr", 0.3, "--freeze-stride", 0)
    document = call(scenes, "--task", "detect,segment", *rates, "--start", first / "best.pt", "--out", tmp_path / "run")
    old, new = load_checkpoint(first), load_checkpoint(tmp_path / "run")
    rows = [r for r in read_curve(tmp_path / "run" / "metrics.csv") if "val" in r]
    assert [r["phase"] for r in rows] == ["start", "fine-tune"]
    before, after = (float(r["val"]) for r in rows)
    assert [before, document["value"]] == pytest.approx([old.card.value] * 2, abs=1e-5) and after < before
    assert all(torch.equal(v, old.model[k]) for k, v in new.model.items())


def apart(run: Path, teacher: Path, data: Dataset) -> float:
    """Mean distance of the masks' logits from the teacher's, on validation frames."""
    total = 0.0
    (student, card), (wise, _) = load_network(run / "last.pt"), load_network(teacher)
    from edgetl.models.normalise import Normalise

    for image in Frames(data, card.preprocess).images:
        with torch.inference_mode():
            x = Normalise(card.preprocess)(torch.from_numpy(image))
            a, b = student(x).heads["ground"], wise(x).heads["ground"]
        assert isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        total += float((torch.softmax(a, 1) - torch.softmax(b, 1)).abs().mean())
    return total / len(data)


def test_a_teacher_is_imitated(scenes: Path, first: Path, tmp_path: Path) -> None:
    """The same run with and without the teacher's part of the loss; only with it the student comes near."""
    found = {}
    for weight in (0, 5):
        out = tmp_path / f"run{weight}"
        arguments = ("--task", "detect,segment", "--weights", "none", "--epochs", 4, "--seed", 3, "--val-every", 4)
        call(scenes, *arguments, "--teacher", first, "--imitation", weight, "--out", out)
        found[weight] = apart(out, first, read_dataset(scenes, "val"))
        rows = [r for r in read_curve(out / "metrics.csv") if "ground_imitation" in r]
        assert len(rows) == 4 and all((r["ground_imitation"] == 0) is (weight == 0) for r in rows)
    assert found[5] < found[0]


@pytest.mark.parametrize("flag", ["--average", "--no-average"])
def test_the_average_with_the_probe_is_taken_where_validation_agrees(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    """The probe reaches 0.3, the epoch 0.5, and half of each 0.6."""
    values = iter([0.3, 0.5, 0.6, 0.4, 0.4, 0.6])

    def told(*args: object, **kwargs: object) -> Evaluation:
        return Evaluation({"ground": HeadMetric("miou", next(values), {})}, 4)

    monkeypatch.setattr(keep_module, "evaluate", told)
    document = call(scenes, "--task", "segment", flag, "--out", tmp_path / "run")
    best, last = load_checkpoint(tmp_path / "run"), load_checkpoint(tmp_path / "run" / "last.pt")
    first = load_checkpoint(tmp_path / "run" / "probe.pt")
    share = 0.5 if flag == "--average" else 1.0
    assert document["value"] == best.card.value == (0.6 if flag == "--average" else 0.5)
    assert best.card.history[-1] == (
        "averaged with the probe, 50% of the fine-tuned weights" if share < 1 else "epoch 1"
    )
    name = "neck.lateral.3.0.weight"
    torch.testing.assert_close(best.model[name], first.model[name].lerp(last.model[name], share))
    assert not torch.equal(first.model[name], last.model[name])


def test_patience_ends_a_run_that_does_not_improve(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of epochs 1, 2, 3, ...: the best is the second, and two validations without gain are borne."""
    values = iter([0.3, 0.5, 0.4, 0.5, 0.9, 0.9])
    scored: list[float] = []

    def told(*args: object, **kwargs: object) -> Evaluation:
        scored.append(next(values))
        return Evaluation({"ground": HeadMetric("miou", scored[-1], {})}, 4)

    monkeypatch.setattr(keep_module, "evaluate", told)
    arguments = ("--task", "segment", "--weights", "none", "--epochs", 6, "--patience", 2, "--no-average")
    document = call(scenes, *arguments, "--out", tmp_path / "run")
    assert (document["epochs"], document["stopped_early"], document["value"]) == (4, True, 0.5)
    assert load_checkpoint(tmp_path / "run").card.history[-1] == "epoch 2"


def test_balance_shows_rare_classes_more_often(signs: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(signs, tmp_path / "data"))
    for i in (1, 2, 3):
        (data / "train" / "stop" / f"{i}.png").unlink()
    shown: list[str] = []

    def watching(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        for batch in augmented_batches(*args, **kwargs):
            shown.extend("stop" if c else "go" for c in batch.targets["classify"][0].tolist())
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_module, "augmented_batches", watching)
        for balance in (0.0, 0.8):
            arguments = ("--task", "classify", "--weights", "none", "--epochs", 6, "--val-every", 6, "--batch", 5)
            call(data, *arguments, "--balance", balance, "--out", tmp_path / f"run{balance}")
    half = len(shown) // 2
    assert (shown[:half].count("stop"), len(shown)) == (6, 60) and 8 <= shown[half:].count("stop") <= 12


def several(scenes: Path, split: str) -> Dataset:
    """Boxes, masks and categories in one."""
    data = read_dataset(scenes, split)
    samples = tuple(dataclasses.replace(s, category=i % 2) for i, s in enumerate(data.samples))
    return dataclasses.replace(data, samples=samples, categories=("day", "night"))


def test_a_resumed_run_of_all_heads_ends_bit_for_bit_where_an_unbroken_one_does(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of categories drops out at random: a resumed run must draw what the unbroken one drew."""
    train, val = several(scenes, "train"), several(scenes, "val")
    config = TuneConfig(tasks=("detect", "segment", "classify"), weights="none", epochs=2, batch=2, balance=0.5)
    config = msgspec.structs.replace(config, size_hw=(64, 96), crop_hw=(64, 96), val_images=4)
    handed = 0

    def interrupting(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        nonlocal handed
        for batch in augmented_batches(*args, **kwargs):
            handed += 1
            if handed == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    for name in ("unbroken", "broken"):
        (tmp_path / name).mkdir()
    tune(train, val, tmp_path / "unbroken", config)
    with monkeypatch.context() as patch:
        patch.setattr(tune_module, "augmented_batches", interrupting)
        with pytest.raises(TuneStopped):
            tune(train, val, tmp_path / "broken", config)
    tune(train, val, tmp_path / "broken", config, resume=True)
    one, two = (load_checkpoint(tmp_path / name / "last.pt") for name in ("unbroken", "broken"))
    assert one.training is not None and two.training is not None
    assert one.training["balance"] == two.training["balance"] and len(one.training["balance"]) == 3
    assert [k for k, v in one.model.items() if not torch.equal(v, two.model[k])] == []
    assert all(torch.equal(v, two.training["live"][k]) for k, v in one.training["live"].items())


def test_how_the_data_was_read_is_remembered(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that could be read in two formats has to be named once, and not where it is gone on from."""
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    (data / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [car, person]\n")
    with pytest.raises(InputError, match="2 formats at once"):
        call(data, "--out", tmp_path / "run")
    call(data, "--format", "coco", "--group-pattern", r"\d+", "--weights", "none", "--out", tmp_path / "run")
    wanted: list[ExportRequest] = []
    monkeypatch.setattr(edgetl.exporting, "export", lambda request, out, force: wanted.append(request))
    options = ExportOptions(data=None, targets=("cpu",), calibration=2)
    export_checkpoint(tmp_path / "run", tmp_path / "b", options, name="b")
    assert len(wanted[0].validation) == 4
    assert load_checkpoint(tmp_path / "run").card.reading == Reading(r"\d+", "coco")
