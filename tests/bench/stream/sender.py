"""A camera on loopback: numbered pictures as MJPEG over HTTP, each when it is due, whoever listens or not.

usage: python sender.py PICTURES FPS   PICTURES: folder of numbered JPEG files. Prints {"port": …} at the start; once
the one client has gone, when each picture was due on CLOCK_MONOTONIC, and how many could not be sent.

Like a camera it never waits: while the connection takes no more, pictures are lost, and the next one that is sent is
the newest. The time of capture is when a picture was due.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


class Sender:
    """Sends to one client until it goes or `seconds` are over."""

    def __init__(self, pictures: list[bytes], fps: float) -> None:
        self._pictures, self._fps = pictures, fps
        self.due_ns: list[tuple[int, int]] = []
        self.lost = 0
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(4)
        self.port = int(self._listener.getsockname()[1])

    def serve(self, seconds: float) -> None:
        """Wait for a client that asks for the stream; one that asks and goes at once (a probe) is let go."""
        until_s = time.monotonic() + seconds
        self._listener.settimeout(seconds)
        while not self.due_ns and time.monotonic() < until_s:
            client, _ = self._listener.accept()
            with client:
                request = client.recv(65536)
                if not request.startswith(b"GET"):
                    client.sendall(_HEAD)
                    continue
                try:
                    client.sendall(_HEAD)
                    client.setblocking(False)
                    self._stream(client, until_s)
                except OSError:
                    if len(self.due_ns) < 5:  # it only looked
                        self.due_ns.clear()
                        self.lost = 0

    def _stream(self, client: socket.socket, until_s: float) -> None:
        start_s, number = time.monotonic(), -1
        while time.monotonic() < until_s:
            due = max(int((time.monotonic() - start_s) * self._fps), number + 1)
            self.lost += due - number - 1
            number, due_s = due, start_s + due / self._fps
            time.sleep(max(due_s - time.monotonic(), 0.0))
            place = number % len(self._pictures)
            self.due_ns.append((place, int(due_s * 1e9)))
            jpeg = self._pictures[place]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            _send(client, head.encode() + jpeg + b"\r\n", until_s)


def _send(client: socket.socket, data: bytes, until_s: float) -> None:
    left = memoryview(data)
    while left and time.monotonic() < until_s:
        select.select([], [client], [], 0.5)
        try:
            left = left[client.send(left) :]
        except BlockingIOError:
            continue


def main() -> None:
    """Read everything into memory first: nothing is encoded or read while somebody measures."""
    files = sorted(Path(sys.argv[1]).glob("*.jpg"))
    sender = Sender([file.read_bytes() for file in files], float(sys.argv[2]))
    print(json.dumps({"port": sender.port}), flush=True)
    sender.serve(600.0)
    print(json.dumps({"due_ns": sender.due_ns, "lost": sender.lost}), flush=True)


if __name__ == "__main__":
    main()
