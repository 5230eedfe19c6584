"""What a session says of itself, while it runs and afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from runtime_support import FakeCamera, scene, snapshot_of

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.health import Event, Health
from edgetl_runtime.loop import Session, run
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.snapshot import Snapshot, Watcher


def session_of(folder: Path, camera: FakeCamera) -> Session:
    bundle = open_bundle(folder)
    return Session(camera, Pipeline(bundle, load_bundle_engine(bundle)))


def test_before_the_first_frame_there_is_no_result(shared_bundle: Path) -> None:
    with session_of(shared_bundle, FakeCamera([scene(90, 160)], live=False)) as session:
        s = session.snapshot()
        assert (s.newest, s.since_capture_s, s.since_publish_s, s.stages, s.processed) == (None, None, None, {}, 0)
        assert (s.bundle, s.engine, s.precision, s.camera_id) == ("tiny", "onnxruntime", "fp32", "fake")
        json.dumps(s.as_json(), allow_nan=False)


def test_while_it_runs(shared_bundle: Path) -> None:
    with session_of(shared_bundle, FakeCamera([scene(90, 160, i) for i in range(5)], live=False)) as session:
        frames = session.frames()
        next(frames)
        before_ns = session.turned_ns
        for frame, result in frames:
            s = session.snapshot()
            assert s.newest is result and s.processed == frame.frame_id + 1
            assert s.turned_ns > before_ns, "each turn beats"
            before_ns = s.turned_ns
            assert 0 <= s.silent_s < 5 and s.since_publish_s is not None and s.since_capture_s is not None
            assert s.since_capture_s >= s.since_publish_s >= 0
    s = session.snapshot()
    assert s.captured == s.processed == 5 and s.states == {"fresh": 5}
    assert set(s.stages) == {"wait", "letterbox", "infer", "decode", "total", "age"}
    infer = s.stages["infer"]
    assert infer.run["count"] == infer.long["count"] == infer.short["count"] == sum(infer.bars.counts) == 5
    assert infer.sum_ms == pytest.approx(session.ledger.histograms["infer"].sum_ms) and infer.sum_ms > 0
    assert abs(s.t_unix_s - time.time()) < 60 and s.rss_mb > 10


def test_a_watching_sink_is_handed_the_snapshots(shared_bundle: Path) -> None:
    class Watching:
        needs_picture = stop = False

        def __init__(self) -> None:
            self.source: object = None
            self.seen: list[Snapshot] = []

        def watch(self, source: object) -> None:
            self.source = source

        def write(self, *arguments: object) -> None:
            self.seen.append(self.source())  # type: ignore[operator]

        def event(self, event: Event) -> None: ...

        def close(self) -> None: ...

    sink = Watching()
    assert isinstance(sink, Watcher)
    run(open_bundle(shared_bundle), FakeCamera([scene(90, 160)] * 3, live=False), sinks=[sink])
    assert [s.processed for s in sink.seen] == [1, 2, 3]


def test_as_json_tells_distances_from_now() -> None:
    health = Health("cam")
    health.set("dark", "covered")
    health.set("engine", "no answer")
    t_ns = time.monotonic_ns() + 2_000_000_000
    document = snapshot_of(t_ns=t_ns, t_unix_s=1e9, turned_ns=t_ns - 10**9, health=health).as_json()
    assert document["silent_s"] == 1.0
    assert document["health"]["state"] == "fault" and document["health"]["for_s"] == pytest.approx(2.0, abs=0.2)
    assert document["health"]["conditions"][0] == {"condition": "dark", "state": "degraded", "detail": "covered"}
    newest, oldest = document["events"]
    assert (newest["condition"], newest["state"], oldest["condition"]) == ("engine", "fault", "dark")
    assert newest["time_unix_s"] == pytest.approx(1e9 - 2, abs=0.2) and newest["ago_s"] == pytest.approx(2, abs=0.2)
