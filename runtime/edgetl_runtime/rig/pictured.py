"""What a rig does with pictures: windows of every camera, and frames that are kept for labelling."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

import msgspec

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.rig.sinks import LaneName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.collect import CollectSink
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.spec import Head


class Window(Protocol):
    """Where a person sees one camera's pictures. stop: the person asked for the end."""

    @property
    def stop(self) -> bool:
        """Whether the run should end."""

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show one picture, (H, W, 3) uint8 BGR, valid during this call only."""

    def look(self) -> None:
        """Let all windows be drawn and take what was typed into any of them."""

    def close(self) -> None:
        """Close the window."""


class WindowRounds:
    """A RigSink of one window for each camera, in which what every bundle found is drawn together.

    heads: the manifests', by bundle; windows: by camera.
    """

    def __init__(self, heads: Mapping[str, Sequence[Head]], windows: Mapping[str, Window]) -> None:
        self._heads, self._windows = dict(heads), dict(windows)
        self._annotators: dict[str, tuple[list[str], Annotator]] = {}

    @property
    def stop(self) -> bool:
        """Whether the end was asked for in any of them."""
        return any(window.stop for window in self._windows.values())

    def begin(self, rig: Rig) -> None:
        """Nothing to do."""

    def write(self, made: Round) -> None:
        """Show the frames of the round that have results."""
        for camera, results in made.results.items():
            if results:
                self._windows[camera].show(self._drawn(made.frames[camera], results))
        next(iter(self._windows.values())).look()  # one takes what was typed into all

    def event(self, event: RigEvent) -> None:
        """Windows show pictures only."""

    def close(self) -> None:
        """Close all of them."""
        for window in self._windows.values():
            window.close()

    def _drawn(self, frame: Frame, results: Mapping[str, Result]) -> NDArray[np.uint8]:
        """One camera's annotator is made anew only where other bundles than before gave results."""
        bundles, annotator = self._annotators.get(frame.camera_id, ([], None))
        if annotator is None or bundles != list(results):
            annotator = Annotator(heads_together({name: self._heads[name] for name in results}))
            self._annotators[frame.camera_id] = (list(results), annotator)
        return annotator(frame, results_together(results))


def heads_together(heads: Mapping[str, Sequence[Head]]) -> tuple[Head, ...]:
    """The heads of several bundles as if of one: each is called BUNDLE/HEAD."""
    return tuple(
        msgspec.structs.replace(head, name=f"{bundle}/{head.name}") for bundle, own in heads.items() for head in own
    )


def results_together(results: Mapping[str, Result]) -> Result:
    """The first bundle's result with the outputs of all, called as `heads_together` does."""
    outputs = {f"{name}/{head}": out for name, result in results.items() for head, out in result.outputs.items()}
    return dataclasses.replace(next(iter(results.values())), outputs=outputs)


class CollectRounds:
    """A RigSink that keeps each camera's frames for labelling while a bundle finds the domain shifted on that camera.

    A frame that several bundles find strange is kept once. sinks: by camera, which say where and how much.
    """

    stop = False

    def __init__(self, sinks: Mapping[str, CollectSink]) -> None:
        self._sinks = dict(sinks)
        self._shifted: set[LaneName] = set()

    @property
    def notes(self) -> list[str]:
        """What was kept and why no more."""
        return [note for sink in self._sinks.values() for note in sink.notes]

    def begin(self, rig: Rig) -> None:
        """Nothing to do."""

    def write(self, made: Round) -> None:
        """Hand over the frames that are worth keeping."""
        for camera, results in made.results.items():
            for bundle, result in results.items():
                if LaneName(camera, bundle) in self._shifted:
                    self._sinks[camera].offer(result, made.frames[camera], bundle)

    def event(self, event: RigEvent) -> None:
        """Begin or end with the condition."""
        if event.event.condition == "shifted" and event.camera is not None and event.bundle is not None:
            change = self._shifted.add if event.event.began else self._shifted.discard
            change(LaneName(event.camera, event.bundle))

    def close(self) -> None:
        """Write what was handed over."""
        for sink in self._sinks.values():
            sink.close()
