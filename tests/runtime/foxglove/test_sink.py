"""The sink over a real connection: what is advertised, what arrives, and a loop that is not held up."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from foxglove_support import WAIT_S, Client
from recording_support import frame_of, noise, placed, result
from runtime_support import CLASSIFY, HEADS, FakeCamera, scene, snapshot_of, until
from websockets.exceptions import WebSocketException

import edgetl_runtime
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import InputError, MissingPackage
from edgetl_runtime.foxglove import FoxgloveSink
from edgetl_runtime.foxglove import lane as lane_module
from edgetl_runtime.foxglove import pictures as pictures_module
from edgetl_runtime.health import Event
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.result import Frame, Result

TOPICS = {
    "/camera/image",
    "/camera/boxes",
    "/edgetl/result",
    "/edgetl/event",
    "/edgetl/ledger",
    "/edgetl/log",
    "/edgetl/objects",
}
EVENT = Event(time.monotonic_ns(), "cam", "dark", began=True, state="degraded", detail="covered")


@pytest.fixture
def sink() -> Iterator[FoxgloveSink]:
    made = FoxgloveSink(HEADS, port=0)
    yield made
    made.close()


class Feeding:
    """Writes results and events into a sink until it is left, as a loop does."""

    def __init__(self, sink: FoxgloveSink, make: Callable[[int], Result] = result) -> None:
        self.sink, self.make, self.ended = sink, make, False
        self.slowest_s, self.written = 0.0, 0
        self.thread = threading.Thread(target=self._work)

    def __enter__(self) -> Feeding:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self.thread.join()

    def _work(self) -> None:
        picture = frame_of(self.make(0)).image
        while not self.ended:
            of = self.make(self.written)
            frame = Frame(picture, of.frame_id, of.camera_id, of.t_capture_ns)
            before_s = time.monotonic()
            self.sink.write(of, frame, None)
            self.sink.event(EVENT)
            self.slowest_s = max(self.slowest_s, time.monotonic() - before_s)
            self.written += 1
            time.sleep(0.01)


def test_every_topic_is_advertised_with_its_schema(sink: FoxgloveSink) -> None:
    with Client(sink.port) as client:
        client.learn(len(TOPICS))
        assert set(client.channels) == TOPICS
        names = {topic: (c["schemaName"], c["encoding"], c["schemaEncoding"]) for topic, c in client.channels.items()}
    assert names["/camera/image"] == ("foxglove.CompressedImage", "protobuf", "protobuf")
    assert names["/camera/boxes"] == ("foxglove.ImageAnnotations", "protobuf", "protobuf")
    assert names["/edgetl/objects"] == ("foxglove.SceneUpdate", "protobuf", "protobuf")
    assert names["/edgetl/log"] == ("foxglove.Log", "protobuf", "protobuf")
    assert names["/edgetl/ledger"] == ("edgetl.Ledger", "json", "jsonschema")


def test_everything_arrives_and_can_be_read(sink: FoxgloveSink) -> None:
    from foxglove_schemas_protobuf import CompressedImage_pb2, ImageAnnotations_pb2, SceneUpdate_pb2

    def make(number: int) -> Result:
        return result(number, outputs=result(number).outputs | {"detect": placed(3)})

    ledger = Ledger()
    ledger.add("infer", 3.0)
    sink.watch(lambda: snapshot_of(ledger=ledger, dropped=4, newest=result()))
    with Client(sink.port) as client, Feeding(sink, make):
        client.learn(len(TOPICS))
        client.subscribe(*sorted(TOPICS))
        found = client.collect(TOPICS)
        image = found["/camera/image"]
        stamps: dict[str, set[int]] = {"/camera/boxes": set(), "/camera/image": set()}
        end_s = time.monotonic() + WAIT_S
        while not stamps["/camera/boxes"] & stamps["/camera/image"]:  # a picture and its boxes have one stamp
            arrived = client.receive()
            if arrived.topic in stamps:
                stamps[arrived.topic].add(arrived.message.timestamp.ToNanoseconds())
            assert time.monotonic() < end_s
    theirs = CompressedImage_pb2.CompressedImage.FromString(image.message.SerializeToString())
    decoded = cv2.imdecode(np.frombuffer(theirs.data, np.uint8), cv2.IMREAD_COLOR)
    assert theirs.format == "jpeg" and theirs.frame_id == "cam_optical_frame"
    assert decoded is not None and decoded.shape == noise((90, 160)).shape  # as large as what boxes are drawn in
    annotations = ImageAnnotations_pb2.ImageAnnotations.FromString(found["/camera/boxes"].message.SerializeToString())
    assert len(annotations.points) == 3 and annotations.texts[0].text.endswith(" 10 m")
    entities = SceneUpdate_pb2.SceneUpdate.FromString(found["/edgetl/objects"].message.SerializeToString()).entities
    assert [e.frame_id for e in entities] == ["base_link"] * 2
    assert found["/edgetl/log"].message.message == "dark: covered"
    assert found["/edgetl/event"].message["condition"] == "dark"
    assert found["/edgetl/ledger"].message["stages"]["infer"]["p95_ms"] == 3.0
    assert found["/edgetl/ledger"].message["dropped"] == 4
    row = found["/edgetl/result"].message
    assert row["detections"][0]["position_m"] == [10.0, 0.0] and row["health"] == "ok"
    assert abs(found["/edgetl/result"].t_ns - time.time_ns()) < 60e9  # on the clock on the wall


def test_nothing_is_made_for_nobody(sink: FoxgloveSink, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(lane_module, "annotations_message", lambda *_: made.append("boxes") or b"x")
    monkeypatch.setattr(pictures_module, "jpeg_message", lambda *_: made.append("picture") or b"x")
    monkeypatch.setattr(lane_module, "ledger_message", lambda *_: made.append("ledger") or b"{}")
    sink.watch(snapshot_of)
    with Client(sink.port) as client, Feeding(sink) as feeding:
        client.learn(len(TOPICS))
        while feeding.written < 20:
            time.sleep(0.01)
        assert made == [] and not sink.notes
        client.subscribe("/camera/boxes")
        while "boxes" not in made:
            time.sleep(0.01)
        assert set(made) == {"boxes"}


def test_pictures_come_at_the_rate_that_was_asked_for() -> None:
    sink = FoxgloveSink(HEADS, port=0, pictures_per_s=5)
    with Client(sink.port) as client, Feeding(sink) as feeding:
        client.learn(len(TOPICS))
        client.subscribe("/camera/image")
        client.receive()
        written, started_s, count = feeding.written, time.monotonic(), 0
        while feeding.written - written < 60:
            with suppress(TimeoutError):
                client.receive(0.05)
                count += 1
        took_s = time.monotonic() - started_s
    sink.close()
    assert 1 <= count <= took_s * 5 + 2


def test_a_client_that_reads_nothing_holds_up_nobody(sink: FoxgloveSink) -> None:
    def make(number: int) -> Result:
        return result(number, size_hw=(720, 1280))

    with Client(sink.port) as dead, Client(sink.port) as client, Feeding(sink, make) as feeding:
        for each in (dead, client):
            each.learn(len(TOPICS))
            each.subscribe("/camera/image", "/camera/boxes")
        arrived = [client.receive() for _ in range(80)]
    for topic in ("/camera/image", "/camera/boxes"):
        times = [each.t_ns for each in arrived if each.topic == topic]
        assert len(times) > 3 and times == sorted(times)
    assert feeding.slowest_s < 1.0  # it waits for nobody: a blocked socket would hold it until the end


def test_a_client_that_vanishes_is_forgotten(sink: FoxgloveSink) -> None:
    with Feeding(sink):
        for _ in range(3):
            client = Client(sink.port).__enter__()
            client.learn(len(TOPICS))
            client.subscribe("/camera/image")
            client.receive()
            client.socket.socket.shutdown(socket.SHUT_RDWR)
        image = sink._pictures._channel
        until(lambda: not image.has_sinks(), WAIT_S)


def test_closing_ends_the_server_and_tells_what_waits(sink: FoxgloveSink) -> None:
    with Client(sink.port) as client:
        client.learn(len(TOPICS))
        client.subscribe("/edgetl/log", "/edgetl/ledger")
        ended = Event(time.monotonic_ns(), "cam", "stopped", began=True, state="fault", detail="the end")
        channel = sink._lane.channels["/edgetl/log"]
        while not channel.has_sinks():
            time.sleep(0.01)
        sink.event(ended)
        sink.close()
        sink.close()
        assert client.receive().message.message == "stopped: the end"
        with pytest.raises(WebSocketException):
            client.receive()
    with pytest.raises(OSError):
        Client(sink.port).__enter__()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("foxglove")]


def test_on_a_loop(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    sink = FoxgloveSink(bundle.manifest.heads, port=0)
    camera = FakeCamera([scene(180, 320, i) for i in range(16)] * 6000, delay_s=0.01)
    ended = threading.Event()

    class Ender:
        needs_picture = False

        @property
        def stop(self) -> bool:
            return ended.is_set()

        def write(self, *_: Any) -> None:
            pass

        def event(self, event: Event) -> None:
            pass

        def close(self) -> None:
            pass

    summary: list[Any] = []
    loop = threading.Thread(target=lambda: summary.append(edgetl_runtime.run(bundle, camera, sinks=[sink, Ender()])))
    loop.start()
    try:
        with Client(sink.port) as client:
            client.learn(len(TOPICS))
            client.subscribe("/edgetl/ledger", "/edgetl/result", "/camera/image")
            found = client.collect({"/edgetl/ledger", "/edgetl/result", "/camera/image"})
            ledger = client.collect({"/edgetl/ledger"})["/edgetl/ledger"].message
    finally:
        ended.set()
        loop.join()
    assert ledger["processed"] > 0 and ledger["health"] == "ok" and "infer" in ledger["stages"]
    assert found["/edgetl/result"].message["size_hw"] == [180, 320]
    assert summary[0].processed and not summary[0].failed


def test_a_bundle_without_boxes_has_no_topics_for_them() -> None:
    sink = FoxgloveSink((CLASSIFY,), port=0)
    with Client(sink.port) as client:
        client.learn(5)
        assert set(client.channels) == TOPICS - {"/camera/boxes", "/edgetl/objects"}
    sink.close()


def test_a_result_that_can_not_be_told_does_not_end_the_others(
    sink: FoxgloveSink, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(sink.port) as client:
        client.learn(len(TOPICS))
        client.subscribe("/camera/boxes")
        channel = sink._lane.channels["/camera/boxes"]
        while not channel.has_sinks():
            time.sleep(0.01)
        broken = dataclasses.replace(result(), outputs={})
        sink.write(broken, frame_of(broken), None)
        sink.write(of := result(), frame_of(of), None)
        assert len(client.receive().message.points) == 3
    assert "no message: KeyError" in capsys.readouterr().err


def test_what_comes_too_fast_is_counted(sink: FoxgloveSink, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(sink._lane, "_tell_event", lambda _: held.wait(WAIT_S))
    for _ in range(lane_module.MAX_WAITING + 12):
        sink.event(EVENT)
    assert 10 <= sink._lane.left_out <= 12
    assert sink.notes == [f"Foxglove: {sink._lane.left_out} results or events came too fast to be told"]
    held.set()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bind": "0.0.0.0"}, r"asks nobody for a token, so it doesn't listen on 0\.0\.0\.0; .*ssh -L"),
        ({"bind": "::"}, "asks nobody for a token"),
        ({"port": 65536}, "from 0 to 65535"),
        ({"port": -1}, "from 0 to 65535"),
    ],
)
def test_where_it_does_not_listen(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        FoxgloveSink(HEADS, **options)


def test_a_port_that_is_taken_is_one_line(sink: FoxgloveSink) -> None:
    with pytest.raises(InputError, match=rf"can't listen on port {sink.port}: .*; give another one, or 0 for any"):
        FoxgloveSink(HEADS, port=sink.port)


def test_it_listens_on_this_machine_only(sink: FoxgloveSink) -> None:
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{sink.port:04X}")
    ]
    assert listening == [f"0100007F:{sink.port:04X}"]


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "foxglove", None)
    with pytest.raises(MissingPackage, match=r"edgetl\[vehicle\]"):
        FoxgloveSink(HEADS, port=0)


def test_documents_are_json_that_any_reader_takes(sink: FoxgloveSink) -> None:
    broken = result(outputs=result().outputs | {"detect": placed(2)})
    with Client(sink.port) as client:
        client.learn(len(TOPICS))
        client.subscribe("/edgetl/result")
        while not sink._lane.channels["/edgetl/result"].has_sinks():
            time.sleep(0.01)
        sink.write(broken, frame_of(broken), None)
        document = client.receive().message
    assert json.loads(json.dumps(document, allow_nan=False))["detections"][1]["position_m"] is None
