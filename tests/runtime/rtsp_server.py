"""An RTSP server and an HTTP MJPEG server on loopback that stall, die, refuse and come back when told to.

RTSP 1.0 (RFC 2326) with RTP over the same connection (interleaved), of JPEG (RFC 2435) or H.264 (RFC 6184). All show a
counter in black and white blocks, so that a received picture says which one it is, and keep when each was sent.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import struct
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Mode = Literal["play", "stall", "silent", "refuse", "broken"]
"""play: frames flow. stall: the connection stays, no frame follows. silent: a connection is taken and nothing is said.
refuse: every request is answered with an error. broken: frames whose pictures can't be decoded."""

HEIGHT, WIDTH = 144, 256
BITS, BLOCK = 16, 16
_CHUNK = 1200


def counter_picture(count: int) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3): 16 blocks in the top row, most significant first, a moving bar below."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(BITS):
        picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 if count >> (BITS - 1 - bit) & 1 else 0
    left = count * 4 % (WIDTH - 8)
    picture[BLOCK * 2 :, left : left + 8] = (40, 200, 240)
    return picture


def read_counter(picture: NDArray[np.uint8]) -> int:
    """The number that `counter_picture` put there."""
    count = 0
    for bit in range(BITS):
        centre = picture[4 : BLOCK - 4, bit * BLOCK + 4 : (bit + 1) * BLOCK - 4]
        count = count << 1 | int(centre.mean() > 127)
    return count


class LoopbackServer:
    """Accepts on 127.0.0.1:`port` until `stop`; `start` again serves on the same port. One thread a connection."""

    scheme = ""

    def __init__(self, *, fps: float = 25.0, login: str = "") -> None:
        self.fps, self.login = fps, login
        self.mode: Mode = "play"
        self.sent_ns: dict[int, int] = {}
        self.accepted = 0
        self.count = 0
        self.port = 0
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is found, with the login."""
        login = f"{self.login}@" if self.login else ""
        return f"{self.scheme}://{login}127.0.0.1:{self.port}/front"

    def __enter__(self) -> LoopbackServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the port of before where there was one."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(8)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Die: nobody listens, and every connection is cut."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Cut the connections; new ones are taken."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            self._talk(connection)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _talk(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def _allowed(self, request: str) -> bool:
        given = base64.b64encode(self.login.encode()).decode()
        return not self.login or f"Authorization: Basic {given}" in request

    def _next_picture(self) -> bytes | None:
        """The next JPEG when it is due; None while stalled."""
        time.sleep(1 / self.fps)
        if self.mode not in ("play", "broken"):
            return None
        with self._lock:
            self.count += 1
            count = self.count
        options = [cv2.IMWRITE_JPEG_QUALITY, 90]
        if hasattr(cv2, "IMWRITE_JPEG_SAMPLING_FACTOR"):  # before OpenCV 4.7 it was 4:2:0 in any case
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111]
        jpeg: bytes = cv2.imencode(".jpg", counter_picture(count), options)[1].tobytes()
        self.sent_ns[count] = time.monotonic_ns()
        return jpeg


class RtspServer(LoopbackServer):
    """OPTIONS, DESCRIBE, SETUP, PLAY and TEARDOWN; one video track of JPEG."""

    scheme = "rtsp"
    payload_type = 26

    def _talk(self, connection: socket.socket) -> None:
        stop = threading.Event()
        sender: threading.Thread | None = None
        stream = connection.makefile("rb")
        try:
            while request := _request(stream):
                if self.mode == "silent":
                    continue
                method = request.split(" ", 1)[0]
                connection.sendall(self._answer(method, request).encode())
                if method == "PLAY" and self.mode != "refuse" and sender is None:
                    sender = threading.Thread(target=self._send, args=(connection, stop), daemon=True)
                    sender.start()
                if method == "TEARDOWN":
                    return
        finally:
            stop.set()
            stream.close()
            if sender is not None:
                sender.join(2.0)

    def _answer(self, method: str, request: str) -> str:
        number = next((line for line in request.split("\r\n") if line.lower().startswith("cseq:")), "CSeq: 0")
        if self.mode == "refuse":
            return f"RTSP/1.0 503 Service Unavailable\r\n{number}\r\n\r\n"
        if method != "OPTIONS" and not self._allowed(request):
            return f'RTSP/1.0 401 Unauthorized\r\n{number}\r\nWWW-Authenticate: Basic realm="test"\r\n\r\n'
        if method == "SETUP" and "RTP/AVP/TCP" not in request:
            return f"RTSP/1.0 461 Unsupported Transport\r\n{number}\r\n\r\n"
        return f"RTSP/1.0 200 OK\r\n{number}\r\n" + _body(method, self._media())

    def _media(self) -> str:
        return "m=video 0 RTP/AVP 26\r\n"

    def _send(self, connection: socket.socket, stop: threading.Event) -> None:
        sequence = 0
        try:
            while not stop.is_set():
                payloads = self._next_payloads()
                stamp = int(time.monotonic() * 90_000) & 0xFFFFFFFF
                packets = []
                for payload in payloads:
                    kind = self.payload_type | (0x80 if payload is payloads[-1] else 0)
                    packets.append(struct.pack(">BBHII", 0x80, kind, sequence & 0xFFFF, stamp, 0x5EED) + payload)
                    sequence += 1
                connection.sendall(b"".join(b"$\0" + struct.pack(">H", len(p)) + p for p in packets))
        except OSError:
            return

    def _next_payloads(self) -> list[bytes]:
        """RTP payloads of the next picture, when it is due; none while stalled."""
        jpeg = self._next_picture()
        return [] if jpeg is None else _rtp_jpeg(jpeg, broken=self.mode == "broken")


class H264Server(RtspServer):
    """The same with H.264 (RFC 6184) from counter.h264, over and over; `count` is the number of the picture sent last.

    Set `count` to begin in the middle of a group of pictures, as a camera does for whoever comes.
    """

    payload_type = 96

    def __init__(self, *, fps: float = 25.0, login: str = "") -> None:
        super().__init__(fps=fps, login=login)
        self.pictures, self._parameter_sets = _h264_pictures()

    def _media(self) -> str:
        sets = ",".join(base64.b64encode(unit).decode() for unit in self._parameter_sets)
        return (
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\n"
        )

    def _next_payloads(self) -> list[bytes]:
        time.sleep(1 / self.fps)
        if self.mode != "play":
            return []
        with self._lock:
            self.count = (self.count + 1) % len(self.pictures)
            self.sent_ns[self.count] = time.monotonic_ns()
            return [payload for unit in self.pictures[self.count] for payload in _rtp_h264(unit)]


class MjpegServer(LoopbackServer):
    """multipart/x-mixed-replace over HTTP, as many cameras and phones serve it."""

    scheme = "http"

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            request = _request(stream)
        if self.mode == "silent":
            while self.mode == "silent":
                time.sleep(0.05)
            return
        if self.mode == "refuse":
            connection.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        if not self._allowed(request):
            connection.sendall(b'HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm="test"\r\n\r\n')
            return
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        while self._listener is not None:
            jpeg = self._next_picture()
            if jpeg is None:
                continue
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            connection.sendall(head.encode() + jpeg + b"\r\n")


def _body(method: str, media: str) -> str:
    """What follows the status and the sequence number of an answer."""
    if method == "OPTIONS":
        return "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
    if method == "DESCRIBE":
        sdp = (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=front\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=control:*\r\n"
            f"{media}a=control:track0\r\n"
        )
        return f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"
    if method == "SETUP":
        return "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60\r\n\r\n"
    return "Session: 1\r\n\r\n"


def _request(stream: object) -> str:
    """One request's lines up to the empty one; interleaved packets of the client (RTCP) are passed over."""
    lines: list[bytes] = []
    while True:
        first = stream.read(1)  # type: ignore[attr-defined]
        if not first:
            return ""
        if first == b"$" and not lines:
            _, length = struct.unpack(">BH", stream.read(3))  # type: ignore[attr-defined]
            stream.read(length)  # type: ignore[attr-defined]
            continue
        line = first + stream.readline(4096)  # type: ignore[attr-defined]
        if line == b"\r\n":
            return b"\r\n".join(lines).decode("latin-1") + "\r\n"
        lines.append(line.rstrip(b"\r\n"))


