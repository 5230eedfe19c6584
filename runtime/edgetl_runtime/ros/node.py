"""A ROS 2 node without ROS: a Zenoh session that rmw_zenoh_cpp nodes find and understand."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import need
from edgetl_runtime.ros.names import ADMIN_SPACE, Endpoint, NodeName, Quality, attachment, gid_of, mangled, token
from edgetl_runtime.ros.type_hash import NOT_SUPPORTED, dds_name, type_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

ROUTER = "tcp/localhost:7447"
LOOPBACK = "tcp/localhost:0"
OPEN_S = 2.0
_RETRY_MS = 500
_FOR_EVER_MS = -1
_ASK_AGAIN_S = 0.2
_ADMIN_S = 2.0
_GRAPH_S = 5.0
_LINK = re.compile(r"[a-z][a-z0-9]*/\S+")


@dataclass(frozen=True, slots=True)
class Ros2Options:
    """How to be part of a ROS graph.

    connect: where a router or another node listens, as `tcp/HOST:PORT`; one of them must be there within open_s, and
    is connected to again whenever it is lost; with open_s 0 it may come later, which a subscriber wants that starts in
    any order. Empty: wait for others to connect. listen: where other nodes reach this one; by default on this machine
    only, at any free port, which is port 0. opened: told where that is, once the session is open. check_types: whether
    the hash of a message's definition is part of its topic's name, as from Iron on; without it Humble's nodes are met.
    Raises InputError for an address that is none.
    """

    node: NodeName = field(default_factory=NodeName)
    connect: tuple[str, ...] = (ROUTER,)
    listen: tuple[str, ...] = (LOOPBACK,)
    check_types: bool = True
    open_s: float = OPEN_S
    opened: Callable[[tuple[str, ...]], None] | None = None

    def __post_init__(self) -> None:
        for address in (*self.connect, *self.listen):
            if not _LINK.fullmatch(address):
                raise InputError(f"a Zenoh address is like tcp/192.168.1.5:7447, found {address!r}")


class Ros2Context:
    """The Zenoh session that nodes of one process share, as those of a ROS context do; open while one of them is.

    How it connects and listens is the first node's to say, whatever the options of those that join it. Any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None
        self._nodes = self._entities = 0

    def join(self, options: Ros2Options) -> Any:
        """The open session, for one more node. Raises InputError or MissingPackage where it can't be opened."""
        with self._lock:
            if not self._nodes:
                self._session, self._entities = _open(need("zenoh", extra="vehicle"), options), 0
                if options.opened is not None:
                    options.opened(_addresses(self._session))
            self._nodes += 1
            return self._session

    def leave(self) -> None:
        """One node is gone; with the last one the session ends."""
        zenoh: Any = need("zenoh", extra="vehicle")
        with self._lock:
            self._nodes -= 1
            if not self._nodes:
                session, self._session = self._session, None
                with suppress(zenoh.ZError):
                    if not session.is_closed():
                        session.close()

    def next(self) -> int:
        """A number that no other node, publisher or subscription of the session has; from 0."""
        with self._lock:
            self._entities += 1
            return self._entities - 1


