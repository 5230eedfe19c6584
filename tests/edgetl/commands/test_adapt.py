"""edgetl adapt: what it needs, what it says, and that the old checkpoint is never touched."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from edgetl.adapt import adapt as adapt_module
from edgetl.adapt.adapt import AdaptConfig, Adapted
from edgetl.adapt.gate import Verdict
from edgetl.commands import adapt as command
from edgetl.commands import tune
from edgetl.data import Dataset, read_image
from edgetl.training.checkpoint import load_network
from edgetl_runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    document = command.run(parser.parse_args([str(a) for a in arguments]))
    json.dumps(document)
    return document


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run with masks that tests only read."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("adapt") / "run"
    parser = argparse.ArgumentParser()
    tune.add_arguments(parser)
    small = ("--size", "96x64", "--batch", "2", "--epochs", "1", "--weights", "none", "--task", "segment")
    tune.run(parser.parse_args([str(scenes), *small, "--out", str(out)]))
    torch.set_num_threads(before)
    return out


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it in a folder of its own."""
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.fixture
def night(scenes: Path, tmp_path: Path) -> Path:
    """A folder of plain pictures: the training frames, dark."""
    folder = tmp_path / "night"
    folder.mkdir()
    for path in sorted((scenes / "images" / "train").iterdir()):
        cv2.imwrite(str(folder / path.name), read_image(path) // 4)
    return folder


def decide(monkeypatch: pytest.MonkeyPatch, accepted: bool) -> None:
    monkeypatch.setattr(adapt_module, "judge", lambda *args, **more: Verdict(accepted, "as told"))


def test_an_accepted_network(
    run: Path, night: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decide(monkeypatch, True)
    before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
    document = call(run, night, "--rounds", 1, "--batch", 2, "--crop", "64x64")
    out = run.with_name("run-adapted")
    assert document["accepted"] is True and document["exit_status"] == 0
    assert document["checkpoint"] == str(out / "best.pt") and document["metric"] == "miou"
    assert [s["name"] for s in document["stages"]] == [
        "as it was", "statistics re-estimated", "self-training, round 1",
    ]  # fmt: skip
    assert all(s["estimate"] is None for s in document["stages"]), "a mask has no confidences"
    network, _ = load_network(out)
    assert not network.training
    assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before
    said = capsys.readouterr()
    assert said.out == "" and "the old checkpoint" in said.err and "as told" in said.err


@pytest.mark.parametrize(
    ("here", "checkpoint"), [("", "."), ("", "best.pt"), ("", "./best.pt"), ("inner", ".."), ("..", "run")]
)
def test_the_output_lies_beside_the_run_wherever_one_stands(
    run: Path, night: Path, monkeypatch: pytest.MonkeyPatch, here: str, checkpoint: str
) -> None:
    out = run.with_name("run-adapted")
    out.mkdir()
    (run / "inner").mkdir()
    monkeypatch.chdir(run / here)
    with pytest.raises(InputError, match="run-adapted exists") as caught:
        call(checkpoint, night, "--rounds", 0)
    assert Path(caught.value.message.removesuffix(" exists")).resolve() == out


def test_a_refusal_is_a_failed_gate(run: Path, night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(monkeypatch, False)
    document = call(run / "best.pt", night, "--rounds", 0)
    assert (document["accepted"], document["exit_status"]) == (False, 1)
    assert document["checkpoint"] == str(run / "best.pt")
    assert not run.with_name("run-adapted").exists(), "an empty folder would be in the way of the next try"


def test_an_existing_output_is_refused_and_untouched(run: Path, night: Path) -> None:
    out = run.with_name("run-adapted")
    out.mkdir()
    (out / "precious").write_text("old")
    with pytest.raises(InputError, match="run-adapted exists; give another --out, or --force to move it aside"):
        call(run, night, "--rounds", 0)
    assert [p.read_text() for p in out.iterdir()] == ["old"]


def test_what_was_asked_for_arrives(run: Path, night: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are shares inside, WxH is height and width, and each split is what it is called."""
    asked: list[tuple[str, str, int, AdaptConfig]] = []

    def told(path: Path, new: Dataset, train: Dataset, val: Dataset, out: Path, config: AdaptConfig) -> Adapted:
        asked.append((train.name, val.name, len(new), config))
        return Adapted(None, "miou", ())

    monkeypatch.setattr(adapt_module, "adapt", told)
    numbers = ("--rounds", 2, "--batch", 3, "--val-images", 7, "--seed", 5, "--crop", "64x32", "--max-loss", 1.5)
    call(run, night, *numbers)
    call(run, night, "--train", "val", "--val", "train")
    config = AdaptConfig(rounds=2, batch=3, val_images=7, seed=5, crop_hw=(32, 64), max_loss=0.015)
    assert asked == [("scenes/train", "scenes/val", 6, config), ("scenes/val", "scenes/train", 6, AdaptConfig())]


@pytest.mark.parametrize("held", ["the checkpoint", "the new frames"])
def test_force_moves_nothing_that_is_read(run: Path, night: Path, held: str) -> None:
    out = run if held == "the checkpoint" else night
    before = sorted(run.parent.rglob("*"))
    with pytest.raises(InputError, match=r"holds .*, which this run reads"):
        call(run, night, "--rounds", 0, "--out", out, "--force")
    assert sorted(run.parent.rglob("*")) == before


def test_labelled_data_that_has_moved(run: Path, night: Path, tmp_path: Path) -> None:
    document = torch.load(run / "best.pt", weights_only=True)
    document["card"]["data_root"] = str(tmp_path / "gone")
    torch.save(document, run / "best.pt")
    with pytest.raises(InputError, match=r"gone: the labelled data is not there any more; give it with --data"):
        call(run, night, "--rounds", 0)


@pytest.mark.parametrize("kind", ["no checkpoint", "no frames", "other data", "rounds below zero"])
def test_what_is_refused_leaves_nothing(run: Path, night: Path, signs: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    arguments: list[object] = {
        "no checkpoint": [tmp_path / "empty", night],
        "no frames": [run, tmp_path / "empty"],
        "other data": [run, night, "--data", signs],
        "rounds below zero": [run, night, "--rounds", "-1"],
    }[kind]
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InputError):
        call(*arguments)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
