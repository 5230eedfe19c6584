"""What is at which path."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgetl_runtime import metrics
from edgetl_runtime.result import Detections, Mask
from edgetl_runtime.spec import task_of
from edgetl_runtime.web.probes import STARTING, any_unready_because, dead_because, unready_because
from edgetl_runtime.web.server import Answer, Request, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edgetl_runtime.result import Output, Result
    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.spec import Head
    from edgetl_runtime.web.access import Gate
    from edgetl_runtime.web.pictures import Picture, Pictures
    from edgetl_runtime.web.shown import Shown

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
_OF_THE_WHOLE = ("time_unix_s", "uptime_s", "silent_s", "rss_mb", "events", "stages")
"""What a row of a lane leaves out: the rig's document has it, or the lane's own."""
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class LiveSite:
    """The page, its data and the probes.

    lanes: all that there are; camera=NAME and bundle=NAME in an address choose one of them, by default the first that
    has the name that is given. heads: the manifests', by bundle. shown: what runs, None until it begins.
    """

    def __init__(
        self,
        lanes: Sequence[LaneName],
        heads: Mapping[str, Sequence[Head]],
        pictures: Pictures,
        gate: Gate,
        *,
        ready_s: float,
        alive_s: float,
    ) -> None:
        self.shown: Shown | None = None
        self.cookie_name = "edgetl"
        self._lanes, self._heads = tuple(lanes), dict(heads)
        self._pictures, self._gate = pictures, gate
        self._ready_s, self._alive_s = ready_s, alive_s
        folder = importlib.resources.files("edgetl_runtime.web")
        self._files = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._pages: dict[str, Callable[[Request], Answer]] = {
            "/frame.jpg": self._frame,
            "/frames": self._frames,
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

    def _asked(self, request: Request) -> list[LaneName]:
        """The lanes that the address means, all where it names none. Empty where there is no such lane."""
        camera, bundle = request.query.get("camera"), request.query.get("bundle")
        return [n for n in self._lanes if camera in (None, n.camera) and bundle in (None, n.bundle)]

    def _none_such(self) -> Answer:
        names = ", ".join(f"camera={quote(n.camera)}&bundle={quote(n.bundle)}" for n in self._lanes)
        return text(HTTPStatus.NOT_FOUND, f"there is {names}")

    def _frame(self, request: Request) -> Answer:
        """The newest picture of a lane; after=N waits for one with a higher number."""
        lanes = self._asked(request)[:1]
        if not lanes:
            return self._none_such()
        found = self._pictures.newer_than(lanes, _after(request), WAIT_S)
        for picture in found.values():
            return Answer(HTTPStatus.OK, "image/jpeg", picture.jpeg, {"X-Picture": str(picture.number)})
        return text(HTTPStatus.SERVICE_UNAVAILABLE, "no new picture")

    def _frames(self, request: Request) -> Answer:
        """The newest pictures of all cameras, of one bundle, as multipart/form-data: each by its camera's name,
        percent-encoded, with its number as filename. after=N waits for one with a higher number, and gives only those.

        A browser opens few connections to one server, so that one for each camera would be too many.
        """
        lanes = self._asked(request)
        lanes = [n for n in lanes if n.bundle == lanes[0].bundle]
        if not lanes:
            return self._none_such()
        found = self._pictures.newer_than(lanes, _after(request), WAIT_S)
        if not found:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, "no new picture")
        parts = [_part(name.camera, picture) for name, picture in found.items()]
        body = b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])
        return Answer(HTTPStatus.OK, f"multipart/form-data; boundary={_BOUNDARY}", body)

    def _stream(self, request: Request) -> Answer:
        lanes = self._asked(request)[:1]
        if not lanes:
            return self._none_such()
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        return Answer(HTTPStatus.OK, kind, parts=self._parts(lanes))

    def _parts(self, lanes: Sequence[LaneName]) -> Iterator[bytes]:
        """The newest picture each time the client has taken the one before.

        Ends where none comes for QUIET_S: without sending, nobody notices that the client is gone.
        """
        number = 0
        while found := self._pictures.newer_than(lanes, number, QUIET_S):
            for picture in found.values():
                number = picture.number
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n"
                yield head.encode() + picture.jpeg + b"\r\n"

    def _status(self, request: Request) -> Answer:
        """One loop: its snapshot. A rig: what is of the whole, a row for each lane, and where the address names a
        camera or a bundle, `lane`: all that can be said of that one."""
        lanes = self._asked(request)
        if not lanes:
            return self._none_such()
        document: dict[str, Any] = {
            "started": self.shown is not None,
            "dead_because": self._dead_because(),
            "unready_because": any_unready_because(self.shown, self._ready_s),
        }
        if self.shown is not None:
            document |= self._running(self.shown, lanes[0] if {"camera", "bundle"} & set(request.query) else None)
        return Answer(HTTPStatus.OK, "application/json", json.dumps(document, separators=(",", ":")).encode())

    def _running(self, shown: Shown, asked: LaneName | None) -> dict[str, Any]:
        whole = shown.whole()
        if whole is None:
            return self._lane(shown, self._lanes[0])
        wanted = shown.wanted()
        rows = []
        for name in self._lanes:
            row = self._lane(shown, name, brief=True) | {"wanted": name in wanted}
            rows.append({key: value for key, value in row.items() if key not in _OF_THE_WHOLE})
        document = whole.as_json() | {"lanes": rows}
        return document if asked is None else document | {"lane": self._lane(shown, asked)}

    def _lane(self, shown: Shown, name: LaneName, *, brief: bool = False) -> dict[str, Any]:
        s = shown.snapshot(name, brief=brief)
        unready = {"unready_because": unready_because(s, self._ready_s)}
        return s.as_json() | unready | {"newest": _newest(s.newest, self._heads[name.bundle])}

    def _metrics(self, request: Request) -> Answer:
        if self.shown is None:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, STARTING)
        snapshots = {name: self.shown.snapshot(name) for name in self._lanes}
        whole = self.shown.whole()
        if whole is None:
            told = metrics.exposition(snapshots[self._lanes[0]])
        else:
            told = metrics.rig_exposition(snapshots, whole, self.shown.wanted())
        return Answer(HTTPStatus.OK, metrics.CONTENT_TYPE, told.encode())

    def _dead_because(self) -> str:
        if self.shown is None:
            return dead_because(None, self._alive_s)
        return dead_because(self.shown.whole() or self.shown.snapshot(self._lanes[0], brief=True), self._alive_s)

    def _healthz(self, request: Request) -> Answer:
        return _probe(self._dead_because())

    def _readyz(self, request: Request) -> Answer:
        return _probe(any_unready_because(self.shown, self._ready_s))


def _part(camera: str, picture: Picture) -> bytes:
    named = f'Content-Disposition: form-data; name="{quote(camera)}"; filename="{picture.number}"'
    return f"--{_BOUNDARY}\r\n{named}\r\nContent-Type: image/jpeg\r\n\r\n".encode() + picture.jpeg + b"\r\n"


def _after(request: Request) -> int:
    after = request.query.get("after", "0")
    return int(after) if _NUMBER.fullmatch(after) else 0


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
