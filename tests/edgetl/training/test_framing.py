"""Where a view looks: cuts inside the frame, homographies with known answers, v2's boxes as an oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as v2

from edgetl.data import VOID
from edgetl.training import framing
from edgetl.training.framing import Cut
from edgetl.training.light import Stage
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.spec import Preprocess

STAGE = Stage(0.0, 0.0, 320.0, 180.0)


@pytest.mark.parametrize("scale", [0.1, 0.49, 1.0, 1.7, 4.0])
@pytest.mark.parametrize("centre", [None, 0.0, 3.0, 150.0, 199.9])
def test_a_cut_lies_in_the_frame_at_about_the_scale_and_shows_its_centre(scale: float, centre: float | None) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        cut = framing.random_cut(200, scale, 96, centre, rng)
        assert min(cut.start, cut.before) >= 0
        assert cut.start + cut.length <= 200
        assert cut.before + cut.size <= 96
        assert cut.size == 96 or cut.length == 200
        assert cut.size / cut.length == pytest.approx(scale, rel=0.03)
        if centre is not None:
            assert cut.start <= centre <= cut.start + cut.length


def test_cuts_of_a_single_pixel() -> None:
    rng = np.random.default_rng(0)
    assert framing.random_cut(1, 0.3, 8, None, rng).size == 1
    assert framing.random_cut(1, 20.0, 8, 0.5, rng) == Cut(0, 1, 8, 0)


def test_a_cut_shows_the_pixels_that_the_vehicle_sees() -> None:
    """Every fourth pixel's neighbourhood of noise, as the runtime's letterbox takes it: smoothed, it would be grey."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    preprocess = Preprocess(size_hw=(16, 24), mean=(0, 0, 0), std=(1, 1, 1))
    seen = Letterbox(preprocess)(noise)[0][0]
    cut = framing.cut_out(torch.from_numpy(noise).permute(2, 0, 1), Cut(0, 64, 16, 0), Cut(0, 96, 24, 0))
    assert np.abs(cut.permute(1, 2, 0).numpy().astype(int) - seen).max() <= 1


def test_a_cut_of_a_mask_takes_the_pixel_in_the_middle() -> None:
    mask = torch.arange(18, dtype=torch.uint8).expand(1, 18, 18)
    cut = framing.cut_out(mask, Cut(0, 18, 6, 0), Cut(3, 15, 5, 0), classes=True)
    assert cut[0, 0].tolist() == [4, 7, 10, 13, 16]


def test_boxes_through_a_cut_and_a_homography_are_as_v2_has_them() -> None:
    rng = np.random.default_rng(1)
    boxes = np.sort(rng.uniform(40, 140, (20, 2, 2)), axis=1).reshape(20, 4).astype(np.float32)
    rows, columns = Cut(10, 160, 120, 0), Cut(20, 260, 200, 0)
    ours = framing.boxes_through(framing.cut_matrix(rows, columns), boxes)
    given = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(180, 320))
    theirs = v2.resized_crop(given, 10, 20, 160, 260, [120, 200])
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-3)
    warp = framing.other_mount((180, 320), STAGE, pitch_deg=2, roll_deg=-2, stretch=0.05)
    theirs = v2.perspective(given, None, None, coefficients=framing._coefficients(warp))
    clipped, _, _ = framing.clip_boxes(framing.boxes_through(warp, boxes), (180, 320))
    np.testing.assert_allclose(clipped, theirs.numpy(), atol=0.05)


def test_a_mount_as_it_was_changes_nothing() -> None:
    same = framing.other_mount((180, 320), STAGE, pitch_deg=0, roll_deg=0, stretch=0)
    np.testing.assert_allclose(same / same[2, 2], np.eye(3), atol=1e-9)


@pytest.mark.parametrize("pitch", [-3.0, 3.0])
@pytest.mark.parametrize("roll", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("stage", [STAGE, Stage(-400.0, -30.0, 900.0, 500.0)])
def test_another_mount_leaves_no_pixel_without_picture(pitch: float, roll: float, stage: Stage) -> None:
    warp = framing.other_mount((180, 320), stage, pitch_deg=pitch, roll_deg=roll, stretch=-0.06)
    out = framing.warped(torch.full((3, 180, 320), 200, dtype=torch.uint8), warp)
    assert int(out.min()) >= 198
    assert not (framing.warped(torch.zeros((1, 180, 320), dtype=torch.uint8), warp, classes=True) == VOID).any()
    # At most a tenth is zoomed away for it.
    corners = framing.boxes_through(np.linalg.inv(warp), np.array([[0, 0, 320, 180]], np.float32))[0]
    assert corners[2] - corners[0] > 0.85 * 320


def test_a_roll_turns_the_picture_the_way_the_boxes_go() -> None:
    picture = torch.zeros((1, 180, 320), dtype=torch.uint8)
    picture[:, 80:100, 290:310] = 255
    warp = framing.moved((180, 320), turn_deg=8, shift_xy=(0.05, 0.0), zoom=(0.9, 0.9))
    where = np.argwhere(framing.warped(picture, warp)[0].numpy() > 100)
    box = framing.boxes_through(warp, np.array([[290, 80, 310, 100]], np.float32))[0]
    np.testing.assert_allclose([*where.min(axis=0)[::-1], *(where.max(axis=0)[::-1] + 1)], box, atol=1.5)
    # A right-hand turn with y down: what was on the right goes down.
    assert box[1] > 80


def test_the_edge_goes_on_where_a_whole_frame_has_moved_away() -> None:
    picture = torch.full((3, 40, 40), 90, dtype=torch.uint8)
    warp = framing.moved((40, 40), turn_deg=8, shift_xy=(0.1, -0.1), zoom=(0.85, 0.9))
    assert (framing.warped(picture, warp, margin=14) == 90).all()
    assert int(framing.warped(picture, warp).min()) < 90
    assert (framing.warped(picture[:1], warp, classes=True) == VOID).any()


def test_clipping_says_what_is_left_and_what_is_too_little() -> None:
    boxes = np.array(
        [[10, 10, 30, 30], [-30, 10, 10, 30], [-5, -5, 40, 40], [200, 10, 220, 30], [10, 10, 11, 30]], np.float32
    )
    clipped, keep, little = framing.clip_boxes(boxes, (50, 100))
    assert keep.tolist() == [True, True, True, False, True]
    assert little[keep].tolist() == [False, True, False, True]
    np.testing.assert_array_equal(clipped[1], [0, 10, 10, 30])
    none, keep, little = framing.clip_boxes(boxes[:0], (50, 100))
    assert none.shape == (0, 4)
    assert not len(keep)
    assert not len(little)
