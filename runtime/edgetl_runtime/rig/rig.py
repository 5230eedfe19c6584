"""Several cameras and several bundles in one loop: what is there together is run together, and nobody is waited for."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgetl_runtime.errors import EngineError
from edgetl_runtime.health import Health, worst
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.repair import Patience
from edgetl_runtime.rest import CollectorRest
from edgetl_runtime.rig.round import RigEvent, Round
from edgetl_runtime.rig.seat import Seat
from edgetl_runtime.rig.summary import RigSummary, summary
from edgetl_runtime.session import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.capture import Taken
    from edgetl_runtime.errors import CameraError
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.ladder import Ladder
    from edgetl_runtime.result import Result
    from edgetl_runtime.rig.network import Network
    from edgetl_runtime.rig.sharing import Letterboxes

_USUAL_FPS = 30.0
_STAGES = ("wait", "gather", "skew", "publish", "total")
"""Of rounds, in ms. wait: for the first frame; gather: for the others; skew: Round.skew_ms of those with several
frames; publish: handing it to every sink, which whoever does so adds; total: from the frames to the end of what the
receiver did with their results."""


def gather_ms_of(cameras: Mapping[str, Camera]) -> float:
    """Half the shortest interval between frames that a camera states; those that state none count as 30 a second."""
    return 500.0 / max((c.fps if c.fps > 0 else _USUAL_FPS for c in cameras.values()), default=_USUAL_FPS)


class Rig:
    """Cameras and bundles as rounds; use as a context manager and iterate.

    A round begins with the first new frame of any camera and waits for the others for gather_ms at the most, and only
    for those whose next frame is due by then: a camera that is slower, stalled or gone delays nobody. Live cameras give
    their newest frame, files every one. The frames are run one after the other, the one captured first also first, by
    every bundle in their order. No frame is in two rounds.

    cameras and letterboxes: by name, which is what frames and results carry as camera_id; networks: the bundles.
    health: by camera, where the cameras tell what happens to them. ladder: what is given up while the oldest result of
    a round is late; it tells that to own_health, which is the whole rig's. max_frames: the last round takes no more
    frames than that leaves. on_event is told what begins and ends,
    on_ledger is called every `every_s` between rounds. Owns cameras and networks: leaving the context closes them.

    What goes wrong with one camera or one bundle is said and does not end the others: a camera that raises CameraError,
    or a bundle whose engine stays broken beyond `patience`, is left out from then on. CameraError is raised where no
    camera is left, or where all are silent or being opened again beyond `patience`, those that the ladder leaves out
    not counted; EngineError where no bundle is left. On files every error is raised at once.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        networks: Mapping[str, Network],
        letterboxes: Mapping[str, Letterboxes],
        *,
        gather_ms: float | None = None,
        patience: Patience | None = None,
        health: Mapping[str, Health] | None = None,
        ladder: Ladder | None = None,
        own_health: Health | None = None,
        max_frames: int | None = None,
        every_s: float = 5.0,
        on_event: Callable[[RigEvent], None] | None = None,
        on_ledger: Callable[[Rig], None] | None = None,
    ) -> None:
        patience, health = patience or Patience(), health or {}
        self.gather_ms = gather_ms_of(cameras) if gather_ms is None else gather_ms
        self.ledger = Ledger(_STAGES)
        self.rounds = 0
        self.turned_ns = time.monotonic_ns()
        self.networks = dict(networks)
        self._changed = threading.Condition()
        self.seats = {
            name: Seat(
                name,
                camera,
                health.get(name) or Health(),
                patience,
                letterboxes[name],
                self._changed,
                self._calibration(name),
            )
            for name, camera in cameras.items()
        }
        self.health, self._ladder = own_health or Health(), ladder
        self._max_frames = max_frames
        self._every_s, self._on_event, self._on_ledger = every_s, on_event, on_ledger
        self._start_s = self._tick_s = time.monotonic()
        self._rest = CollectorRest()
        self._healths = [(None, None, self.health), *self._camera_healths(), *self._network_healths()]

    def _calibration(self, camera: str) -> Calibration | None:
        """What the bundles place this camera's boxes by, if any of them does."""
        known = (network.lanes[camera].pipeline.calibration for network in self.networks.values())
        return next((c for c in known if c is not None), None)

    def _camera_healths(self) -> Iterator[tuple[str | None, str | None, Health]]:
        for name, seat in self.seats.items():
            yield name, None, seat.feed.health

    def _network_healths(self) -> Iterator[tuple[str | None, str | None, Health]]:
        for name, network in self.networks.items():
            yield None, name, network.health
            for camera, lane in network.lanes.items():
                yield camera, name, lane.health

    def __enter__(self) -> Rig:
        self._rest.__enter__()
        self._start_s = self._tick_s = time.monotonic()
        for seat in self.seats.values():
            seat.feed.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:  # everything is closed, also where closing one thing raises
            stack.push(self._rest.__exit__)
            for network in self.networks.values():
                stack.callback(network.close)
            if self._ladder is not None:
                stack.callback(self._ladder.close)
            for seat in self.seats.values():
                stack.callback(seat.feed.capture.stop)
            stack.callback(self._tell)  # first: what came with the last round, or ended the loop

    def __iter__(self) -> Iterator[Round]:
        """Rounds until every source ends or max_frames have results. Raises CameraError or EngineError."""
        while self._wanted():
            self.turned_ns = time.monotonic_ns()
            t0 = time.perf_counter()
            first_s = self._gather()
            t1 = time.perf_counter()
            taken = self._take()
            if not taken:
                if self._over():
                    self._tick()
                    return
                self._check_silence()
                self._tick()
                continue
            self.ledger.add("wait", (first_s - t0) * 1e3)
            self.ledger.add("gather", (t1 - first_s) * 1e3)
            made = self._made(taken)
            self._observe(made)
            try:
                yield made
            finally:  # the last one too, where the receiver leaves early
                self.ledger.add("total", (time.perf_counter() - t1) * 1e3)
            del taken, made  # the buffers go back to the cameras' pools while we wait
            self._check_silence()
            self._tick()

    def _gather(self) -> float:
        """Wait for a first frame, or a while; then for those that are due soon. When the first was there."""
        seats = [s for s in self.seats.values() if not s.ended]
        with self._changed:
            found = self._changed.wait_for(lambda: any(s.ready() for s in seats), WAIT_S if seats else 0)
            first_s = time.perf_counter()
            until_s = time.monotonic() + self.gather_ms / 1e3
            while found and any(s.awaited(until_s) for s in seats if self.keeps(s.name)):
                left_s = until_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
        return first_s

    def _take(self) -> list[tuple[Seat, Taken]]:
        """The newest frame of every camera that has one, the oldest first; no more than are wanted."""
        taken: list[tuple[Seat, Taken]] = []
        wanted = self._wanted()
        for seat in self.seats.values():
            if len(taken) == wanted:
                break
            if not seat.ready() or (one := seat.take()) is None:
                continue
            for network in self.networks.values():
                network.lanes[seat.name].offered(one)
            taken.append((seat, one))
        return sorted(self._kept(taken), key=lambda pair: pair[1].frame.t_capture_ns)

    def _wanted(self) -> int:
        """How many frames may still be run, at most one of each camera."""
        if self._max_frames is None:
            return len(self.seats)
        return min(len(self.seats), self._max_frames - sum(seat.processed for seat in self.seats.values()))

    def keeps(self, camera: str) -> bool:
        """Whether this camera is used now: the ladder may leave it out."""
        return self._ladder is None or self._ladder.keeps(camera)

    def _kept(self, taken: list[tuple[Seat, Taken]]) -> list[tuple[Seat, Taken]]:
        """Those that the ladder does not leave out; the others count as dropped."""
        if self._ladder is None or not taken:
            return taken
        kept = [pair for pair in taken if self.keeps(pair[0].name)]
        if kept and not self._ladder.takes():
            kept = []
        for seat, _ in taken:
            if not any(seat is other for other, _ in kept):
                for network in self.networks.values():
                    network.lanes[seat.name].passed_over()
        return kept

    def _made(self, taken: list[tuple[Seat, Taken]]) -> Round:
        """Every frame through every bundle; results are published together, when the last is there."""
        raw: dict[str, dict[str, Result]] = {}
        failures: dict[str, dict[str, str]] = {}
        if self._ladder is not None:
            self._ladder.exchange(self.networks)
        for seat, one in taken:
            raw[seat.name], failures[seat.name] = {}, {}
            for name, network in self.networks.items():
                made = network.run(seat.name, one, live=seat.feed.live, when_read=seat.feed.capture.read_on)
                if isinstance(made, EngineError):
                    failures[seat.name][name] = made.message
                else:
                    raw[seat.name][name] = made
            seat.letterboxes.forget()
        self._check_networks()
        now_ns = time.monotonic_ns()
        for seat, _ in taken:
            state = worst((self.health.state, seat.feed.health.state))
            for name, result in raw[seat.name].items():
                raw[seat.name][name] = self.networks[name].lanes[seat.name].finish(result, now_ns, state)
            seat.used(results=bool(raw[seat.name]))
        skew_ms = (taken[-1][1].frame.t_capture_ns - taken[0][1].frame.t_capture_ns) / 1e6
        if len(taken) > 1:
            self.ledger.add("skew", skew_ms)
        number, self.rounds = self.rounds, self.rounds + 1
        return Round(
            number=number,
            frames={seat.name: one.frame for seat, one in taken},
            results=raw,
            failures=failures,
            absent={name: s.absent() for name, s in self.seats.items() if name not in raw},
            skew_ms=skew_ms,
        )

    def _observe(self, made: Round) -> None:
        ages = [r.age_ms for results in made.results.values() for r in results.values()]
        if self._ladder is not None and ages:
            self._ladder.observe(max(ages))

    def _over(self) -> bool:
        """Whether every camera that is used ended. Raises CameraError where all of them were lost."""
        seats = self._used()
        if not all(s.ended for s in seats):
            return False
        lost = [s.lost for s in seats if s.lost is not None]
        if lost and len(lost) == len(seats):
            raise lost[-1]
        return True

    def _used(self) -> list[Seat]:
        """Not those that the ladder leaves out: without the others there is no result that could bring them back."""
        return [seat for seat in self.seats.values() if self.keeps(seat.name)]

    def _check_silence(self) -> None:
        """Silent cameras are stalled. Raises CameraError where all that are left and used are, and for too long."""
        over: dict[str, CameraError] = {}
        for seat in self.seats.values():
            if not seat.ended and not seat.ready() and (lost := seat.feed.silent(gone_too=True)) is not None:
                over[seat.name] = lost
        left = [seat.name for seat in self._used() if not seat.ended]
        if left and all(name in over for name in left):
            raise over[left[-1]]

    def _check_networks(self) -> None:
        lost = [n.lost for n in self.networks.values() if n.lost is not None]
        if lost and len(lost) == len(self.networks):
            raise lost[-1]

    def _tell(self) -> None:
        for camera, bundle, health in self._healths:
            for event in health.tick():
                if self._on_event is not None:
                    self._on_event(RigEvent(camera, bundle, event))

    def _tick(self) -> None:
        self._tell()
        now_s = time.monotonic()
        if now_s - self._tick_s >= self._every_s:
            self._tick_s = now_s
            self._rest.sweep()
            if self._on_ledger is not None:
                self._on_ledger(self)

    def summary(self, *, interrupted: bool = False) -> RigSummary:
        """Counts and percentiles until now, in all, by camera and by bundle."""
        return summary(self, interrupted=interrupted)

    @property
    def seconds(self) -> float:
        """Since the rig was entered."""
        return time.monotonic() - self._start_s
