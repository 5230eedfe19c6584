"""Numbers stay with their objects: crossings, gaps, dropped frames, wrong classes; and the store stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from runtime_support import CLASSIFY, DETECT, HEADS, SEGMENT
from track_support import FPS, SIZE_HW, THRESHOLDS, Row, found_of, ids, step

from edgetl_runtime.errors import InputError
from edgetl_runtime.result import Detections, Frame
from edgetl_runtime.session import rss_mb
from edgetl_runtime.spec import DetectHead
from edgetl_runtime.track import NO_TRACK, Tracker, Tracking, TrackSettings


def box(x: float, y: float = 100, *, side: float = 40, score: float = 0.9, label: int = 0) -> Row:
    return (x, y, side, side, score, label)


def test_a_number_from_the_second_sure_box_on() -> None:
    tracker = Tracker(THRESHOLDS)
    first, second = step(tracker, 0, box(100)), step(tracker, 1, box(101))
    assert ids(first) == [NO_TRACK] and len(first) == 1, "shown at once, without a number"
    assert ids(second) == [0]
    for part in (first.track_ages_s, first.velocities_px_s):
        assert part is not None and np.isnan(part).all()
    assert second.track_ages_s is not None and second.track_ages_s[0] == pytest.approx(1 / FPS)


def test_what_is_seen_once_gets_no_number() -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(0, 200, 20):
        assert ids(step(tracker, k, box(100))) == [NO_TRACK]
        step(tracker, k + 10)
    assert len(tracker) == 0


def test_few_frames_a_second_are_enough() -> None:
    """An object that was in every frame there was has been missed in none."""
    tracker = Tracker(THRESHOLDS)
    assert [ids(step(tracker, k, box(100)))[0] for k in range(0, 100, 20)] == [NO_TRACK, 0, 0, 0, 0]


def test_crossing_objects_keep_their_numbers() -> None:
    tracker, numbers = Tracker(THRESHOLDS), set()
    for k in range(60):
        right, left = box(100 + 4 * k, 100), box(340 - 4 * k, 106)
        rows = (right, left) if k % 3 else (left, right)
        found = step(tracker, k, *rows)
        if k > 1:
            assert sorted(ids(found)) == [0, 1]
            numbers.add(ids(found)[rows.index(right)])
    assert len(numbers) == 1


@pytest.mark.parametrize("gap_s", [0.1, 0.5, 0.9])
def test_an_object_that_was_hidden_comes_back_as_the_same(gap_s: float) -> None:
    tracker = Tracker(THRESHOLDS)
    gap = round(gap_s * FPS)
    for k in range(15):
        assert ids(step(tracker, k, box(50 + 6 * k)))[0] in (NO_TRACK, 0)
    for k in range(15, 15 + gap):
        assert len(step(tracker, k)) == 0
    found = step(tracker, 15 + gap, box(50 + 6 * (15 + gap)))
    assert ids(found) == [0]
    assert found.track_ages_s is not None and found.track_ages_s[0] == pytest.approx((15 + gap) / FPS)


def test_an_object_that_was_away_too_long_is_another() -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(10):
        step(tracker, k, box(100), box(400))
    for k in range(10, 10 + FPS + 2):
        assert ids(step(tracker, k, box(400))) == [1]
    step(tracker, 50, box(100), box(400))
    assert sorted(ids(step(tracker, 51, box(100), box(400)))) == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_time_counts_and_not_frames(seed: int) -> None:
    """An object that moves by more than its width between frames, which come when they come."""
    rng, tracker = np.random.default_rng(seed), Tracker(THRESHOLDS)
    frame = 0
    for k in range(40):
        found = step(tracker, frame, box(20 + 12 * frame, side=30))
        frame += 1 if k < 5 else int(rng.integers(1, 7))
        if k:
            assert ids(found) == [0]
        if k > 10:
            assert found.velocities_px_s is not None
            np.testing.assert_allclose(found.velocities_px_s, [[12 * FPS, 0]], atol=15)


def test_an_object_that_comes_nearer_grows_out_of_its_box() -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(0, 46, 3):
        depth = 30 - 0.6 * k
        found = step(tracker, k, (320 + 900 / depth, 180 + 300 / depth, 900 / depth, 1500 / depth, 0.9, 0))
        assert ids(found) == [0 if k else NO_TRACK]


def test_a_low_score_goes_on_with_a_track_and_begins_none() -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(5):
        step(tracker, k, box(100))
    for k in range(5, 30):
        found = step(tracker, k, box(100, score=0.3), box(400, score=0.3))
        assert ids(found) == [0] and found.scores.tolist() == [np.float32(0.3)]
    for k in range(30, 90):
        found = step(tracker, k, box(100, score=0.3))
    assert len(found) == 0, "two seconds without a sure box are enough"


def test_sure_boxes_choose_first() -> None:
    """The low box lies better, the sure one is the object."""
    tracker = Tracker(THRESHOLDS)
    for k in range(5):
        step(tracker, k, box(100))
    found = step(tracker, 5, box(108), box(100, score=0.45))
    assert ids(found) == [0] and found.scores.tolist() == [np.float32(0.9)]


@pytest.mark.parametrize("score", [0.5, 0.9])
def test_no_sure_box_is_ever_hidden(score: float) -> None:
    rng, tracker = np.random.default_rng(1), Tracker(THRESHOLDS)
    for k in range(50):
        rows = [box(*rng.uniform(50, 300, 2), score=score, label=int(rng.integers(3))) for _ in range(k % 7)]
        found = step(tracker, k, *rows)
        assert found.boxes_xyxy.tolist() == found_of(*rows).boxes_xyxy.tolist()


def test_a_track_has_the_label_that_has_been_surest() -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(90):
        label = 1 if k % 3 == 2 else 0
        found = step(tracker, k, box(100 + k, label=label))
        assert ids(found) == [0 if k else NO_TRACK] and found.classes.tolist() == [0]
    for k in range(90, 135):
        found = step(tracker, k, box(100 + k, label=2))
    assert found.classes.tolist() == [2] and ids(found) == [0], "45 votes of late count for more than 60 old ones"


def test_of_two_tracks_the_one_of_the_same_class_is_taken() -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(5):
        found = step(tracker, k, box(100, label=0), box(104, score=0.8, label=1))
    before = dict(zip(found.classes.tolist(), ids(found), strict=True))
    found = step(tracker, 5, box(102, label=1))
    assert ids(found) == [before[1]]


@pytest.mark.parametrize("what", ["time back", "long gap", "resized"])
def test_a_reset_begins_with_new_numbers(what: str) -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(100, 105):
        step(tracker, k, box(100))
    start = {"time back": 50, "long gap": 105 + 2 * FPS, "resized": 105}[what]
    size_hw = (180, 320) if what == "resized" else SIZE_HW
    assert ids(step(tracker, start, box(100), size_hw=size_hw)) == [NO_TRACK]
    assert len(tracker) == 1
    found = step(tracker, start + 1, box(100), size_hw=size_hw)
    assert ids(found) == [1]
    assert found.track_ages_s is not None and found.track_ages_s[0] == pytest.approx(1 / FPS)


def test_two_frames_of_one_moment() -> None:
    tracker = Tracker(THRESHOLDS)
    step(tracker, 0, box(100))
    assert ids(step(tracker, 0, box(101))) == [0] == ids(step(tracker, 0, box(100)))


def test_frames_without_boxes() -> None:
    tracker = Tracker(THRESHOLDS)
    for k in range(3):
        found = step(tracker, k)
        assert len(found) == 0 and ids(found) == []
        assert found.velocities_px_s is not None and found.velocities_px_s.shape == (0, 2)


def crowd(frames: int, seed: int = 0) -> list[list[Row]]:
    """Objects that come, move, are missed and go, some of them equal in everything but their place."""
    rng = np.random.default_rng(seed)
    rows: list[list[Row]] = []
    objects = [(*rng.uniform(0, 600, 2), *rng.normal(0, 3, 2)) for _ in range(12)]
    for k in range(frames):
        if k % 9 == 8:
            objects[int(rng.integers(12))] = (*rng.uniform(0, 600, 2), *rng.normal(0, 3, 2))
        objects = [(x + vx, y + vy, vx, vy) for x, y, vx, vy in objects]
        seen = [o for o in objects if rng.random() < 0.9]
        rows.append([box(x, y, score=float(rng.choice([0.3, 0.6, 0.9])), label=k % 2) for x, y, _, _ in seen])
    return rows


def test_the_order_of_boxes_changes_nothing() -> None:
    rng, one, other = np.random.default_rng(2), Tracker(THRESHOLDS), Tracker(THRESHOLDS)
    numbered = 0
    for k, rows in enumerate(crowd(120)):
        order = rng.permutation(len(rows))
        found, again = step(one, k, *rows), step(other, k, *(rows[i] for i in order))
        by_box = dict(zip(map(tuple, found.boxes_xyxy.tolist()), ids(found), strict=True))
        assert dict(zip(map(tuple, again.boxes_xyxy.tolist()), ids(again), strict=True)) == by_box
        numbered = max(numbered, *by_box.values())
    assert numbered > 15


def test_the_same_frames_give_the_same_bits() -> None:
    def bits() -> list[bytes]:
        tracker, parts = Tracker(THRESHOLDS), []
        for k, rows in enumerate(crowd(100)):
            found = step(tracker, k * 1.37, *rows)
            for part in (found.track_ids, found.track_ages_s, found.velocities_px_s, found.classes):
                assert part is not None
                parts.append(part.tobytes())
        return parts

    assert bits() == bits()


def test_what_was_handed_out_is_never_written_again() -> None:
    tracker, kept = Tracker(THRESHOLDS), []
    for k, rows in enumerate(crowd(30)):
        given = found_of(*rows)
        for part in (given.boxes_xyxy, given.scores, given.classes):
            part.flags.writeable = False
        found = tracker.update(given, t_ns=k * 33_000_000, size_hw=SIZE_HW)
        assert found.velocities_px_s is not None
        kept.append((found.velocities_px_s, found.velocities_px_s.copy()))
    assert all(np.array_equal(now, then, equal_nan=True) for now, then in kept)


@pytest.mark.slow
def test_the_store_is_bounded_over_many_frames() -> None:
    """100,000 frames in which objects come and go all the time: neither tracks nor memory add up.

    In a process of its own: in that of the other tests it is their memory, too, that comes and goes.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    most, last, *levels = json.loads(done.stdout)
    assert last > 20_000, "many objects came and went"
    assert most < 100 and levels[1] - levels[0] < 2, (most, levels)


