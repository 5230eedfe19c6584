"""The server against clients that are slow, many, broken or malicious."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from edgetl_runtime.errors import InputError
from edgetl_runtime.web import server as module
from edgetl_runtime.web.access import resolve
from edgetl_runtime.web.server import Answer, Request, Server, text


class Site:
    """A few pages; remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.sent = 0

    def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        if request.path == "/flood":
            return Answer(HTTPStatus.OK, "text/plain", parts=self._flood())
        if request.path == "/bug":
            raise RuntimeError("a mistake in a page")
        if request.path == "/slow":
            time.sleep(0.3)
        return text(HTTPStatus.OK, "hello")

    def _flood(self) -> Iterator[bytes]:
        while True:
            self.sent += 1
            yield b"x" * 1_000_000


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    made = Server(resolve("127.0.0.1"), 0, site, max_clients=8)
    made.start()
    yield made
    t0 = time.monotonic()
    made.stop()
    made.stop()
    assert time.monotonic() - t0 < 4.0
    assert not web_threads(made)


def web_threads(server: Server) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if f"{t.name} ".startswith(f"web {server.port} ")]


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=5)


def exchange(server: Server, data: bytes) -> bytes:
    """Send, and read until the server closes."""
    with connect(server) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def settles(server: Server, clients: int) -> None:
    end_s = time.monotonic() + 3
    while len(server._clients) != clients and time.monotonic() < end_s:
        time.sleep(0.005)
    assert len(server._clients) == clients


def test_get_keeps_the_connection_and_head_has_no_body(server: Server, site: Site) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    for method, body in (("GET", b"hello\n"), ("HEAD", b""), ("GET", b"hello\n")):
        client.request(method, "/a%20b?x=1&x=2&y=%C3%BC")
        response = client.getresponse()
        assert (response.status, response.read(), response.headers["Content-Length"]) == (200, body, "6")
    client.close()
    assert site.asked[0].path == "/a%20b" and site.asked[0].query == {"x": "1", "y": "ü"}
    assert len(site.asked) == 3


def test_every_answer_has_the_security_headers(server: Server) -> None:
    requests = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"GARBAGE\r\n\r\n"]
    for answer in [exchange(server, r) for r in requests]:
        for name in module._SECURITY:
            assert f"\r\n{name}: ".encode() in answer, answer
        assert b"\r\nServer: edgetl\r\n" in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_only_get_and_head(server: Server, site: Site, method: str) -> None:
    answer = exchange(server, f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode())
    assert answer.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: GET, HEAD\r\n" in answer
    assert site.asked == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n\r\n", None),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET / NONSENSE/1.1\r\n\r\n", 400),
        (b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /?" + b"a=1&" * 40 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HT", None),
        (b"", None),
    ],
)
def test_garbage_is_refused_and_the_next_client_served(
    server: Server, data: bytes, status: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = exchange(server, data)
    if status is not None:
        assert f" {status} ".encode() in answer.split(b"\r\n")[0], answer[:200]
    assert b"<" not in answer.partition(b"\r\n\r\n")[2], "no page that repeats what was sent"
    assert exchange(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"hello\n")
    assert "Traceback" not in capsys.readouterr().err


def test_a_body_is_not_taken_for_a_request(server: Server, site: Site) -> None:
    exchange(server, b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n")
    exchange(server, b"GET /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n")
    assert [r.path for r in site.asked] == ["/a", "/b"]


def test_one_too_many_is_told_so_and_a_place_is_free_again(server: Server) -> None:
    held = [connect(server) for _ in range(8)]
    settles(server, 8)
    for _ in range(20):
        with connect(server) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_all(client).startswith(b"HTTP/1.1 503 ")
    held.pop().close()
    settles(server, 7)
    assert b" 200 " in exchange(server, b"GET / HTTP/1.0\r\n\r\n")
    for client in held:
        client.close()


def test_where_it_is_crowded_connections_are_given_back(server: Server) -> None:
    idle = [connect(server) for _ in range(4)]
    settles(server, 4)
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    client.request("GET", "/")
    response = client.getresponse()
    assert response.read() == b"hello\n" and response.headers["Connection"] == "close"
    for other in idle:
        other.close()


def test_streams_leave_room_for_probes(server: Server) -> None:
    watchers = [connect(server) for _ in range(4)]
    for client in watchers:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in client.recv(100)
    answer = exchange(server, b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ") and answer.endswith(b"too many streams\n")
    assert exchange(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"hello\n")
    for client in watchers:
        client.close()
    settles(server, 0)
    with connect(server) as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in client.recv(100)


def test_half_a_request_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Handler, "timeout", 0.2)
    with connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHos")
        t0 = time.monotonic()
        assert read_all(client) == b"" and time.monotonic() - t0 < 2


def test_a_request_by_drops_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.3)
    with connect(server) as client:
        t0 = time.monotonic()
        with pytest.raises(OSError):  # reset or broken pipe, as it happens
            for _ in range(100):
                client.sendall(b"G")
                time.sleep(0.05)
        assert 0.3 <= time.monotonic() - t0 < 3


def test_a_client_that_does_not_read_is_given_up(server: Server, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Handler, "timeout", 0.3)
    with connect(server) as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        settles(server, 1)
        assert exchange(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"hello\n"), "others are served meanwhile"
        settles(server, 0)
    assert site.sent < 20


def test_the_end_is_prompt_with_clients_in_every_state(site: Site) -> None:
    server = Server(resolve("127.0.0.1"), 0, site, max_clients=8)
    server.start()
    clients = [connect(server) for _ in range(10)]
    clients[0].sendall(b"GET / HT")
    clients[1].sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
    clients[2].sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.1)
    assert len(web_threads(server)) == 9
    t0 = time.monotonic()
    server.stop()
    assert time.monotonic() - t0 < 4.0
    assert not web_threads(server)
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    for client in clients:
        client.close()


def test_a_mistake_in_a_page_ends_that_connection_only(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert b" 500 " in exchange(server, b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n").split(b"\r\n")[0]
    assert exchange(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"hello\n")
    assert capsys.readouterr().err == "edgetl web: /bug: RuntimeError: a mistake in a page\n"


def test_a_port_in_use_is_one_clear_line(server: Server, site: Site) -> None:
    with pytest.raises(InputError, match=rf"can't listen on 127\.0\.0\.1 port {server.port}: address already in use; "):
        Server(resolve("127.0.0.1"), server.port, site, max_clients=8)


def test_an_address_of_another_machine_is_one_clear_line(site: Site) -> None:
    with pytest.raises(InputError, match=r"can't listen on 192\.0\.2\.7 port 0: cannot assign"):
        Server(resolve("192.0.2.7"), 0, site, max_clients=8)


def test_a_server_that_never_started_can_be_stopped(site: Site) -> None:
    server = Server(resolve("127.0.0.1"), 0, site, max_clients=8)
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(server)
