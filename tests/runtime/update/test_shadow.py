"""Two bundles on the same frames: how far they agree, and how little time that takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from runtime_support import HEADS, FakeCamera, scene

from edgetl_runtime.bundle import Bundle, open_bundle
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import InputError
from edgetl_runtime.inject import Injector, parse_faults
from edgetl_runtime.result import Detections, Mask, Scores
from edgetl_runtime.spec import DetectHead, SegmentHead
from edgetl_runtime.update.agreement import Agreement, matched
from edgetl_runtime.update.compatible import differences
from edgetl_runtime.update.shadow import Gates, ShadowReport, Side, _problems, shadow


def boxes(*rows: tuple[float, float, float, float, int]) -> Detections:
    found = np.array([r[:4] for r in rows], np.float32).reshape(-1, 4)
    return Detections(found, np.full(len(rows), 0.9, np.float32), np.array([r[4] for r in rows], np.int64))


AB, BA = ("a", "b"), ("b", "a")


@pytest.mark.parametrize(
    ("was", "now", "labels", "pairs"),
    [
        ([], [], AB, 0),
        ([(0, 0, 10, 10, 0)], [], AB, 0),
        ([(0, 0, 10, 10, 0)], [(1, 0, 11, 10, 0)], AB, 1),
        ([(0, 0, 10, 10, 0)], [(1, 0, 11, 10, 1)], AB, 0),
        ([(0, 0, 10, 10, 0)], [(1, 0, 11, 10, 1)], BA, 1),
        ([(0, 0, 10, 10, 0)], [(6, 0, 16, 10, 0)], AB, 0),
        ([(0, 0, 10, 10, 0)], [(0, 0, 10, 10, 0), (1, 0, 11, 10, 0)], AB, 1),
        ([(0, 0, 10, 10, 0), (2, 0, 12, 10, 0)], [(1, 0, 11, 10, 0), (2, 0, 12, 10, 0)], AB, 2),
    ],
)
def test_boxes_match_by_label_and_overlap(
    was: list[tuple[float, float, float, float, int]],
    now: list[tuple[float, float, float, float, int]],
    labels: tuple[str, ...],
    pairs: int,
) -> None:
    assert matched(AB, boxes(*was), labels, boxes(*now)) == pairs


def test_agreement_is_by_head_and_over_all_frames() -> None:
    detect, ground, light = HEADS
    agreement = Agreement()
    assert agreement.shares() == {}
    mask = np.array([[0, 1], [2, 2]], np.uint8)
    other = np.array([[0, 1], [1, 1]], np.uint8)
    light_now = np.array([0.1, 0.1, 0.8], np.float32)
    was = {
        "detect": boxes((0, 0, 10, 10, 0)), "ground": Mask(mask, (4, 4)), "light": Scores(light_now, 2),
    }  # fmt: skip
    now = {"detect": boxes(), "ground": Mask(other, (4, 4)), "light": Scores(light_now, -1)}
    agreement.add(HEADS, was, HEADS, was)
    assert agreement.shares() == {"detect": 1.0, "ground": 1.0, "light": 1.0}
    agreement.add(HEADS, was, HEADS, now)
    assert agreement.shares() == {"detect": round(2 / 3, 4), "ground": 0.75, "light": 0.5}
    nothing = Agreement()
    nothing.add((detect,), {"detect": boxes()}, (detect,), {"detect": boxes()})
    assert nothing.shares() == {"detect": 1.0}
    assert ground.name == "ground" and light.name == "light"


def test_what_readers_would_miss_is_listed() -> None:
    detect, ground, light = HEADS
    assert differences(HEADS, HEADS) == [] and differences((detect,), HEADS) == []
    assert differences(HEADS, (detect, ground)) == ["the head light is gone"]
    swapped = DetectHead(name="ground", labels=("x",), max_detections=1, thresholds=(0.5,), stride=4)
    assert differences((ground,), (swapped,)) == ["the head ground was segment and is detect"]
    assert "labels of ground" in differences((ground,), (SegmentHead(name="ground", labels=("x",), stride=4),))[0]
    assert light.name == "light"


@pytest.fixture
def sides(shared_many: Path) -> Iterator[tuple[Side, Side]]:
    bundle = open_bundle(shared_many)
    made = [Side(bundle, load_bundle_engine(bundle, threads=1)) for _ in range(2)]
    yield made[0], made[1]
    for side in made:
        side.engine.close()


def camera(count: int, delay_s: float = 0.0) -> FakeCamera:
    return FakeCamera([scene(90, 160, i) for i in range(count)], live=bool(delay_s), delay_s=delay_s)


def test_the_same_bundle_agrees_with_itself(sides: tuple[Side, Side]) -> None:
    report = shadow(*sides, camera(12), seconds=30, share=1.0, gates=Gates(frames=12, slower=1000.0))
    assert report.compared == 12 and report.problems == ()
    assert report.agreement == {"detect": 1.0, "ground": 1.0, "light": 1.0}
    assert report.old["frames"] == report.new["frames"] == 12 and report.new["failures"] == 0
    assert isinstance(report.as_json()["agreement"], dict)


def test_it_takes_no_more_than_its_share(sides: tuple[Side, Side]) -> None:
    """By a clock of the test's own: each run of both takes 10 ms, rest is added to it."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    class Slow:
        def __init__(self, side: Side) -> None:
            self.side = side

        def __call__(self, frame: object) -> object:
            now[0] += 0.005
            return run(frame)

    for side in sides:
        run = side.run
        side.run = Slow(side)  # type: ignore[method-assign]
    report = shadow(*sides, camera(50), seconds=5.0, share=0.1, clock=lambda: now[0], sleep=sleep)
    assert report.compared == 50 and report.share == pytest.approx(0.1, abs=0.01)
    assert now[0] == pytest.approx(5.0, abs=0.2)


