"""What is at which path."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from edgetl_runtime import metrics
from edgetl_runtime.result import Detections, Mask
from edgetl_runtime.spec import task_of
from edgetl_runtime.web.probes import STARTING, dead_because, unready_because
from edgetl_runtime.web.server import Answer, Request, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgetl_runtime.result import Output, Result
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head
    from edgetl_runtime.web.access import Gate
    from edgetl_runtime.web.pictures import Pictures

WAIT_S = 2.0
"""So long a request for a picture waits for one."""

QUIET_S = 10.0
"""A stream without pictures ends after so long."""

_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_BOUNDARY = "edgetl-frame"
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class LiveSite:
    """The page, its data and the probes. source: the loop's snapshots, None until it begins."""

    def __init__(
        self, heads: Sequence[Head], pictures: Pictures, gate: Gate, *, ready_s: float, alive_s: float
    ) -> None:
        self.source: Callable[[], Snapshot] | None = None
        self.cookie_name = "edgetl"
        self._heads = tuple(heads)
        self._pictures, self._gate = pictures, gate
        self._ready_s, self._alive_s = ready_s, alive_s
        folder = importlib.resources.files("edgetl_runtime.web")
        self._files = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._pages: dict[str, Callable[[Request], Answer]] = {
            "/frame.jpg": self._frame,
            "/stream.mjpg": self._stream,
            "/status.json": self._status,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }

    def answer(self, request: Request) -> Answer:
        """The page of a path, for those who may see it."""
        verdict = self._gate.judge(request.headers, request.query.get("token"), self.cookie_name)
        if verdict == "foreign name":
            return text(HTTPStatus.MISDIRECTED_REQUEST, "call this server localhost or 127.0.0.1")
        if verdict == "no token":
            line = "this needs the token that the run printed: /?token=... or Authorization: Bearer ..."
            return text(HTTPStatus.UNAUTHORIZED, line, WWW_Authenticate='Bearer realm="edgetl"')
        cookie = {}
        if verdict == "first":
            cookie["Set-Cookie"] = f"{self.cookie_name}={self._gate.token}; Path=/; HttpOnly; SameSite=Lax"
            if request.path == "/":  # so that the token does not stay in the address bar
                return Answer(HTTPStatus.SEE_OTHER, "text/plain", headers=cookie | {"Location": "/"})
        answer = self._page(request)
        return Answer(answer.status, answer.content_type, answer.body, {**answer.headers, **cookie}, answer.parts)

    def _page(self, request: Request) -> Answer:
        if request.path in self._files:
            body, kind = self._files[request.path]
            return Answer(HTTPStatus.OK, kind, body)
        page = self._pages.get(request.path)
        if page is None:
            return text(HTTPStatus.NOT_FOUND, f"there is {' '.join([*self._files, *self._pages])}")
        return page(request)

    def _snapshot(self) -> Snapshot | None:
        return None if self.source is None else self.source()

    def _frame(self, request: Request) -> Answer:
        """The newest picture; after=N waits for one with a higher number."""
        after = request.query.get("after", "0")
        found = self._pictures.newer_than(int(after) if _NUMBER.fullmatch(after) else 0, WAIT_S)
        if found is None:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, "no new picture")
        number, jpeg = found
        return Answer(HTTPStatus.OK, "image/jpeg", jpeg, {"X-Picture": str(number)})

    def _stream(self, request: Request) -> Answer:
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        return Answer(HTTPStatus.OK, kind, parts=self._parts())

    def _parts(self) -> Iterator[bytes]:
        """The newest picture each time the client has taken the one before.

        Ends where none comes for QUIET_S: without sending, nobody notices that the client is gone.
        """
        number = 0
        while (found := self._pictures.newer_than(number, QUIET_S)) is not None:
            number, jpeg = found
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield head.encode() + jpeg + b"\r\n"

    def _status(self, request: Request) -> Answer:
        s = self._snapshot()
        dead, unready = dead_because(s, self._alive_s), unready_because(s, self._ready_s)
        document: dict[str, Any] = {"started": s is not None, "dead_because": dead, "unready_because": unready}
        if s is not None:
            document |= s.as_json() | {"newest": _newest(s.newest, self._heads)}
        return Answer(HTTPStatus.OK, "application/json", json.dumps(document, separators=(",", ":")).encode())

    def _metrics(self, request: Request) -> Answer:
        s = self._snapshot()
        if s is None:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, STARTING)
        return Answer(HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.exposition(s).encode())

    def _healthz(self, request: Request) -> Answer:
        return _probe(dead_because(self._snapshot(), self._alive_s))

    def _readyz(self, request: Request) -> Answer:
        return _probe(unready_because(self._snapshot(), self._ready_s))


def _probe(reason: str) -> Answer:
    return text(HTTPStatus.SERVICE_UNAVAILABLE, reason) if reason else text(HTTPStatus.OK, "ok")


def _newest(result: Result | None, heads: Sequence[Head]) -> dict[str, Any] | None:
    """The newest result for people: boxes by label, shares of the image by label, the category's probability."""
    if result is None:
        return None
    return {
        "frame_id": result.frame_id,
        "age_ms": round(result.age_ms, 1),
        "state": result.state,
        "size_hw": list(result.size_hw),
        "found": [
            {"head": h.name, "task": task_of(h), "values": _found(result.outputs[h.name], h.labels)} for h in heads
        ],
    }


def _found(output: Output, labels: tuple[str, ...]) -> dict[str, float]:
    if isinstance(output, Detections):
        return {labels[i]: n for i, n in Counter(output.classes.tolist()).most_common()}
    if isinstance(output, Mask):
        shares = zip(labels, output.shares(len(labels)).tolist(), strict=True)
        return {label: round(share, 3) for label, share in shares}
    return {labels[output.label]: round(float(output.probabilities.max()), 3)} if output.label >= 0 else {}
