"""A snapshot in Prometheus' text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/: base units, seconds and bytes; a counter's name ends in
_total; quantiles are of the last minute, sum and count of the whole run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from edgetl_runtime.health import MEANS, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgetl_runtime.snapshot import Snapshot, StageTimes

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "summary"]
Labels = dict[str, str]
Sample = tuple[str, Labels, float]
"""What is added to the family's name, labels, value."""

_QUANTILES = {"0.5": "p50_ms", "0.95": "p95_ms", "0.99": "p99_ms", "0.999": "p999_ms", "1": "max_ms"}
_AGE = "age"


def exposition(snapshot: Snapshot) -> str:
    """All metrics of one moment; ends with a line feed."""
    s = snapshot
    families = [
        _one("frames_captured_total", "counter", "Frames that the camera gave.", s.captured),
        _one("frames_processed_total", "counter", "Frames that became results.", s.processed),
        _one("frames_dropped_total", "counter", "Frames replaced by newer ones before they were processed.", s.dropped),
        _one("frames_failed_total", "counter", "Frames that could not be read or decoded.", s.failed),
        _one("frames_lost_total", "counter", "Frames that the camera skipped, by its own numbers.", s.lost),
        _family("results_total", "counter", "Results by their state at publish.", _by("state", s.states)),
        _family("stage_seconds", "summary", "Duration of one stage of a frame.", _stages(s.stages)),
        _family("age_seconds", "summary", "Age of results at publish, from capture.", _summary(s.stages.get(_AGE), {})),
        _one("since_capture_seconds", "gauge", "Time since the newest result's frame was captured.", s.since_capture_s),
        _one("since_publish_seconds", "gauge", "Time since the newest result was published.", s.since_publish_s),
        _one("loop_silent_seconds", "gauge", "Time since the loop last began a turn.", s.silent_s),
        _family("state", "gauge", "1 for the state that the whole is in, 0 for the others.", _state(s)),
        _family("condition", "gauge", "1 while the condition holds.", _conditions(s)),
        _family("conditions_begun_total", "counter", "How often each condition began.", _begun(s)),
        _one("resident_memory_bytes", "gauge", "Resident memory of the process.", s.rss_mb * 1e6),
        _one("uptime_seconds", "gauge", "Time since the run began.", s.uptime_s),
        _family("info", "gauge", "What runs; always 1.", [("", _info(s), 1)]),
    ]
    return "".join(families)


def _one(name: str, kind: Kind, text: str, value: float | None) -> str:
    return _family(name, kind, text, [] if value is None else [("", {}, value)])


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
