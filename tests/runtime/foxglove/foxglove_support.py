"""A client of Foxglove's WebSocket protocol, and messages taken apart by the schemas that were advertised.

After https://github.com/foxglove/ws-protocol/blob/main/docs/spec.md.
"""

from __future__ import annotations

import base64
import json
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from websockets.sync.client import connect
from websockets.typing import Subprotocol

WAIT_S = 30.0


@dataclass
class Arrived:
    """One message: its topic, its time and what the advertised schema reads in it."""

    topic: str
    t_ns: int
    message: Any


def decode(channel: dict[str, Any], data: bytes) -> Any:
    """By the schema that travelled with the channel."""
    if channel["encoding"] == "json":
        return json.loads(data)
    files = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(channel["schema"]))
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(channel["schemaName"])).FromString(data)


@dataclass
class Client:
    """Connects, learns the channels, subscribes. One thread uses it."""

    port: int
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_subscription: dict[int, str] = field(default_factory=dict)

    def __enter__(self) -> Client:
        opened = connect(
            f"ws://127.0.0.1:{self.port}",
            subprotocols=[Subprotocol("foxglove.sdk.v1")],
            max_size=None,
            close_timeout=0.2,  # the server's farewell stands behind all that was not read
        )
        self.socket = opened.__enter__()
        assert json.loads(self.socket.recv(WAIT_S))["op"] == "serverInfo"
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def learn(self, count: int) -> None:
        """Take advertisements until `count` channels are known."""
        while len(self.channels) < count:
            document = json.loads(self.socket.recv(WAIT_S))
            if document["op"] == "advertise":
                self.channels |= {c["topic"]: c for c in document["channels"]}

    def subscribe(self, *topics: str) -> None:
        """Ask for these."""
        wanted = []
        for topic in topics:
            number = len(self.by_subscription) + 1
            self.by_subscription[number] = topic
            wanted.append({"id": number, "channelId": self.channels[topic]["id"]})
        self.socket.send(json.dumps({"op": "subscribe", "subscriptions": wanted}))

    def unsubscribe(self) -> None:
        """From all."""
        self.socket.send(json.dumps({"op": "unsubscribe", "subscriptionIds": list(self.by_subscription)}))

    def receive(self, timeout_s: float = WAIT_S) -> Arrived:
        """The next message of a channel. Raises TimeoutError."""
        end_s = time.monotonic() + timeout_s
        while True:
            data = self.socket.recv(max(end_s - time.monotonic(), 0))
            if isinstance(data, bytes) and data[0] == 1:
                number, t_ns = struct.unpack_from("<IQ", data, 1)
                topic = self.by_subscription[number]
                return Arrived(topic, t_ns, decode(self.channels[topic], data[13:]))

    def collect(self, topics: set[str]) -> dict[str, Arrived]:
        """The first message of each."""
        found: dict[str, Arrived] = {}
        end_s = time.monotonic() + WAIT_S
        while topics - set(found):
            arrived = self.receive(end_s - time.monotonic())
            found.setdefault(arrived.topic, arrived)
        return found
