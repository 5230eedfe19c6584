"""Shared memory: whole frames only, the newest, and nothing from a producer that is gone."""

from __future__ import annotations

import os
import secrets
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shared_writer import pattern

from edgetl_runtime.cameras import Interruptible, open_camera
from edgetl_runtime.cameras import _shared_layout as layout
from edgetl_runtime.cameras.shared import SharedCamera
from edgetl_runtime.cameras.shared_frames import SharedFrames
from edgetl_runtime.errors import CameraError
from edgetl_runtime.health import Health

HERE = Path(__file__).parent


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"test-{secrets.token_hex(6)}"
    yield chosen
    layout.path_of(chosen).unlink(missing_ok=True)


def start_writer(name: str, size_hw: tuple[int, int], interval_s: float) -> subprocess.Popen[str]:
    """A writer process whose file is there."""
    command = [sys.executable, str(HERE / "shared_writer.py"), name, *map(str, size_hw), str(interval_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 7), (48, 64)])
def test_what_is_written_is_read(name: str, size_hw: tuple[int, int]) -> None:
    with SharedFrames(name, (48, 64)) as writer:
        writer.write(pattern(1, 48, 64), frame_id=0)
        camera = open_camera(f"shm:{name}")
        assert (camera.size_hw, camera.live, camera.camera_id) == ((48, 64), True, f"shm:{name}")
        for number in (7, 9):
            writer.write(pattern(number, *size_hw), frame_id=number, t_capture_ns=123_000 + number)
            frame = camera.read()
            assert frame is not None and (frame.frame_id, frame.t_capture_ns) == (number, 123_000 + number)
            assert np.array_equal(frame.image, pattern(number, *size_hw))
            assert camera.size_hw == size_hw
        camera.close()
        camera.close()
        assert camera.read() is None


def test_the_newest_wins_and_is_given_once(name: str) -> None:
    with SharedFrames(name, (8, 8)) as writer:
        camera = SharedCamera(name, stall_s=0.1)
        for number in range(11):
            writer.write(pattern(number, 8, 8), frame_id=number)
        frame = camera.read()
        assert frame is not None and frame.frame_id == 10
        with pytest.raises(CameraError, match=r"gave no frame for 0\.1 s"):
            camera.read()
        camera.close()


def test_a_view_with_gaps_is_written_whole(name: str) -> None:
    wide = pattern(3, 16, 16)
    with SharedFrames(name, (16, 16)) as writer:
        camera = SharedCamera(name)
        writer.write(wide[::2, 1::3], frame_id=1)
        frame = camera.read()
        assert frame is not None and np.array_equal(frame.image, wide[::2, 1::3])
        camera.close()


def test_frames_from_before_the_opening_are_never_given(name: str) -> None:
    with SharedFrames(name, (8, 8)) as writer:
        writer.write(pattern(1, 8, 8), frame_id=1)
        camera = SharedCamera(name, stall_s=0.1)
        with pytest.raises(CameraError, match="gave no frame"):
            camera.read()
        camera.close()


def test_kept_frames_are_not_overwritten(name: str) -> None:
    with SharedFrames(name, (8, 8)) as writer:
        camera = SharedCamera(name)
        kept = []
        for number in range(12):
            writer.write(pattern(number, 8, 8), frame_id=number)
            kept.append(camera.read())
        for number, frame in enumerate(kept):
            assert frame is not None and np.array_equal(frame.image, pattern(number, 8, 8))
        camera.close()


def test_no_frame_is_torn_at_full_speed_nor_by_a_kill_in_the_middle(name: str) -> None:
    size_hw, whole, torn, last_stamp = (240, 320), 0, 0, 0
    for _ in range(4):
        process = start_writer(name, size_hw, 0.0)
        camera = SharedCamera(name, stall_s=30.0)
        killer = threading.Timer(0.35, kill, [process])
        killer.start()
        last = -1
        with pytest.raises(CameraError, match="is gone"):
            while True:
                frame = camera.read()
                assert frame is not None and frame.frame_id > last
                assert np.array_equal(frame.image, pattern(frame.frame_id % 256, *size_hw))
                assert last_stamp < frame.t_capture_ns <= time.monotonic_ns()
                last, last_stamp, whole = frame.frame_id, frame.t_capture_ns, whole + 1
        killer.join()
        torn += camera.torn
        camera.close()
    sys.stderr.write(f"{whole} frames whole, {torn} copies overtaken and done again\n")
    assert whole > 100


