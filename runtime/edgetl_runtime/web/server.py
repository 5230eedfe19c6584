"""HTTP for a few clients: bounded connections, bounded waits, GET and HEAD only, a prompt end."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qs, urlsplit

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgetl_runtime.web.access import Address

IDLE_S = 5.0
"""A connection that asks nothing, or takes nothing of its answer, for so long is closed."""

REQUEST_S = 10.0
"""A request must be complete so long after its connection was opened or its last answer was sent."""

_POLL_S = 0.2
_END_S = 0.9
_SEND_BYTES = 128 * 1024
_SPARE = 4  # connections beyond these are kept free for probes: nothing keeps one open between requests
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nCache-Control: no-store\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\n\r\ntoo many clients\n"
)
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. query: the first value of each name."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent. parts: where the body has no end, its pieces as they come; body is empty then."""

    status: HTTPStatus
    content_type: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: Iterator[bytes] | None = None


class Site(Protocol):
    """Answers requests, in the threads of the clients."""

    def answer(self, request: Request) -> Answer:
        """The answer to one GET; for HEAD its body is not sent."""


def text(status: HTTPStatus, line: str, **headers: str) -> Answer:
    """An answer of one line."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, "text/plain; charset=utf-8", f"{line}\n".encode(), named)


class Server(HTTPServer):
    """Listens at once, serves from `start` on, a thread for each connection, `max_clients` at the most.

    Raises InputError where the port is taken or not permitted.
    """

    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, address: Address, port: int, site: Site, *, max_clients: int) -> None:
        self.site = site
        self.max_clients = max_clients
        self.closing = threading.Event()
        self.streams = threading.Semaphore(max(max_clients // 2, 1))  # the others are for probes
        self.address_family = address.family
        self._clients: dict[socket.socket, _Client] = {}
        self._lock = threading.Lock()
        self._refused: deque[socket.socket] = deque()
        try:
            super().__init__((address.host, port), _Handler)
        except OSError as error:
            raise InputError(
                f"can't listen on {address.host} port {port}: {(error.strerror or str(error)).lower()}",
                remedy="choose another port, or 0 for any free one",
            ) from error
        self._thread = threading.Thread(target=self._serve, name=f"web {self.port}", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def crowded(self) -> bool:
        """Whether connections should be given back after each answer."""
        return len(self._clients) > self.max_clients - _SPARE

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called, as HTTPServer does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.port

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End every connection and thread, within a second; twice is fine."""
        if self.closing.is_set():
            return
        self.closing.set()
        end_s = time.monotonic() + _END_S
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join(_END_S)
        self.server_close()
        with self._lock:
            clients = list(self._clients.items())
        for connection, _ in clients:
            _cut(connection)
        for _, client in clients:
            client.thread.join(max(end_s - time.monotonic(), 0.0))
        while self._refused:
            self._refused.popleft().close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or refuse it."""
        connection = cast("socket.socket", request)
        with self._lock:
            full = len(self._clients) >= self.max_clients or self.closing.is_set()
            if not full:
                name = f"web {self.port} client"
                thread = threading.Thread(
                    target=self._converse, args=(connection, client_address), name=name, daemon=True
                )
                self._clients[connection] = _Client(thread, time.monotonic())
        if full:
            self._refuse(connection)
            return
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            self._clients.pop(connection, None)
            self._refuse(connection)

    def waits(self, connection: socket.socket, *, since_s: float | None) -> None:
        """Note since when a connection owes a request; None while it is being answered."""
        client = self._clients.get(connection)
        if client is not None:
            client.since_s = since_s

    def service_actions(self) -> None:
        """Between polls: end what was refused, and connections that send their request by drops."""
        while self._refused:
            self._refused.popleft().close()
        late_s = time.monotonic() - REQUEST_S
        with self._lock:
            late = [c for c, client in self._clients.items() if client.since_s is not None and client.since_s < late_s]
        for connection in late:
            _cut(connection)

    def _serve(self) -> None:
        self.serve_forever(poll_interval=_POLL_S)

    def _converse(self, connection: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(connection, client_address)
        except OSError:
            pass  # the client went away, or was too slow
        except Exception as error:
            sys.stderr.write(f"edgetl web: {type(error).__name__}: {error}\n")
        finally:
            with self._lock:
                self._clients.pop(connection, None)
            self.shutdown_request(connection)

    def _refuse(self, connection: socket.socket) -> None:
        """Say so without waiting. The end comes a little later: closed at once, what the client sends meanwhile would
        reset the connection before it has read the answer."""
        try:
            connection.setblocking(False)
            connection.send(_BUSY)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self._refused.append(connection)
        while len(self._refused) > self.max_clients:
            self._refused.popleft().close()


@dataclass(slots=True)
class _Client:
    thread: threading.Thread
    since_s: float | None


def _cut(connection: socket.socket) -> None:
    """Wake the thread that reads or writes this connection; it closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection: requests one after the other."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Keep little in the system's buffers: pictures that wait there grow old."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        super().setup()

    def handle_one_request(self) -> None:
        """Read one request and answer it."""
        self.server.waits(self.connection, since_s=time.monotonic())
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer with the site's page."""
        if self.request_version == "HTTP/0.9":
            self.send_error(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
            return
        self.server.waits(self.connection, since_s=None)
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True  # a body is never read, so nothing after it is a request
        try:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query, max_num_fields=16).items()}
        except ValueError:
            self._send(text(HTTPStatus.BAD_REQUEST, "this address can't be read"))
            return
        answer = self._answer(Request(parts.path, query, cast("Mapping[str, str]", self.headers)))
        if answer.parts is None:
            self._send(answer)
        elif self.server.streams.acquire(blocking=False):
            try:
                self._send(answer)
            finally:
                self.server.streams.release()
        else:
            self._send(text(HTTPStatus.SERVICE_UNAVAILABLE, "too many streams", Retry_After="2"))

    def do_HEAD(self) -> None:
        """The same without the body."""
        self.do_GET()

    def _answer(self, request: Request) -> Answer:
        """The site's; a mistake in it must show here, and must not end the run."""
        try:
            return self.server.site.answer(request)
        except Exception as error:
            sys.stderr.write(f"edgetl web: {request.path}: {type(error).__name__}: {error}\n")
            return text(HTTPStatus.INTERNAL_SERVER_ERROR, "a mistake in this page; see the run's stderr")

    def _send(self, answer: Answer) -> None:
        endless = answer.parts is not None
        self.close_connection = self.close_connection or endless or self.server.crowded or self.server.closing.is_set()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        if not endless:
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in (_SECURITY | dict(answer.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(answer.body)
        for part in answer.parts or ():
            self.wfile.write(part)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses, in one line and with our headers."""
        self.close_connection = True
        self.request_version = self.protocol_version  # until a request line was read it is 0.9, which has no headers
        if not getattr(self, "command", None):
            self.command = "GET"
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # which it says of every method that has no do_METHOD here
            self._send(text(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", Allow="GET, HEAD"))
        else:
            self._send(text(status, status.phrase.lower()))

    def version_string(self) -> str:
        """No versions for strangers."""
        return "edgetl"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it so)
        """Nothing: stderr is the run's."""
