"""Network cameras against servers on loopback that stall, refuse, die and come back."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from numpy.typing import NDArray
from rtsp_server import (
    HEIGHT,
    WIDTH,
    H264Server,
    LoopbackServer,
    MjpegServer,
    Mode,
    RtspServer,
    counter_picture,
    read_counter,
)

from edgetl_runtime.cameras import _reader as reader_module
from edgetl_runtime.cameras import open_camera
from edgetl_runtime.cameras._arrivals import CatchUp
from edgetl_runtime.cameras._ffmpeg_options import VARIABLE, OptionsGate
from edgetl_runtime.cameras._reader import GRACE_S, MAX_STUCK, Grabbed, Reader, stuck_threads
from edgetl_runtime.cameras._url import public_url
from edgetl_runtime.cameras.reconnecting import ReconnectingCamera
from edgetl_runtime.cameras.stream import OPTIONS, StreamCamera
from edgetl_runtime.errors import CameraError
from edgetl_runtime.health import Health

LOGIN = "driver:hush-hush"
SECRET = "hush"


@pytest.fixture(params=[RtspServer, MjpegServer], ids=["rtsp", "http"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with request.param(login=LOGIN) as running:
        yield running


def seconds_until_error(camera: Any, message: str) -> float:
    """How long reads went on before CameraError with this text."""
    start = time.monotonic()
    with pytest.raises(CameraError, match=message) as caught:
        while True:
            assert camera.read() is not None
    assert SECRET not in str(caught.value)
    return time.monotonic() - start


def test_frames_come_fresh_in_order_and_whole(server: LoopbackServer) -> None:
    camera = open_camera(server.url)
    frames = [camera.read() for _ in range(10)]
    ages_ms = []
    for frame in frames:
        assert frame is not None and frame.image.shape == (HEIGHT, WIDTH, 3)
        ages_ms.append((frame.t_capture_ns - server.sent_ns[read_counter(frame.image)]) / 1e6)
    counters = [read_counter(f.image) for f in frames if f is not None]
    ids = [f.frame_id for f in frames if f is not None]
    assert counters == sorted(set(counters)) and ids == sorted(set(ids))
    assert [c - i for c, i in zip(counters, ids, strict=True)] == [counters[0] - ids[0]] * 10  # gaps are told
    assert min(ages_ms) > -1.0 and sorted(ages_ms)[5] < 100.0  # opening keeps nothing back that is then stamped as new
    assert (camera.live, camera.size_hw, camera.frame_count) == (True, (HEIGHT, WIDTH), None)
    camera.close()
    camera.close()
    assert camera.read() is None
    sys.stderr.write(f"age at hand-over {sorted(ages_ms)[5]:.1f} ms in the middle, {max(ages_ms):.1f} at most\n")


def test_a_slow_consumer_gets_the_newest_frame_with_its_own_stamp(server: LoopbackServer) -> None:
    camera = open_camera(server.url)
    camera.read()
    time.sleep(3.0)  # an engine is loaded meanwhile
    frame = camera.read()
    assert frame is not None
    age_ms = (time.monotonic_ns() - server.sent_ns[read_counter(frame.image)]) / 1e6
    assert age_ms < 1500.0
    assert abs((time.monotonic_ns() - frame.t_capture_ns) / 1e6 - age_ms) < 1000.0
    camera.close()


def test_nothing_shows_the_password(server: LoopbackServer) -> None:
    camera = open_camera(server.url)
    frame = camera.read()
    assert frame is not None
    shown = [camera.camera_id, frame.camera_id, *camera.notes, *(t.name for t in threading.enumerate())]
    assert camera.camera_id == f"{server.scheme}://127.0.0.1:{server.port}/front"
    assert not any(SECRET in text for text in shown)
    camera.close()
    wrong = server.url.replace("hush-hush", "hush-wrong")
    with pytest.raises(CameraError, match="can't be opened") as caught:
        open_camera(wrong)
    assert SECRET not in str(caught.value)


def test_the_exposure_time_is_said_to_be_unknown(server: LoopbackServer) -> None:
    camera = open_camera(server.url)
    assert any("exposure times are unknown" in note for note in camera.notes)
    camera.close()


def test_the_open_time_out_holds(server: LoopbackServer) -> None:
    server.mode = "silent"
    start = time.monotonic()
    with pytest.raises(CameraError, match="did not open within 1 s"):
        StreamCamera(server.url, open_s=1.0)
    assert time.monotonic() - start < 5.0


def test_a_refusal_is_told_at_once(server: LoopbackServer) -> None:
    server.mode = "refuse"
    start = time.monotonic()
    with pytest.raises(CameraError, match="can't be opened"):
        StreamCamera(server.url)
    server.stop()
    with pytest.raises(CameraError, match="can't be opened"):
        StreamCamera(server.url)
    assert time.monotonic() - start < 5.0


def test_the_read_time_out_holds_when_the_server_stalls(server: LoopbackServer) -> None:
    camera = StreamCamera(server.url, read_s=1.0)
    assert camera.read() is not None
    server.mode = "stall"
    took_s = seconds_until_error(camera, "gave no frame for 1 s")
    sys.stderr.write(f"read time-out 1 s, raised after {took_s:.2f} s\n")
    assert 0.8 < took_s < 5.0
    camera.close()
    assert stuck_threads() == 0


def test_a_cut_connection_is_told_at_once(server: LoopbackServer) -> None:
    camera = StreamCamera(server.url)
    assert camera.read() is not None
    server.cut()
    assert seconds_until_error(camera, "ended its stream") < 3.0
    camera.close()


def test_interrupt_ends_reading_and_opening_at_once(server: LoopbackServer) -> None:
    camera = StreamCamera(server.url, read_s=20.0)
    assert camera.read() is not None
    server.mode = "stall"
    threading.Timer(0.3, camera.interrupt).start()
    start = time.monotonic()
    while camera.read() is not None:
        pass
    camera.close()
    assert time.monotonic() - start < 10.0
    server.mode = "silent"
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    start = time.monotonic()
    with pytest.raises(CameraError, match="was closed while"):
        StreamCamera(server.url, open_s=20.0, stop=stop)
    assert time.monotonic() - start < 10.0
    server.stop()  # lets the threads that were left behind come back
    deadline = time.monotonic() + 5.0
    while stuck_threads() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stuck_threads() == 0


@pytest.mark.parametrize("outage", ["stop", "stall", "refuse"])
def test_results_resume_soon_after_the_server_is_back(server: LoopbackServer, outage: str) -> None:
    health = Health("front")
    camera = ReconnectingCamera(
        lambda stop: StreamCamera(server.url, open_s=1.0, read_s=0.6, stop=stop), health=health, rng=random.Random(0)
    )
    before = camera.read()
    assert before is not None
    if outage == "stop":
        server.stop()
    else:
        server.mode = "stall" if outage == "stall" else "refuse"
        if outage == "refuse":
            server.cut()
    back_ns: list[int] = []

    def come_back() -> None:
        back_ns.append(time.monotonic_ns())
        server.mode = "play"
        if outage == "stop":
            server.start()

    timer = threading.Timer(1.5, come_back)
    timer.start()
    last = before
    while not back_ns or last.t_capture_ns < back_ns[0]:
        frame = camera.read()
        assert frame is not None and frame.frame_id > last.frame_id
        last = frame
    took_s = (last.t_capture_ns - back_ns[0]) / 1e9
    sys.stderr.write(f"{server.scheme} {outage}: first frame {took_s:.2f} s after it was back\n")
    assert took_s < 10.0
    assert camera.reconnects == 1 and health.state == "ok"
    conditions = [(e.condition, e.began) for e in health.recent()]
    assert conditions == [("disconnected", True), ("disconnected", False)]
    assert not any(SECRET in e.detail for e in health.recent())
    timer.join()
    camera.close()


def test_thirty_reconnects_leave_no_thread_and_no_file_open() -> None:
    with RtspServer(fps=100.0) as server:
        camera = ReconnectingCamera(lambda stop: StreamCamera(server.url, stop=stop), first_s=0.001, most_s=0.002)
        counts = []
        for _ in range(31):
            before = camera.reconnects
            assert camera.read() is not None
            counts.append((threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))))
            server.cut()
            while camera.reconnects == before:
                assert camera.read() is not None
        camera.close()
    sys.stderr.write(f"threads and files after each of {camera.reconnects} reconnects: {counts[1]} ... {counts[-1]}\n")
    assert camera.reconnects >= 30
    threads, files = zip(*counts, strict=True)
    assert max(threads[-5:]) <= max(threads[:5]) and max(files[-5:]) <= max(files[:5])


@pytest.mark.parametrize(("begin", "key_frame"), [(99, 0), (5, 50)], ids=["key frame", "mid group"])
def test_h264_starts_with_whole_pictures_and_true_stamps(begin: int, key_frame: int) -> None:
    with H264Server() as server:
        server.count = begin
        camera = StreamCamera(server.url)
        frames = [frame for frame in (camera.read() for _ in range(20)) if frame is not None]
        camera.close()
    counters = [read_counter(f.image) for f in frames]
    assert key_frame <= counters[0] < key_frame + 25  # the key frame that was read ahead is made use of
    assert [c - f.frame_id for c, f in zip(counters, frames, strict=True)] == [counters[0] - frames[0].frame_id] * 20
    assert np.abs(frames[0].image.astype(int) - counter_picture(counters[0])).mean() < 6.0
    ages_ms = [(f.t_capture_ns - server.sent_ns[c]) / 1e6 for f, c in zip(frames, counters, strict=True)]
    sys.stderr.write(f"h264: first {counters[0] - key_frame} after the key frame, stamped {min(ages_ms):.1f} ms late\n")
    assert min(ages_ms) < 20.0  # FFmpeg hands them over an interval of 40 ms later
    assert any("h264 picture back" in note for note in camera.notes)


@pytest.mark.parametrize(
    ("grabs", "old"),
    [
        ([(0.0, 0), (0.1, 100), (0.2, 200)], [True, False, False]),  # nothing was waiting but the first
        ([(0.0, 0), (0.01, 100), (0.02, 200), (0.06, 300), (0.07, 301)], [True, True, True, True, False]),
        ([(0.0, 0), (0.001, 0), (0.1, 0), (0.1, 0)], [True, True, False, False]),  # no times stated
        ([(0.0, 0), (0.1, 9e9), (0.1, 0)], [True, False, False]),  # times that jump
        ([(0.0, 0), *((i / 100, i * 40.0) for i in range(1, 60))], [True] * 51 + [False] * 9),  # 0.5 s at the most
    ],
)
def test_frames_that_were_waiting_are_told_from_new_ones(grabs: list[tuple[float, float]], old: list[bool]) -> None:
    catch_up = CatchUp(0.0)
    assert [catch_up.is_old(at_s, position_ms) for at_s, position_ms in grabs] == old


def test_damaged_pictures_are_no_end_and_the_notes_say_that_they_pass() -> None:
    with RtspServer(fps=50.0) as server:
        camera = StreamCamera(server.url, read_s=2.0)
        assert any("damaged pictures" in note for note in camera.notes)
        server.mode = "broken"
        time.sleep(0.3)
        server.mode, mended = "play", server.count
        for _ in range(60):
            frame = camera.read()
            assert frame is not None
            if read_counter(frame.image) > mended:
                break
        else:
            pytest.fail("no whole picture came after the damaged ones")
        camera.close()


@pytest.mark.parametrize("kind", [RtspServer, MjpegServer], ids=["rtsps", "https"])
def test_encrypted_streams_are_read_and_said_to_be_unproven(kind: type[LoopbackServer], tmp_path: Path) -> None:
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(write_certificate(tmp_path / "camera.pem"))

    class Secure(kind):  # type: ignore[misc, valid-type]
        scheme = f"{kind.scheme}s"

        def _serve(self, connection: socket.socket) -> None:
            super()._serve(secure.wrap_socket(connection, server_side=True))

    with Secure(login=LOGIN) as server:
        camera = open_camera(server.url)
        frame = camera.read()
        assert frame is not None and read_counter(frame.image) in server.sent_ns
        assert any("certificate is not checked" in note for note in camera.notes)  # it is of another name
        camera.close()


def write_certificate(path: Path) -> Path:
    """A key and a certificate of it, signed by itself, for a name that is not the server's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(1))
    certificate = builder.not_valid_after(now + datetime.timedelta(1)).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(secret + certificate.public_bytes(pem))
    return path


