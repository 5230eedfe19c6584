"""Prometheus' text format, read back by a strict parser."""

from __future__ import annotations

import math
import re
import time

import numpy as np
import pytest
from runtime_support import snapshot_of

from edgetl_runtime.health import MEANS, Health
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.metrics import exposition, rig_exposition
from edgetl_runtime.result import Detections, Result
from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.rig.snapshot import RigSnapshot
from edgetl_runtime.snapshot import stage_times

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)", re.ASCII)
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)', re.ASCII)
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Key = tuple[str, frozenset[tuple[str, str]]]


def parse(text: str) -> tuple[dict[str, str], dict[Key, float]]:
    """Types by family, values by name and labels; an AssertionError for whatever the format does not allow."""
    assert text.endswith("\n")
    types: dict[str, str] = {}
    values: dict[Key, float] = {}
    helped: set[str] = set()
    family = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, words = line[7:].split(" ", 1)
            assert NAME.fullmatch(name) and name not in helped and words
            helped.add(name)
            continue
        if line.startswith("# TYPE "):
            family, kind = line[7:].split(" ")
            assert family in helped and family not in types and kind in {"counter", "gauge", "summary"}
            assert (kind == "counter") == family.endswith("_total")
            types[family] = kind
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, inside, value = match[1], match[2] or "", float(match[3])
        labels: dict[str, str] = {}
        at = 0
        while at < len(inside):
            found = LABEL.match(inside, at)
            assert found and found[1] not in labels, line
            labels[found[1]] = re.sub(r"\\.", lambda m: ESCAPES[m[0]], found[2])
            at = found.end()
        allowed = {family, f"{family}_sum", f"{family}_count"} if types[family] == "summary" else {family}
        assert name in allowed, f"{line} stands among the samples of {family}"
        assert ("quantile" in labels) == (types[family] == "summary" and name == family)
        key = (name, frozenset(labels.items()))
        assert key not in values, f"{line} is there twice"
        values[key] = value
    return types, values


def key(name: str, **labels: str) -> Key:
    return f"edgetl_{name}", frozenset(labels.items())


@pytest.mark.parametrize(
    "text",
    [
        "edgetl_x 1\n",
        "# HELP a_total b\n# TYPE a_total gauge\na_total 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\na 2\n",
        '# HELP a b\n# TYPE a gauge\na{b="c"d"} 1\n',
        "# HELP a b\n# TYPE a gauge\nb 1\n",
        "# HELP a b\n# TYPE a gauge\na 1",
    ],
)
def test_the_parser_is_strict(text: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        parse(text)


def test_a_loop_that_did_nothing() -> None:
    types, values = parse(exposition(snapshot_of()))
    assert values[key("frames_captured_total")] == 0
    assert values[key("state", state="ok")] == 1
    assert "edgetl_stage_seconds" not in types and "edgetl_since_capture_seconds" not in types
    assert values[key("info", bundle="tiny", engine="onnxruntime", precision="fp32", camera="cam")] == 1
    assert values[key("resident_memory_bytes")] == 100e6


def test_counters_states_and_age() -> None:
    t_ns = time.monotonic_ns()
    found = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    newest = Result(6, "cam", t_ns - 300_000_000, t_ns - 250_000_000, {"detect": found}, (8, 8))
    s = snapshot_of(
        t_ns=t_ns,
        turned_ns=t_ns - 5_000_000,
        captured=10,
        processed=7,
        dropped=3,
        failed=2,
        lost=4,
        states={"fresh": 6, "late": 1},
        newest=newest,
    )
    _, values = parse(exposition(s))
    counts = [values[key(f"frames_{n}_total")] for n in ("captured", "processed", "dropped", "failed", "lost")]
    assert counts == [10, 7, 3, 2, 4]
    assert (values[key("results_total", state="fresh")], values[key("results_total", state="late")]) == (6, 1)
    assert values[key("since_capture_seconds")] == pytest.approx(0.3)
    assert values[key("since_publish_seconds")] == pytest.approx(0.25)
    assert values[key("loop_silent_seconds")] == pytest.approx(0.005)
    assert values[key("uptime_seconds")] == 12


def test_stages_are_summaries_in_seconds_and_age_is_its_own() -> None:
    ledger = Ledger()
    for ms in range(1, 101):
        ledger.add("infer", float(ms))
        ledger.add("age", 2.0 * ms)
    types, values = parse(exposition(snapshot_of(ledger=ledger)))
    assert types["edgetl_stage_seconds"] == types["edgetl_age_seconds"] == "summary"
    assert values[key("stage_seconds", stage="infer", quantile="0.5")] == pytest.approx(0.05, rel=0.011)
    assert values[key("stage_seconds", stage="infer", quantile="1")] == 0.1
    assert values[key("stage_seconds_sum", stage="infer")] == pytest.approx(5.05)
    assert values[key("stage_seconds_count", stage="infer")] == 100
    assert values[key("age_seconds", quantile="0.99")] == pytest.approx(0.198, rel=0.011)
    assert not any(("stage", "age") in labels for _, labels in values)


def test_a_quiet_minute_gives_nan_and_keeps_the_counts() -> None:
    now = [100.0]
    ledger = Ledger(clock=lambda: now[0])
    ledger.add("infer", 3.0)
    now[0] += 200
    _, values = parse(exposition(snapshot_of(ledger=ledger)))
    assert math.isnan(values[key("stage_seconds", stage="infer", quantile="0.5")])
    assert values[key("stage_seconds_count", stage="infer")] == 1


def test_one_state_holds_and_every_condition_is_there() -> None:
    health = Health("cam")
    health.set("dark", "covered")
    health.flash("duplicate", "again")
    health.flash("duplicate", "again")
    _, values = parse(exposition(snapshot_of(health=health)))
    states = {s: values[key("state", state=s)] for s in ("ok", "degraded", "stale", "fault")}
    assert states == {"ok": 0, "degraded": 1, "stale": 0, "fault": 0}
    holding = {c for c in MEANS if values[key("condition", condition=c)] == 1}
    assert holding == {"dark", "duplicate"}
    assert values[key("conditions_begun_total", condition="duplicate")] == 2
    assert values[key("conditions_begun_total", condition="frozen")] == 0


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "two\nlines", "größe, {x}=1"])
def test_labels_are_escaped(name: str) -> None:
    _, values = parse(exposition(snapshot_of(bundle=name)))
    assert values[key("info", bundle=name, engine="onnxruntime", precision="fp32", camera="cam")] == 1


