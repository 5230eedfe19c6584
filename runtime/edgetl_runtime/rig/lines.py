"""Rounds as lines of JSON, one for each result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.sinks import JsonLinesSink

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.spec import Head


class RoundLines:
    """A RigSink. A result's line is that of JsonLinesSink, whose camera_id is the name in the rig, and bundle, round
    and skew_ms.

    An event's line has one key, "event", with camera_id and bundle in it. heads: the manifests', by bundle. Raises
    InputError where the file is there already, or the disk takes no more.
    """

    stop = False

    def __init__(self, path: Path, heads: Mapping[str, tuple[Head, ...]], *, force: bool = False) -> None:
        self._heads = dict(heads)
        self._file = JsonLinesSink(path, (), force=force)

    def begin(self, rig: Rig) -> None:
        """Nothing to do."""

    def write(self, made: Round) -> None:
        """A line for each result of the round."""
        of_round = {"round": made.number, "skew_ms": round(made.skew_ms, 3)}
        for results in made.results.values():
            for bundle, result in results.items():
                self._file.line(result.as_json(self._heads[bundle]) | {"bundle": bundle} | of_round)

    def event(self, event: RigEvent) -> None:
        """One line."""
        self._file.line({"event": event.as_json()})

    def close(self) -> None:
        """Close the file."""
        self._file.close()