def test_a_file_behind_http_is_no_live_stream(clip: Path) -> None:
    import functools
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with pytest.raises(CameraError, match="is a file of 12 frames"):
            open_camera(f"http://127.0.0.1:{web.server_port}/{clip.name}")
        web.shutdown()


class StuckCapture:
    """OpenCV that ignores its time-outs: opens where told so, and its grab never comes back until released."""

    def __init__(self, release: threading.Event, *, opens: bool) -> None:
        self.release_it = release
        self.released = threading.Event()
        if not opens:
            release.wait(30)

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, key: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.release_it.wait(30)
        return False

    def release(self) -> None:
        self.released.set()


@pytest.mark.parametrize("opens", [True, False])
def test_a_call_that_never_returns_is_left_behind_counted_and_bounded(opens: bool) -> None:
    back = threading.Event()
    captures: list[StuckCapture] = []

    def open_capture() -> StuckCapture:
        captures.append(StuckCapture(back, opens=opens))
        return captures[-1]

    assert stuck_threads() == 0
    for number in range(1, MAX_STUCK + 1):
        start = time.monotonic()
        reader = Reader("front", open_capture, open_s=0.1, read_s=0.1, remedy="look")
        with pytest.raises(CameraError, match="gave no frame" if opens else "did not open within"):
            reader.wait_open()
            reader.read()
        assert 0.1 + GRACE_S <= time.monotonic() - start < 0.1 + GRACE_S + 5.0
        reader.close(join_s=0.05)
        assert stuck_threads() == number
    with pytest.raises(CameraError, match="already hang in OpenCV"):
        Reader("front", open_capture, open_s=0.1, read_s=0.1, remedy="look")
    back.set()
    deadline = time.monotonic() + 5.0
    while stuck_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stuck_threads() == 0
    assert len(captures) == MAX_STUCK and all(c.released.wait(20.0) for c in captures)