def test_a_rig_names_camera_and_bundle_and_tells_its_own_once() -> None:
    ledger, rounds, health = Ledger(), Ledger(("skew", "total")), Health("left")
    ledger.add("infer", 3.0)
    rounds.add("skew", 5.0)
    health.set("dark", "covered")
    lanes = {
        LaneName("left", "road"): snapshot_of(captured=9, states={"fresh": 4}, health=health, ledger=ledger),
        LaneName("right", 'a "sign"'): snapshot_of(captured=7, states={"fresh": 5, "late": 1}),
    }
    t_ns = time.monotonic_ns()
    whole = RigSnapshot(t_ns, 1.7e9, 12.0, t_ns, 33, 50.0, health.status(), stage_times(rounds), 100.0)
    types, values = parse(rig_exposition(lanes, whole, [LaneName("left", "road")]))
    left, right = {"camera": "left", "bundle": "road"}, {"camera": "right", "bundle": 'a "sign"'}
    assert (values[key("frames_captured_total", **left)], values[key("frames_captured_total", **right)]) == (9, 7)
    assert values[key("results_total", **right, state="late")] == 1
    assert (
        values[key("condition", **left, condition="dark")],
        values[key("condition", **right, condition="dark")],
    ) == (
        1,
        0,
    )
    assert values[key("stage_seconds_count", **left, stage="infer")] == 1
    assert (values[key("wanted", **left)], values[key("wanted", **right)]) == (1, 0)
    assert values[key("rounds_total")] == 33 and values[key("gather_limit_seconds")] == 0.05
    assert values[key("round_seconds_sum", stage="skew")] == 0.005 and types["edgetl_round_seconds"] == "summary"
    for name, value in (("resident_memory_bytes", 100e6), ("uptime_seconds", 12), ("loop_silent_seconds", 0)):
        assert values[key(name)] == value and sum(found == f"edgetl_{name}" for found, _ in values) == 1
    of_one, _ = parse(exposition(snapshot_of(ledger=ledger)))
    assert set(of_one) - {"edgetl_age_seconds"} <= set(types), "the names are those of one loop"