def test_a_mixture_is_seen_without_any_sequence(name: str) -> None:
    with SharedFrames(name, (64, 64)) as writer:
        camera = SharedCamera(name, stall_s=0.1)
        writer.write(pattern(1, 64, 64), frame_id=1)
        with layout.path_of(name).open("r+b") as file:  # as a core that shows its stores out of order would
            slot = layout.PAGE + layout.slot_bytes_for(64, 64)
            file.seek(slot + layout.PAGE + 4000)
            file.write(pattern(2, 64, 64).tobytes()[4000:])
        with pytest.raises(CameraError, match="gave no frame"):
            camera.read()
        assert camera.torn > 0
        camera.close()


def test_a_killed_producer_is_seen_soon_and_its_restart_too(name: str) -> None:
    process = start_writer(name, (8, 8), 0.01)
    camera = SharedCamera(name, stall_s=30.0)
    assert camera.read() is not None
    kill(process)
    start = time.monotonic()
    with pytest.raises(CameraError, match="is gone"):
        while True:
            camera.read()
    assert time.monotonic() - start < 20.0  # before the patience for a silent one ends
    with pytest.raises(CameraError, match="producer is gone"):
        SharedCamera(name)
    with SharedFrames(name, (8, 8)) as writer:
        assert writer.generation != camera.generation
        with pytest.raises(CameraError, match="restarted"):
            camera.read()
        again = SharedCamera(name)
        writer.write(pattern(5, 8, 8), frame_id=0)
        assert again.read() is not None
        again.close()
    camera.close()
    with pytest.raises(CameraError, match="no producer"):
        SharedCamera(name)


def test_a_producer_that_is_killed_and_comes_back_is_followed(name: str) -> None:
    health = Health("front")
    process = start_writer(name, (8, 8), 0.005)
    camera = open_camera(f"shm:{name}", give_up_s=20.0, health=health)
    ids = []
    for _ in range(3):
        for _ in range(5):
            frame = camera.read()
            assert frame is not None
            ids.append(frame.frame_id)
        kill(process)
        process = start_writer(name, (8, 8), 0.005)
    kill(process)
    camera.close()
    assert ids == sorted(set(ids))
    assert health.status().counts == {"disconnected": 2} and health.state == "ok"


def test_a_producer_that_ends_is_seen(name: str) -> None:
    writer = SharedFrames(name, (8, 8))
    camera = SharedCamera(name)
    writer.close()
    writer.close()
    with pytest.raises(CameraError, match="its producer ended"):
        camera.read()
    camera.close()


def test_a_name_has_one_writer_and_many_readers(name: str) -> None:
    with SharedFrames(name, (8, 8)) as writer:
        with pytest.raises(CameraError, match="already writes"):
            SharedFrames(name, (8, 8))
        cameras = [SharedCamera(name) for _ in range(3)]
        writer.write(pattern(4, 8, 8), frame_id=4)
        assert [frame.frame_id for frame in (c.read() for c in cameras) if frame] == [4, 4, 4]
        for camera in cameras:
            camera.close()


def test_readers_that_look_do_not_keep_a_new_writer_out(name: str) -> None:
    process = start_writer(name, (8, 8), 0.01)
    camera = SharedCamera(name)
    kill(process)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            camera._gone()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            SharedFrames(name, (8, 8)).close()
    finally:
        stop.set()
        thread.join()
        camera.close()


def test_interrupt_ends_a_read_at_once(name: str) -> None:
    with SharedFrames(name, (8, 8)):
        camera = SharedCamera(name, stall_s=30.0)
        assert isinstance(camera, Interruptible)
        threading.Timer(0.1, camera.interrupt).start()
        start = time.monotonic()
        assert camera.read() is None
        assert time.monotonic() - start < 10.0
        camera.close()


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_names_stay_in_their_folder(bad: str) -> None:
    with pytest.raises(CameraError, match="no name for shared frames"):
        open_camera(f"shm:{bad}")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), "expected"),
        (np.zeros((8, 8, 3), np.float32), "expected"),
        (np.zeros((0, 8, 3), np.uint8), "expected"),
        (np.zeros((99, 99, 3), np.uint8), "larger than"),
    ],
)
def test_wrong_pictures_are_refused(name: str, image: np.ndarray, message: str) -> None:
    with SharedFrames(name, (8, 8)) as writer, pytest.raises(ValueError, match=message):
        writer.write(image, frame_id=0)