class SlowDecoder(StuckCapture):
    """OpenCV that grabs at once and decodes in 50 ms; of every four pictures the last is damaged."""

    def __init__(self, positions_ms: Iterable[float] = ()) -> None:
        super().__init__(threading.Event(), opens=True)
        self._positions_ms, self.grabbed_ns = iter(positions_ms), list[int]()

    def get(self, key: int) -> float:
        return next(self._positions_ms, 0.0) if key == cv2.CAP_PROP_POS_MSEC else 0.0

    def grab(self) -> bool:
        self.grabbed_ns.append(time.monotonic_ns())
        return len(self.grabbed_ns) < 13

    def retrieve(self, buffer: NDArray[np.uint8]) -> tuple[bool, NDArray[np.uint8]]:
        time.sleep(0.05)
        return len(self.grabbed_ns) % 4 != 0, np.zeros((4, 6, 3), np.uint8)


def grabs_of(capture: SlowDecoder, **more: Any) -> tuple[Reader, list[Grabbed]]:
    reader = Reader("front", lambda: capture, open_s=5.0, read_s=5.0, remedy="look", **more)
    found: list[Grabbed] = []
    with contextlib.suppress(CameraError):
        while (grabbed := reader.read()) is not None:
            found.append(grabbed)
    reader.close()
    return reader, found


