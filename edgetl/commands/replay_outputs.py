"""Where the results of a replay go."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.health import Event
    from edgetl_runtime.recording.format import RecordingHeader
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.sinks import JsonLinesSink, Sink
    from edgetl_runtime.spec import Head


def open_sinks(
    args: argparse.Namespace, header: RecordingHeader, bundles: Mapping[str, Bundle], stack: ExitStack
) -> dict[tuple[str, str], list[Sink]]:
    """The sinks of every lane, by camera and bundle, closed by `stack`. Raises InputError for a video of several."""
    from edgetl_runtime.sinks import JsonLinesSink, VideoSink

    lanes = [(camera, bundle) for camera, bundle in header.lanes if bundle in bundles]
    sinks: dict[tuple[str, str], list[Sink]] = {lane: [] for lane in lanes}
    if args.out:
        if len(lanes) > 1:
            raise InputError(
                f"a video is of one camera and one bundle, and this is a replay of {len(lanes)} such pairs",
                remedy="use --jsonl, or Foxglove on the recording",
            )
        (camera, _), own = lanes[0], sinks[lanes[0]]
        own.append(VideoSink(args.out, fps=header.cameras[camera].fps, force=args.force))
    if args.jsonl:
        lines = JsonLinesSink(args.jsonl, (), force=args.force)
        stack.callback(lines.close)
        several = len(list(header.lanes)) > 1
        for camera, bundle in lanes:
            more = {"bundle": bundle} if several else {}
            sinks[camera, bundle].append(_Lines(lines, bundles[bundle].manifest.heads, more))
    for own in sinks.values():
        for sink in own:
            stack.callback(sink.close)
    return sinks


class _Lines:
    """A Sink: one lane's results in a file that all lanes share, with `more` in each line."""

    needs_picture = False
    stop = False

    def __init__(self, file: JsonLinesSink, heads: tuple[Head, ...], more: dict[str, str]) -> None:
        self._file, self._heads, self._more = file, heads, more

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """One line. Raises InputError where the disk takes no more."""
        self._file.line(result.as_json(self._heads) | self._more)

    def event(self, event: Event) -> None:
        """A replay has none."""

    def close(self) -> None:
        """The file is whoever's opened it."""
