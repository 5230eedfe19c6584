"""A CAN bus between processes of one machine, on loopback, without root: what socketcand is in front of a real one.

The other ends are python-can's interface `socketcand`; the protocol is socketcand's raw mode,
https://github.com/linux-can/socketcand/blob/master/doc/protocol.md. It has no arbitration and no bit rate. In a vehicle
nothing of this is needed: there the bus is socketcan:can0.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time


class LoopbackBus(socketserver.ThreadingTCPServer):
    """Passes each frame of one client on to all others; a client that does not read is thrown out.

    It listens once this is made, on any free port; `start` begins to answer, in threads.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Client)
        self.port: int = self.server_address[1]
        self.readers: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def settings(self) -> str:
        """For the environment variable CAN_CONFIG, in which python-can looks for what `socketcand:NAME` lacks."""
        return json.dumps({"host": "127.0.0.1", "port": self.port, "tcp_tune": True})

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def pass_on(self, sender: socket.socket, frame: bytes) -> None:
        """To everybody else."""
        with self._lock:
            for reader in self.readers - {sender}:
                try:
                    whole = reader.send(frame, socket.MSG_DONTWAIT) == len(frame)
                except OSError:
                    whole = False
                if not whole:
                    self.readers.discard(reader)
                    reader.close()

    def join(self, reader: socket.socket) -> None:
        """It gets frames from now on."""
        with self._lock:
            self.readers.add(reader)

    def leave(self, reader: socket.socket) -> None:
        """It gets none any more."""
        with self._lock:
            self.readers.discard(reader)


class _Client(socketserver.BaseRequestHandler):
    server: LoopbackBus

    def handle(self) -> None:
        buffer = b""
        try:
            self.request.sendall(b"< hi >")
            while data := self.request.recv(4096):
                *commands, buffer = (buffer + data).split(b">")
                for command in commands:
                    self._obey(command.decode("ascii").replace("<", " ").split())
        except (OSError, ValueError):  # it went away, or speaks something else
            pass
        finally:
            self.server.leave(self.request)

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["open", _]:
                self.request.sendall(b"< ok >")
            case ["rawmode"]:
                self.request.sendall(b"< ok >")
                time.sleep(0.05)  # python-can takes a frame right behind the answer for a wrong answer
                self.server.join(self.request)
            case ["send", can_id, _, *octets]:
                data = "".join(f"{int(octet, 16):02X}" for octet in octets)
                self.server.pass_on(self.request, f"< frame {can_id} {time.time():.6f} {data} >".encode())
            case _:
                raise ValueError(f"not a command of raw mode: {words}")
