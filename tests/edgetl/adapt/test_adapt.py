"""The whole adaptation on drawn frames: the old checkpoint stays, the gate decides, the new one can be loaded."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import torch

from edgetl.adapt import adapt as adapt_module
from edgetl.adapt.adapt import NIGHT, AdaptConfig, Adapted, _try_batch, adapt
from edgetl.adapt.gate import Evidence, Verdict
from edgetl.adapt.pseudo import pseudo_labelled
from edgetl.data import Dataset, Sample, read_dataset, read_image
from edgetl.heads import Kind
from edgetl.metrics.predict import Evaluation, Frames
from edgetl.metrics.subject import Subject
from edgetl.models.network import Network
from edgetl.shift.accuracy import Confidences, estimate_accuracy
from edgetl.training.augment import AugmentConfig
from edgetl.training.batches import Batch, augmented_batches
from edgetl.training.checkpoint import load_checkpoint, load_network, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.learn import train_step
from edgetl.training.tune import tune
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Head, Reliability

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = AdaptConfig(rounds=1, batch=2, val_images=4)


def darkened(data: Dataset, folder: Path) -> Dataset:
    """The same frames at night, without labels."""
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    samples = []
    for i, sample in enumerate(data.samples):
        cv2.imwrite(str(folder / f"{i}.png"), read_image(sample.image) // 4 + 5)
        samples.append(Sample(folder / f"{i}.png", *empty, f"n{i}"))
    return Dataset("night", (), tuple(samples))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, scenes: Path, signs: Path) -> dict[str, Path]:
    """A run on scenes and one on signs, from random weights: what matters here is what is done with them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    made = {}
    for name, root, tasks in (("scenes", scenes, ("detect", "segment")), ("signs", signs, ("classify",))):
        out = tmp_path_factory.mktemp("adapt") / name
        out.mkdir()
        config = TuneConfig(
            tasks=tasks,  # type: ignore[arg-type]
            backbone="tf_efficientnet_lite0",
            weights="none",
            size_hw=(64, 96),
            crop_hw=(64, 96),
            epochs=1,
            batch=2,
        )
        tune(read_dataset(root, "train"), read_dataset(root, "val"), out, config, data_root=str(root))
        made[name] = out
    torch.set_num_threads(before)
    return made


def test_a_crop_that_no_network_was_made_for_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_hw must be multiples of 32, found 33x64"):
        AdaptConfig(crop_hw=(33, 64))


def start(root: Path, run: Path, out: Path, config: AdaptConfig = CONFIG) -> Adapted:
    out.mkdir()
    (out.parent / "night").mkdir(exist_ok=True)
    unlabelled = darkened(read_dataset(root, "train"), out.parent / "night")
    return adapt(run, unlabelled, read_dataset(root, "train"), read_dataset(root, "val"), out, config)


def decide(monkeypatch: pytest.MonkeyPatch, *verdicts: bool) -> None:
    """The gate's answers, one for each network after the old one."""
    answers = iter(verdicts)

    def judged(before: Evidence, after: Evidence, **more: object) -> Verdict:
        return Verdict(next(answers), "as told")

    monkeypatch.setattr(adapt_module, "judge", judged)


