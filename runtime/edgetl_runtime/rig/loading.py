"""An engine that is loaded again while everything else runs on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.errors import EdgetlError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.engines import Engine

_JOIN_S = 15.0


class BackgroundLoad:
    """What Repair calls to load an engine again: the loading is done in a thread, `take` gives what came of it.

    load: makes the engine; its first run, which is slow, is done in the thread too. Other threads than the loop's may
    not call this.
    """

    def __init__(self, name: str, load: Callable[[], Engine]) -> None:
        self._name, self._load = name, load
        self._thread: threading.Thread | None = None
        self._loaded: Engine | None = None
        self._failed = ""
        self._unwanted = False

    def __call__(self) -> Engine:
        """Begin to load. Always raises EngineError: that it is under way, or why the last try failed."""
        failed = self._failed
        if self._thread is None:
            self._failed = ""
            self._thread = threading.Thread(target=self._work, name=f"load {self._name}", daemon=True)
            self._thread.start()
        raise EngineError(failed or "that is still under way")

    def take(self) -> Engine | None:
        """The engine that was loaded, once; None while there is none."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        engine, self._loaded = self._loaded, None
        if self._unwanted:
            self._unwanted, self._failed = False, ""
            if engine is not None:
                engine.close()
            return None
        return engine

    def drop(self) -> None:
        """What is being loaded, or is loaded and not yet taken, is not wanted any more."""
        self._unwanted = self._thread is not None

    def close(self) -> None:
        """Wait for an engine that is being loaded, and let go of it."""
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            if (engine := self.take()) is not None:
                engine.close()

    def _work(self) -> None:
        engine = None
        try:
            engine = self._load()
            engine.infer({t.name: np.zeros(t.shape, t.dtype) for t in engine.inputs})
        except Exception as error:  # out of memory too: it is tried again
            named = f"{type(error).__name__} {error}".strip()
            self._failed = error.message if isinstance(error, EdgetlError) else named
            if engine is not None:
                engine.close()
            return
        self._loaded = engine
