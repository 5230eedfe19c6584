"""What travels out: masks cover the source exactly, scores and results say what they hold."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from runtime_support import CLASSIFY, DETECT, HEADS, SEGMENT

from edgetl_runtime.result import Detections, Mask, Output, Places, Result, Scores


def boxes(n: int) -> Detections:
    return Detections(np.zeros((n, 4), np.float32), np.linspace(0.9, 0.1, n, dtype=np.float32), np.arange(n) % 3)


def result(**outputs: Output) -> Result:
    return Result(4, "cam", 10, 2_000_010, outputs, (60, 80))


def test_a_mask_is_enlarged_to_the_source_by_the_nearest_cell() -> None:
    mask = Mask(np.array([[0, 1], [2, 3]], np.uint8), (4, 6))
    assert mask.at_source().tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2
    into = np.empty((4, 6), np.uint8)
    assert mask.at_source(out=into) is into and into[3, 0] == 2


def test_a_window_within_the_cells() -> None:
    """Cells of 4 pixels, the image from pixel 3 on: one source row in cell 0, four in cell 1, one in cell 2."""
    mask = Mask(np.array([[0], [1], [2]], np.uint8), (6, 1), cell=4, window=(3, 0, 6, 4))
    assert mask.at_source()[:, 0].tolist() == [0, 1, 1, 1, 1, 2]
    np.testing.assert_allclose(mask.shares(4), [1 / 6, 4 / 6, 1 / 6, 0])


def test_shares_are_those_of_the_source_pixels() -> None:
    rng = np.random.default_rng(0)
    mask = Mask(rng.integers(0, 3, (5, 7), np.uint8), (36, 50), cell=2, window=(1, 1, 9, 12))
    fine = Mask(mask.classes, (36 * 9, 50 * 12), cell=2, window=mask.window).at_source()
    np.testing.assert_allclose(mask.shares(3), np.bincount(fine.ravel(), minlength=3) / fine.size)
    assert mask.shares(3).sum() == pytest.approx(1)


@pytest.mark.parametrize("classes", [np.zeros((2, 2)), np.zeros(4, np.uint8), np.zeros((0, 3), np.uint8)])
def test_a_mask_that_is_none_is_refused(classes: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be \(h, w\) uint8"):
        Mask(classes, (4, 4))


@pytest.mark.parametrize(("shape", "label"), [((3,), 3), ((3,), -2), ((1, 3), 0)])
def test_scores_that_contradict_themselves_are_refused(shape: tuple[int, ...], label: int) -> None:
    with pytest.raises(ValueError, match="Scores must hold"):
        Scores(np.zeros(shape, np.float32), label)


def test_detections_of_a_result_are_those_of_the_one_head_that_has_them() -> None:
    mask = Mask(np.zeros((2, 2), np.uint8), (4, 4))
    assert len(result(ground=mask, detect=boxes(2)).detections) == 2
    with pytest.raises(KeyError, match=r"no head of this bundle gives boxes; there are \['ground'\]"):
        _ = result(ground=mask).detections


def test_a_line_of_json_says_what_every_head_found() -> None:
    outputs = {
        "detect": boxes(1),
        "ground": Mask(np.array([[0, 1], [1, 1]], np.uint8), (4, 4)),
        "light": Scores(np.array([0.004, 0.396, 0.6], np.float32), 2),
    }
    row = json.loads(json.dumps(result(**outputs).as_json(HEADS)))
    assert row["detections"] == [{"label": "vehicle", "class": 0, "score": 0.9, "box_xyxy": [0, 0, 0, 0]}]
    assert row["masks"] == {"ground": {"background": 0.25, "road": 0.75, "lane": 0.0}}
    assert row["categories"] == {
        "light": {"label": "day", "probability": 0.6, "probabilities": {"dusk": 0.396, "day": 0.6}}
    }
    assert (row["frame_id"], row["age_ms"], row["size_hw"], row["state"]) == (4, 2.0, [60, 80], "fresh")


def test_a_line_of_json_has_no_keys_for_heads_that_are_not_there() -> None:
    alone = result(light=Scores(np.array([0.3, 0.4, 0.3], np.float32), -1)).as_json((CLASSIFY,))
    assert alone["categories"]["light"]["label"] is None and alone["categories"]["light"]["probability"] == 0.4
    assert "detections" not in alone and "masks" not in alone
    none = result(detect=boxes(0)).as_json((DETECT,))
    assert none["detections"] == [] and "masks" not in none
    assert "detections" not in result(ground=Mask(np.zeros((1, 1), np.uint8), (9, 9))).as_json((SEGMENT,))


def tracked(ids: list[int]) -> Detections:
    n = len(ids)
    known = np.array(ids, np.int64) >= 0
    ages = np.where(known, 1.23456, np.nan).astype(np.float32)
    velocities = np.where(known[:, None], [[-3.14159, 2.0]], np.nan).astype(np.float32)
    plain = boxes(n)
    return Detections(
        plain.boxes_xyxy,
        plain.scores,
        plain.classes,
        track_ids=np.array(ids, np.int64),
        track_ages_s=ages,
        velocities_px_s=velocities,
    )


@pytest.mark.parametrize("ids", [[], [4], [12, -1, 3]], ids=str)
def test_tracks_in_json(ids: list[int]) -> None:
    rows = result(detect=tracked(ids)).as_json((DETECT,))["detections"]
    assert [row["track_id"] for row in rows] == [None if i < 0 else i for i in ids]
    for row in rows:
        known = row["track_id"] is not None
        assert (row["track_age_s"], row["velocity_px_s"]) == ((1.235, [-3.14, 2.0]) if known else (None, None))
    assert "NaN" not in json.dumps(rows)


def test_without_tracking_no_key_speaks_of_it() -> None:
    (row,) = result(detect=boxes(1)).as_json((DETECT,))["detections"]
    assert set(row) == {"label", "class", "score", "box_xyxy"}


@pytest.mark.parametrize("part", ["track_ids", "track_ages_s", "velocities_px_s"])
def test_tracks_are_whole_or_not_there(part: str) -> None:
    found = tracked([1, 2])
    with pytest.raises(ValueError, match=r"track ids \(2,\), ages \(2,\) and velocities \(2, 2\), or none"):
        dataclasses.replace(found, **{part: None})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="or none of them"):
        dataclasses.replace(found, **{part: getattr(found, part)[:1]})


def placed(xs: list[float]) -> Detections:
    known = np.isfinite(np.array(xs, np.float32))
    positions = np.stack([np.array(xs, np.float32), np.where(known, -1.5, np.nan)], axis=1).astype(np.float32)
    covariances = np.where(known[:, None, None], np.diag([0.25, 0.04]), np.nan).astype(np.float32)
    speeds = np.where(known, 2.0, np.nan).astype(np.float32)
    times = np.full(len(xs), np.nan, np.float32)
    places = Places(positions, covariances, speeds, times, time_to_collision_stds_s=speeds / 4)
    return dataclasses.replace(boxes(len(xs)), places=places)


@pytest.mark.parametrize("xs", [[], [12.5], [8.0, float("nan")]], ids=str)
def test_places_in_json(xs: list[float]) -> None:
    rows = result(detect=placed(xs)).as_json((DETECT,))["detections"]
    for row, x in zip(rows, xs, strict=True):
        known = np.isfinite(x)
        assert row["position_m"] == ([x, -1.5] if known else None)
        assert row["position_std_m"] == ([0.5, 0.2] if known else None)
        assert row["closing_speed_mps"] == (2.0 if known else None) and row["time_to_collision_s"] is None
        assert row["time_to_collision_std_s"] == (0.5 if known else None) and "closing_speed_std_mps" not in row
    assert "NaN" not in json.dumps(rows)


def test_every_box_has_its_place() -> None:
    places = placed([1.0, 2.0]).places
    assert places is not None
    with pytest.raises(ValueError, match="a place for each of 3 boxes, found 2"):
        dataclasses.replace(boxes(3), places=places)
    with pytest.raises(ValueError, match=r"positions \(2, 2\), covariances \(2, 2, 2\)"):
        dataclasses.replace(places, covariances_m2=np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"a deviation for each of 2 times, found \(1,\)"):
        dataclasses.replace(places, time_to_collision_stds_s=np.zeros(1, np.float32))
