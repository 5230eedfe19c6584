"""Pictures, labels and masks of roadworld, checked against geometry and against each other."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from edgetl.roadworld import CLASSES, DOMAINS, MASK_NAMES, render_clip, render_still
from edgetl.roadworld.camera import Camera
from edgetl.roadworld.labels import FIRST_OBJECT, IGNORE_HEIGHT
from edgetl.roadworld.order import painting_order
from edgetl.roadworld.render import Renderer
from edgetl.roadworld.sample import clip_scene, still_scene
from edgetl.roadworld.scene import CAR, PERSON, Actor, Domain, Path, Scene
from edgetl.roadworld.sky import Sky
from edgetl.roadworld.vehicles import body_size
from edgetl_runtime.errors import InputError

SMALL = (180, 320)


def bare_scene(*actors: Actor, size_hw: tuple[int, int] = (360, 640)) -> Scene:
    """A straight road by day with nothing on it but these actors."""
    scene = still_scene(5, 1, size_hw, "day")
    road = dataclasses.replace(scene.road, lane_m=3.5, lanes_right=1, lanes_left=1, crossings=())
    return dataclasses.replace(
        scene, path=Path(0.0, 200.0, 0.0, 200.0), road=road, actors=actors, buildings=(), trees=(), masts=(), lights=(),
        signs=(), ego_d=0.0, ego_yaw_rad=0.0, camera=Camera(size_hw, 560.0, 1.4, 0.02),
    )  # fmt: skip


def car(number: int, s: float, d: float = 0.0, yaw: float = 0.0) -> Actor:
    """A parked hatchback."""
    return Actor(number, CAR, s, d, yaw, 0.0, "hatch", 1, body_size("hatch", 1), ((60.0, 60.0, 200.0),) * 2)


def person(number: int, s: float, d: float = 0.0) -> Actor:
    """Someone 1.8 m tall, standing."""
    return Actor(number, PERSON, s, d, 0.0, 0.0, "walker", 2, (0.5, 0.5, 1.8), ((90.0, 90.0, 90.0),) * 6)


def test_the_same_seed_renders_the_same_bytes() -> None:
    a, b = (render_still(3, 4, size_hw=SMALL) for _ in range(2))
    assert a.image.tobytes() == b.image.tobytes()
    assert a.objects == b.objects
    assert a.classes.tobytes() == b.classes.tobytes()


def test_an_image_does_not_depend_on_those_before_it() -> None:
    alone = render_still(3, 5, size_hw=SMALL).image
    render_still(3, 0, size_hw=SMALL)
    assert np.array_equal(alone, render_still(3, 5, size_hw=SMALL).image)


def test_other_seeds_and_indices_render_other_scenes() -> None:
    images = [render_still(s, i, size_hw=SMALL).image for s, i in ((0, 0), (0, 1), (1, 0))]
    for k in range(3):
        assert np.abs(images[k].astype(int) - images[k - 1].astype(int)).mean() > 10


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("index", [0, 1])
def test_boxes_are_tight_and_inside(domain: str, index: int) -> None:
    picture = render_still(11, index, size_hw=SMALL, domain=domain)
    h, w = SMALL
    assert picture.image.shape == (h, w, 3)
    assert picture.image.dtype == np.uint8
    assert picture.domain == domain
    assert picture.objects
    for k, item in enumerate(picture.objects, start=1):
        rows, columns = np.nonzero(picture.owners == k)
        assert item.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert item.pixels == len(rows)
        x1, y1, x2, y2 = item.amodal_xyxy
        assert 0 <= x1 <= item.box_xyxy[0]
        assert item.box_xyxy[2] <= x2 <= w
        assert 0 <= y1 <= item.box_xyxy[1]
        assert item.box_xyxy[3] <= y2 <= h
        assert 0 < item.visible <= 1
        if item.box_xyxy[3] - item.box_xyxy[1] < IGNORE_HEIGHT * h or item.visible < 0.25:
            assert item.ignore
        assert set(np.unique(picture.classes[picture.owners == k])) == {FIRST_OBJECT + item.label}
    assert picture.owners.max() == len(picture.objects)


@pytest.mark.parametrize("domain", DOMAINS)
def test_masks_agree(domain: str) -> None:
    picture = render_still(12, 0, size_hw=SMALL, domain=domain)
    assert set(np.unique(picture.drivable)) <= {0, 1}
    assert picture.drivable.mean() > 0.1
    assert picture.lanes.any()
    assert not (picture.lanes & ~picture.drivable & 1).any()
    assert not picture.drivable[picture.owners > 0].any()
    assert picture.classes.max() < len(MASK_NAMES)


def test_domains_light_the_same_world() -> None:
    day, night, fog = (render_still(2, 1, size_hw=SMALL, domain=d) for d in ("day", "night", "fog"))
    assert [o.box_xyxy for o in day.objects] == [o.box_xyxy for o in night.objects]
    assert night.image.mean() < 0.75 * day.image.mean()
    assert night.image[:40].mean() < 0.4 * day.image[:40].mean()
    assert fog.image[:40].std() < day.image[:40].std()


def test_an_empty_road_has_no_objects() -> None:
    picture = Renderer(bare_scene()).frame(0.0)
    assert picture.objects == ()
    assert not picture.owners.any()
    assert picture.drivable.any()


@pytest.mark.parametrize("distance", [8.0, 16.0, 32.0])
def test_size_follows_the_pinhole(distance: float) -> None:
    picture = Renderer(bare_scene(person(1, distance))).frame(0.0)
    (found,) = picture.objects
    height = found.box_xyxy[3] - found.box_xyxy[1]
    assert height == pytest.approx(560.0 * 1.8 / distance, rel=0.12, abs=2.0)
    assert found.distance_m == pytest.approx(distance, abs=0.01)
    foot = 180 + 560 * (1.4 * np.cos(0.02) - distance * np.sin(0.02)) / (distance * np.cos(0.02))
    assert found.box_xyxy[3] == pytest.approx(foot, abs=3.0)


def test_width_follows_the_pinhole() -> None:
    picture = Renderer(bare_scene(car(1, 20.0))).frame(0.0)
    (found,) = picture.objects
    length, width, _ = body_size("hatch", 1)
    assert found.box_xyxy[2] - found.box_xyxy[0] == pytest.approx(560 * width / (20 - length / 2), rel=0.1)


def test_the_nearer_hides_the_farther() -> None:
    picture = Renderer(bare_scene(person(1, 25.0), car(2, 12.0), person(3, 25.0, 4.0))).frame(0.0)
    seen = {o.object_id: o for o in picture.objects}
    assert seen[2].visible == 1.0
    assert seen[3].visible == 1.0
    assert 1 not in seen or (seen[1].visible < 0.6 and seen[1].box_xyxy[3] < seen[3].box_xyxy[3])


def test_a_hidden_object_is_marked_ignore() -> None:
    picture = Renderer(bare_scene(car(1, 26.0), car(2, 9.0))).frame(0.0)
    hidden = [o for o in picture.objects if o.object_id == 1]
    assert all(o.ignore == (o.visible < 0.25) for o in hidden)
    assert not hidden or hidden[0].visible < 0.6


def test_what_the_frame_cuts_is_less_visible() -> None:
    whole = Renderer(bare_scene(car(1, 9.0))).frame(0.0).objects[0]
    cut = Renderer(bare_scene(car(1, 9.0, 4.6))).frame(0.0).objects[0]
    assert whole.visible == 1.0
    assert cut.visible < 0.9
    assert cut.box_xyxy[2] == 640


def test_clips_keep_their_ids() -> None:
    frames = list(render_clip(7, seconds=0.5, fps=10, size_hw=SMALL))
    assert len(frames) == 5
    assert [f.time_s for f in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    labels: dict[int, int] = {}
    for a, b in pairwise(frames):
        moved = np.hypot(b.pose.x_m - a.pose.x_m, b.pose.y_m - a.pose.y_m)
        assert moved == pytest.approx(1.2, abs=0.15)
        before = {o.object_id: o for o in a.objects}
        shared = [o for o in b.objects if o.object_id in before]
        assert shared
        for o in shared:
            assert labels.setdefault(o.object_id, o.label) == o.label
            assert abs(o.distance_m - before[o.object_id].distance_m) < 4.0
    assert not np.array_equal(frames[0].image, frames[1].image)


@pytest.mark.parametrize("domain", ["day", "night", "fog", "rain"])
def test_a_frame_does_not_depend_on_those_before_it(domain: Domain) -> None:
    """The road is coloured where it is looked at: what was looked at before must not show."""
    scene = clip_scene(3, SMALL, domain, 4.0)
    alone, after = Renderer(scene).frame(3.0), Renderer(scene)
    for time_s in (0.0, 0.5, 2.0):
        after.frame(time_s)
    assert np.array_equal(alone.image, after.frame(3.0).image)


def test_a_still_shows_its_part_of_the_whole_sky() -> None:
    """A standing camera's sky is painted no wider than it sees; a moving one's holds the same."""
    scene = still_scene(0, 5, SMALL, "day")
    heading = scene.ego_at(0.0)[1].heading_rad
    part = Sky(scene).window(heading).astype(int)
    whole = Sky(dataclasses.replace(scene, ego_mps=1.0)).window(heading).astype(int)
    assert part.shape == whole.shape
    assert np.abs(part - whole)[:, 2:-2].max() <= 2


def test_labelled_objects_are_of_every_class() -> None:
    seen = {o.label for k in range(25) for o in render_still(1, k, size_hw=(90, 160)).objects}
    assert seen == set(range(len(CLASSES)))


def test_painting_order_is_far_to_near() -> None:
    assert painting_order([]) == []
    assert painting_order([(0.0, 1.0, 0.0)]) == [0]
    assert painting_order([(5.0, 9.0, 1.0), (30.0, 34.0, 1.0), (6.0, 7.0, 6.0)]) == [1, 2, 0]


@pytest.mark.parametrize(
    ("size_hw", "domain"), [((10, 640), "day"), ((360, 99999), "day"), ((360, 640), "snow"), ((360, -1), "day")]
)
def test_wrong_requests_are_refused(size_hw: tuple[int, int], domain: str) -> None:
    with pytest.raises(InputError):
        render_still(0, 0, size_hw=size_hw, domain=domain)


def test_negative_seeds_and_times_are_refused() -> None:
    with pytest.raises(InputError):
        render_still(-1, 0)
    with pytest.raises(InputError):
        render_clip(0, seconds=-1)


def test_an_object_four_pixels_high_and_one_wide_is_labelled() -> None:
    """Scene 641 of seed 0 shows one; a comparison with its slot once took the slot for a picture."""
    narrow = [o for o in render_still(0, 641).objects if o.box_xyxy[2] - o.box_xyxy[0] <= 4]
    assert narrow
    assert all(o.ignore for o in narrow)