def test_stamps_are_of_the_grab_and_damaged_pictures_are_counted() -> None:
    capture = SlowDecoder()
    reader, found = grabs_of(capture)
    assert found and {g.number for g in found} <= {0, 1, 2, 4, 5, 6, 8, 9, 10}
    late_ns = [g.stamp_ns - capture.grabbed_ns[g.number] for g in found]
    assert min(late_ns) >= 0 and sorted(late_ns)[len(late_ns) // 2] < 40_000_000, "not after decoding"
    assert reader.failed == 3


def test_pictures_that_were_waiting_are_passed_over() -> None:
    """Twelve of them are grabbed at once, though most of a second of the stream lies between any two."""
    capture = SlowDecoder(900.0 * i for i in range(20))
    _, found = grabs_of(capture, catch_up=True)
    assert found == [] and len(capture.grabbed_ns) == 13


def test_an_exception_of_opencv_is_told_without_its_text() -> None:
    def open_capture() -> object:
        raise RuntimeError("rtsp://driver:hush-hush@host")

    reader = Reader("front", open_capture, open_s=1.0, read_s=1.0, remedy="look")
    with pytest.raises(CameraError, match=r"front failed in OpenCV \(RuntimeError\)") as caught:
        reader.wait_open()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host/a", "rtsp://host/a"),
        ("RTSP://u:p@Host:554/a/b?x=1", "rtsp://host:554/a/b?x=1"),
        ("rtsp://u:p%40q@[fe80::1]:554/a", "rtsp://[fe80::1]:554/a"),
        ("http://host/v?user=a&password=b&ch=1", "http://host/v?user=***&password=***&ch=1"),
        ("rtsp://host/user=admin_password=tlJw_channel=1", "rtsp://host/user=***"),
        ("https://host/v?access_token=x;q=1", "https://host/v?access_token=***;q=1"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:hu/sh@host/a",
        "rtsp://u:1/hush@host/a",
        "rtsp://u:hush#x@host/a",
        "rtsp://u:p@hush/x@host/a",
        "rtsp://u:hush?@host/a",
        "rtsp://",
        "rtsp://host:hush/a",
        "rtsp://[hush/a",
    ],
)
def test_addresses_whose_login_cannot_be_told_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(CameraError, match="%40") as caught:
        open_camera(url)
    assert "hush" not in str(caught.value) and "hu/sh" not in str(caught.value)


