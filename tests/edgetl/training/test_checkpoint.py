"""What a checkpoint says of its data."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.data import Reading
from edgetl.models.weights import WeightSource
from edgetl.training.checkpoint import ModelCard
from edgetl_runtime.spec import Preprocess

THEN = Reading(None, "coco")


def card_of(root: Path) -> ModelCard:
    weights = WeightSource("none", "", "")
    preprocess = Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3)
    return ModelCard((), "resnet18", preprocess, weights, "data/train", str(root), "", reading=THEN)


@pytest.mark.parametrize(
    ("given", "gone", "said", "read"),
    [
        ("", False, Reading(), THEN),
        ("then", False, Reading(), THEN),
        ("other", False, Reading(), Reading()),
        ("other", True, Reading(), THEN),
        ("", False, Reading("a(.)", "yolo"), Reading("a(.)", "yolo")),
        ("then", False, Reading("a(.)"), Reading("a(.)", "coco")),
        ("other", False, Reading(None, "voc"), Reading(None, "voc")),
    ],
    ids=["nothing given", "the same", "another", "moved", "said otherwise", "one said", "another, said"],
)
def test_data_is_read_as_it_was(tmp_path: Path, given: str, gone: bool, said: Reading, read: Reading) -> None:
    then = tmp_path / "then"
    if not gone:
        then.mkdir()
    root = tmp_path / given if given else None
    assert card_of(then).data_from(root, said) == (root or then, read)
