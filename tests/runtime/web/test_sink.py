"""The sink on a running loop: pages, probes, tokens, and a loop that is not slowed."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from runtime_support import HEADS, FakeCamera, scene, until

import edgetl_runtime
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.result import Result
from edgetl_runtime.session import Session, Summary
from edgetl_runtime.web import WebSink, site

TOKEN = "a-token-of-enough-characters"


def ask(sink: WebSink, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    client = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=5)
    try:
        client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = client.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        client.close()


def web_threads(sink: WebSink) -> list[str]:
    return [t.name for t in threading.enumerate() if f"{t.name} ".startswith(f"web {sink.port} ")]


class Running:
    """A loop in a thread of its own; `sink` shows it, `session` is its session."""

    def __init__(self, folder: Path, **options: Any) -> None:
        bundle = open_bundle(folder)
        self.ended = False
        self.hang_s = 0.0
        self.results: list[Result] = []
        self.camera = FakeCamera([scene(180, 320, i) for i in range(16)] * 6000, delay_s=0.01)
        self.sink = WebSink(bundle.manifest.heads, **options)
        self.session: Session
        self._inner = self.sink.watch
        self.sink.watch = self._watch  # type: ignore[method-assign]
        self.summary: Summary | None = None
        self._thread = threading.Thread(target=self._work, args=(bundle,), name="loop")
        self._thread.start()

    @property
    def stop(self) -> bool:
        return self.ended

    def _watch(self, source: Callable[[], Any]) -> None:
        self.session = source.__self__  # type: ignore[attr-defined]
        self._inner(source)

    def _work(self, bundle: Any) -> None:
        self.summary = edgetl_runtime.run(bundle, self.camera, sinks=[self.sink, _Ender(self)], threshold=0.0)

    def wait(self, results: int = 5) -> None:
        until(lambda: hasattr(self, "session") and self.session.processed >= results)

    def end(self) -> None:
        self.ended = True
        self._thread.join(5)
        assert not self._thread.is_alive()


class _Ender:
    needs_picture = False

    def __init__(self, running: Running) -> None:
        self._running = running

    @property
    def stop(self) -> bool:
        return self._running.ended

    def write(self, *arguments: object) -> None:
        time.sleep(self._running.hang_s)

    def event(self, event: object) -> None: ...

    def close(self) -> None: ...


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Running]:
    loop = Running(folder, **options)
    try:
        loop.wait()
        yield loop
    finally:
        loop.end()
    assert not web_threads(loop.sink)


@pytest.fixture(scope="module")
def many(shared_many: Path) -> Iterator[Running]:
    with running(shared_many) as loop:
        yield loop


def test_the_page_and_its_files(many: Running) -> None:
    status, headers, body = ask(many.sink, "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8" and b"<main>" in body
    assert b"http://" not in body and b"https://" not in body, "nothing from outside"
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        status, headers, body = ask(many.sink, f"/{name}")
        assert status == 200 and headers["Content-Type"].startswith(kind) and body
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "*" not in policy
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"


def test_paths_that_are_none(many: Running) -> None:
    for path in ("/page.html", "/../sink.py", "/%2e%2e/sink.py", "/page.css/", "//", "/status.json/x"):
        status, _, body = ask(many.sink, path)
        assert status == 404 or path == "//", path
        assert b"/status.json" in body or path == "//"


def test_status_is_one_document(many: Running) -> None:
    status, headers, body = ask(many.sink, "/status.json")
    document = json.loads(body)
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert document["started"] and document["unready_because"] == document["dead_because"] == ""
    assert (document["bundle"], document["engine"], document["precision"]) == ("tiny", "onnxruntime", "fp32")
    assert document["captured"] >= document["processed"] >= 5 and document["health"]["state"] == "ok"
    assert document["since_capture_s"] < 1 and document["rss_mb"] > 10
    row = document["stages"]["infer"]
    for window in ("last_10_s", "last_60_s", "run"):
        assert list(row[window]) == ["p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "count"]
    assert 0 <= sum(row["bars"]["counts"]) - row["last_60_s"]["count"] <= 5, "the loop goes on while both are read"
    found = document["newest"]["found"]
    assert [(f["head"], f["task"]) for f in found] == [(h.name, t) for h, t in zip(HEADS, TASKS, strict=True)]
    assert set(found[0]["values"]) <= {"vehicle", "pedestrian", "light"} and sum(found[0]["values"].values()) == 8
    assert sum(found[1]["values"].values()) == pytest.approx(1, abs=0.01)


TASKS = ("detect", "segment", "classify")


def test_metrics_and_probes(many: Running) -> None:
    status, headers, body = ask(many.sink, "/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'\nedgetl_info{bundle="tiny",engine="onnxruntime",precision="fp32",camera="fake"} 1\n' in body
    for path in ("/healthz", "/readyz"):
        assert ask(many.sink, path)[0::2] == (200, b"ok\n")
        status, headers, body = ask(many.sink, path, method="HEAD")
        assert (status, headers["Content-Length"], body) == (200, "3", b"")


def test_readiness_follows_the_state(many: Running) -> None:
    health = many.session.health
    health.set("ladder", "every second frame")
    assert ask(many.sink, "/readyz")[0] == 200
    health.set("disconnected", "unplugged")
    assert ask(many.sink, "/readyz")[0::2] == (503, b"fault: disconnected (unplugged)\n")
    assert ask(many.sink, "/healthz")[0] == 200
    document = json.loads(ask(many.sink, "/status.json")[2])
    assert document["events"][0]["condition"] == "disconnected" and document["unready_because"]
    health.clear("disconnected")
    health.clear("ladder")
    assert ask(many.sink, "/readyz")[0] == 200


def test_a_picture_and_the_next_one(many: Running) -> None:
    status, headers, body = ask(many.sink, "/frame.jpg")
    assert status == 200 and headers["Content-Type"] == "image/jpeg"
    image: Any = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (180, 320, 3)
    status, later, _ = ask(many.sink, f"/frame.jpg?after={headers['X-Picture']}")
    assert status == 200 and int(later["X-Picture"]) > int(headers["X-Picture"])
    for after in ("", "-1", "x", "1e9", "%D9%A3", "9" * 19, "9" * 5000):
        assert ask(many.sink, f"/frame.jpg?after={after}")[0] == 200


def test_the_stream_gives_picture_after_picture(many: Running) -> None:
    with socket.create_connection(("127.0.0.1", many.sink.port), timeout=5) as client:
        client.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        while data.count(b"\xff\xd9\r\n") < 3:
            piece = client.recv(65536)
            assert piece
            data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"multipart/x-mixed-replace; boundary=edgetl-frame" in head
    for part in rest.split(b"--edgetl-frame\r\n")[1:3]:
        fields, _, jpeg = part.partition(b"\r\n\r\n")
        length = int(fields.split(b"Content-Length: ")[1])
        assert jpeg[length:] == b"\r\n" and cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).shape == (180, 320, 3)
    assert ask(many.sink, "/stream.mjpg", method="HEAD")[0::2] == (200, b"")


def test_a_stream_without_pictures_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "QUIET_S", 0.1)
    sink = WebSink(HEADS)
    status, headers, body = ask(sink, "/stream.mjpg")
    assert (status, headers["Connection"], body) == (200, "close", b"")
    sink.close()


def test_another_name_is_refused(many: Running) -> None:
    for path in ("/", "/status.json", "/frame.jpg", "/metrics"):
        status, _, body = ask(many.sink, path, Host="evil.example")
        assert status == 421 and b"localhost" in body and len(body) < 100


def test_slow_viewers_do_not_slow_the_loop(many: Running) -> None:
    def rate() -> float:
        before, t0 = many.session.processed, time.monotonic()
        time.sleep(1.0)
        return (many.session.processed - before) / (time.monotonic() - t0)

    alone = rate()
    clients = [socket.create_connection(("127.0.0.1", many.sink.port), timeout=5) for _ in range(4)]
    for client in clients:  # they ask for the stream and never read
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert rate() > 0.1 * alone, "a loop that waits for one of them stands still"
    for client in clients:
        client.close()


def test_before_the_loop_it_says_starting_and_the_end_is_prompt() -> None:
    sink = WebSink(HEADS)
    try:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert ask(sink, path)[0::2] == (503, b"starting: the loop has not begun\n")
        document = json.loads(ask(sink, "/status.json")[2])
        assert document["started"] is False
        assert ask(sink, "/")[0] == 200
        waiting = socket.create_connection(("127.0.0.1", sink.port), timeout=5)
        waiting.sendall(b"GET /frame.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.1)
    finally:
        t0 = time.monotonic()
        sink.close()
        sink.close()
    assert time.monotonic() - t0 < 4.0 and not web_threads(sink)
    waiting.close()


def test_a_loop_that_hangs_is_not_alive(shared_bundle: Path) -> None:
    with running(shared_bundle, alive_s=1.0, ready_s=0.8) as loop:
        assert ask(loop.sink, "/healthz")[0] == ask(loop.sink, "/readyz")[0] == 200
        loop.hang_s = 2.5
        until(lambda: ask(loop.sink, "/healthz")[0] == 503)
        assert b"has not turned for" in ask(loop.sink, "/healthz")[2]
        status, _, body = ask(loop.sink, "/readyz")
        assert status == 503 and b"the newest result was published" in body
        loop.hang_s = 0.0


def test_a_loop_without_frames_is_alive_and_not_ready(shared_bundle: Path) -> None:
    with running(shared_bundle, alive_s=0.5, ready_s=0.2) as loop:
        loop.camera.delay_s = 1.5
        until(lambda: ask(loop.sink, "/readyz")[0] == 503)
        time.sleep(0.4)
        assert ask(loop.sink, "/healthz")[0] == 200
        loop.camera.delay_s = 0.01


def test_a_failed_start_closes_the_server(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    sink = WebSink(bundle.manifest.heads)
    with pytest.raises(CameraError):
        edgetl_runtime.run(bundle, FakeCamera([scene(9, 9)] * 9, fail_at=2), sinks=[sink], golden="skip")
    with pytest.raises(ConnectionRefusedError):
        ask(sink, "/")
    assert not web_threads(sink)


def test_a_token_opens_everything_once_it_was_shown(shared_bundle: Path) -> None:
    with running(shared_bundle, token=TOKEN) as loop:
        sink = loop.sink
        assert sink.url == f"http://127.0.0.1:{sink.port}/?token={TOKEN}"
        for path in (
            "/",
            "/page.js",
            "/status.json",
            "/frame.jpg",
            "/metrics",
            "/healthz",
            "/nothing",
            "/?token=wrong",
        ):
            status, headers, body = ask(sink, path)
            assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer") and "Set-Cookie" not in headers
            assert TOKEN.encode() not in body
        status, headers, body = ask(sink, f"/?token={TOKEN}")
        assert (status, headers["Location"], body) == (303, "/", b"")
        cookie, *rules = headers["Set-Cookie"].split("; ")
        assert cookie == f"edgetl_{sink.port}={TOKEN}" and {"HttpOnly", "SameSite=Lax", "Path=/"} == set(rules)
        for path in ("/", "/status.json", "/frame.jpg", "/metrics", "/readyz"):
            assert ask(sink, path, Cookie=f"theme=dark; {cookie}")[0] == 200
        assert ask(sink, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        status, headers, _ = ask(sink, f"/metrics?token={TOKEN}")
        assert status == 200 and headers["Set-Cookie"].startswith(cookie)


def test_an_open_address_has_a_token_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    sink = WebSink(HEADS, bind="0.0.0.0")
    try:
        sink.announce()
        told = capsys.readouterr().err
        assert f":{sink.port}/?token=" in told and "not encrypted" in told
        assert ask(sink, "/status.json")[0] == 401
        token = told.split("?token=")[1].split()[0]
        assert ask(sink, "/status.json", Authorization=f"Bearer {token}", Host="camera7.fleet")[0] == 200
    finally:
        sink.close()


def test_here_there_is_no_token_and_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    sink = WebSink(HEADS)
    sink.announce()
    assert capsys.readouterr().err == f"live page: http://127.0.0.1:{sink.port}/\n"
    sink.close()


@pytest.mark.parametrize("port", [-1, 65536])
def test_ports_that_are_none(port: int) -> None:
    with pytest.raises(InputError, match="a port is from 0 to 65535"):
        WebSink(HEADS, port=port)


def test_a_refused_token_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(InputError, match="16 to 128"):
        WebSink(HEADS, token="short")
    assert threading.active_count() == before
