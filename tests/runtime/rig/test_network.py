"""One bundle's engine: loaded again after failures, exchanged by a ladder, and never the wrong one of both."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from runtime_support import scene, until

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.capture import Taken
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.errors import EngineError
from edgetl_runtime.pipeline import NotFinite
from edgetl_runtime.repair import RELOAD_AFTER, Patience
from edgetl_runtime.result import Frame, Result
from edgetl_runtime.rig.network import Network
from edgetl_runtime.rig.sharing import Letterboxes


class Named:
    """The bundle's engine under a name of its own; fails while `broken`."""

    def __init__(self, folder: Path, name: str, *, broken: bool = False) -> None:
        self._inner = load_bundle_engine(open_bundle(folder), threads=1)
        self.name, self.precision = name, self._inner.precision
        self.inputs, self.outputs = self._inner.inputs, self._inner.outputs
        self.broken, self.closed = broken, False

    def infer(self, inputs: Any) -> Any:
        if self.broken:
            raise EngineError(f"{self.name} is broken")
        return self._inner.infer(inputs)

    def close(self) -> None:
        self.closed = True
        self._inner.close()


@dataclass
class Bench:
    """A network of one camera whose engine broke, and which is being loaded again until `may` is set."""

    folder: Path
    may: threading.Event = field(default_factory=threading.Event)
    made: list[Named] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = Named(self.folder, "first")
        self.network = Network(
            "b",
            open_bundle(self.folder),
            first,
            {"cam": Letterboxes()},
            patience=Patience(give_up_s=0),
            reload=self._load,
        )
        first.broken = True
        for _ in range(RELOAD_AFTER):
            assert isinstance(self.run(), EngineError)

    def _load(self) -> Engine:
        assert self.may.wait(10)
        self.made.append(Named(self.folder, "again"))
        return self.made[-1]

    def run(self) -> Result | EngineError:
        """One frame."""
        return self.network.run("cam", Taken(Frame(scene(90, 160), 0, "cam", time.monotonic_ns()), 0), live=True)

    def finish(self) -> None:
        """Whatever is being loaded is there."""
        self.may.set()
        thread = self.network._load._thread if self.network._load is not None else None
        assert thread is not None
        thread.join(10)


@pytest.fixture
def bench(shared_bundle: Path) -> Any:
    bench = Bench(shared_bundle)
    yield bench
    bench.may.set()
    bench.network.close()


def test_what_was_loaded_again_is_used(bench: Bench) -> None:
    bench.finish()
    assert isinstance(bench.run(), Result)
    assert bench.network.engine.name == "again" and bench.network.reloads == 1


def test_a_load_that_an_exchange_overtook_is_let_go(bench: Bench, shared_bundle: Path) -> None:
    """The ladder's step came while the engine before it was being loaded again."""
    bench.network.exchange(Named(shared_bundle, "step"))
    bench.finish()
    assert isinstance(bench.run(), Result)
    assert bench.network.engine.name == "step" and bench.network.reloads == 0
    assert [engine.closed for engine in bench.made] == [True]


def test_an_engine_that_breaks_after_such_a_load_is_loaded_again(bench: Bench, shared_bundle: Path) -> None:
    step = Named(shared_bundle, "step")
    bench.network.exchange(step)
    bench.finish()
    step.broken = True
    until(lambda: isinstance(bench.run(), Result))
    assert bench.network.engine.name == "again" and [engine.closed for engine in bench.made] == [True, False]
    assert bench.network.reloads == 1


def test_an_exchange_that_fails_leaves_the_load_under_way(bench: Bench, shared_bundle: Path) -> None:
    sick = Named(shared_bundle, "sick", broken=True)
    with pytest.raises(EngineError, match="sick is broken"):
        bench.network.exchange(sick)
    sick.close()
    bench.finish()
    assert isinstance(bench.run(), Result) and bench.network.engine.name == "again"


def test_what_was_loaded_and_then_does_not_run_is_let_go(bench: Bench) -> None:
    bench.finish()
    bench.made[0].broken = True
    assert isinstance(bench.run(), EngineError) and bench.network.reloads == 0
    assert bench.made[0].closed and bench.network.engine.name == "first"


@pytest.mark.parametrize(("error", "condition"), [(NotFinite, "not_finite"), (EngineError, "engine")])
def test_a_result_ends_what_a_failure_began(shared_bundle: Path, error: type[EngineError], condition: str) -> None:
    class Fails(Named):
        def infer(self, inputs: Any) -> Any:
            if self.broken:
                raise error("no number")
            return super().infer(inputs)

    engine = Fails(shared_bundle, "once")
    network = Network("b", open_bundle(shared_bundle), engine, {"cam": Letterboxes()}, patience=Patience())
    frames = [Taken(Frame(scene(90, 160), i, "cam", time.monotonic_ns()), 0) for i in range(2)]
    engine.broken = True
    assert isinstance(network.run("cam", frames[0], live=True), EngineError)
    lane = network.lanes["cam"]
    assert list(lane.health.status().conditions) == list(network.health.status().conditions) == [condition]
    engine.broken = False
    assert isinstance(network.run("cam", frames[1], live=True), Result)
    assert lane.health.state == network.health.state == "ok"
    network.close()
