"""Decoders of masks and categories against plain ones in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgetl_export.foreign.decoders import AnyDecoder, Output
from edgetl_export.foreign.decoders.classification import Classification
from edgetl_export.foreign.decoders.segmentation import Segmentation
from edgetl_export.foreign.decoders.twinlitenet import TwinLiteNet
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, SegmentHead

SIZE_HW = (64, 96)
LABELS = ("road", "kerb", "sky", "void")


def maps(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize(("cells", "stride"), [((64, 96), None), ((16, 24), None), ((16, 24), 1), ((8, 12), 4)])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_class_of_every_cell(
    decode: Any, channels: int, cells: tuple[int, int], stride: int | None, layout: Any
) -> None:
    raw = maps(1, channels, *cells)
    decoder = Segmentation(name="ground", labels=LABELS[:channels], stride=stride, layout=layout)
    given = raw if layout == "nchw" else np.ascontiguousarray(raw.transpose(0, 2, 3, 1))
    step = stride or 64 // cells[0]
    big = torch.from_numpy(raw)
    if step != 64 // cells[0]:
        big = F.interpolate(big, size=(64 // step, 96 // step), mode="bilinear", align_corners=False)
    expected = big.argmax(1).numpy()
    (head,) = decoder.heads([Output("o", given.shape)], SIZE_HW)
    assert head == SegmentHead(name="ground", labels=LABELS[:channels], stride=step)
    for found in (decode(decoder, [given], SIZE_HW), decoder.reference([given], SIZE_HW)):
        mask = found["mask_ground"]
        assert mask.dtype == np.uint8 and mask.shape == expected.shape
        assert (mask != expected).mean() < 1e-3  # bilinear sums in another order may turn a near tie


@pytest.mark.parametrize(("activation", "limit"), [("logits", 0.0), ("probabilities", 0.5)])
def test_one_channel_says_where_the_second_label_is(decode: Any, activation: Any, limit: float) -> None:
    raw = maps(1, 1, 16, 24)
    decoder = Segmentation(name="lane", labels=("other", "lane"), activation=activation)
    for found in (decode(decoder, [raw], SIZE_HW), decoder.reference([raw], SIZE_HW)):
        np.testing.assert_array_equal(found["mask_lane"], (raw[:, 0] > limit).astype(np.uint8))


@pytest.mark.parametrize("channels", [2, 3])
def test_equal_scores_are_the_first_class(decode: Any, channels: int) -> None:
    raw = np.ones((1, channels, 16, 24), np.float32)
    decoder = Segmentation(name="ground", labels=LABELS[:channels])
    for found in (decode(decoder, [raw], SIZE_HW), decoder.reference([raw], SIZE_HW)):
        assert not found["mask_ground"].any()


def test_twinlitenet_gives_two_masks(decode: Any) -> None:
    decoder = TwinLiteNet(drivable="da", lane="ll")
    raw = [maps(1, 2, 64, 96, seed=1), maps(1, 2, 64, 96, seed=2)]
    heads = decoder.heads([Output("da", raw[0].shape), Output("ll", raw[1].shape)], SIZE_HW)
    assert [(h.name, h.labels) for h in heads] == [("drivable", ("other", "drivable")), ("lane", ("other", "lane"))]
    assert decoder.reads() == ("da", "ll")
    for found in (decode(decoder, raw, SIZE_HW), decoder.reference(raw, SIZE_HW)):
        np.testing.assert_array_equal(found["mask_drivable"], raw[0].argmax(1))
        np.testing.assert_array_equal(found["mask_lane"], raw[1].argmax(1))


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)])
@pytest.mark.parametrize("activation", ["logits", "probabilities"])
def test_probabilities_of_categories(decode: Any, shape: tuple[int, ...], activation: Any) -> None:
    raw = maps(*shape)
    expected = torch.from_numpy(raw).flatten(1)
    expected = expected.softmax(1) if activation == "logits" else expected
    decoder = Classification(labels=LABELS, threshold=0.2, activation=activation)
    (head,) = decoder.heads([Output("o", shape)], SIZE_HW)
    assert head == ClassifyHead(labels=LABELS, thresholds=(0.2,) * 4)
    for found in (decode(decoder, [raw], SIZE_HW), decoder.reference([raw], SIZE_HW)):
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("decoder", "shapes"),
    [
        (Segmentation(name="g", labels=LABELS), [(1, 4, 16, 24)]),
        (Segmentation(name="g", labels=LABELS, stride=1), [(1, 4, 16, 24)]),
        (Segmentation(name="g", labels=LABELS, layout="nhwc"), [(1, 16, 24, 4)]),
        (Segmentation(name="g", labels=LABELS[:2]), [(1, 2, 16, 24)]),
        (Segmentation(name="g", labels=LABELS[:2], activation="probabilities"), [(1, 1, 16, 24)]),
        (TwinLiteNet(drivable="a", lane="b"), [(1, 2, 64, 96)] * 2),
        (Classification(labels=LABELS), [(1, 4)]),
        (Classification(labels=LABELS, activation="probabilities"), [(1, 4, 1, 1)]),
    ],
)
def test_tensorrt_takes_it(compiled_by_tensorrt: Any, decoder: AnyDecoder, shapes: list[tuple[int, ...]]) -> None:
    found = compiled_by_tensorrt(decoder, [maps(*shape) for shape in shapes], SIZE_HW)
    assert found.ok and not found.diagnostics, found


@pytest.mark.parametrize(
    ("decoder", "shape", "line"),
    [
        (Segmentation(name="g", labels=LABELS), (1, 5, 64, 96), r"reads \(1, 4, h, w\) for 4 labels"),
        (Segmentation(name="g", labels=LABELS), (1, 4, 64), "reads"),
        (Segmentation(name="g", labels=LABELS, layout="nhwc"), (1, 4, 64, 96), r"reads \(1, h, w, 4\)"),
        (Segmentation(name="g", labels=LABELS), (1, 4, 20, 30), "64x96 pixels by one whole stride"),
        (Segmentation(name="g", labels=LABELS), (1, 4, 128, 192), "one whole stride"),
        (Segmentation(name="g", labels=LABELS, stride=3), (1, 4, 16, 24), "that 3 divides"),
        (Segmentation(name="g", labels=("road",)), (1, 1, 64, 96), "of 2 to 255"),
        (Classification(labels=LABELS), (1, 5), r"reads \(1, 4\) for 4 labels, found o \(1, 5\)"),
        (Classification(labels=LABELS), (4,), "reads"),
    ],
)
def test_outputs_that_do_not_fit(decoder: AnyDecoder, shape: tuple[int, ...], line: str) -> None:
    with pytest.raises(InputError, match=line):
        decoder.heads([Output("o", shape)], SIZE_HW)
