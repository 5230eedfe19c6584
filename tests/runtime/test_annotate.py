"""Drawing: the frame stays as it is, the box has its class's colour, the buffer is kept."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl_runtime.annotate import _LATE_BGR, PALETTE, Annotator
from edgetl_runtime.result import Detections, Frame, Result


def result_of(boxes: list[list[float]], size_hw: tuple[int, int], state: str = "fresh") -> Result:
    n = len(boxes)
    found = Detections(
        np.array(boxes, np.float32).reshape(n, 4), np.linspace(0.9, 0.5, n, dtype=np.float32), np.arange(n)
    )
    return Result(7, "cam", 0, 35_000_000, found, size_hw, {"infer": 1.0}, state=state)  # type: ignore[arg-type]


@pytest.mark.parametrize("size_hw", [(360, 640), (720, 1280), (1080, 1920), (120, 160)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_draws_on_a_copy(size_hw: tuple[int, int], count: int) -> None:
    h, w = size_hw
    boxes = [[w * i / 6, h * 0.5, w * (i + 0.7) / 6, h * 0.9] for i in range(count)]
    frame = Frame(np.full((h, w, 3), 90, np.uint8), 7, "cam", 0)
    annotate = Annotator(("a", "b", "c", "d", "e"))
    picture = annotate(frame, result_of(boxes, size_hw))
    assert (frame.image == 90).all()
    assert picture.shape == frame.image.shape
    for i, (x1, _, _, y2) in enumerate(boxes):
        edge = picture[round(y2 - h * 0.02), max(round(x1) - 2, 0) : round(x1) + 3].astype(int)
        assert np.abs(edge - PALETTE[i]).sum(axis=-1).min() < 60, (i, edge)
    assert annotate(frame, result_of([], size_hw)) is picture


def test_boxes_at_the_very_edge_and_late_results() -> None:
    frame = Frame(np.zeros((90, 160, 3), np.uint8), 0, "cam", 0)
    picture = Annotator(("a",))(frame, result_of([[0, 0, 160, 90]], (90, 160), "late"))
    assert tuple(picture[1, -2]) == _LATE_BGR