def test_a_side_that_fails_is_counted(shared_many: Path) -> None:
    bundle: Bundle = open_bundle(shared_many)
    plain, inner = load_bundle_engine(bundle), load_bundle_engine(bundle)
    faulty = Injector(parse_faults("engine=2@4,nan=1@9")).engine(inner)
    report = shadow(Side(bundle, plain), Side(bundle, faulty), camera(20), seconds=30, share=1.0)
    assert report.new["failures"] == 3 and report.compared == 17
    assert any("failed on 3 frames" in problem for problem in report.problems)
    plain.close()
    inner.close()


def report_of(**changes: object) -> ShadowReport:
    side: dict[str, object] = {"frames": 30, "failures": 0, "p50_ms": 10.0, "p99_ms": 20.0, "shift": 0.5, "odd": 0.02}
    values: dict[str, object] = {"old": side, "new": side, "agreement": {"detect": 0.9}} | changes
    return dataclasses.replace(ShadowReport(30, 60.0, 0.2, {}, {}, {}), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"compared": 19}, "19 frames were compared, at least 20"),
        ({"agreement": {"detect": 0.49}}, "detect agrees in 49%, at least 50%"),
        ({"agreement": {"ground": 0.79}}, "ground agrees in 79%, at least 80%"),
        ({"agreement": {"light": 0.79}}, "light agrees in 79%, at least 80%"),
        ({"new": {"failures": 1, "p50_ms": 10.0, "p99_ms": 20.0, "odd": 0.0}}, "failed on 1 frames"),
        ({"new": {"failures": 0, "p50_ms": 15.1, "p99_ms": 20.0, "odd": 0.0}}, "its p50 is 15.1 ms"),
        ({"new": {"failures": 0, "p50_ms": 10.0, "p99_ms": 60.1, "odd": 0.0}}, "its p99 is 60.1 ms"),
        ({"new": {"failures": 0, "p50_ms": 10.0, "p99_ms": 20.0, "odd": 0.23}}, "finds 23% of the frames untypical"),
    ],
)
def test_each_gate_says_what_does_not_hold(shared_many: Path, changes: dict[str, object], said: str) -> None:
    found = _problems(report_of(**changes), open_bundle(shared_many), Gates())
    assert len(found) == bool(said) and (not said or said in found[0])


@pytest.mark.parametrize("gates", [{"boxes": float("nan")}, {"masks": 50.0}, {"odd": -0.1}, {"slower": float("nan")}])
def test_a_gate_that_holds_nothing_back_is_refused(gates: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"the gate for {next(iter(gates))} is .*, found"):
        Gates(**gates)  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "share"), [(0, 0.5), (1, 0.0), (1, 1.5)])
def test_shares_that_are_none(sides: tuple[Side, Side], seconds: float, share: float) -> None:
    with pytest.raises(InputError, match=r"0\.01 to 1 of a core"):
        shadow(*sides, camera(1), seconds=seconds, share=share)
