"""Every decoder of boxes against a plain one in torch: nothing above the threshold, one box, many, and ties.

The plain ones loop over boxes, take torchvision's suppression, and share no code with the decoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import box_convert, nms

from edgetl_export.foreign.decoders import AnyDecoder, Output
from edgetl_export.foreign.decoders.boxes import BoxDecoder, SuppressedDecoder
from edgetl_export.foreign.decoders.detr import Detr
from edgetl_export.foreign.decoders.fastestdet import FastestDet
from edgetl_export.foreign.decoders.ssd import Ssd
from edgetl_export.foreign.decoders.yolo import Yolo
from edgetl_export.foreign.decoders.yolox import Yolox
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import DetectHead

Array = NDArray[np.float32]
Rows = list[tuple[list[float], float, int]]
"""Box, score and class of every candidate."""
HEIGHT, WIDTH = SIZE_HW = (64, 96)
LABELS = ("car", "person", "light")
C = len(LABELS)
CELLS = 8 * 12


def expected(rows: Rows, decoder: BoxDecoder, count: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """The contract's outputs, from candidates in their order."""
    boxes = torch.tensor([r[0] for r in rows])
    scores = torch.tensor([r[1] for r in rows])
    classes = torch.tensor([r[2] for r in rows])
    order = torch.sort(scores, descending=True, stable=True).indices
    if isinstance(decoder, SuppressedDecoder):
        order = order[: max(decoder.top_candidates, decoder.max_detections)]
        kept = torch.cat(
            [
                own[nms(boxes[own], scores[own], decoder.nms_iou)]
                for c in range(C)
                for own in (order[classes[order] == c],)
            ]
        )
        order = torch.tensor([i for i in order.tolist() if i in set(kept.tolist())])
    order = order[:count]
    blank = count - len(order)
    return (
        np.concatenate([boxes[order].numpy(), np.zeros((blank, 4), np.float32)])[None],
        np.concatenate([scores[order].numpy(), np.zeros(blank, np.float32)])[None],
        np.concatenate([classes[order].numpy(), np.zeros(blank, np.int64)])[None],
    )


