"""The sink that shows several cameras and bundles in Foxglove, by one server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgetl_runtime.foxglove.lane import FoxgloveLane, left_out_note
from edgetl_runtime.foxglove.pictures import PICTURES_PER_S, Pictures
from edgetl_runtime.foxglove.server import PORT, FoxgloveServer, check_address, open_context
from edgetl_runtime.foxglove.topics import open_image_channel
from edgetl_runtime.recording.format import wall_offset_ns
from edgetl_runtime.rig.names import camera_prefixes, lane_prefixes
from edgetl_runtime.rig.sinks import LaneSinks
from edgetl_runtime.web.access import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.spec import Head


class FoxgloveRounds:
    """A RigSink; FoxgloveSink says what is shown and how, here with /CAMERA before each topic.

    With several bundles it is /CAMERA/BUNDLE, but for pictures, of which there is one topic for each camera; they are
    shown where no bundle made anything of a frame, too. Names have everything but letters, digits and _ as _. An event
    is told on every lane that it is of. heads: the manifests', by bundle. Raises as FoxgloveSink does, and InputError
    where two names become one.
    """

    stop = False

    def __init__(
        self,
        cameras: Sequence[str],
        heads: Mapping[str, Sequence[Head]],
        *,
        port: int = PORT,
        bind: str = LOOPBACK,
        name: str = "edgetl",
        pictures_per_s: float = PICTURES_PER_S,
    ) -> None:
        check_address(bind, port)
        above, prefixes = camera_prefixes(cameras, ""), lane_prefixes(cameras, list(heads), "")
        context, offset_ns = open_context(), wall_offset_ns()
        images = {camera: open_image_channel(context, prefix=prefix) for camera, prefix in above.items()}
        lanes = {
            lane: FoxgloveLane(context, heads[lane.bundle], offset_ns=offset_ns, prefix=prefix)
            for lane, prefix in prefixes.items()
        }
        self._lanes = list(lanes.values())
        self._sinks = LaneSinks(heads, {lane: [sink] for lane, sink in lanes.items()})
        self._server = FoxgloveServer(context, self._lanes, port=port, bind=bind, name=name)
        self._pictures = {
            camera: Pictures(image, offset_ns=offset_ns, per_s=pictures_per_s) for camera, image in images.items()
        }

    @property
    def notes(self) -> list[str]:
        """What was not told."""
        return left_out_note(self._lanes)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    def announce(self) -> None:
        """Tell on stderr where to connect."""
        sys.stderr.write(f"Foxglove: open the connection {self._server.url}\n")

    def begin(self, rig: Rig) -> None:
        """Tell the ledgers from now on."""
        self._sinks.begin(rig)

    def write(self, made: Round) -> None:
        """Hand over what somebody has subscribed to."""
        for camera, frame in made.frames.items():
            self._pictures[camera].offer(frame)
        self._sinks.write(made)

    def event(self, event: RigEvent) -> None:
        """Hand it over to the lanes that it is of."""
        self._sinks.event(event)

    def close(self) -> None:
        """Tell what waits, then end the server, all connections and threads; twice is fine."""
        for pictures in self._pictures.values():
            pictures.close()
        self._server.close()
