"""Where the results of several cameras and bundles go."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from edgetl_runtime.health import GONE, together
from edgetl_runtime.publish import Publisher
from edgetl_runtime.service.notify import lane_of
from edgetl_runtime.session import rss_mb
from edgetl_runtime.sinks import Broken
from edgetl_runtime.snapshot import Snapshot, Watcher, stage_times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgetl_runtime.health import Condition, Health
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.service.notify import NotifySink
    from edgetl_runtime.sinks import Sink
    from edgetl_runtime.spec import Head


_OF_CAMERA: tuple[Condition, ...] = (*GONE, "uncalibrated")
"""What is wrong with a camera and not mended by a restart."""


class RigSink(Protocol):
    """Takes every round and event of a rig, in one thread. stop: the user asked for the end."""

    @property
    def stop(self) -> bool:
        """Whether the run should end."""

    def begin(self, rig: Rig) -> None:
        """The loop begins; `rig` may be asked from any thread, after its end too."""

    def write(self, made: Round) -> None:
        """Take one round, whose frames and results may be kept and not changed."""

    def event(self, event: RigEvent) -> None:
        """Take what began or ended, in order, between rounds or while there are none."""

    def close(self) -> None:
        """Finish; closing twice is fine."""


@dataclass(frozen=True, slots=True, order=True)
class LaneName:
    """One bundle's results for one camera."""

    camera: str
    bundle: str

    def concerns(self, event: RigEvent) -> bool:
        """Whether the event is of this lane: of its camera, its bundle, both, or all."""
        return event.camera in (None, self.camera) and event.bundle in (None, self.bundle)


class LaneSinks:
    """A RigSink of sinks that each take one lane's results, as they do in a run of one camera and one bundle.

    heads: the manifests', by bundle. Sinks that are Watchers are handed their lane's snapshots.
    """

    def __init__(self, heads: Mapping[str, Sequence[Head]], sinks: Mapping[LaneName, Sequence[Sink]]) -> None:
        self._lanes = {name: Publisher(heads[name.bundle], own) for name, own in sinks.items()}
        self._all = [sink for own in sinks.values() for sink in own]
        self._rig: Rig | None = None

    @property
    def notes(self) -> list[str]:
        """What was left out."""
        return [note for lane in self._lanes.values() for note in lane.broken.notes]

    @property
    def stop(self) -> bool:
        """Whether any of them asks for the end."""
        return any(sink.stop for lane in self._lanes.values() for sink in lane.sinks)

    def begin(self, rig: Rig) -> None:
        """The loop begins."""
        self._rig = rig
        for name, lane in self._lanes.items():
            lane.live = is_live(rig)
            for sink in lane.sinks:
                if isinstance(sink, Watcher):
                    sink.watch(partial(self.snapshot, name))

    def write(self, made: Round) -> None:
        """Each lane's result to its sinks."""
        for name, lane in self._lanes.items():
            result = made.results.get(name.camera, {}).get(name.bundle)
            if result is not None:
                lane.publish(made.frames[name.camera], result)

    def event(self, event: RigEvent) -> None:
        """To the sinks of every lane that it is of."""
        for name, lane in self._lanes.items():
            if name.concerns(event):
                lane.event(event.event)

    def close(self) -> None:
        """Close all of them, also where closing one raises."""
        with ExitStack() as stack:
            for sink in self._all:
                stack.callback(sink.close)

    def snapshot(self, name: LaneName) -> Snapshot:
        """All that the rig can say of this lane now; any thread may ask."""
        assert self._rig is not None, "begin comes first"
        return lane_snapshot(self._rig, name)


class RigPublisher:
    """Gives rounds and events of a rig to its sinks, as Publisher does."""

    def __init__(self, sinks: Sequence[RigSink]) -> None:
        self.sinks = tuple(sinks)
        self.live, self.broken = False, Broken()

    def begin(self, rig: Rig) -> None:
        """The loop begins."""
        self.live = is_live(rig)
        for sink in self.sinks:
            sink.begin(rig)

    def write(self, made: Round) -> None:
        """Give it to all."""
        self._each(lambda sink: sink.write(made))

    def event(self, event: RigEvent) -> None:
        """Tell all of them."""
        self._each(lambda sink: sink.event(event))

    def _each(self, call: Callable[[RigSink], None]) -> None:
        """Call each of them; of live cameras one that raises is left out from then on."""
        for sink in self.sinks:
            try:
                call(sink)
            except Exception as error:
                if not self.live:
                    raise
                self.sinks = tuple(other for other in self.sinks if other is not sink)
                self.broken.add(sink, error)


def is_live(rig: Rig) -> bool:
    """Whether any of its cameras waits for nobody."""
    return any(seat.feed.live for seat in rig.seats.values())


class NotifyRounds:
    """A RigSink that feeds a NotifySink by all lanes of the cameras that are there."""

    stop = False

    def __init__(self, sink: NotifySink) -> None:
        self._sink = sink

    def begin(self, rig: Rig) -> None:
        """The loop begins."""
        self._sink.begin(partial(awaited_lanes, rig))

    def write(self, made: Round) -> None:
        """Every result of the round."""
        for camera, results in made.results.items():
            for bundle, result in results.items():
                self._sink.published(result, lane_of(camera, bundle))

    def event(self, event: RigEvent) -> None:
        """What began or ended."""
        self._sink.event(event.event)

    def close(self) -> None:
        """Say that the run ends."""
        self._sink.close()


def awaited_lanes(rig: Rig) -> list[str]:
    """Names, as of `lane_of`, of the lanes whose results a service's watchdog waits for.

    Not those of cameras that the ladder leaves out; nor, while others work, of one that is gone, which is opened
    again without a restart, or that doesn't fit its calibration: a restart takes the others' results away.
    """
    kept = [seat for name, seat in rig.seats.items() if rig.keeps(name)]
    works = [seat for seat in kept if not any(seat.feed.health.holds(c) for c in _OF_CAMERA)]
    return [lane_of(seat.name, bundle) for seat in works or kept for bundle in rig.networks]


def lane_healths(rig: Rig, name: LaneName) -> tuple[Health, ...]:
    """All that one lane's results depend on: the rig's health, the camera's, the bundle's and its own."""
    network = rig.networks[name.bundle]
    return rig.health, rig.seats[name.camera].feed.health, network.health, network.lanes[name.camera].health


def lane_snapshot(rig: Rig, name: LaneName, *, brief: bool = False) -> Snapshot:
    """What a rig can say of one lane now; its health is that of `lane_healths` together.

    brief: without events and stages, which take longer to read than all the rest.
    """
    seat, network = rig.seats[name.camera], rig.networks[name.bundle]
    lane = network.lanes[name.camera]
    healths = lane_healths(rig, name)
    events = [] if brief else sorted((e for health in healths for e in health.recent()), key=lambda e: e.t_ns)
    return Snapshot(
        t_ns=time.monotonic_ns(),
        t_unix_s=time.time(),
        uptime_s=rig.seconds,
        turned_ns=rig.turned_ns,
        bundle=name.bundle,
        engine=network.engine.name,
        precision=network.engine.precision,
        camera_id=name.camera,
        captured=seat.feed.captured,
        processed=lane.processed,
        dropped=seat.feed.capture.dropped + lane.dropped,
        failed=seat.feed.camera.failed + lane.failed,
        lost=seat.feed.capture.lost,
        states=dict(lane.states),
        newest=lane.newest,
        status=together(("", health) for health in healths),
        events=events,
        stages={} if brief else stage_times(lane.ledger),
        rss_mb=rss_mb(),
    )