@pytest.mark.parametrize("which", ["scenes", "signs"])
def test_a_round_is_accepted_and_can_be_loaded(
    request: pytest.FixtureRequest, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    old = (runs[which] / "best.pt").read_bytes()
    decide(monkeypatch, False, True)
    found = start(request.getfixturevalue(which), runs[which], tmp_path / "out")
    assert found.checkpoint == tmp_path / "out" / "best.pt"
    assert [s.name for s in found.stages] == ["as it was", "statistics re-estimated", "self-training, round 1"]
    assert found.metric == {"scenes": "mean", "signs": "accuracy"}[which]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["best.pt"], "scratch is left"
    network, card = load_network(found.checkpoint)
    before = load_checkpoint(runs[which]).model
    after = network.state_dict()
    assert any(not torch.equal(v, before[k]) for k, v in after.items() if k.startswith("backbone."))
    assert torch.equal(after["backbone.conv_stem.weight"], before["backbone.conv_stem.weight"]), "as in tune"
    assert card.history[-1].startswith("adapted to night") and card.history[-1].endswith("self-training, round 1")
    assert card.value == found.stages[2].evidence.value
    assert all(torch.isfinite(v).all() for v in after.values())
    assert (runs[which] / "best.pt").read_bytes() == old


def test_the_statistics_alone_are_accepted_and_can_be_loaded(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Norms of a network that was never folded must hold the correction: a checkpoint has no place for new biases."""
    decide(monkeypatch, True)
    estimates = iter([1.0, 2.0])
    monkeypatch.setattr(adapt_module, "_estimates", lambda *args: {"boxes": next(estimates)})
    found = start(scenes, runs["scenes"], tmp_path / "out", AdaptConfig(rounds=0, batch=2, val_images=4))
    assert found.checkpoint is not None
    network, card = load_network(found.checkpoint)
    assert card.history[-1].endswith("statistics re-estimated")
    before = load_checkpoint(runs["scenes"]).model
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all("running_" in k for k in changed)


def test_a_round_learns_in_the_new_light_from_labels_at_thresholds_of_its_labeller(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(monkeypatch, False, True, True)
    nights: list[float] = []
    thresholds: list[tuple[float, ...]] = []
    fitted = iter([(0.31, 0.32), (0.41, 0.42), (0.5, 0.5)])

    def batches(*args: Any, config: AugmentConfig, **more: Any) -> Iterator[Batch]:
        nights.append(config.night)
        return augmented_batches(*args, config=config, **more)

    def labels(network: Network, kinds: tuple[Kind, ...], *more: Any) -> Dataset:
        thresholds.append(kinds[0].head.thresholds)  # type: ignore[union-attr]
        return pseudo_labelled(network, kinds, *more)

    def fit(infer: object, frames: object, kinds: tuple[Kind, ...]) -> tuple[tuple[Head, ...], dict[str, Reliability]]:
        detect, ground = (k.head for k in kinds)
        return (msgspec.structs.replace(detect, thresholds=next(fitted)), ground), {"detect": reliable}

    reliable = Reliability(before=(), after=(), error_before=0.25, error_after=0.125, answers=9)
    monkeypatch.setattr(adapt_module, "augmented_batches", batches)
    monkeypatch.setattr(adapt_module, "pseudo_labelled", labels)
    monkeypatch.setattr(adapt_module, "fit_trust", fit)
    start(scenes, runs["scenes"], tmp_path / "out", AdaptConfig(rounds=2, batch=2, val_images=4))
    assert nights == [pytest.approx(NIGHT)] * 2, "all frames are dark"
    assert thresholds == [(0.31, 0.32), (0.41, 0.42)]
    card = load_checkpoint(tmp_path / "out").card
    assert card.heads[0].thresholds == (0.5, 0.5)  # type: ignore[union-attr]
    assert card.reliability == {"detect": reliable}


def test_a_refused_network_is_not_written(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(monkeypatch, False, False)
    found = start(scenes, runs["scenes"], tmp_path / "out")
    assert found.checkpoint is None and list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("estimates", "kept"),
    [((1.0, 0.5, 2.0, 1.5), "round 1"), ((1.0, 9.0, 2.0, 3.0), "re-estimated")],
)
def test_of_accepted_rounds_the_best_is_kept(
    runs: dict[str, Path],
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    estimates: tuple[float, ...],
    kept: str,
) -> None:
    """By the label-free estimate."""
    decide(monkeypatch, True, True, True)
    guess(monkeypatch, *estimates)
    found = start(scenes, runs["scenes"], tmp_path / "out", AdaptConfig(rounds=2, batch=2, val_images=4))
    assert found.checkpoint is not None
    assert load_checkpoint(found.checkpoint).card.history[-1].endswith(kept)


@pytest.mark.parametrize("accepted", [True, False])
def test_what_was_accepted_before_an_interrupt_is_kept(
    runs: dict[str, Path],
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accepted: bool,
) -> None:
    decide(monkeypatch, False, accepted)
    real, rounds = adapt_module._round_data, itertools.count(1)

    def interrupted(*given: Any) -> Dataset:
        if next(rounds) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(adapt_module, "_round_data", interrupted)
    config = AdaptConfig(rounds=3, batch=2, val_images=4)
    if not accepted:
        with pytest.raises(KeyboardInterrupt):
            start(scenes, runs["scenes"], tmp_path / "out", config)
        assert list((tmp_path / "out").iterdir()) == []
        return
    found = start(scenes, runs["scenes"], tmp_path / "out", config)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["best.pt"] and found.checkpoint is not None
    assert load_checkpoint(found.checkpoint).card.history[-1].endswith("self-training, round 1")
    assert len(found.stages) == 3 and "stopped; what came of it so far is kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdicts", "estimates"), [((False, False), (1.0, 2.0, 3.0)), ((True, False), (1.0, 1.0, 3.0))]
)
def test_what_was_refused_or_finds_no_more_is_not_kept(
    runs: dict[str, Path],
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verdicts: tuple[bool, ...],
    estimates: tuple[float, ...],
) -> None:
    """Statistics that find as much as the old ones are nothing gained."""
    decide(monkeypatch, *verdicts)
    untaught(monkeypatch)
    guess(monkeypatch, *estimates)
    assert start(scenes, runs["scenes"], tmp_path / "out").checkpoint is None
    assert list((tmp_path / "out").iterdir()) == []


def guess(monkeypatch: pytest.MonkeyPatch, *estimates: float) -> None:
    """Let the label-free estimates of the stages be these."""
    numbers = iter(estimates)
    monkeypatch.setattr(adapt_module, "_estimates", lambda *args: {"boxes": next(numbers)})


def untaught(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Let no step change anything; the student's weights at each."""
    seen: list[dict[str, torch.Tensor]] = []

    def step(learning: Network, *args: object, **more: object) -> tuple[float, dict[str, float]]:
        seen.append({k: v.clone() for k, v in learning.state_dict().items()})
        return 0.0, {}

    monkeypatch.setattr(adapt_module, "train_step", step)
    return seen


@pytest.mark.parametrize(("estimates", "re_estimated"), [((1.0, 2.0, 2.0), True), ((2.0, 1.0, 1.0), False)])
def test_the_statistics_label_first_where_they_find_more_and_the_old_network_learns(
    runs: dict[str, Path],
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    estimates: tuple[float, ...],
    re_estimated: bool,
) -> None:
    decide(monkeypatch, False, False)
    steps = untaught(monkeypatch)
    labellers: list[dict[str, torch.Tensor]] = []
    numbers = iter(estimates)

    def labels(network: Network, *more: Any) -> Dataset:
        labellers.append({k: v.clone() for k, v in network.state_dict().items()})
        return pseudo_labelled(network, *more)

    monkeypatch.setattr(adapt_module, "pseudo_labelled", labels)
    monkeypatch.setattr(adapt_module, "_estimates", lambda *args: {"boxes": next(numbers)})
    start(scenes, runs["scenes"], tmp_path / "out")
    old = load_checkpoint(runs["scenes"]).model
    assert any(not torch.equal(v, old[k]) for k, v in labellers[0].items()) is re_estimated
    assert all(torch.equal(v, old[k]) for k, v in steps[0].items())


def test_what_a_round_learns_from(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every new frame, half as many labelled ones, and every other one of these in the new light."""
    decide(monkeypatch, *[False] * 3)
    untaught(monkeypatch)
    rounds: list[tuple[Dataset, dict[str, Any]]] = []
    shares: list[float] = []

    def batches(data: Dataset, *args: Any, **more: Any) -> Iterator[Batch]:
        rounds.append((data, more))
        return augmented_batches(data, *args, **more)

    def folded(network: Network, old: object, new: object, share: float, example: object) -> None:
        shares.append(share)

    monkeypatch.setattr(adapt_module, "augmented_batches", batches)
    monkeypatch.setattr(adapt_module, "renormalise", folded)
    config = AdaptConfig(rounds=2, batch=2, val_images=4, labelled=0.5, crop_hw=(32, 64), seed=3, new_share=0.4)
    saved = load_checkpoint(runs["scenes"])
    preprocess = msgspec.structs.replace(saved.card.preprocess, pad_value=7)
    card = dataclasses.replace(saved.card, preprocess=preprocess)
    save_checkpoint(tmp_path / "other.pt", dataclasses.replace(saved, card=card))
    start(scenes, tmp_path / "other.pt", tmp_path / "out", config)
    train = {s.image for s in read_dataset(scenes, "train").samples}
    for number, (data, more) in enumerate(rounds):
        new, labelled = data.samples[:6], data.samples[6:]
        assert sorted(s.image.name for s in new) == [f"{i}.png" for i in range(6)]
        assert all(s.image.parent == tmp_path / "night" and s.masks[0] is not None for s in new)
        assert [s.image in train for s in labelled] == [False, False, True]
        assert all(s.masks[0] is not None and len(s.boxes) for s in labelled)
        assert (more["crop_hw"], more["network_hw"], more["batch"]) == ((32, 64), (64, 96), 2)
        assert (more["seed"], more["epoch"], more["config"].pad_value) == (3, number, 7)
    assert len(rounds) == 2 and shares == [0.4]


def test_the_students_average_is_kept_and_its_statistics_stay(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(monkeypatch, False, True)
    students: list[Network] = []

    def step(learning: Network, *args: Any, **more: Any) -> tuple[float, dict[str, float]]:
        students.append(learning)
        return train_step(learning, *args, **more)

    fitted: list[torch.Tensor] = []
    plain = adapt_module._Judge.trust

    def trust(judge: Any, network: Network) -> tuple[tuple[Head, ...], dict[str, Reliability]]:
        fitted.append(network.state_dict()[name].clone())
        return plain(judge, network)

    name = "dense.detect.heat.weight"
    monkeypatch.setattr(adapt_module, "train_step", step)
    monkeypatch.setattr(adapt_module._Judge, "trust", trust)
    start(scenes, runs["scenes"], tmp_path / "out")
    old, kept = load_checkpoint(runs["scenes"]).model, load_checkpoint(tmp_path / "out").model
    student = students[-1].state_dict()
    assert torch.equal(fitted[-1], kept[name]), "scores of another network were fitted"
    assert not torch.equal(kept[name], student[name]) and not torch.equal(kept[name], old[name])
    statistics = [k for k in old if k.startswith("backbone.") and "running_" in k]
    assert statistics and all(torch.equal(student[k], old[k]) for k in statistics)


def test_scores_are_fitted_anew_from_temperature_one(
    runs: dict[str, Path], scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, card = load_network(runs["scenes"])
    heads = (msgspec.structs.replace(card.heads[0], temperature=1.7), card.heads[1])
    val = read_dataset(scenes, "val")
    judge = adapt_module._Judge(dataclasses.replace(card, heads=heads), val, val.only([]), CONFIG)
    found: list[tuple[Head, ...]] = []

    def fit(infer: object, frames: object, kinds: tuple[Kind, ...]) -> tuple[tuple[Head, ...], dict[str, Reliability]]:
        found.append(tuple(k.head for k in kinds))
        return heads, {}

    monkeypatch.setattr(adapt_module, "fit_trust", fit)
    judge.trust(network)
    assert found[0][0].temperature == 1.0  # type: ignore[union-attr]


def test_the_gate_is_told_what_may_be_lost(
    runs: dict[str, Path], scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, card = load_network(runs["scenes"])
    val = read_dataset(scenes, "val")
    judge = adapt_module._Judge(card, val, val.only([]), AdaptConfig(max_loss=0.02))
    asked: list[dict[str, object]] = []

    def judged(before: Evidence, after: Evidence, **more: object) -> Verdict:
        asked.append(more)
        return Verdict(before == after, "the same network")

    def estimates(subject: object, reference: Frames, new: Frames) -> dict[str, float]:
        assert (len(reference), len(new)) == (4, 0)
        return {}

    monkeypatch.setattr(adapt_module, "judge", judged)
    monkeypatch.setattr(adapt_module, "_estimates", estimates)
    first = judge.stage("as it was", network)
    assert judge.stage("again", network, first.evidence).verdict.accepted
    assert asked == [{"metric": "mean", "max_loss": 0.02}]


@pytest.mark.parametrize(("known", "new", "expected"), [(19, 40, {}), (40, 19, {}), (20, 20, {"detect": 5.0})])
def test_too_few_answers_are_not_judged_by(
    runs: dict[str, Path],
    scenes: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: int,
    new: int,
    expected: dict[str, float],
) -> None:
    """Half of the reference's answers are right; ten right ones of twenty are five in each of two new images."""
    card = load_checkpoint(runs["scenes"]).card
    reference, frames = object(), object()

    def said(subject: object, side: object) -> tuple[dict[str, Confidences], tuple[str, ...]]:
        count, images = (known, 8) if side is reference else (new, 2)
        right = np.arange(count) % 2 == 0 if side is reference else None
        scores = np.where(np.arange(count) % 2 == 0, 0.8, 0.4)
        return {"detect": Confidences("detect", "detect", scores, np.zeros(count, np.int64), right, images)}, ()

    monkeypatch.setattr(adapt_module, "confidences", said)
    subject = Subject(lambda frame: {}, card.heads, card.preprocess, "torch", "fp32")
    assert adapt_module._estimates(subject, reference, frames) == expected  # type: ignore[arg-type]


def test_boxes_in_one_image_of_many_are_estimated_too() -> None:
    """One draw of whole images may miss the only one with boxes; the estimate itself needs no draw."""
    right = np.arange(30) % 2 == 0
    one = Confidences("detect", "detect", np.linspace(0.2, 0.9, 30), np.zeros(30, np.int64), right, 50)
    for seed in range(5):
        assert estimate_accuracy(one, one, bootstraps=1, seed=seed).estimate.value == pytest.approx(0.5)


def test_labelled_data_without_the_heads_labels_is_refused(runs: dict[str, Path], scenes: Path, tmp_path: Path) -> None:
    train = read_dataset(scenes, "train")
    bare = dataclasses.replace(train, samples=tuple(dataclasses.replace(s, masks=(None,)) for s in train.samples))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"no labels for the head ground.*it was tuned on"):
        adapt(runs["scenes"], train, bare, read_dataset(scenes, "val"), tmp_path / "out", CONFIG)
    val = read_dataset(scenes, "val")
    bare = dataclasses.replace(val, samples=tuple(dataclasses.replace(s, masks=(None,)) for s in val.samples))
    with pytest.raises(InputError, match=r"val has no labels for the head ground.*it was tuned on"):
        adapt(runs["scenes"], train, train, bare, tmp_path / "out", CONFIG)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_head_that_the_judging_images_do_not_show_is_refused(
    runs: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    """Only the last of four has a mask, and one that is judged by is the first."""
    train, val = read_dataset(scenes, "train"), read_dataset(scenes, "val")
    bare = (dataclasses.replace(s, masks=(None,)) for s in val.samples[:-1])
    val = dataclasses.replace(val, samples=(*bare, val.samples[-1]))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"of its 4 images the 1 to judge by .* the head ground; .*--val-images"):
        adapt(runs["scenes"], train, train, val, tmp_path / "out", AdaptConfig(rounds=0, val_images=1))


def test_judging_images_that_score_nothing_are_refused(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as masks that are void all over: the gate would refuse whatever comes, after all the work."""
    monkeypatch.setattr(adapt_module, "evaluate", lambda *args, **more: Evaluation({}, 4))
    with pytest.raises(InputError, match=r"val: nothing in its 4 images can be scored; .*--val-images"):
        start(scenes, runs["scenes"], tmp_path / "out")


def test_a_batch_of_one_cell_is_refused_before_all_work(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt_module, "_Judge", None)
    config = AdaptConfig(rounds=1, batch=1, crop_hw=(32, 32))
    with pytest.raises(InputError, match=r"lite0 can't learn from a batch of 1 with crops of 32x32 .*larger --batch"):
        start(scenes, runs["scenes"], tmp_path / "out", config)


def test_crops_do_not_matter_where_none_are_cut(runs: dict[str, Path]) -> None:
    tiny = AdaptConfig(rounds=1, batch=1, crop_hw=(32, 32))
    _try_batch(*load_network(runs["signs"]), tiny)
    _try_batch(*load_network(runs["scenes"]), msgspec.structs.replace(tiny, rounds=0))


def test_a_batch_that_memory_can_not_hold_is_refused_in_one_line(
    runs: dict[str, Path], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **more: object) -> tuple[float, dict[str, float]]:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(adapt_module, "train_step", full)
    with pytest.raises(InputError, match=r"a batch of 2 frames does not fit in memory; .*--batch or --crop"):
        start(scenes, runs["scenes"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_new_images_that_the_gate_judges_by_are_refused(runs: dict[str, Path], scenes: Path, tmp_path: Path) -> None:
    train, val = read_dataset(scenes, "train"), read_dataset(scenes, "val")
    copy = tmp_path / "copied.png"
    copy.write_bytes(val.samples[2].image.read_bytes())
    new = dataclasses.replace(train, samples=(*train.samples, dataclasses.replace(val.samples[2], image=copy)))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"1 of the 4 validation images .* such as .*copied\.png"):
        adapt(runs["scenes"], new, train, val, tmp_path / "out", CONFIG)


def test_a_gate_that_would_judge_by_what_is_learnt_is_refused(
    runs: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    train = read_dataset(scenes, "train")
    new = darkened(train, tmp_path)
    with pytest.raises(InputError, match=r"are among the labelled images of .*: the gate could not tell"):
        adapt(runs["scenes"], new, train, train, tmp_path, CONFIG)
