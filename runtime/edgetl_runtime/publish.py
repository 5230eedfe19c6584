"""Handing a result to everyone who wants it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgetl_runtime.annotate import Annotator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgetl_runtime.health import Event
    from edgetl_runtime.ledger import Ledger
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.sinks import Sink
    from edgetl_runtime.spec import Head


class Publisher:
    """Gives each result to the sinks of one bundle on one camera: those who only read it first, then the picture is
    drawn, once, for those who want it. heads: the manifest's. on_result is called first of all."""

    def __init__(
        self, heads: Sequence[Head], sinks: Sequence[Sink], *, on_result: Callable[[Result], None] | None = None
    ) -> None:
        self.sinks = tuple(sinks)
        self._heads = tuple(heads)
        self._on_result = on_result
        self._annotator: Annotator | None = None

    def event(self, event: Event) -> None:
        """Tell all of them."""
        for sink in self.sinks:
            sink.event(event)

    def publish(self, frame: Frame, result: Result, ledger: Ledger | None = None) -> None:
        """Give it to all; the ledger, if any, is told how long that took, as publish and annotate."""
        t0 = time.perf_counter()
        pictured = [sink for sink in self.sinks if sink.needs_picture]
        if self._on_result is not None:
            self._on_result(result)
        for sink in self.sinks:
            if sink not in pictured:
                sink.write(result, frame, None)
        t1 = time.perf_counter()
        if pictured:
            self._annotator = self._annotator or Annotator(self._heads)
            picture = self._annotator(frame, result)
            for sink in pictured:
                sink.write(result, frame, picture)
        if ledger is not None:
            ledger.add("publish", (t1 - t0) * 1e3)
            if pictured:
                ledger.add("annotate", (time.perf_counter() - t1) * 1e3)
