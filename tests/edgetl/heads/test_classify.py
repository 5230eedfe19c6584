"""One class for the whole frame: loss, imitation, accuracy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from edgetl.data import Dataset, Sample
from edgetl.heads.classify import SMOOTHING, Classify
from edgetl.heads.kind import Kind
from edgetl.metrics.detection import Scoring
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.spec import ClassifyHead

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = ("go", "stop", "yield")
HEAD = ClassifyHead(labels=LABELS, thresholds=(0.0,) * 3)
PLACE = geometry((4, 4), (4, 4))


def dataset(*categories: int) -> Dataset:
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    samples = tuple(Sample(Path(f"{i}.png"), *empty, "a", category=c) for i, c in enumerate(categories))
    return Dataset("d", (), samples, categories=LABELS)


def test_it_has_the_face_of_a_kind() -> None:
    kind: Kind = Classify(HEAD)
    assert kind.place == "whole" and kind.probes == ("logits",)
    assert kind.module(10).eval()(torch.zeros(2, 10)).shape == (2, 3)


def test_loss_by_hand_and_images_without_a_category() -> None:
    raw = torch.tensor([[2.0, -1.0, 0.5], [9.0, 9.0, -9.0]], requires_grad=True)
    loss = Classify(HEAD).loss(raw, (torch.tensor([0, -1]),))["category"]
    log_p = torch.log_softmax(raw[0].detach(), 0)
    wanted = -(1 - SMOOTHING) * log_p[0] - SMOOTHING * log_p.mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    loss.backward()
    assert raw.grad is not None and (raw.grad[1] == 0).all() and (raw.grad[0] != 0).all()


def test_a_batch_without_categories_costs_nothing() -> None:
    raw = torch.randn(2, 3, requires_grad=True)
    loss = Classify(HEAD).loss(raw, (torch.tensor([-1, -1]),))["category"]
    loss.backward()
    assert loss.item() == 0 and raw.grad is not None and (raw.grad == 0).all()


def test_imitation_leads_to_the_teacher() -> None:
    kind, teacher = Classify(HEAD), torch.tensor([[4.0, 0.0, -2.0], [0.0, 3.0, 2.0]])
    assert kind.imitate(teacher + 1, teacher).item() == pytest.approx(0, abs=1e-4)
    student = torch.zeros(2, 3, requires_grad=True)
    optimiser = torch.optim.Adam([student], lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        kind.imitate(student, teacher).backward()
        optimiser.step()
    torch.testing.assert_close(torch.softmax(student, 1), torch.softmax(teacher, 1), atol=0.05, rtol=0)


def test_decode_gives_probabilities_at_the_temperature() -> None:
    raw = torch.tensor([[2.0, 0.0, -2.0]])
    (plain,) = Classify(HEAD).decode(raw)
    torch.testing.assert_close(plain, torch.softmax(raw, 1))
    (warm,) = Classify(msgspec.structs.replace(HEAD, temperature=2.0)).decode(raw)
    torch.testing.assert_close(warm, torch.softmax(raw / 2, 1))


def test_the_meter_counts_by_class() -> None:
    """Three of `go`, two right; one of `stop`, wrong; one without a category."""
    data = dataset(0, 0, 0, 1, -1)
    meter = Classify(HEAD).meter(data, Scoring())
    for index, best in enumerate((0, 0, 2, 0, 1)):
        meter.add({"probabilities": np.eye(3, dtype=np.float32)[best][None]}, PLACE, index)
    found = meter.result()
    assert found.metric == "accuracy" and found.value == pytest.approx(2 / 4)
    assert found.per_class["go"] == pytest.approx(2 / 3) and found.per_class["stop"] == 0
    assert np.isnan(found.per_class["yield"])
    assert found.more["mean_class_accuracy"] == pytest.approx(1 / 3)


def test_nothing_labelled_has_no_accuracy() -> None:
    meter = Classify(HEAD).meter(dataset(-1), Scoring())
    meter.add({"probabilities": np.eye(3, dtype=np.float32)[:1]}, PLACE, 0)
    assert np.isnan(meter.result().value) and np.isnan(meter.result().more["mean_class_accuracy"])


def test_what_counts_as_labelled() -> None:
    kind = Classify(HEAD)
    assert kind.labelled(dataset(-1, 2)) and not kind.labelled(dataset(-1)) and not kind.labelled(dataset())
    other = Dataset("d", (), dataset(1).samples, categories=("go", "stop"))
    assert not kind.labelled(other)