def many_frames() -> list[float]:
    """The most tracks at a time, the highest number, and the memory in MB after a fifth of the frames and all."""
    rng, tracker = np.random.default_rng(3), Tracker(THRESHOLDS)
    frames = [found_of(*(box(*rng.uniform(0, 600, 2), score=0.9) for _ in range(k % 3))) for k in range(997)]
    most, last, levels = 0, -1, []
    for k in range(100_000):
        found = tracker.update(frames[k // 2 % 997], t_ns=k * 33_333_333, size_hw=SIZE_HW)
        most = max(most, len(tracker))
        if k % 2 and len(found):
            assert found.track_ids is not None
            last = max(last, int(found.track_ids.max()))
        if k in (20_000, 99_999):
            levels.append(rss_mb())
    return [most, last, *levels]


def test_more_tracks_than_are_kept() -> None:
    tracker = Tracker(THRESHOLDS, TrackSettings(most=10))
    rows = [box(100 * i, 100 * j) for i in range(6) for j in range(5)]
    for k in range(6):
        found = step(tracker, k, *rows)
        assert len(tracker) == 10 and len(found) == 30
    assert sum(number >= 0 for number in ids(found)) == 10


@pytest.mark.parametrize("side", [0.01, 5000.0])
def test_boxes_of_any_size_stay_finite(side: float) -> None:
    tracker = Tracker(THRESHOLDS)
    with np.errstate(all="raise", under="ignore"):
        for k in range(0, 300, 29):
            found = step(tracker, k, (300, 200, side * (1 + 100 * (k % 2)), side, 0.9, 0))
            assert len(found) == 1


def frame_at(k: int, *, camera: str = "cam", media: bool = False) -> Frame:
    image = np.zeros((36, 64, 3), np.uint8)
    return Frame(image, k, camera, round((900 * k if media else k) / FPS * 1e9), k / FPS if media else None)


def found_in(outputs: dict[str, object], name: str = "detect") -> Detections:
    output = outputs[name]
    assert isinstance(output, Detections)
    return output


@pytest.mark.parametrize("media", [False, True])
def test_each_camera_and_each_head_counts_for_itself(media: bool) -> None:
    """A file that is read slowly is on its own time: the stamps alone would be 30 s apart."""
    other = DetectHead(name="signs", labels=("a",), max_detections=9, thresholds=(0.5,), stride=8)
    tracking = Tracking((*HEADS, other))
    for k in range(4):
        for camera in ("front", "rear"):
            outputs = {"detect": found_of(box(10 + k, 10), box(300, 10)), "signs": found_of(box(20, 20))}
            found = tracking.update(outputs, frame_at(k, camera=camera, media=media))
            expected = ([0, 1], [0]) if k else ([NO_TRACK] * 2, [NO_TRACK])
            assert (ids(found_in({**found})), ids(found_in({**found}, "signs"))) == expected


def test_only_boxes_are_decoded_lower() -> None:
    tracking = Tracking(HEADS, TrackSettings(low_share=0.5))
    assert [h.name for h in tracking.decoded] == [h.name for h in HEADS]
    detect, segment, classify = tracking.decoded
    assert isinstance(detect, DetectHead) and detect.thresholds == tuple(t / 2 for t in DETECT.thresholds)
    assert (segment, classify) == (SEGMENT, CLASSIFY)


def test_nothing_to_track_is_said() -> None:
    with pytest.raises(InputError, match=r"no head of this bundle gives boxes to track; there are \['ground'\]"):
        Tracking((SEGMENT,))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(many_frames()))
