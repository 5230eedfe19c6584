"""The detector's shapes, its weights, and its decoding against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl.models.detector import SIZE_UNIT_PX, STRIDE, Maps, box_map_to_xyxy, decode_maps
from edgetl.models.normalise import Normalise
from edgetl_runtime.spec import Preprocess


def plain_decode(heat: np.ndarray, box: np.ndarray, k: int) -> list[tuple[float, int, list[float]]]:
    """Local maxima over 3x3 cells and classes, best first, cell by cell."""
    _, height, width = heat.shape
    best = heat.max(axis=0)
    rows = []
    for y in range(height):
        for x in range(width):
            if best[y, x] < best[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max():
                continue
            cx, cy = (x + 0.5 + box[0, y, x]) * STRIDE, (y + 0.5 + box[1, y, x]) * STRIDE
            w, h = (math.exp(min(max(v, -4.0), 4.0)) * SIZE_UNIT_PX for v in box[2:, y, x])
            corners = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            limits = [width * STRIDE, height * STRIDE] * 2
            clipped = [min(max(v, 0.0), m) for v, m in zip(corners, limits, strict=True)]
            rows.append((1 / (1 + math.exp(-best[y, x])), int(heat[:, y, x].argmax()), clipped))
    return sorted(rows, key=lambda r: -r[0])[:k]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 9), st.integers(2, 9))
def test_decode_equals_a_plain_loop(seed: int, classes: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    heat = rng.normal(size=(classes, height, width)).astype(np.float32)
    box = rng.normal(size=(4, height, width)).astype(np.float32)
    expected = plain_decode(heat, box, 4)
    maps = Maps(torch.from_numpy(heat[None]), torch.from_numpy(box[None]))
    boxes, scores, labels = decode_maps(maps, min(4, height * width))
    for i, (score, label, corners) in enumerate(expected):
        assert scores[0, i].item() == pytest.approx(score, abs=1e-5)
        assert labels[0, i].item() == label
        np.testing.assert_allclose(boxes[0, i].numpy(), corners, rtol=1e-4, atol=1e-3)
    assert (scores[0, len(expected) :] < 1e-6).all()


def test_training_boxes_and_decoded_boxes_agree() -> None:
    heat = torch.full((1, 1, 6, 8), -5.0)
    heat[0, 0, 2, 3] = 3.0
    box = torch.randn(1, 4, 6, 8) * 0.2
    decoded = decode_maps(Maps(heat, box), 1)[0][0, 0]
    expected = box_map_to_xyxy(box)[0, :, 2, 3]
    limit = torch.tensor([32.0, 24.0, 32.0, 24.0])
    torch.testing.assert_close(decoded, torch.minimum(expected.clamp(min=0), limit))


def test_normalise_is_the_manifest_rule() -> None:
    rule = Preprocess(size_hw=(4, 6), mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
    frame = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3), dtype=np.uint8)
    x = Normalise(rule)(torch.from_numpy(frame)).numpy()
    for channel, (mean, std) in enumerate(zip(rule.mean, rule.std, strict=True)):
        np.testing.assert_allclose(x[0, channel], (frame[0, :, :, 2 - channel] - mean) / std, rtol=1e-6)
