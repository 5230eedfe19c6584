"""The state of the loop on /diagnostics, once a second, in a thread of its own, whether results come or not."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from edgetl_runtime.ros.convert import header
from edgetl_runtime.ros.messages import DiagnosticArray
from edgetl_runtime.ros.names import DIAGNOSTICS
from edgetl_runtime.ros.payload import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.ros.messages import Header
    from edgetl_runtime.ros.node import Ros2Node

TOPIC = "/diagnostics"
"""ROS's own, whatever the namespace, by REP-107."""
EVERY_S = 1.0
_END_S = 1.0


class DiagnosticsSender:
    """Publishes what `state` makes of a header every every_s seconds until closed; asked in this object's thread."""

    def __init__(self, node: Ros2Node, state: Callable[[Header], DiagnosticArray], *, every_s: float = EVERY_S) -> None:
        self._publisher = node.publisher(TOPIC, DiagnosticArray, DIAGNOSTICS, urgent=False)
        self._state, self._every_s = state, every_s
        self._encode = Encoder(DiagnosticArray)
        self._ended = threading.Event()
        self.failed = 0
        self._thread = threading.Thread(target=self._work, name="ros2 diagnostics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish a last time, then end the thread; twice is fine."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _work(self) -> None:
        while True:
            ended = self._ended.wait(self._every_s)
            try:
                self._publish()
            except Exception as error:  # the next second is another try
                if not self.failed:
                    sys.stderr.write(f"edgetl ros2: no diagnostics: {type(error).__name__}: {error}\n")
                self.failed += 1
            if ended:
                return

    def _publish(self) -> None:
        self._publisher.put(self._encode(self._state(header(time.time_ns(), ""))))