class Ros2Node:
    """A node's token in a session; publishers and subscriptions made here show in the ROS graph with theirs.

    As an rmw_zenoh_cpp node it is a peer that is told of others by the router, and looks for nobody by multicast.
    context: whose session it is part of; one of its own where None. Use as a context manager; leaving takes all tokens
    back. Raises InputError where nobody answers at options.connect or an address can't be listened at, MissingPackage
    without zenoh.
    """

    def __init__(self, options: Ros2Options, *, context: Ros2Context | None = None) -> None:
        self._zenoh: Any = need("zenoh", extra="vehicle")
        self.options = options
        self._hash: Callable[[type], str] = type_hash if options.check_types else lambda message: NOT_SUPPORTED
        self._lock = threading.Lock()
        self._kept: list[Any] = []
        self._closed = False
        self._context = context or Ros2Context()
        self._session = self._context.join(options)
        self._number = self._context.next()
        try:
            self._declare("NN", self._number, None, None)
        except BaseException:
            self._context.leave()
            raise

    def __enter__(self) -> Ros2Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def zid(self) -> str:
        """The session's id, as it stands in tokens."""
        return str(self._session.zid())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others reach this node, as `tcp/HOST:PORT` with the port that it got; by Zenoh's admin space."""
        return _addresses(self._session)

    def publisher(self, topic: str, message: type, quality: Quality, *, urgent: bool = True) -> Ros2Publisher:
        """A publisher of this message class; urgent: not to wait behind what isn't. Raises InputError for the name."""
        zenoh = self._zenoh
        endpoint = self._endpoint(topic, message)
        publisher = self._session.declare_publisher(
            endpoint.key(self.options.node.domain),
            congestion_control=zenoh.CongestionControl.DROP,
            priority=zenoh.Priority.DATA if urgent else zenoh.Priority.DATA_LOW,
            reliability=zenoh.Reliability.RELIABLE if quality.reliable else zenoh.Reliability.BEST_EFFORT,
        )
        self._keep(publisher)
        gid = gid_of(self._declare("MP", self._context.next(), endpoint, quality))
        return Ros2Publisher(publisher, endpoint.topic, gid)

    def subscribe(self, topic: str, message: type, quality: Quality, take: Callable[[Any], None]) -> str:
        """Hand every sample of this topic and type to `take`, in Zenoh's own thread; returns the topic's full name.

        Whatever the hash of the publisher's definition is: what comes must be checked when it is read.
        """
        endpoint = self._endpoint(topic, message)
        anyhow = Endpoint(endpoint.topic, endpoint.dds_name, "*")
        callback = self._zenoh.handlers.Callback(take, None, indirect=False)
        self._keep(self._session.declare_subscriber(anyhow.key(self.options.node.domain), callback))
        self._declare("MS", self._context.next(), endpoint, quality)
        return endpoint.topic

    def published_types(self, topic: str, *, wait_s: float = 1.5) -> list[str]:
        """The type names under which others publish this topic now, as the graph says; it is asked again for wait_s
        where it knows none: a session that was just opened hears of others little by little."""
        until_s = time.monotonic() + wait_s
        while not (found := self._types(topic)) and time.monotonic() < until_s:
            time.sleep(_ASK_AGAIN_S)
        return found

    def published_topics(self, types: Collection[str]) -> list[str]:
        """The topics that others publish under one of these type names now, as far as this session has heard."""
        return sorted({topic for topic, name in self._published("*") if name in types})

    def _types(self, topic: str) -> list[str]:
        return sorted({name for _, name in self._published(mangled(topic))})

    def _published(self, topic: str) -> set[tuple[str, str]]:
        """Topics, of one mangled name or *, with the names of their types."""
        found = self._session.liveliness().get(
            f"{ADMIN_SPACE}/{self.options.node.domain}/*/*/*/MP/*/*/*/{topic}/*/*/*", timeout=_GRAPH_S
        )
        tokens = [str(reply.ok.key_expr).split("/") for reply in found if reply.ok is not None]
        return {(p[9].replace("%", "/"), p[10].replace("::dds_::", "/").replace("::", "/").rstrip("_")) for p in tokens}

    def close(self) -> None:
        """Leave the graph, within some seconds where others hang; twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            kept, self._kept = self._kept, []
        for thing in reversed(kept):
            with suppress(self._zenoh.ZError):  # the link is down, or nobody takes what is sent: nothing to save
                thing.undeclare()
        self._context.leave()

    def _endpoint(self, topic: str, message: type) -> Endpoint:
        return Endpoint(self.options.node.topic(topic), dds_name(message), self._hash(message))

    def _declare(self, kind: Any, entity: int, endpoint: Endpoint | None, quality: Quality | None) -> str:
        text = token(self.options.node, self.zid, kind, entity, endpoint, quality, node_entity=self._number)
        self._keep(self._session.liveliness().declare_token(text))
        return text

    def _keep(self, thing: Any) -> None:
        with self._lock:
            self._kept.append(thing)


class Ros2Publisher:
    """Publishes the bytes of one topic; one thread at a time. sent: how many were handed to Zenoh.

    Where a link is full Zenoh drops the message, after a millisecond at most for one that fits into one batch (64 KiB).
    """

    def __init__(self, publisher: Any, topic: str, gid: bytes) -> None:
        self._publisher, self.topic, self.gid = publisher, topic, gid
        self.sent = 0

    @property
    def matched(self) -> bool:
        """Whether anybody subscribes now."""
        return bool(self._publisher.matching_status.matching)

    def put(self, data: bytes | bytearray) -> None:
        """Publish one message with its number, the time on the system clock and who publishes it."""
        self.sent += 1
        self._publisher.put(data, attachment=attachment(self.sent, time.time_ns(), self.gid))


def _open(zenoh: Any, options: Ros2Options) -> Any:
    try:
        return zenoh.open(_config(zenoh, options))
    except zenoh.ZError as error:
        if "connect" in str(error).lower() and options.connect:
            raise InputError(
                f"no Zenoh router or node answers at {' or '.join(options.connect)}",
                remedy="start one (ros2 run rmw_zenoh_cpp rmw_zenohd), name another with --ros2-connect, or do "
                "without one: --ros2-listen tcp/127.0.0.1:7447",
            ) from error
        where = ", ".join(options.listen)
        raise InputError(f"Zenoh can't listen at {where}", remedy="give another --ros2-listen") from error


def _addresses(session: Any) -> tuple[str, ...]:
    replies = session.get(f"@/{session.zid()}/peer", timeout=_ADMIN_S)
    told = [json.loads(reply.ok.payload.to_bytes()) for reply in replies if reply.ok is not None]
    return tuple(address for document in told for address in document.get("locators", ()))


def _config(zenoh: Any, options: Ros2Options) -> Any:
    """What DEFAULT_RMW_ZENOH_SESSION_CONFIG.json5 of rmw_zenoh_cpp sets, and a time after which to give up."""
    settings = {
        "mode": "peer",
        "connect/endpoints": list(options.connect),
        "connect/timeout_ms": int(options.open_s * 1e3) or _FOR_EVER_MS,
        "connect/exit_on_failure": options.open_s > 0,
        "connect/retry": {"period_init_ms": _RETRY_MS, "period_max_ms": 4000, "period_increase_factor": 2},
        "listen/endpoints": list(options.listen),
        "listen/exit_on_failure": True,
        "listen/timeout_ms": 0,
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": True,
        "timestamping/enabled": True,
        "adminspace/enabled": True,
        "adminspace/permissions": {"read": True, "write": False},
    }
    config = zenoh.Config()
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return config