def _rtp_jpeg(jpeg: bytes, *, broken: bool) -> list[bytes]:
    """RTP payloads of a baseline JPEG: RFC 2435, type 1 (4:2:0), Q 255 with the tables in the first packet."""
    tables, scan = _tables_and_scan(jpeg)
    if broken:
        scan = scan[:8]
    payloads = []
    for offset in range(0, len(scan), _CHUNK):
        main = struct.pack(">BBHBBBB", 0, offset >> 16, offset & 0xFFFF, 1, 255, WIDTH // 8, HEIGHT // 8)
        quantisation = struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        payloads.append(main + quantisation + scan[offset : offset + _CHUNK])
    return payloads


def _tables_and_scan(jpeg: bytes) -> tuple[bytes, bytes]:
    """The two quantisation tables (128 bytes) and the entropy-coded data without the end marker."""
    tables, at = b"", 2
    while True:
        marker, length = jpeg[at + 1], struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        body = jpeg[at + 4 : at + 2 + length]
        if marker == 0xDB:
            while body:
                tables, body = tables + body[1:65], body[65:]
        at += 2 + length
        if marker == 0xDA:
            return tables, jpeg[at : jpeg.rindex(b"\xff\xd9")]


def _h264_pictures() -> tuple[list[list[bytes]], list[bytes]]:
    """The NAL units of each picture of counter.h264, and its two parameter sets."""
    data = Path(__file__).with_name("counter.h264").read_bytes()
    units = [unit for unit in re.split(b"\0?\0\0\x01", data) if unit]
    pictures: list[list[bytes]] = []
    waiting: list[bytes] = []
    for unit in units:
        waiting.append(unit)
        if unit[0] & 31 in (1, 5):  # a slice; what came before it belongs to the same picture
            pictures.append(waiting)
            waiting = []
    return pictures, [unit for unit in pictures[0] if unit[0] & 31 in (7, 8)]


def _rtp_h264(unit: bytes) -> list[bytes]:
    """RTP payloads of a NAL unit: as it is, or in fragments (FU-A)."""
    size = 400  # small, so that key frames are cut
    if len(unit) <= size:
        return [unit]
    payloads = []
    for offset in range(1, len(unit), size):
        part = unit[offset : offset + size]
        ends = (0x80 if offset == 1 else 0) | (0x40 if offset + size >= len(unit) else 0)
        payloads.append(bytes([unit[0] & 0xE0 | 28, ends | unit[0] & 31]) + part)
    return payloads