def corners(x: float, y: float, w: float, h: float) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def sure(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def plain_yolo(arrays: Sequence[Array], decoder: Yolo) -> Rows:
    columns = arrays[0][0] if arrays[0].shape[1] == 4 + C else arrays[0][0].T
    rows = []
    for i in range(columns.shape[1]):
        scores = [float(s) for s in columns[4:, i]]
        if decoder.activation == "logits":
            scores = [sure(s) for s in scores]
        rows.append((corners(*map(float, columns[:4, i])), max(scores), scores.index(max(scores))))
    return rows


def plain_yolox(arrays: Sequence[Array], decoder: Yolox) -> Rows:
    rows, i = [], 0
    places = [(s, r, c) for s in decoder.strides for r in range(HEIGHT // s) for c in range(WIDTH // s)]
    for i, (stride, row, column) in enumerate(places):
        x, y, w, h, there, *classes = (float(v) for v in arrays[0][0, i])
        if not decoder.decoded:
            x, y, w, h = (x + column) * stride, (y + row) * stride, math.exp(w) * stride, math.exp(h) * stride
        if decoder.activation == "logits":
            there, classes = sure(there), [sure(v) for v in classes]
        rows.append((corners(x, y, w, h), there * max(classes), classes.index(max(classes))))
    return rows


def plain_fastestdet(arrays: Sequence[Array], decoder: FastestDet) -> Rows:
    rows = []
    for row in range(arrays[0].shape[2]):
        for column in range(arrays[0].shape[3]):
            there, x, y, w, h, *classes = (float(v) for v in arrays[0][0, :, row, column])
            box = corners(
                (math.tanh(x) + column) * WIDTH / arrays[0].shape[3],
                (math.tanh(y) + row) * HEIGHT / arrays[0].shape[2],
                sure(w) * WIDTH,
                sure(h) * HEIGHT,
            )
            rows.append((box, there**0.6 * max(classes) ** 0.4, classes.index(max(classes))))
    return rows


def plain_ssd(arrays: Sequence[Array], decoder: Ssd) -> Rows:
    scores = torch.from_numpy(arrays[1][0])
    if decoder.activation == "logits":
        scores = scores.softmax(1)
    if decoder.background != "none":
        scores = scores[:, 1:] if decoder.background == "first" else scores[:, :-1]
    rows = []
    for i, box in enumerate(torch.from_numpy(arrays[0][0])):
        if decoder.anchors is not None:
            ax, ay, aw, ah = decoder.anchors[i]
            assert not isinstance(ax, str)
            vx, vy, vw, vh = decoder.variances
            dx, dy, dw, dh = (float(v) for v in box)
            found = corners(ax + dx * vx * aw, ay + dy * vy * ah, aw * math.exp(dw * vw), ah * math.exp(dh * vh))
        else:
            found = [float(v) for v in box]
        pixels = [found[0] * WIDTH, found[1] * HEIGHT, found[2] * WIDTH, found[3] * HEIGHT]
        rows += [(pixels, float(s), c) for c, s in enumerate(scores[i])]
    return rows


def plain_detr(arrays: Sequence[Array], decoder: Detr) -> Rows:
    logits, boxes = torch.from_numpy(arrays[0][0]), torch.from_numpy(arrays[1][0])
    pixels = box_convert(boxes, "cxcywh", "xyxy") * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    if decoder.activation == "softmax":
        scores, classes = logits.softmax(1)[:, :-1].max(1)
        return [(b, s, c) for b, s, c in zip(pixels.tolist(), scores.tolist(), classes.tolist(), strict=True)]
    scores = logits.sigmoid() if decoder.activation == "sigmoid" else logits
    return [(b, float(s), c) for b, each in zip(pixels.tolist(), scores, strict=True) for c, s in enumerate(each)]


def boxes_of(rng: np.random.Generator, count: int) -> Array:
    """Centre x, y, width, height as shares; many cover each other."""
    return np.concatenate([rng.uniform(0.1, 0.9, (count, 2)), rng.uniform(0.1, 0.5, (count, 2))], 1).astype(np.float32)


Scores = Callable[[np.random.Generator, tuple[int, ...]], Array]


def none(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.full(shape, 1e-4, np.float32)


def one(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    scores = rng.permutation(np.geomspace(1e-6, 1e-4, math.prod(shape))).reshape(shape).astype(np.float32)
    scores[tuple(n // 2 for n in shape)] = 0.9
    return scores


def many(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.01, 0.99, shape).astype(np.float32)


def ties(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice(np.array([0.25, 0.5, 0.75], np.float32), shape)


def softmax_values(rng: np.random.Generator, scores: Scores, shape: tuple[int, int], nothing: int | None) -> Array:
    """Scores of rows, for networks with a softmax over each; nothing: the column of "no object", which is sure.

    Ties are of whole rows, one of two, so that a softmax leaves them exact.
    """
    if scores is ties:
        rows = np.array([[0.9, 0.9, 0.2, 0.1], [0.7, 0.3, 0.7, 0.2]], np.float32)
        return rows[rng.integers(0, 2, shape[0]), : shape[1]]
    values = scores(rng, shape)
    if nothing is not None and scores is not many:
        values[:, nothing] = np.where((values == values.max()).any(1) & (scores is one), 1e-4, 0.99)
    return values


def logit(p: Array) -> Array:
    return np.log(p / (1 - p)).astype(np.float32)


PIXELS = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)


def raw_yolo(rng: np.random.Generator, scores: Scores, *, rows: bool = False, logits: bool = False) -> list[Array]:
    values = scores(rng, (CELLS, C))
    columns = np.concatenate([boxes_of(rng, CELLS) * PIXELS, logit(values) if logits else values], 1)
    return [columns[None] if rows else np.ascontiguousarray(columns.T)[None]]


def raw_yolox(rng: np.random.Generator, scores: Scores, *, decoded: bool = False, logits: bool = False) -> list[Array]:
    count = CELLS + 4 * 6
    boxes = boxes_of(rng, count) * PIXELS if decoded else rng.uniform(-1, 1.5, (count, 4)).astype(np.float32)
    values = scores(rng, (count, 1 + C))
    if scores is one:
        values[count // 2, 0] = 0.9
    return [np.concatenate([boxes, logit(values) if logits else values], 1).astype(np.float32)[None]]


def raw_fastestdet(rng: np.random.Generator, scores: Scores) -> list[Array]:
    maps = np.concatenate([scores(rng, (1, 4, 6)), rng.normal(0, 1, (4, 4, 6)), scores(rng, (C, 4, 6))])
    return [maps.astype(np.float32)[None]]


def raw_ssd(
    rng: np.random.Generator,
    scores: Scores,
    *,
    background: int = 1,
    nothing: int = 0,
    anchors: bool = True,
    logits: bool = True,
) -> list[Array]:
    boxes = rng.normal(0, 1, (40, 4)).astype(np.float32)
    if not anchors:
        centres = boxes_of(rng, 40)
        boxes = np.concatenate([centres[:, :2] - centres[:, 2:] / 2, centres[:, :2] + centres[:, 2:] / 2], 1)
    values = softmax_values(rng, scores, (40, C + background), nothing if background else None)
    return [boxes[None], (logit(values) if logits else values)[None]]


def raw_detr(rng: np.random.Generator, scores: Scores, *, extra: int = 0, logits: bool = True) -> list[Array]:
    values = softmax_values(rng, scores, (20, C + extra), C if extra else None)
    return [(logit(values) if logits else values)[None], boxes_of(rng, 20)[None]]


ANCHORS = tuple(tuple(map(float, row)) for row in boxes_of(np.random.default_rng(5), 40))


@dataclass(frozen=True)
class Case:
    decoder: AnyDecoder
    raw: Callable[..., list[Array]]
    plain: Callable[..., Rows]
    options: tuple[tuple[str, Any], ...] = ()


def ssd(**options: Any) -> Ssd:
    return Ssd(labels=LABELS, boxes="b", scores="s", top_candidates=60, max_detections=20, **options)


CASES = {
    "yolo": Case(Yolo(labels=LABELS, top_candidates=40, max_detections=15), raw_yolo, plain_yolo),
    "yolo, rows": Case(Yolo(labels=LABELS), raw_yolo, plain_yolo, (("rows", True),)),
    "yolo, logits": Case(Yolo(labels=LABELS, activation="logits"), raw_yolo, plain_yolo, (("logits", True),)),
    "yolox": Case(Yolox(labels=LABELS, strides=(8, 16), max_detections=30), raw_yolox, plain_yolox),
    "yolox, decoded": Case(
        Yolox(labels=LABELS, strides=(8, 16), decoded=True), raw_yolox, plain_yolox, (("decoded", True),)
    ),
    "yolox, logits": Case(
        Yolox(labels=LABELS, strides=(8, 16), activation="logits"), raw_yolox, plain_yolox, (("logits", True),)
    ),
    "fastestdet": Case(FastestDet(labels=LABELS), raw_fastestdet, plain_fastestdet),
    "ssd": Case(ssd(anchors=ANCHORS), raw_ssd, plain_ssd),
    "ssd, other variances, background last": Case(
        ssd(anchors=ANCHORS, variances=(0.2, 0.3, 0.1, 0.4), background="last"),
        raw_ssd,
        plain_ssd,
        (("nothing", C),),
    ),
    "ssd, decoded, probabilities, no background": Case(
        ssd(activation="probabilities", background="none"),
        raw_ssd,
        plain_ssd,
        (("background", 0), ("anchors", False), ("logits", False)),
    ),
    "detr": Case(Detr(labels=LABELS, logits="l", boxes="b", max_detections=12), raw_detr, plain_detr),
    "detr, softmax": Case(
        Detr(labels=LABELS, logits="l", boxes="b", activation="softmax"), raw_detr, plain_detr, (("extra", 1),)
    ),
    "detr, probabilities": Case(
        Detr(labels=LABELS, logits="l", boxes="b", activation="probabilities"),
        raw_detr,
        plain_detr,
        (("logits", False),),
    ),
}


@pytest.mark.parametrize("scores", [none, one, many, ties])
@pytest.mark.parametrize("name", CASES)
def test_nodes_and_reference_give_what_a_plain_decoder_gives(decode: Any, name: str, scores: Scores) -> None:
    case = CASES[name]
    for seed in range(3):
        arrays = case.raw(np.random.default_rng(seed), scores, **dict(case.options))
        (head,) = case.decoder.heads([Output(f"r{i}", a.shape) for i, a in enumerate(arrays)], SIZE_HW)
        assert isinstance(head, DetectHead) and isinstance(case.decoder, BoxDecoder)
        boxes, values, classes = expected(case.plain(arrays, case.decoder), case.decoder, head.max_detections)
        for found in (decode(case.decoder, arrays, SIZE_HW), case.decoder.reference(arrays, SIZE_HW)):
            np.testing.assert_allclose(found["scores"], values, atol=2e-6)
            shown = values > 0.01  # the order of smaller ones is a matter of the last digit of a sigmoid
            np.testing.assert_allclose(found["boxes"][shown], boxes[shown], atol=2e-3)
            np.testing.assert_array_equal(found["classes"][shown], classes[shown])
        assert (np.diff(values) <= 0).all()
        above = int((values >= 0.3).sum())
        assert {none: above == 0, one: above == 1}.get(scores, above > 1)


@pytest.mark.parametrize("name", CASES)
def test_tensorrt_takes_it(compiled_by_tensorrt: Any, name: str) -> None:
    case = CASES[name]
    arrays = case.raw(np.random.default_rng(0), many, **dict(case.options))
    found = compiled_by_tensorrt(case.decoder, arrays, SIZE_HW)
    assert found.ok and not found.diagnostics, found


def test_the_head_says_what_the_spec_says() -> None:
    decoder = Yolo(labels=LABELS, threshold=0.25, thresholds={"person": 0.4}, max_detections=500)
    (head,) = decoder.heads([Output("o", (1, 7, 96))], SIZE_HW)
    assert head == DetectHead(labels=LABELS, thresholds=(0.25, 0.4, 0.25), max_detections=96, stride=8)


@pytest.mark.parametrize(
    ("decoder", "shapes", "line"),
    [
        (Yolo(labels=LABELS), [(1, 8, 96)], r"yolo reads \(1, 7, N\) .* 3 labels, found raw0 \(1, 8, 96\)"),
        (Yolo(labels=LABELS), [(1, 7, 8, 12)], "yolo reads"),
        (Yolox(labels=LABELS), [(1, 126, 7)], r"yolox reads \(1, N, 8\)"),
        (Yolox(labels=LABELS), [(1, 100, 8)], "yolox reads 126 cells for strides 8, 16, 32 of 64x96"),
        (FastestDet(labels=LABELS), [(1, 85, 4, 6)], r"fastestdet reads \(1, 8, h, w\)"),
        (ssd(), [(1, 40, 4), (1, 40, 3)], "3 labels and the background"),
        (ssd(), [(1, 40, 4), (1, 39, 4)], "ssd reads"),
        (ssd(anchors=ANCHORS), [(1, 41, 4), (1, 41, 4)], "one box for each of 40 anchors"),
        (Detr(labels=LABELS, logits="l", boxes="b"), [(1, 20, 4), (1, 20, 4)], r"logits \(1, Q, 3\)"),
        (
            Detr(labels=LABELS, logits="l", boxes="b", activation="softmax"),
            [(1, 20, 3), (1, 20, 4)],
            r"logits \(1, Q, 4\).*no object",
        ),
        (Detr(labels=LABELS, logits="l", boxes="b"), [(1, 20, 3), (1, 21, 4)], "detr reads"),
    ],
)
def test_outputs_that_do_not_fit(decoder: AnyDecoder, shapes: list[tuple[int, ...]], line: str) -> None:
    outputs = [Output(f"raw{i}", s) for i, s in enumerate(shapes)]
    with pytest.raises(InputError, match=line):
        decoder.heads(outputs, SIZE_HW)


def test_no_more_candidates_than_tensorrt_can_sort() -> None:
    with pytest.raises(msgspec.ValidationError, match="3840"):
        msgspec.convert({"labels": ["a"], "top_candidates": 4000}, Yolo)
