"""Snapshots in Prometheus' text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/: base units, seconds and bytes; a counter's name ends in
_total; quantiles are of the last minute, sum and count of the whole run.

Where several cameras or bundles run, what is of one lane has the labels camera and bundle. A camera's frames are then
counted once for each bundle: sum over one bundle, not over all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from edgetl_runtime.health import MEANS, State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.rig.snapshot import RigSnapshot
    from edgetl_runtime.snapshot import Snapshot, StageTimes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "summary"]
Labels = dict[str, str]
Sample = tuple[str, Labels, float]
"""What is added to the family's name, labels, value."""

_Lane = tuple[Labels, "Snapshot"]
"""The labels that all samples of a lane have, and what it says."""

_QUANTILES = {"0.5": "p50_ms", "0.95": "p95_ms", "0.99": "p99_ms", "0.999": "p999_ms", "1": "max_ms"}
_AGE = "age"


def exposition(snapshot: Snapshot) -> str:
    """All metrics of one moment of one loop; ends with a line feed."""
    return "".join(_families([({}, snapshot)], snapshot))


def rig_exposition(lanes: Mapping[LaneName, Snapshot], whole: RigSnapshot, wanted: Collection[LaneName]) -> str:
    """All metrics of one moment of a rig; wanted: the lanes whose results are waited for."""
    named: list[_Lane] = [({"camera": n.camera, "bundle": n.bundle}, s) for n, s in lanes.items()]
    is_wanted: list[Sample] = [("", {"camera": n.camera, "bundle": n.bundle}, int(n in wanted)) for n in lanes]
    rounds = [s for name, times in whole.stages.items() for s in _summary(times, {"stage": name})]
    own = [
        _family("wanted", "gauge", "0 for a camera that the ladder leaves out.", is_wanted),
        _family("rounds_total", "counter", "Rounds of frames that were run together.", _one(whole.rounds)),
        _family("round_seconds", "summary", "Duration of one part of a round; skew: between its captures.", rounds),
        _family(
            "gather_limit_seconds", "gauge", "How long a round waits for other cameras.", _one(whole.gather_ms / 1e3)
        ),
    ]
    return "".join([*_families(named, whole), *own])


def _families(lanes: Sequence[_Lane], whole: Snapshot | RigSnapshot) -> list[str]:
    def each(name: str, kind: Kind, text: str, samples: Callable[[Snapshot], Iterable[Sample]]) -> str:
        all_samples = [(suffix, of | labels | of, v) for of, s in lanes for suffix, labels, v in samples(s)]
        return _family(name, kind, text, all_samples)

    def one(name: str, kind: Kind, text: str, value: Callable[[Snapshot], float | None]) -> str:
        return each(name, kind, text, lambda s: _one(value(s)))

    return [
        one("frames_captured_total", "counter", "Frames that the camera gave.", lambda s: s.captured),
        one("frames_processed_total", "counter", "Frames that became results.", lambda s: s.processed),
        one(
            "frames_dropped_total",
            "counter",
            "Frames replaced by newer ones before they were processed.",
            lambda s: s.dropped,
        ),
        one("frames_failed_total", "counter", "Frames that could not be read or decoded.", lambda s: s.failed),
        one("frames_lost_total", "counter", "Frames that the camera skipped, by its own numbers.", lambda s: s.lost),
        each("results_total", "counter", "Results by their state at publish.", lambda s: _by("state", s.states)),
        each("stage_seconds", "summary", "Duration of one stage of a frame.", lambda s: _stages(s.stages)),
        each("age_seconds", "summary", "Age of results at publish, from capture.", _age),
        one(
            "since_capture_seconds",
            "gauge",
            "Time since the newest result's frame was captured.",
            lambda s: s.since_capture_s,
        ),
        one(
            "since_publish_seconds", "gauge", "Time since the newest result was published.", lambda s: s.since_publish_s
        ),
        _family("loop_silent_seconds", "gauge", "Time since the loop last began a turn.", _one(whole.silent_s)),
        each("state", "gauge", "1 for the state that the whole is in, 0 for the others.", _state),
        each("condition", "gauge", "1 while the condition holds.", _conditions),
        each("conditions_begun_total", "counter", "How often each condition began.", _begun),
        _family("resident_memory_bytes", "gauge", "Resident memory of the process.", _one(whole.rss_mb * 1e6)),
        _family("uptime_seconds", "gauge", "Time since the run began.", _one(whole.uptime_s)),
        each("info", "gauge", "What runs; always 1.", lambda s: [("", _info(s), 1)]),
    ]


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [("", {}, value)]


def _age(s: Snapshot) -> list[Sample]:
    return _summary(s.stages.get(_AGE), {})


def _family(name: str, kind: Kind, text: str, samples: Iterable[Sample]) -> str:
    """HELP, TYPE and the samples; nothing at all where there is no sample."""
    lines = [f"edgetl_{name}{suffix}{_labels(labels)} {_value(value)}\n" for suffix, labels, value in samples]
    if not lines:
        return ""
    help_text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return "".join([f"# HELP edgetl_{name} {help_text}\n# TYPE edgetl_{name} {kind}\n", *lines])


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(round(value, 9))


def _by(label: str, counts: dict[str, int]) -> list[Sample]:
    return [("", {label: key}, count) for key, count in counts.items()]


def _stages(stages: dict[str, StageTimes]) -> list[Sample]:
    return [s for name, times in stages.items() if name != _AGE for s in _summary(times, {"stage": name})]


def _summary(times: StageTimes | None, labels: Labels) -> list[Sample]:
    """Quantiles are NaN where the last minute saw nothing, as Prometheus' own clients have it."""
    if times is None:
        return []
    recent = times.long
    samples: list[Sample] = [
        ("", labels | {"quantile": q}, recent[key] / 1e3 if recent["count"] else math.nan)
        for q, key in _QUANTILES.items()
    ]
    return [*samples, ("_sum", labels, times.sum_ms / 1e3), ("_count", labels, times.run["count"])]


def _state(s: Snapshot) -> list[Sample]:
    return [("", {"state": state}, int(state == s.status.state)) for state in get_args(State)]


def _conditions(s: Snapshot) -> list[Sample]:
    return [("", {"condition": c}, int(c in s.status.conditions)) for c in MEANS]


def _begun(s: Snapshot) -> list[Sample]:
    return [("", {"condition": c}, s.status.counts.get(c, 0)) for c in MEANS]


def _info(s: Snapshot) -> Labels:
    return {"bundle": s.bundle, "engine": s.engine, "precision": s.precision, "camera": s.camera_id}
