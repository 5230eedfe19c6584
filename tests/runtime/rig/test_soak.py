"""Thousands of rounds with faults of every kind: counts add up, ids rise, and nothing grows."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from rig_support import RateCamera, adds_up, rig_of

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras import keep_open
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.health import Health
from edgetl_runtime.inject import Injector, parse_faults
from edgetl_runtime.repair import Patience

PLAN = (
    "stall=1.2@300/2000,duplicate@100/700,disorder@150/900,clock=5@400/600,resize=3@500/800,freeze=100@900/2500,"
    "disconnect=0.1@1400/2500"
)


def handles() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208


@pytest.mark.slow
def test_thousands_of_rounds(shared_bundle: Path, shared_many: Path) -> None:
    cameras_at, engines_at = Injector(parse_faults(PLAN)), Injector(parse_faults("nan@200/700,engine=4@500/1500"))
    bundle, health = open_bundle(shared_many), Health()

    def load() -> Engine:
        return engines_at.engine(load_bundle_engine(bundle, threads=1))

    odd = keep_open(lambda stop: RateCamera(300), give_up_s=10.0, health=health, wrap=cameras_at.camera)
    cameras = {"steady": RateCamera(250), "odd": odd, "slow": RateCamera(20), "dead": RateCamera(30, stuck_at=3)}
    patience = Patience(stall_s=0.8, give_up_s=0.0, frozen_s=0.2)
    options: dict[str, Any] = {"health": {"odd": health}, "patience": patience, "every_s": 1.0}
    last: dict[tuple[str, str], tuple[int, int]] = {}
    samples = []
    bundles = {"good": shared_bundle, "faulty": shared_many}
    with rig_of(bundles, cameras, load={"faulty": load}, deadline_ms=100.0, **options) as rig:
        for made in itertools.islice(rig, 4000):
            assert made.results and set(made.results) | set(made.absent) == set(cameras)
            for camera, results in made.results.items():
                for name, result in results.items():
                    now = (result.frame_id, result.t_capture_ns)
                    assert now[0] > last.get((camera, name), (-1, -1))[0], (camera, name, now)
                    assert result.age_ms >= 0 and (result.state == "late") == (result.age_ms > 100.0)
                    last[camera, name] = now
            if made.number % 100 == 0:
                samples.append(handles())
    document: Any = rig.summary().as_json()
    assert document["rounds"] == 4000 and adds_up(document)
    assert all(times > 0 for times in (*cameras_at.injected.values(), *engines_at.injected.values()))
    counts = document["cameras"]["odd"]["health"]["counts"]
    assert {"stalled", "duplicate", "disordered", "clock", "resized", "frozen", "disconnected"} <= set(counts)
    steady = document["cameras"]["steady"]
    assert steady["health"]["counts"] == {}
    # A busy machine has fewer rounds than this camera has frames; then it is in nearly all of them.
    assert steady["processed"] >= 0.6 * min(steady["captured"], document["rounds"]), steady
    assert document["bundles"]["faulty"]["reloads"] >= 2 and document["bundles"]["good"]["failed"] == 0
    # A load that happens to run and a camera's own thread come and go; what leaks would only rise.
    early, late = samples[3:13], samples[-10:]
    assert min(late) <= max(early) and min(late)[0] <= max(e[0] for e in early), (early, late)
    assert min(s[1] for s in late) <= min(s[1] for s in early), (early, late)
