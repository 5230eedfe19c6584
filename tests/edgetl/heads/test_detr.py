"""Boxes by queries: what is asked of them, what they answer, and the way from tuning to a running bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from edgetl.data import Dataset, Sample, read_dataset
from edgetl.heads import Kind, Scoring, build_network, heads_for, kinds_of
from edgetl.heads.detect import Detect
from edgetl.heads.detr import MOST_OBJECTS, DetectByQueries
from edgetl.models.detector import QUIET_LOGIT
from edgetl.models.detr import DetrNetwork, Learning, Queries
from edgetl.training.augment import View
from edgetl.training.checkpoint import load_network
from edgetl.training.config import TuneConfig
from edgetl.training.learn import head_losses
from edgetl.training.logs import read_curve
from edgetl.training.tune import tune
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.spec import ClassifyHead, DetectHead

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread", "small")

NAMES = ("dfine-tiny", "rtdetrv2-tiny")
HEAD = DetectHead(labels=("car", "person"), max_detections=5, thresholds=(0.3, 0.3), stride=16)
HW = (64, 96)


def kind_of(name: str = "rtdetrv2-tiny", head: DetectHead = HEAD) -> DetectByQueries:
    return DetectByQueries(head, name)


def view(boxes: list[list[float]], labels: list[int], ignore: list[bool] | None = None) -> View:
    return View(
        np.full((*HW, 3), 90, np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore if ignore is not None else [False] * len(labels), np.bool_),
    )


def batch_of(kind: DetectByQueries, *views: View) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.stack(c)) for c in zip(*(kind.targets(v) for v in views), strict=True))


def queries(seed: int, count: int = 12, batch: int = 1) -> Queries:
    g = torch.Generator().manual_seed(seed)
    boxes = torch.rand(batch, count, 4, generator=g) * 0.5 + 0.2
    logits = torch.randn(batch, count, 2, generator=g) * 2
    picked = torch.rand(batch, count, generator=g)
    return Queries(logits, boxes, picked, (torch.rand(batch, 4, 4, 6, generator=g),), HW)


def learning_of(boxes: Tensor, logits: Tensor) -> Learning:
    """One decoder layer with these queries (B, Q, ...), and the same as the first guess."""
    return Learning(logits[:, None], boxes[:, None], logits, boxes, None, None, None)


def iou(a: Any, b: Any) -> float:
    w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(w, 0) * max(h, 0)
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


def test_it_has_the_face_of_a_kind() -> None:
    kind: Kind = kind_of()
    assert kind.place == "dense"
    assert kind.probes == ("encoded_0", "encoded_1", "encoded_2", "query_logits", "query_boxes")
    assert kind_of("dfine-tiny").probes[:2] == ("encoded_0", "encoded_1")
    with pytest.raises(TypeError):
        kind.module(64)


def test_heads_kinds_and_networks_follow_the_name() -> None:
    data = Dataset("d", ("car", "person"), (), categories=("day", "night"))
    (head,) = heads_for(data, ("detect",), backbone="dfine-nano", max_detections=500)
    assert isinstance(head, DetectHead)
    assert (head.max_detections, head.stride) == (300, 16)
    assert isinstance(kinds_of((head,), backbone="dfine-nano")[0], DetectByQueries)
    assert isinstance(kinds_of((head,), backbone="resnet18")[0], Detect)
    assert isinstance(kinds_of((head,))[0], Detect)
    with pytest.raises(InputError, match="dfine-nano finds boxes only, not classify"):
        heads_for(data, ("detect", "classify"), backbone="dfine-nano")
    built = build_network("dfine-tiny", "none", kinds_of((HEAD,), backbone="dfine-tiny"))
    assert isinstance(built.network, DetrNetwork) and not built.network.training
    assert (built.input_range.mean, built.input_range.std) == ((0.0,) * 3, (255.0,) * 3)
    assert built.weights.source == "none (random)"


def test_targets() -> None:
    kind = kind_of()
    boxes, labels, role = kind.targets(
        view([[0, 0, 24, 16], [48, 32, 96, 64], [5, 5, 5, 9]], [1, 0, 1], [False, True, False])
    )
    assert boxes.shape == (MOST_OBJECTS, 4) and labels.shape == role.shape == (MOST_OBJECTS,)
    np.testing.assert_allclose(boxes[:2], [[0.75, 0.75, 0.5, 0.5], [0.125, 0.125, 0.25, 0.25]])
    assert labels[:2].tolist() == [0, 1] and role[:3].tolist() == [2, 1, 0], (
        "the largest first, one without area left out"
    )
    empty = kind.targets(view([], []))
    assert [e.any() for e in empty] == [False, False, False]
    many = [[i % 90, i % 60, i % 90 + 1 + i / 400, i % 60 + 2] for i in range(MOST_OBJECTS + 40)]
    boxes, _, role = kind.targets(view(many, [0] * len(many)))
    assert (role == 1).all()
    areas = sorted(((b[2] - b[0]) * (b[3] - b[1]) for b in many), reverse=True)[:MOST_OBJECTS]
    np.testing.assert_allclose(boxes[:, 2] * boxes[:, 3] * HW[0] * HW[1], areas, rtol=1e-4)


@pytest.mark.parametrize("count", [3, 12, 50])
def test_decoding_is_the_best_of_all_queries_and_classes(count: int) -> None:
    most = min(5, count)
    head = msgspec.structs.replace(HEAD, max_detections=most, temperature=1.7)
    raw = queries(count, count)
    boxes, scores, classes = kind_of(head=head).decode(raw)
    assert (boxes.shape, scores.shape, classes.shape) == ((1, most, 4), (1, most), (1, most))
    assert classes.dtype == torch.int64
    every = [(float(raw.logits[0, q, c]), q, c) for q in range(count) for c in range(2)]
    for place, (logit, q, c) in enumerate(sorted(every, reverse=True)[:most]):
        x, y, w, h = raw.boxes[0, q].tolist()
        corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]).clip(0, 1) * [96, 64, 96, 64]
        np.testing.assert_allclose(boxes[0, place], corners, rtol=1e-5)
        assert float(scores[0, place]) == pytest.approx(1 / (1 + np.exp(-logit / 1.7)), rel=1e-5)
        assert int(classes[0, place]) == c


def test_probes_do_not_see_the_order_of_queries_and_show_what_moved() -> None:
    raw, kind = queries(0), kind_of()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    other = raw._replace(logits=raw.logits[:, order], boxes=raw.boxes[:, order], picked=raw.picked[:, order])
    for a, b in zip(kind.probe(raw), kind.probe(other), strict=True):
        assert torch.equal(a, b)
    noise = torch.rand(raw.logits.shape, generator=torch.Generator().manual_seed(2)) * 1e-3
    moved = kind.probe(other._replace(logits=other.logits + noise))[1]
    assert 0 < float((moved - kind.probe(raw)[1]).abs().max()) <= 1e-3
    swapped = raw._replace(boxes=raw.boxes.clone())
    swapped.boxes[0, int(raw.picked.argmin())] = torch.tensor([0.9, 0.9, 0.05, 0.05])
    torch.testing.assert_close(
        kind.probe(swapped)[2], kind.probe(raw)[2], msg="the last that was picked may be another"
    )
    swapped.boxes[0, int(raw.picked.argmax())] = torch.tensor([0.9, 0.9, 0.05, 0.05])
    assert float((kind.probe(swapped)[2] - kind.probe(raw)[2]).abs().max()) > 0.1
    alike = raw._replace(picked=torch.zeros(1, 12))
    assert all(p.isfinite().all() for p in kind.probe(alike))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls_until_the_objects_are_found(name: str) -> None:
    torch.manual_seed(0)
    kind = kind_of(name)
    network = build_network(name, "none", (kind,)).network
    views = []
    for i in range(4):
        x, y = 8 + 12 * i, 10 + 5 * i
        views.append(view([[x, y, x + 30, y + 24]], [i % 2]))
        views[-1].image[y : y + 24, x : x + 30] = (30, 60, 220) if i % 2 else (200, 160, 40)
    targets = {"detect": batch_of(kind, *views)}
    frames = torch.from_numpy(np.stack([v.image for v in views])).permute(0, 3, 1, 2) / 255
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    totals = []
    for _ in range(120):
        network.train()
        losses, parts = head_losses(network(frames, targets), targets, (kind,))  # type: ignore[call-arg]
        assert set(parts) == {"detect_heat", "detect_box"}
        optimiser.zero_grad()
        losses["detect"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        totals.append(float(losses["detect"].detach()))
    assert totals[-1] < 0.6 * totals[0]
    with torch.inference_mode():
        boxes, _, classes = kind.decode(network.train()(frames).heads["detect"])
    assert classes[:, 0].tolist() == [0, 1, 0, 1]
    wanted = np.stack([v.boxes[0] for v in views])
    assert np.mean([iou(a, b) for a, b in zip(boxes[:, 0].numpy(), wanted, strict=True)]) > 0.6


def test_a_batch_without_objects_is_learnt_as_transformers_would() -> None:
    """Its matcher has no such case; its loss of the classes, asked by itself, has."""
    from transformers.loss.loss_rt_detr import RTDetrLoss

    from edgetl.models.detr import config_of

    kind, raw = kind_of(), queries(0, batch=2)
    logits = raw.logits.clone().requires_grad_(True)
    targets = batch_of(kind, view([], []), view([], []))
    found = kind.loss(raw._replace(learning=learning_of(raw.boxes, logits)), targets)
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = {"class_labels": nothing, "boxes": torch.zeros(0, 4)}
    one = RTDetrLoss(config_of("rtdetrv2-tiny", 2)).loss_labels_vfl(
        {"logits": raw.logits, "pred_boxes": raw.boxes}, [empty, empty], [(nothing, nothing)] * 2, 1
    )["loss_vfl"]
    assert float(found["heat"].detach()) == pytest.approx(2 * float(one), rel=1e-5), "the layer and the first guess"
    assert float(found["box"].detach()) == 0
    found["heat"].backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and (logits.grad > 0).all(), "every score is pushed down"


def test_ignored_objects_are_neither_right_nor_wrong() -> None:
    """Queries: on the object, in the ignored one, on nothing, and on an object inside the ignored one."""
    kind = kind_of()
    frame = view([[0, 0, 24, 16], [48, 0, 96, 64], [60, 8, 72, 24]], [0, 1, 1], [False, True, False])
    boxes = torch.tensor([[[12, 8, 24, 16], [80, 50, 20, 20], [24, 50, 20, 20], [66, 16, 12, 16]]]) / torch.tensor(
        [96.0, 64.0, 96.0, 64.0]
    )
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    losses = kind.loss(queries(0)._replace(learning=learning_of(boxes, logits)), batch_of(kind, frame))
    losses["heat"].backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    learnt = logits.grad[0].abs().amax(1) > 0
    assert learnt.tolist() == [True, False, True, True]
    assert logits.grad[0, 0, 0] < 0 < logits.grad[0, 2, 0], "the one is right, the other wrong"
    assert logits.grad[0, 3, 1] < 0
    assert QUIET_LOGIT < -20


def test_noised_objects_in_an_ignored_one_are_learnt() -> None:
    kind, noised = kind_of(), 2
    frame = view([[48, 0, 96, 64], [60, 8, 72, 24]], [1, 1], [True, False])
    boxes = torch.full((1, 1, noised + 3, 4), 0.8)
    boxes[..., 2:] = 0.1
    logits = torch.zeros(1, 1, noised + 3, 2, requires_grad=True)
    meta = {
        "dn_positive_idx": [torch.tensor([0])],
        "dn_num_group": 1,
        "dn_num_split": [noised, 3],
    }
    learning = Learning(logits, boxes, logits[:, 0, noised:], boxes[:, 0, noised:], None, None, meta)
    losses = kind.loss(queries(0)._replace(learning=learning), batch_of(kind, frame))
    losses["heat"].backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad[0, 0, :noised].abs().amax(1) > 0).all()


def test_the_loss_asks_for_training_mode() -> None:
    with pytest.raises(ValueError, match="training mode"):
        kind_of().loss(queries(0), batch_of(kind_of(), view([], [])))


def test_imitation() -> None:
    kind, teacher = kind_of(), queries(3)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = teacher._replace(logits=teacher.logits[:, order], boxes=teacher.boxes[:, order])
    like = kind.imitate(teacher, teacher)
    torch.testing.assert_close(kind.imitate(teacher, shuffled), like)
    far = teacher._replace(boxes=(teacher.boxes + 0.2).clamp(0, 1))
    other = teacher._replace(logits=-teacher.logits)
    assert float(kind.imitate(far, teacher)) > float(like)
    assert float(kind.imitate(other, teacher)) > float(like)
    unsure = teacher._replace(logits=teacher.logits - 30)
    assert float(kind.imitate(teacher, unsure)) == 0
    student = queries(4)._replace(logits=torch.zeros(1, 12, 2, requires_grad=True))
    kind.imitate(student, teacher).backward()  # type: ignore[no-untyped-call]
    assert student.logits.grad is not None and student.logits.grad.abs().sum() > 0


def test_scoring_is_that_of_boxes() -> None:
    sample = Sample(
        image=None,  # type: ignore[arg-type]
        boxes=np.array([[0.25, 0.25, 0.5, 0.75]], np.float32),
        labels=np.array([1]),
        ignore=np.array([False]),
        group="a",
    )
    data, kind = Dataset("d", HEAD.labels, (sample,)), kind_of()
    assert kind.labelled(data) and not kind.labelled(dataclasses.replace(data, classes=("a", "b")))
    meter = kind.meter(data, Scoring())
    raw = Queries(
        torch.tensor([[[-9.0, 3.0], *[[-9.0, -9.0]] * 4]]),
        torch.tensor([[[0.375, 0.5, 0.25, 0.5], *[[0.5] * 4] * 4]]),
        torch.zeros(1, 5),
        (torch.zeros(1),),
        HW,
    )
    outputs = {n: o.numpy() for n, o in zip(HEAD.outputs, kind.decode(raw), strict=True)}
    meter.add(outputs, geometry(HW, HW), 0)
    assert meter.result().value == pytest.approx(1.0)


def grain(folder: Path) -> None:
    """Noise on every picture: cells that are exactly equal, as drawn ones are, give a TopK nothing to choose by."""
    import cv2

    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        noise = np.random.default_rng(i).normal(0, 4, (90, 160, 3))
        picture = cv2.imread(str(path))
        assert picture is not None
        cv2.imwrite(str(path), (picture + noise).clip(0, 255).astype(np.uint8))


class Tuned(NamedTuple):
    """A run on drawn pictures, and what it was made with."""

    out: Path
    data: Path
    config: TuneConfig


def run_of(name: str, data: Path, out: Path, **changes: Any) -> Tuned:
    config = TuneConfig(
        backbone=name, weights="none", size_hw=(96, 160), crop_hw=(96, 160), epochs=3, batch=2, zoom=(1.0, 1.0),
        val_images=4, val_every=3, head_lr=2e-2, max_detections=100,
    )  # fmt: skip
    config = msgspec.structs.replace(config, **changes)
    out.mkdir()
    tune(read_dataset(data, "train"), read_dataset(data, "val"), out, config, data_root=str(data))
    return Tuned(out, data, config)


@pytest.mark.parametrize("name", NAMES)
def test_tune_and_load_again(name: str, coco_dir: Path, tmp_path: Path) -> None:
    run = run_of(name, coco_dir, tmp_path / "run")
    rows = read_curve(run.out / "metrics.csv")
    assert {r["phase"] for r in rows} == {"fine-tune"}
    network, card = load_network(run.out)
    assert isinstance(network, DetrNetwork)
    assert isinstance(card.heads[0], DetectHead)
    assert (card.backbone, card.heads[0].max_detections) == (name, 12)
    with torch.inference_mode():
        first = network(torch.rand(1, 3, 96, 160)).heads["detect"]
    assert isinstance(first, Queries) and first.logits.shape == (1, 12, 2)
    onwards = run_of(name, coco_dir, tmp_path / "more", start=str(run.out), epochs=1, val_every=1)
    assert load_network(onwards.out)[1].backbone == name, "--start says what it is, whatever --backbone says"
    run_of("tf_efficientnet_lite0", coco_dir, tmp_path / "third", start=str(run.out), epochs=0)


def test_pretrained_weights_are_tuned_whole_from_the_start(
    coco_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgetl.models.detr import fresh_model

    model: Any = fresh_model("dfine-tiny", 80)
    model.save_pretrained(tmp_path / "weights")
    run = run_of("dfine-tiny", coco_dir, tmp_path / "run", weights=str(tmp_path / "weights"), epochs=1, val_every=1)
    assert "dfine-tiny has nothing to probe: it is fine-tuned whole" in capsys.readouterr().err
    network, card = load_network(run.out)
    assert card.weights.source == "weights/model.safetensors"
    before = model.state_dict()
    moved = [
        k
        for k, v in network.detr.state_dict().items()
        if v.shape == before[f"model.{k}"].shape and not torch.equal(v, before[f"model.{k}"])
    ]
    assert any("decoder.layers.0" in k for k in moved) and any(k.startswith("encoder.") for k in moved)


@pytest.mark.parametrize("recipe", ["probe", "surgical"])
def test_recipes_that_need_features_are_refused(recipe: str, coco_dir: Path, tmp_path: Path) -> None:
    strides = (4,) if recipe == "surgical" else ()
    with pytest.raises(InputError, match=f"the recipe {recipe} needs a backbone of timm's.*--recipe full"):
        run_of("dfine-tiny", coco_dir, tmp_path / "run", recipe=recipe, surgical_strides=strides, weights="hub")


def test_a_frame_with_fewer_cells_than_queries_is_refused(coco_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dfine-tiny can't take frames of 64x32 .*larger --size"):
        run_of("dfine-tiny", coco_dir, tmp_path / "run", size_hw=(32, 64), crop_hw=(32, 64))


def test_teachers(coco_dir: Path, tmp_path: Path) -> None:
    teacher = run_of("dfine-tiny", coco_dir, tmp_path / "teacher", epochs=1, val_every=1)
    run = run_of("rtdetrv2-tiny", coco_dir, tmp_path / "run", teacher=str(teacher.out), epochs=1, val_every=1)
    assert any("detect_imitation" in r for r in read_curve(run.out / "metrics.csv"))
    with pytest.raises(InputError, match="finds boxes in another way than tf_efficientnet_lite0"):
        run_of("tf_efficientnet_lite0", coco_dir, tmp_path / "other", teacher=str(teacher.out))


@pytest.mark.parametrize(
    ("name", "rate"), [("dfine-tiny", 8e-2), pytest.param("rtdetrv2-tiny", 4e-2, marks=pytest.mark.slow)]
)
def test_the_bundle_finds_what_torch_finds(name: str, rate: float, coco_dir: Path, tmp_path: Path) -> None:
    """Tuned until it finds something, exported, opened again, and run on files."""
    from edgetl.exporting import ExportOptions, export_checkpoint
    from edgetl.metrics.predict import Frames, evaluate
    from edgetl.metrics.subject import open_subject

    grain(coco_dir)
    run = run_of(name, coco_dir, tmp_path / "run", epochs=80, val_every=80, batch=4, head_lr=rate)
    exported = export_checkpoint(
        run.out / "best.pt",
        tmp_path / "bundle",
        ExportOptions(data=None, max_drop=1.0, calibration=4, val_images=4, targets=["cpu"], latency_runs=5),
        name="queries",
    )
    hops = {h.hop: h for h in exported.manifest.hops}
    assert "torch.export" in hops["onnx"].note
    for hop in ("onnx", "fold-input", "onnxruntime/fp32", "openvino/fp32"):
        assert hops[hop].max_rel_error <= 1e-3 and hops[hop].value == pytest.approx(hops["torch"].value, abs=1e-3)
    assert {o.name for o in exported.manifest.outputs} == {"boxes", "scores", "classes", "embedding"}
    data = read_dataset(coco_dir, "val")
    found = {}
    for path, variant in ((run.out / "best.pt", None), (exported.bundle, "fp32")):
        with open_subject(path, variant=variant) as subject:
            frames = Frames(data, subject.preprocess)
            boxes = [np.array(subject.infer(f)["boxes"])[0, 0] for f in frames.images]
            found[variant] = evaluate(subject.infer, frames, subject.kinds(data)).value, boxes
    assert found["fp32"][0] == pytest.approx(found[None][0], abs=1e-3)
    assert found[None][0] > 0.1, "a network that finds nothing would prove nothing"
    np.testing.assert_allclose(found["fp32"][1], found[None][1], atol=0.05)


def test_a_classifier_of_whole_frames_has_no_such_kind() -> None:
    kinds = kinds_of((ClassifyHead(labels=("a", "b"), thresholds=(0.0, 0.0)),), backbone="dfine-tiny")
    assert not isinstance(kinds[0], DetectByQueries)