def test_other_schemes_are_refused_without_their_login() -> None:
    with pytest.raises(CameraError, match="udp:// is not supported") as caught:
        open_camera("udp://u:hush@host:1234")
    assert SECRET not in str(caught.value)


def test_sizes_are_not_asked_of_streams() -> None:
    with pytest.raises(CameraError, match="V4L2 camera only") as caught:
        open_camera("rtsp://u:hush@host/a", size_hw=(10, 10))
    assert SECRET not in str(caught.value)


def test_options_are_in_the_environment_while_a_stream_opens_and_never_after(server: LoopbackServer) -> None:
    seen: list[str | None] = []
    real = cv2.VideoCapture

    def spy(*arguments: object) -> object:
        seen.append(os.environ.get(VARIABLE))
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "VideoCapture", spy)
        patch.delenv(VARIABLE, raising=False)
        StreamCamera(server.url).close()
        assert seen == [OPTIONS] and VARIABLE not in os.environ
        server.mode = "refuse"
        with pytest.raises(CameraError):
            StreamCamera(server.url)
        assert VARIABLE not in os.environ
        server.mode = "play"
        patch.setenv(VARIABLE, "rtsp_transport;tcp")
        camera = StreamCamera(server.url)
        camera.close()
        assert seen[-1] == os.environ[VARIABLE] == "rtsp_transport;tcp"
        assert any(VARIABLE in note for note in camera.notes)


def test_a_file_waits_for_a_stream_that_opens_and_streams_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    gate, order = OptionsGate(), []
    with gate.using("a;1") as ours:
        assert ours

        def other(options: str) -> None:
            with gate.using(options):
                order.append((options, os.environ.get(VARIABLE)))

        beside = threading.Thread(target=other, args=("a;1",))
        beside.start()
        beside.join(20.0)
        assert order == [("a;1", "a;1")]
        file = threading.Thread(target=other, args=("",))
        file.start()
        time.sleep(0.05)
        late = threading.Thread(target=other, args=("a;1",))
        late.start()
        time.sleep(0.05)
        assert len(order) == 1
    file.join(20.0)
    late.join(20.0)
    assert order == [("a;1", "a;1"), ("", None), ("a;1", "a;1")]
    assert VARIABLE not in os.environ


def test_an_opencv_without_ffmpeg_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: False)
    with pytest.raises(CameraError, match="without FFmpeg"):
        StreamCamera("rtsp://host/a")


def test_the_limit_of_stuck_threads_is_small() -> None:
    assert reader_module.MAX_STUCK <= 8


@pytest.mark.parametrize("mode", ["play", "stall"])
def test_a_program_that_ends_without_closing_ends_cleanly(mode: Mode) -> None:
    program = (
        "import sys; from edgetl_runtime.cameras import open_camera\n"
        "camera = open_camera(sys.argv[1]); camera.read(); print('read', flush=True); sys.stdin.readline()"
    )
    with RtspServer(fps=200.0) as server:
        for _ in range(2):
            server.mode = "play"
            command = [sys.executable, "-c", program, server.url]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None and process.stdin is not None
                assert process.stdout.readline() == "read\n"
                server.mode = mode
                process.stdin.write("end\n")
                process.stdin.close()
                start = time.monotonic()
                assert process.wait(60.0) == 0  # -6: aborted, since a thread came back too late
                assert time.monotonic() - start < 20.0
