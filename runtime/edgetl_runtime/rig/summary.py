"""What a rig's run did: in all, by camera and by bundle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgetl_runtime.golden import SKIPPED
from edgetl_runtime.health import together
from edgetl_runtime.ledger import merged
from edgetl_runtime.session import Summary, rss_mb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgetl_runtime.health import Health
    from edgetl_runtime.rig.lane import Lane
    from edgetl_runtime.rig.network import Network
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.seat import Seat


@dataclass(frozen=True, slots=True)
class RigSummary:
    """What a run of several cameras and bundles did.

    total: frames of all cameras added up, captured = processed + dropped + failed; its states count results, of which a
    frame has one for each bundle. cameras, bundles: the same counts by name; within a camera also by bundle, where
    every frame that came in was processed, dropped or failed by each. rounds: how many. skew_ms: percentiles of the
    time between the captures of a round's oldest and newest frame, over rounds of several frames.
    """

    total: Summary
    rounds: int
    gather_ms: float
    skew_ms: dict[str, float]
    cameras: dict[str, dict[str, object]]
    bundles: dict[str, dict[str, object]]

    def as_json(self) -> dict[str, object]:
        """Plain values: a Summary's keys, and beside them rounds, gather_ms, skew_ms, cameras and bundles."""
        names = ("rounds", "gather_ms", "skew_ms", "cameras", "bundles")
        return self.total.as_json() | {name: getattr(self, name) for name in names}


def summary(rig: Rig, *, interrupted: bool = False) -> RigSummary:
    """Counts and percentiles of this rig until now."""
    rounds = rig.ledger.snapshot()
    seconds = round(rig.seconds, 3)
    return RigSummary(
        total=_total(rig, rounds, seconds, interrupted=interrupted),
        rounds=rig.rounds,
        gather_ms=round(rig.gather_ms, 3),
        skew_ms=rounds.get("skew", {}),
        cameras={name: _camera(rig, seat, seconds) for name, seat in rig.seats.items()},
        bundles={name: _bundle(rig, network) for name, network in rig.networks.items()},
    )


def _total(rig: Rig, rounds: dict[str, dict[str, float]], seconds: float, *, interrupted: bool) -> Summary:
    seats, networks = list(rig.seats.values()), list(rig.networks.values())
    lanes = [lane for network in networks for lane in network.lanes.values()]
    stages = rounds | merged(lane.ledger for lane in lanes)
    return Summary(
        captured=sum(s.feed.captured for s in seats),
        processed=sum(s.processed for s in seats),
        dropped=sum(s.dropped for s in seats),
        failed=sum(s.failed for s in seats),
        stages=stages,
        age_ms=stages.get("age", {}),
        rss_mb=rss_mb(),
        states=_states(lanes),
        lost=sum(s.feed.capture.lost for s in seats),
        health=together(named_healths(rig)).as_json(),
        seconds=seconds,
        engine=", ".join(dict.fromkeys(n.engine.name for n in networks)),
        precision=", ".join(dict.fromkeys(n.engine.precision for n in networks)),
        interrupted=interrupted,
        notes=_notes(seats, networks),
        golden=_golden(networks),
    )


def _camera(rig: Rig, seat: Seat, seconds: float) -> dict[str, object]:
    lanes = {name: network.lanes[seat.name] for name, network in rig.networks.items()}
    age = merged(lane.ledger for lane in lanes.values()).get("age", {})
    return {
        "captured": seat.feed.captured,
        "processed": seat.processed,
        "dropped": seat.dropped,
        "failed": seat.failed,
        "lost": seat.feed.capture.lost,
        "per_s": round(seat.processed / seconds, 2) if seconds else 0.0,
        "states": _states(lanes.values()),
        "age_ms": age,
        "health": seat.feed.health.status().as_json(),
        "notes": list(seat.feed.camera.notes),
        "bundles": {name: _lane(seat, lane) for name, lane in lanes.items()},
    }


def _lane(seat: Seat, lane: Lane) -> dict[str, object]:
    return {
        "processed": lane.processed,
        "dropped": seat.feed.capture.dropped + lane.dropped,
        "failed": seat.feed.camera.failed + lane.failed,
        "states": dict(lane.states),
        "health": lane.health.status().as_json(),
    }


def _bundle(rig: Rig, network: Network) -> dict[str, object]:
    lanes, seats = network.lanes.values(), rig.seats.values()
    return {
        "captured": sum(s.feed.captured for s in seats),
        "processed": sum(lane.processed for lane in lanes),
        "dropped": sum(s.feed.capture.dropped for s in seats) + sum(lane.dropped for lane in lanes),
        "failed": sum(s.feed.camera.failed for s in seats) + sum(lane.failed for lane in lanes),
        "states": _states(lanes),
        "stages": merged(lane.ledger for lane in lanes),
        "engine": network.engine.name,
        "precision": network.engine.precision,
        "reloads": network.reloads,
        "lost": network.lost.message if network.lost is not None else None,
        "golden": network.golden.as_json() if network.golden else {"frames": 0},
        "health": network.health.status().as_json(),
    }


def _states(lanes: Iterable[Lane]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for lane in lanes:
        found.update(lane.states)
    return dict(found)


def named_healths(rig: Rig) -> Iterable[tuple[str, Health]]:
    """Every health of the rig, with what it is of for people."""
    yield "all", rig.health
    for name, seat in rig.seats.items():
        yield name, seat.feed.health
    for name, network in rig.networks.items():
        yield name, network.health
        for camera, lane in network.lanes.items():
            yield f"{name} on {camera}", lane.health


def _notes(seats: Iterable[Seat], networks: Iterable[Network]) -> list[str]:
    notes = [f"{s.name}: {note}" for s in seats for note in s.feed.camera.notes]
    notes += [f"{s.name} was lost: {s.lost.message}" for s in seats if s.lost is not None]
    notes += [f"{n.name} was given up: {n.lost.message}" for n in networks if n.lost is not None]
    return notes + [f"{n.name}: {SKIPPED}" for n in networks if n.golden is None]


def _golden(networks: Iterable[Network]) -> dict[str, float]:
    """The worst of all replays; frames is 0 where one of them was skipped."""
    reports = [n.golden for n in networks]
    done = [report.as_json() for report in reports if report is not None]
    if not done or len(done) < len(reports):
        return {"frames": 0}
    most = {name: max(row[name] for row in done) for name in done[0]}
    return most | {name: sum(row[name] for row in done) for name in ("frames", "ms")}
