"""Windows of a rig's cameras, and frames that it keeps for labelling."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rig_support import rig_of
from runtime_support import DETECT, HEADS, FakeCamera, scene

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.collect import INDEX, CollectSink
from edgetl_runtime.health import Event
from edgetl_runtime.result import Frame, Result
from edgetl_runtime.rig.pictured import CollectRounds, WindowRounds, heads_together, results_together
from edgetl_runtime.rig.round import RigEvent, Round


@dataclass
class FakeWindow:
    """Keeps what it is shown."""

    stop: bool = False
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    looks: int = 0
    closed: bool = False

    def show(self, picture: NDArray[np.uint8]) -> None:
        self.pictures.append(picture.copy())

    def look(self) -> None:
        self.looks += 1

    def close(self) -> None:
        self.closed = True


def test_every_camera_has_a_window_with_what_all_bundles_found(shared_bundle: Path, shared_many: Path) -> None:
    folders = {"boxes": shared_bundle, "all": shared_many}
    heads = {name: open_bundle(folder).manifest.heads for name, folder in folders.items()}
    windows = {"left": FakeWindow(), "right": FakeWindow()}
    together, alone = WindowRounds(heads, windows), WindowRounds(heads, {"left": FakeWindow(), "right": FakeWindow()})
    films = {
        name: FakeCamera([scene(90, 160, i) for i in range(n)], live=False) for name, n in (("left", 4), ("right", 2))
    }
    rounds = 0
    with rig_of(folders, films) as rig:
        together.begin(rig)
        for made in rig:
            rounds += 1
            together.write(made)
            only = {camera: {"boxes": results["boxes"]} for camera, results in made.results.items()}
            alone.write(Round(made.number, made.frames, only, made.failures, made.absent, made.skew_ms))
        together.close()
    assert {name: len(window.pictures) for name, window in windows.items()} == {"left": 4, "right": 2}
    assert windows["left"].looks + windows["right"].looks == rounds, "one look takes the keys of all windows"
    assert all(p.shape == (90, 160, 3) for p in windows["left"].pictures) and windows["right"].closed
    of_boxes: Any = alone._windows["left"]
    differs = np.abs(windows["left"].pictures[0].astype(int) - of_boxes.pictures[0]).max(axis=2) > 20
    assert differs.mean() > 0.05, "the other bundle's mask is drawn, too"


def test_a_bundle_that_fails_is_left_out_of_the_picture(shared_bundle: Path) -> None:
    window = FakeWindow()
    shown = WindowRounds({"boxes": (DETECT,), "all": HEADS}, {"left": window})
    with rig_of({"boxes": shared_bundle}, {"left": FakeCamera([scene(90, 160)] * 2, live=False)}) as rig:
        for made in rig:
            shown.write(made)
    shown.write(Round(9, {}, {"left": {}}, {"left": {"boxes": "broken"}}, {}, 0.0))
    assert len(window.pictures) == 2 and window.looks == 3


def test_any_window_ends_the_rig() -> None:
    windows = {"left": FakeWindow(), "right": FakeWindow()}
    shown = WindowRounds({}, windows)
    assert not shown.stop
    windows["right"].stop = True
    assert shown.stop


def test_heads_and_outputs_of_several_bundles_are_told_apart() -> None:
    heads = heads_together({"a": HEADS, "b": (DETECT,)})
    assert [h.name for h in heads] == ["a/detect", "a/ground", "a/light", "b/detect"]
    assert heads[3].labels == DETECT.labels and DETECT.name == "detect"
    one, two = (Result(1, "cam", 1, 2, {"detect": name}, (8, 8)) for name in "xy")  # type: ignore[dict-item]
    assert results_together({"a": one, "b": two}).outputs == {"a/detect": "x", "b/detect": "y"}


def shifted(camera: str, bundle: str, began: bool) -> RigEvent:
    return RigEvent(camera, bundle, Event(0, camera, "shifted", began, "degraded", ""))


def given(number: int, **shifts: dict[str, float | None]) -> Round:
    """One round, a second after the one before; by camera and bundle, how far each is from the training's domain."""
    stamp = 10**12 + number * 2 * 10**9
    frames = {camera: Frame(scene(90, 160, number), number, camera, stamp) for camera in shifts}
    results = {
        camera: {
            bundle: Result(number, camera, stamp, stamp, {}, (90, 160), shift=shift) for bundle, shift in by.items()
        }
        for camera, by in shifts.items()
    }
    return Round(number, frames, results, {}, {}, 0.0)


def write(sink: CollectRounds, made: Round) -> None:
    sink.write(made)
    for own in sink._sinks.values():
        while not own._queue.empty():
            time.sleep(0.002)
    time.sleep(0.02)


def test_frames_are_kept_by_camera_and_once_for_all_bundles(tmp_path: Path) -> None:
    folders = {name: CollectSink(tmp_path / name, budget_mb=5, session="s") for name in ("left", "right")}
    sink = CollectRounds(folders)
    far = {"road": 0.999, "signs": 0.998}
    write(sink, given(0, left=far, right=far))
    sink.event(shifted("left", "road", True))
    sink.event(shifted("left", "signs", True))
    write(sink, given(1, left=far, right=far))
    sink.event(shifted("left", "road", False))
    write(sink, given(2, left=far, right=far))
    write(sink, given(3, left={"road": 0.999, "signs": None}))
    sink.event(shifted("right", "road", True))
    write(sink, given(4, right=far))
    sink.event(shifted("left", "signs", False))
    write(sink, given(5, left=far))
    sink.close()
    rows = {n: [json.loads(line) for line in (tmp_path / n / INDEX).read_text().splitlines()] for n in folders}
    assert [(r["frame_id"], r["bundle"], r["shift"]) for r in rows["left"]] == [(1, "road", 0.999), (2, "signs", 0.998)]
    assert [(r["frame_id"], r["bundle"], r["camera_id"]) for r in rows["right"]] == [(4, "road", "right")]
    assert sorted(p.name for p in (tmp_path / "left").glob("*.jpg")) == ["s-00000001.jpg", "s-00000002.jpg"]
    assert sink.notes == [
        f"kept 2 frames for labelling in {tmp_path / 'left'}",
        f"kept 1 frames for labelling in {tmp_path / 'right'}",
    ]


@pytest.mark.parametrize("event", [RigEvent("left", "road", Event(0, "left", "dark", True, "degraded", ""))])
def test_other_conditions_keep_nothing(tmp_path: Path, event: RigEvent) -> None:
    sink = CollectRounds({"left": CollectSink(tmp_path, budget_mb=5)})
    sink.event(event)
    write(sink, given(0, left={"road": 0.999}))
    sink.close()
    assert sink.notes == [] and not list(tmp_path.glob("*.jpg"))
