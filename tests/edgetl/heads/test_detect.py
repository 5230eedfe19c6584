"""Boxes: what the head should say, whom it imitates, and how its score is counted."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from edgetl.data import Dataset, Sample
from edgetl.heads.detect import Detect, truth_of
from edgetl.heads.kind import Kind
from edgetl.metrics.detection import Scoring
from edgetl.models.detector import Maps, decode_maps
from edgetl.training.augment import View
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.spec import DetectHead

pytestmark = pytest.mark.usefixtures("one_thread")
HEAD = DetectHead(labels=("car", "person"), max_detections=5, thresholds=(0.3, 0.3), stride=4)


def dataset(boxes: list[list[float]], labels: list[int], ignore: list[bool]) -> Dataset:
    sample = Sample(
        image=None,  # type: ignore[arg-type]
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        ignore=np.array(ignore, np.bool_),
        group="a",
    )
    return Dataset("d", HEAD.labels, (sample,))


def maps(seed: int, scale: float = 1.0) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    return Maps(torch.randn(2, 2, 6, 8, generator=generator) * scale, torch.randn(2, 4, 6, 8, generator=generator))


def test_it_has_the_face_of_a_kind() -> None:
    kind: Kind = Detect(HEAD)
    assert kind.place == "dense" and kind.probes == ("heat", "box")
    raw = kind.module(64).eval()(torch.zeros(1, 64, 6, 8))
    assert raw.heat.shape == (1, 2, 6, 8) and raw.box.shape == (1, 4, 6, 8)


def test_targets_and_loss_fall_as_the_maps_come_near() -> None:
    kind = Detect(HEAD)
    boxes = np.array([[4, 4, 20, 16]], np.float32)
    view = View(np.zeros((24, 32, 3), np.uint8), boxes, np.array([1]), np.array([False]))
    targets = tuple(torch.from_numpy(t)[None] for t in kind.targets(view))
    assert [t.shape[1:] for t in targets] == [(2, 6, 8), (4, 6, 8), (6, 8), (6, 8)]
    heat, _, weight, _ = targets
    assert heat[0, 1].max() == 1 and heat[0, 0].max() == 0 and weight[0].sum() > 0
    good = Maps(torch.logit(heat.clamp(0.001, 0.999)), torch.zeros(1, 4, 6, 8))
    bad = Maps(-good.heat, torch.zeros(1, 4, 6, 8))
    losses = [sum(kind.loss(m, targets).values()).item() for m in (good, bad)]
    assert losses[0] < losses[1]
    assert set(kind.loss(good, targets)) == {"heat", "box"}


def test_imitation_is_least_at_the_teacher_and_leads_there() -> None:
    kind, teacher = Detect(HEAD), maps(1, 3.0)
    student = Maps(*(t.clone().requires_grad_() for t in maps(2)))
    optimiser = torch.optim.Adam(student, lr=0.1)
    first = kind.imitate(student, teacher).item()
    for _ in range(80):
        optimiser.zero_grad()
        kind.imitate(student, teacher).backward()
        optimiser.step()
    assert kind.imitate(student, teacher).item() < first / 2
    sure = torch.sigmoid(teacher.heat) > 0.9
    assert (torch.sigmoid(student.heat)[sure] > 0.7).all()
    apart = (student.box - teacher.box).abs() * torch.sigmoid(teacher.heat).amax(1, keepdim=True)
    assert apart.mean() < (maps(2).box - teacher.box).abs().mean() / 3


def test_boxes_are_imitated_only_where_the_teacher_sees_one() -> None:
    kind = Detect(HEAD)
    blind = Maps(torch.full((1, 2, 6, 8), -20.0), torch.randn(1, 4, 6, 8))
    student = Maps(torch.full((1, 2, 6, 8), -20.0), torch.randn(1, 4, 6, 8))
    assert kind.imitate(student, blind).item() == pytest.approx(0, abs=1e-4)


def test_temperature_changes_scores_and_nothing_else() -> None:
    raw = maps(3, 2.0)
    plain = decode_maps(raw, 5)
    boxes, scores, classes = Detect(HEAD).decode(raw)
    assert torch.equal(boxes, plain[0]) and torch.equal(scores, plain[1]) and torch.equal(classes, plain[2])
    warm = Detect(msgspec.structs.replace(HEAD, temperature=2.0)).decode(raw)
    assert torch.equal(warm[0], boxes) and torch.equal(warm[2], classes)
    real = scores > 1e-9  # fewer than five peaks are filled up
    assert real.sum() > 5
    torch.testing.assert_close(torch.logit(warm[1])[real], torch.logit(scores)[real] / 2, rtol=1e-4, atol=1e-4)
    for temperature in (0.25, 4.0):
        found = Detect(msgspec.structs.replace(HEAD, temperature=temperature)).decode(raw)[1]
        assert (found[~real] < 1e-12).all(), "cells that are no peak have no score at any temperature"


def test_only_picked_logits_are_divided_by_the_temperature() -> None:
    """OpenVINO makes one convolution of a map's and the division behind it, and forgets that it was to stay in fp32."""
    kind, raw = Detect(msgspec.structs.replace(HEAD, temperature=2.0)), maps(3, 2.0)

    class Decode(nn.Module):
        def forward(self, heat: torch.Tensor, box: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return kind.decode(Maps(heat, box))

    nodes = torch.export.export(Decode(), tuple(raw)).graph.nodes
    divided = [n.args[0].meta["val"].shape for n in nodes if str(n.target).startswith("aten.div.")]
    assert all(shape[1:] == (HEAD.max_detections,) for shape in divided) and divided


def outputs(boxes: list[list[float]], scores: list[float], classes: list[int]) -> dict[str, np.ndarray]:
    return {
        "boxes": np.array([boxes], np.float32).reshape(1, -1, 4),
        "scores": np.array([scores], np.float32),
        "classes": np.array([classes], np.int64),
    }


@pytest.mark.parametrize(
    ("found", "value"),
    [
        ([([0, 0, 50, 50], 0.9, 0)], 1.0),
        ([([0, 0, 50, 50], 0.02, 0)], 1.0),
        ([([0, 0, 50, 50], 0.9, 1)], 0.0),
        ([([0, 0, 20, 20], 0.9, 0)], 0.0),
        ([], 0.0),
    ],
    ids=["right", "right under the threshold", "wrong class", "wrong place", "nothing"],
)
def test_the_meter_knows_right_from_wrong(found: list[tuple[list[float], float, int]], value: float) -> None:
    """The image is 100x200 and the network sees it halved; average precision counts scores under the threshold."""
    data = dataset([[0, 0, 0.5, 1.0]], [0], [False])
    place = geometry((100, 200), (50, 100))
    meter = Detect(HEAD).meter(data, Scoring())
    meter.add(outputs([f[0] for f in found], [f[1] for f in found], [f[2] for f in found]), place, 0)
    result = meter.result()
    assert result.metric == "ap50" and result.value == pytest.approx(value)
    assert np.isnan(result.per_class["person"]), "no person stands there"


def test_truth_is_in_source_pixels() -> None:
    truth = truth_of(dataset([[0.1, 0.2, 0.5, 1.0]], [1], [True]), 0, geometry((100, 200), (64, 96)))
    np.testing.assert_allclose(truth.boxes, [[20, 20, 100, 100]], rtol=1e-6)
    assert truth.ignore.tolist() == [True]


@pytest.mark.parametrize(
    ("data", "labelled"),
    [
        (dataset([[0, 0, 1, 1]], [0], [False]), True),
        (dataset([[0, 0, 1, 1]], [0], [True]), False),
        (dataset([], [], []), False),
        (Dataset("d", ("car",), dataset([[0, 0, 1, 1]], [0], [False]).samples), False),
    ],
    ids=["one", "ignored", "none", "other classes"],
)
def test_what_counts_as_labelled(data: Dataset, labelled: bool) -> None:
    assert Detect(HEAD).labelled(data) is labelled
