"""An engine loaded again in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_support import until

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.errors import EngineError
from edgetl_runtime.rig.loading import BackgroundLoad


def wait_for(load: BackgroundLoad) -> Engine | None:
    until(lambda: load._thread is None or not load._thread.is_alive())
    return load.take()


def again(load: BackgroundLoad) -> str:
    with pytest.raises(EngineError) as caught:
        load()
    return caught.value.message


def test_it_is_there_when_it_is_there(shared_bundle: Path) -> None:
    bundle, may, calls = open_bundle(shared_bundle), threading.Event(), list[int]()

    def make() -> Engine:
        calls.append(1)
        may.wait(10)
        return load_bundle_engine(bundle)

    load = BackgroundLoad("b", make)
    assert load.take() is None
    assert again(load) == again(load) == "that is still under way"
    assert load.take() is None
    may.set()
    engine = wait_for(load)
    assert engine is not None and engine.name == "onnxruntime" and calls == [1]
    assert load.take() is None, "once"
    engine.close()


@pytest.mark.parametrize("where", ["load", "first run"])
def test_a_failure_is_told_at_the_next_try(shared_bundle: Path, where: str) -> None:
    engines: list[Broken] = []

    def make() -> Any:
        if where == "load":
            raise EngineError("the file is gone")
        engines.append(Broken(load_bundle_engine(open_bundle(shared_bundle))))
        return engines[-1]

    load = BackgroundLoad("b", make)
    assert again(load) == "that is still under way"
    assert wait_for(load) is None
    assert again(load) == "the file is gone"
    load.close()
    assert all(e.closed for e in engines) and len(engines) == (2 if where == "first run" else 0)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_not_wanted_any_more_is_let_go(shared_bundle: Path, fails: bool) -> None:
    engines: list[Broken] = []

    def make() -> Any:
        engines.append(Broken(load_bundle_engine(open_bundle(shared_bundle)), broken=fails))
        return engines[-1]

    load = BackgroundLoad("b", make)
    load.drop()
    again(load)
    load.drop()
    assert wait_for(load) is None and [e.closed for e in engines] == [True]
    assert again(load) == "that is still under way", "why it failed is of no interest"
    assert (wait_for(load) is None) is fails
    load.close()


def test_an_error_that_nobody_expects_is_told_too() -> None:
    def make() -> Any:
        raise MemoryError

    load = BackgroundLoad("b", make)
    again(load)
    assert wait_for(load) is None and again(load) == "MemoryError"
    load.close()


def test_closing_lets_go_of_what_was_loaded(shared_bundle: Path) -> None:
    engines: list[Broken] = []

    def make() -> Any:
        time.sleep(0.1)
        engines.append(Broken(load_bundle_engine(open_bundle(shared_bundle)), broken=False))
        return engines[-1]

    load = BackgroundLoad("b", make)
    again(load)
    load.close()
    assert [e.closed for e in engines] == [True]
    load.close()


class Broken:
    """An engine that fails in its first run, unless it is none of the broken ones."""

    def __init__(self, inner: Engine, *, broken: bool = True) -> None:
        self._inner, self.inputs, self.closed = inner, inner.inputs, False
        self.infer: Callable[[Any], Any] = self._fail if broken else inner.infer

    def _fail(self, inputs: object) -> Any:
        raise EngineError("the file is gone")

    def close(self) -> None:
        self.closed = True
        self._inner.close()
