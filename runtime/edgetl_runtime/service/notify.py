"""What a run tells its service manager: ready, still alive, what it does, that it ends.

The protocol is sd_notify(3)'s: lines of NAME=VALUE in one datagram to the socket that $NOTIFY_SOCKET names, a path or,
after an @, a name in the abstract namespace. See https://www.freedesktop.org/software/systemd/man/sd_notify.html
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.snapshot import Snapshot

OPENING_S = 300.0
"""What the start may take until the loop begins: hashing the bundle, loading or compiling the engine, the camera."""
FIRST_RESULT_S = 120.0
"""What it may take from there until the first fresh result, a camera that is not there yet included."""
STATUS_S = 5.0
_FEEDS = 4
"""The watchdog is fed at most so often within its time: each feed is a system call of the loop's thread."""
_MAX_ADDRESS = 107


class Notifier:
    """Sends lines to the socket of `address`. A message that can't be sent at once is counted in `lost`: the loop
    never waits for its manager.

    watchdog_s: within this time a feed has to come, None where nobody waits for it. Raises InputError for an address
    that is no path and no abstract name.
    """

    def __init__(self, address: str, *, watchdog_s: float | None = None) -> None:
        if address[:1] not in ("/", "@") or len(address) < 2 or len(os.fsencode(address)) > _MAX_ADDRESS:
            raise InputError(
                f"NOTIFY_SOCKET must be an absolute path or @NAME, found {address!r}",
                remedy="unset it where no service manager waits",
            )
        self.watchdog_s, self.lost = watchdog_s, 0
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def send(self, *lines: str) -> None:
        """One datagram of these lines."""
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the socket; twice is fine."""
        self._socket.close()


def notifier_of(environment: Mapping[str, str], *, pid: int | None = None) -> Notifier | None:
    """The notifier that a service manager's environment asks for, None without one.

    WATCHDOG_USEC counts only where WATCHDOG_PID is absent or `pid`, by default this process's. Raises InputError for
    an address that is none.
    """
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return None
    return Notifier(address, watchdog_s=_watchdog_s(environment, os.getpid() if pid is None else pid))


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    text, owner = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (owner and owner != str(pid)):
        return None
    return int(text) / 1e6


def lane_of(camera: str, bundle: str) -> str:
    """The name of one bundle's results for one camera."""
    return f"{camera} {bundle}"


class NotifySink:
    """READY=1 with the first fresh result, WATCHDOG=1 with later ones, STATUS= for people, STOPPING=1 at the end.

    Nothing but results feeds the watchdog, no timer and no thread: a loop whose results are late, stale, of an engine
    that fails, or not there at all is restarted by whoever waits. A result is fresh where it says so, the loop's health
    is ok or degraded, and its frame was captured less than the watchdog's time ago.

    clock_ns: CLOCK.
    """

    needs_picture = False
    stop = False

    def __init__(
        self,
        notifier: Notifier,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.ready = False
        self._lanes: Callable[[], Collection[str]] | None = None
        self._notifier, self._clock_ns = notifier, clock_ns
        self._fresh: set[str] = set()
        self._fed_ns = self._told_ns = clock_ns()
        self._closed = False
        self._source: Callable[[], Snapshot] | None = None
        self._said = ""
        self.extend(OPENING_S, "starting: checking the bundle, loading the engine, opening the camera")

    @property
    def notes(self) -> list[str]:
        """What went wrong with the telling."""
        lost = self._notifier.lost
        return [f"{lost} messages to the service manager could not be sent"] if lost else []

    def extend(self, seconds: float, why: str) -> None:
        """The start may take so much longer, from now on."""
        self._notifier.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", f"STATUS={why}")

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """The loop begins, and status lines come from its snapshots."""
        self._source = source
        self.begin()

    def begin(self, lanes: Callable[[], Collection[str]] | None = None) -> None:
        """The loop begins.

        lanes: names of the streams of results that have to be fresh for one feed, asked each time, for several cameras
        and bundles; None: there is one.
        """
        self._lanes = lanes
        self.extend(FIRST_RESULT_S, "waiting for the first fresh result")

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Take one published result."""
        self.published(result)

    def published(self, result: Result, lane: str = "") -> None:
        """Take one published result of the stream `lane`; feed where it is the last one that was missing."""
        now_ns = self._clock_ns()
        if self._due(now_ns) and self._is_fresh(result, now_ns):
            self._fresh.add(lane)
            if self._lanes is None or self._fresh.issuperset(self._lanes()):
                self._feed(now_ns)
        if self.ready and now_ns - self._told_ns >= STATUS_S * 1e9:
            self._tell(result, now_ns)

    def event(self, event: Event) -> None:
        """What began or ended, in the status line at once."""
        self._status(f"{event.state}: {event.detail}" if event.began else f"{event.state}: {event.condition} is over")
        self._told_ns = self._clock_ns()

    def close(self) -> None:
        """Say that the run ends."""
        if not self._closed:
            self._closed = True
            self._notifier.send("STOPPING=1", "STATUS=stopping")
            self._notifier.close()

    def _is_fresh(self, result: Result, now_ns: int) -> bool:
        watchdog_s = self._notifier.watchdog_s
        recent = watchdog_s is None or now_ns - result.t_capture_ns <= watchdog_s * 1e9
        return result.state == "fresh" and result.health in ("ok", "degraded") and recent

    def _due(self, now_ns: int) -> bool:
        watchdog_s = self._notifier.watchdog_s
        return not self.ready or (watchdog_s is not None and now_ns - self._fed_ns >= watchdog_s * 1e9 / _FEEDS)

    def _feed(self, now_ns: int) -> None:
        if not self.ready:
            self.ready = True
            self._notifier.send("READY=1", "STATUS=running")
        if self._notifier.watchdog_s is not None:
            self._notifier.send("WATCHDOG=1")
        self._fed_ns = now_ns
        self._fresh.clear()

    def _tell(self, result: Result, now_ns: int) -> None:
        self._told_ns = now_ns
        if self._source is None:
            self._status(f"{result.health}: {result.camera_id} {result.state}, age {result.age_ms:.0f} ms")
            return
        told = self._source()
        age = told.stages["age"].short if "age" in told.stages else {}
        self._status(
            f"{told.status.state}: {told.processed} results, {told.dropped} dropped, {told.failed} failed, "
            f"age p99 {age.get('p99_ms', result.age_ms):.0f} ms"
        )

    def _status(self, text: str) -> None:
        line = " ".join(text.split())
        if line != self._said:
            self._said = line
            self._notifier.send(f"STATUS={line}")
