"""The benchmark of places in short: the marks that are promised, on fewer pictures."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import bench_geometry as bench

from edgetl.roadworld import render_still
from edgetl.roadworld.calibrate import calibration_of


@pytest.fixture(scope="module")
def pictures() -> list[bench.Seen]:
    return [bench.exact(p) for p in bench.stills(40)]


@pytest.fixture(scope="module")
def drive() -> list[bench.Seen]:
    return bench.drive_views(bench.FIRST_SEED + 2, 16.0, "day", None).exact


def distances(seen: list[bench.Seen]) -> dict[str, float]:
    return bench.distances(bench.alone(seen, bench.Head()))["to 30 m"]


def test_places_of_exact_boxes(pictures: list[bench.Seen]) -> None:
    figures = distances(pictures)
    assert figures["placed"] == figures["boxes"] > 60
    assert figures["median_error"] <= 0.02 and figures["coverage_90"] >= 0.99
    assert figures["side_median_m"] <= 0.12 and figures["side_median_std_m"] <= 0.35


def test_places_of_shaken_boxes_under_a_pitch_that_is_off(pictures: list[bench.Seen]) -> None:
    """And the stated deviation is not so wide that it covers anything: it is near the errors' own."""
    shaken = bench.nodding([[s] for s in pictures], boxes=True, times=10)
    figures = bench.distances(bench.along(shaken, bench.Head()))["to 30 m"]
    assert figures["median_error"] <= 0.06 and figures["independent"] > 200
    assert 0.86 <= figures["coverage_90"] <= 0.97 and figures["median_std"] <= 0.09
    assert figures["side_coverage_90"] >= 0.75


def test_coverage_knows_how_sure_it_is() -> None:
    """Boxes of one drive that err together count as one."""
    rows = np.zeros((400, 11))
    rows[:, 1] = rows[:, 6] = 10.0
    rows[:, [8, 10]] = 1.0
    rows[::10, 6] += 5
    rows[:, 0] = np.arange(400)
    apart = bench.place_figures(rows)
    rows[:, 0] = np.arange(400) % 10
    together = bench.place_figures(rows)
    assert apart["coverage_90"] == together["coverage_90"] == 0.9
    assert apart["independent"] == pytest.approx(400, rel=0.02) and together["independent"] < 15


def test_a_detectors_edges_are_measured(pictures: list[bench.Seen]) -> None:
    """Edges that are shaken by a known share give that share."""
    rng, shaken = np.random.default_rng(0), []
    for _ in range(20):
        for seen in pictures:
            boxes = seen.found.boxes_xyxy.astype(np.float64)
            boxes[:, 3] += rng.normal(0, 0.08, len(boxes)) * (boxes[:, 3] - boxes[:, 1])
            found = dataclasses.replace(seen.found, boxes_xyxy=boxes.astype(np.float32))
            shaken.append(dataclasses.replace(seen, found=found))
    shares = bench.fitted_shares(shaken, bench.Head())
    assert shares["car"]["boxes"] > 200 and shares["car"]["share"] == pytest.approx(0.08, rel=0.25)


def test_speeds(drive: list[bench.Seen]) -> None:
    figures = bench.speeds(zip(drive, bench.placed(drive, bench.Head()), strict=True))
    assert figures["speed_given"] > 0.3 and figures["ttc_given"] > 0.5
    assert figures["speed_coverage_90"] > 0.9 and figures["ttc_median"] < 0.12


@pytest.mark.parametrize("pitch_deg", [0.0, 2.0, -2.0])
def test_the_moved_camera(drive: list[bench.Seen], pitch_deg: float) -> None:
    figures = bench.horizon([drive], bench.Head(), pitch_deg)
    assert figures["told"] == bool(pitch_deg)
    assert abs(figures["tilt_p5_p50_p95_deg"][1] - pitch_deg) < 0.3


def test_exact_places_are_where_the_pixels_are() -> None:
    """The corners that touch the ground project to the lower edge of what is painted, to a pixel or two."""
    off = []
    for index in range(12):
        picture = render_still(3, index)
        lens = bench.Ground(calibration_of(picture)).lens
        for item in bench.standing(picture):
            if item.visible < 1 or item.ignore:
                continue
            corners = np.array([(x, y, -picture.height_m) for x, y in item.stand.touches_m])
            rows = lens.pixels(corners.T, bench.SIZE_HW)[:, 1]
            off.append(item.box_xyxy[3] - rows.max())
    assert len(off) > 20 and np.percentile(np.abs(off), 90) < 2.5


def test_a_stand_says_what_the_label_says() -> None:
    for item in render_still(3, 1).objects:
        assert np.hypot(*item.stand.position_m) == pytest.approx(item.distance_m, abs=1e-6)
        assert len(item.stand.touches_m) == (4 if item.label < 5 else 0)
        assert dataclasses.asdict(item.stand)["size_lwh_m"][2] > 0
