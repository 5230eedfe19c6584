"""Handing a result to everyone who wants it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.sinks import Broken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.ledger import Ledger
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.sinks import Sink
    from edgetl_runtime.spec import Head


class Publisher:
    """Gives each result to the sinks of one bundle on one camera: those who only read it first, then the picture is
    drawn, once, for those who want it. heads: the manifest's. on_result is called first of all.

    live: the camera waits for nobody, so that a sink which raises is left out from then on, and added to `broken`; of
    files what it raises is raised.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        sinks: Sequence[Sink],
        *,
        on_result: Callable[[Result], None] | None = None,
        live: bool = False,
    ) -> None:
        self.sinks = tuple(sinks)
        self.live, self.broken = live, Broken()
        self._heads = tuple(heads)
        self._on_result = on_result
        self._annotator: Annotator | None = None

    def event(self, event: Event) -> None:
        """Tell all of them."""
        for sink in self.sinks:
            try:
                sink.event(event)
            except Exception as error:
                self._leave_out((sink,), error)

    def publish(self, frame: Frame, result: Result, ledger: Ledger | None = None) -> None:
        """Give it to all; the ledger, if any, is told how long that took, as publish and annotate."""
        t0 = time.perf_counter()
        pictured = [sink for sink in self.sinks if sink.needs_picture]
        if self._on_result is not None:
            self._on_result(result)
        for sink in self.sinks:
            if sink not in pictured:
                self._write(sink, result, frame, None)
        t1 = time.perf_counter()
        if pictured:
            self._draw(pictured, result, frame)
        if ledger is not None:
            ledger.add("publish", (t1 - t0) * 1e3)
            if pictured:
                ledger.add("annotate", (time.perf_counter() - t1) * 1e3)

    def _draw(self, pictured: Sequence[Sink], result: Result, frame: Frame) -> None:
        try:
            self._annotator = self._annotator or Annotator(self._heads)
            picture = self._annotator(frame, result)
        except Exception as error:
            self._leave_out(pictured, error)
            return
        for sink in pictured:
            self._write(sink, result, frame, picture)

    def _write(self, sink: Sink, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        try:
            sink.write(result, frame, picture)
        except Exception as error:
            self._leave_out((sink,), error)

    def _leave_out(self, sinks: Sequence[Sink], error: Exception) -> None:
        """Raises the error where the source is not live."""
        if not self.live:
            raise error
        self.sinks = tuple(sink for sink in self.sinks if sink not in sinks)
        for sink in sinks:
            self.broken.add(sink, error)