@pytest.mark.parametrize("size_hw", [(0, 8), (8, 20_000), (16_384, 16_384)])
def test_sizes_are_bounded(name: str, size_hw: tuple[int, int]) -> None:
    with pytest.raises(CameraError, match="can't be shared"):
        SharedFrames(name, size_hw)


def header(**changes: int) -> bytes:
    values = {"version": 1, "slots": 4, "slot_bytes": 8192, "generation": 5, "pid": 1} | changes
    return layout.FILE_HEADER.pack(layout.MAGIC, *values.values())


@pytest.mark.parametrize(
    ("data", "length", "message"),
    [
        (b"", 0, "too short"),
        (b"EDGETLSM", 8, "too short"),
        (bytes(4096), 4096 + 4 * 8192, "does not begin"),
        (header(version=2), 4096 + 4 * 8192, "version is 2"),
        (header(slots=0), 4096, "states 0 slots"),
        (header(slots=2**32 - 1), 4096 + 4 * 8192, "states"),
        (header(slot_bytes=2**64 - 4096), 4096 + 4 * 8192, "states"),
        (header(slot_bytes=8191), 4096 + 4 * 8191, "states"),
        (header(), 4096 + 3 * 8192, "bytes long"),
        (header(slots=64, slot_bytes=1 << 28), 1 << 20, "bytes long"),
    ],
)
def test_hostile_headers_are_refused(name: str, data: bytes, length: int, message: str) -> None:
    path = layout.path_of(name)
    path.write_bytes(data)
    os.truncate(path, length)
    with pytest.raises(CameraError, match=message):
        SharedCamera(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 0}, "is 8x0"),
        ({"height": 2**31, "width": 2**31}, "is 2147483648x2147483648"),
        ({"height": 99, "width": 99}, "more than a slot"),
        ({"pixel_format": 7}, "pixel format is 7"),
        ({"t_capture_ns": 2**62}, "future"),
    ],
)
def test_hostile_slots_are_refused(name: str, changes: dict[str, int], message: str) -> None:
    with SharedFrames(name, (8, 8)) as writer:
        camera = SharedCamera(name, stall_s=0.5)
        writer.write(pattern(1, 8, 8), frame_id=1)
        start = layout.PAGE + layout.slot_bytes_for(8, 8)
        with layout.path_of(name).open("r+b") as file:
            file.seek(start)
            slot = layout.SlotHeader(*layout.SLOT_HEADER.unpack(file.read(layout.SLOT_HEADER.size)))._replace(**changes)
            slot = slot._replace(checksum=layout.checksum(pattern(1, 8, 8).reshape(-1), *slot[1:8]))
            file.seek(start)
            file.write(layout.SLOT_HEADER.pack(*slot))
        with pytest.raises(CameraError, match=message):
            camera.read()
        camera.close()


def test_a_file_that_is_cut_short_is_an_error_and_no_crash(name: str) -> None:
    with SharedFrames(name, (64, 64)) as writer:
        camera = SharedCamera(name)
        writer.write(pattern(1, 64, 64), frame_id=1)
        reader = os.open(layout.path_of(name), os.O_RDWR)
        os.ftruncate(reader, 4096 + 100)
        os.close(reader)
        with pytest.raises(CameraError, match="cut short"):
            camera.read()
        camera.close()


def test_a_link_is_not_followed(name: str, tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_bytes(b"x" * 9000)
    layout.path_of(name).symlink_to(target)
    with pytest.raises(CameraError, match="can't be opened"):
        SharedCamera(name)


def test_the_layout_is_as_documented() -> None:
    assert (layout.FILE_HEADER.size, layout.SLOT_HEADER.size) == (40, 56)
    assert struct.calcsize("<QQQqIIII") == 48
