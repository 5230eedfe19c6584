"""The V4L2 camera against a driver in memory that keeps the kernel's rules."""

from __future__ import annotations

import errno
import gc
import mmap
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from runtime_support import needs_codes
from v4l2_support import BYTES, MONOTONIC, PATH, FakeDriver, FakeKernel, jpeg, pack

from edgetl.commands import source as source_module
from edgetl_runtime.cameras import _v4l2_kernel as v4l2
from edgetl_runtime.cameras import interrupt, open_camera
from edgetl_runtime.cameras._v4l2_formats import PIXEL_FORMATS, is_whole_jpeg
from edgetl_runtime.cameras.v4l2 import V4L2Camera
from edgetl_runtime.capture import Capture
from edgetl_runtime.errors import CameraError
from edgetl_runtime.health import Health
from edgetl_runtime.prove import draw_code, held_frames
from edgetl_runtime.result import Frame
from edgetl_runtime.watch import FrameWatch

HW = (48, 64)
SLOW = 0.2
SOE = v4l2.SOURCE_START_OF_EXPOSURE
STAMPED = f"{PATH}: frames carry the driver's stamp of the end of the frame, after exposure and readout"


def picture(level: int = 0, size_hw: tuple[int, int] = HW) -> NDArray[np.uint8]:
    """Red, green and blue fields, and a grey one of this level."""
    height, width = size_hw
    image = np.full((height, width, 3), level, np.uint8)
    image[: height // 2, : width // 2] = (0, 0, 255)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, width // 2 :] = (255, 0, 0)
    return image


def grey_of(frame: Frame | None) -> int:
    """The level that `picture` was given."""
    assert frame is not None
    return int(frame.image[-2, 1, 0])


def driver(*names: str, **settings: Any) -> FakeDriver:
    """One that gives these formats in HW, so slowly that no frame grows old because this machine is busy."""
    return FakeDriver({name: {HW: (SLOW,)} for name in names or ("BGR3",)}, **settings)


def camera_of(fake: FakeDriver, **settings: Any) -> V4L2Camera:
    return V4L2Camera("7", kernel=FakeKernel(video7=fake), **settings)


@pytest.fixture
def made() -> Iterator[Callable[..., tuple[FakeDriver, V4L2Camera]]]:
    """Makes drivers with their cameras, and looks at the end that each camera let go of everything."""
    cameras: list[tuple[FakeDriver, V4L2Camera]] = []

    def make(*names: str, ask: dict[str, Any] | None = None, **settings: Any) -> tuple[FakeDriver, V4L2Camera]:
        fake = driver(*names, **settings)
        cameras.append((fake, camera_of(fake, **(ask or {}))))
        return cameras[-1]

    yield make
    for fake, camera in cameras:
        camera.close()
        camera.close()
        assert fake.open_files == 0, "a mapping or the file was kept"
        assert camera.read() is None


Make = Callable[..., tuple[FakeDriver, V4L2Camera]]


@pytest.mark.parametrize("padding", [0, 16])
@pytest.mark.parametrize("name", BYTES)
def test_raw_formats_become_bgr_in_a_buffer_of_the_pool(made: Make, name: str, padding: int) -> None:
    fake, camera = made(name, padding=padding)
    image = picture(90)
    assert fake.deliver(pack(name, image, padding))
    frame = camera.read()
    assert frame is not None and frame.image.flags.c_contiguous and camera.size_hw == HW
    expected = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) if name == "GREY" else image
    assert np.abs(frame.image.astype(int) - expected).max() <= 3
    assert camera.failed == 0 and camera.notes == [STAMPED]


def test_a_last_line_without_its_padding_is_enough_and_less_is_not(made: Make) -> None:
    fake, camera = made("YUYV", padding=16)
    data = pack("YUYV", picture(), 16)
    fake.deliver(data[:-17])
    fake.deliver(data[:-16])
    assert camera.read() is not None and camera.failed == 0
    fake.deliver(data[:-17])
    fake.on_idle = lambda: fake.deliver(data)
    assert camera.read() is not None and camera.failed == 1


def without_tables(data: bytes) -> bytes:
    """As many cameras send it: without the Huffman tables that all of them share."""
    at, parts = 2, [data[:2]]
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            parts.append(data[at:end])
        at = end
    return b"".join([*parts, data[at:]])


def with_thumbnail(data: bytes) -> bytes:
    """With a whole small picture in its header."""
    small = jpeg(picture(size_hw=(8, 8)))
    return data[:2] + b"\xff\xe2" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]


@pytest.mark.parametrize("change", [bytes, without_tables, with_thumbnail, lambda data: data + bytes(64)])
def test_jpeg_is_decoded(made: Make, change: Callable[[bytes], bytes]) -> None:
    fake, camera = made("MJPG")
    fake.deliver(change(jpeg(picture(90))))
    frame = camera.read()
    assert frame is not None and abs(grey_of(frame) - 90) <= 2


def test_a_cameras_own_orientation_turns_nothing(made: Make) -> None:
    """The calibration, and every frame before, are of the sensor's way up."""
    fake, camera = made("MJPG")
    turned = bytes.fromhex("4d4d002a000000080001" + "0112" + "0003" + "00000001" + "0006" + "0000" + "00000000")
    data, exif = jpeg(picture(90)), b"Exif\0\0" + turned
    fake.deliver(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    frame = camera.read()
    assert frame is not None and frame.image.shape[:2] == camera.size_hw


CUT = [
    lambda data: data[: len(data) * 2 // 3],
    lambda data: with_thumbnail(data)[:-20],
    lambda data: data[:-1],
    lambda data: data[:2] + bytes(20),
    lambda data: b"\x00" + data[1:],
    lambda data: data[:2] + b"\xff\xff\xff\xff\xff",
    lambda data: data[:4] + b"\x00\x00" + data[6:],
]


@pytest.mark.parametrize("cut", CUT)
def test_a_whole_jpeg_is_told_from_one_that_is_cut(cut: Callable[[bytes], bytes]) -> None:
    """By itself, since some versions of OpenCV decode what is left."""
    whole = jpeg(picture(90))
    for data, expected in ((whole, True), (with_thumbnail(whole) + b"rest", True), (cut(whole), False)):
        memory = mmap.mmap(-1, len(data) + 100)
        memory[: len(data)] = data
        memory[len(data) :] = b"\xff\xd9" * 50  # of the frame before, which was larger
        assert is_whole_jpeg(memory, len(data)) is expected


@pytest.mark.parametrize("spoil", [*CUT, lambda data: b"", lambda data: data[:2] + b"\xff\xda\x00\x04\x00\x00\xff\xd9"])
def test_a_jpeg_that_is_not_whole_is_counted_and_passed_over(made: Make, spoil: Callable[[bytes], bytes]) -> None:
    fake, camera = made("MJPG")
    whole = jpeg(picture(90))
    fake.deliver(spoil(whole))
    fake.on_idle = lambda: fake.deliver(whole)
    frame = camera.read()
    assert frame is not None and (frame.frame_id, camera.failed) == (1, 1)
    assert len(fake.queue) == 4


def test_a_jpeg_of_another_size_is_given_as_it_is(made: Make) -> None:
    fake, camera = made("MJPG")
    fake.deliver(jpeg(picture(size_hw=(32, 40))))
    frame = camera.read()
    assert frame is not None and frame.image.shape == (32, 40, 3)


def test_the_newest_wins_and_the_others_are_queued_again(made: Make) -> None:
    fake, camera = made()
    for level in (1, 2, 3):
        fake.deliver(picture(level))
    frame = camera.read()
    assert frame is not None and (grey_of(frame), frame.frame_id) == (3, 2)
    assert len(fake.queue) == 4 and not fake.done and fake.polls == 0
    fake.deliver(picture(4))
    frame = camera.read()
    assert frame is not None and (grey_of(frame), frame.frame_id) == (4, 3)


def test_a_frame_is_the_receivers_whatever_the_driver_does_next(made: Make) -> None:
    fake, camera = made()
    kept = []
    for level in range(12):
        fake.deliver(picture(level))
        kept.append(camera.read())
    assert [grey_of(f) for f in kept] == list(range(12))


def test_after_a_pause_only_what_came_after_it_is_given(made: Make) -> None:
    fake, camera = made()
    for level in range(9):
        fake.deliver(picture(level))
    assert fake.starved == 5
    fake.on_idle = lambda: fake.deliver(picture(100))
    frame = camera.read()
    assert frame is not None and (grey_of(frame), frame.frame_id) == (100, 9)


def test_a_driver_that_keeps_buffers_for_itself_gives_nothing_old_either() -> None:
    fake = FakeDriver({"BGR3": {HW: (30.0,)}}, keeps=2)
    camera = camera_of(fake)
    fake.on_idle = lambda: fake.deliver(picture(1))
    assert grey_of(camera.read()) == 1
    for level in (2, 3, 4):
        fake.deliver(picture(level))
    assert fake.starved == 1
    time.sleep(0.2)  # six frames' time for the two that are there
    fake.on_idle = lambda: fake.deliver(picture(100))
    assert grey_of(camera.read()) == 100
    camera.close()


def test_a_reader_that_is_woken_late_takes_nothing_old() -> None:
    fake = FakeDriver({"BGR3": {HW: (30.0,)}})
    camera = camera_of(fake)

    def late() -> None:
        for level in range(9):
            fake.deliver(picture(level))
        time.sleep(0.5)
        fake.on_idle = lambda: fake.deliver(picture(100))

    fake.on_idle = late
    assert grey_of(camera.read()) == 100
    camera.close()


def test_a_camera_that_is_slower_than_it_says_is_read_all_the_same() -> None:
    fake = FakeDriver({"BGR3": {HW: (200.0,)}})
    camera = camera_of(fake)

    def come() -> None:
        time.sleep(0.08)
        fake.deliver(picture(100))

    fake.on_idle = come
    assert [grey_of(camera.read()) for _ in range(3)] == [100] * 3
    assert fake.starved == 0 and camera.failed == 0
    camera.close()


@pytest.mark.parametrize("buffers", [1, 2, 3])
def test_few_buffers_are_enough(made: Make, buffers: int) -> None:
    fake, camera = made(most_buffers=buffers)
    levels = iter(range(1, 9))
    fake.on_idle = lambda: fake.deliver(picture(next(levels)))
    assert [grey_of(camera.read()) for _ in range(5)] == [1, 2, 3, 4, 5]


def test_a_32_bit_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2, "SUPPORTED", False)
    with pytest.raises(CameraError, match=r"64-bit.*give opencv:7"):
        V4L2Camera("7", kernel=FakeKernel(video7=driver()))


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_no_buffer_is_lost_and_nothing_runs_backwards(made: Make, seed: int) -> None:
    rng = random.Random(seed)
    fake, camera = made(most_buffers=rng.randint(1, 5), numbered=rng.random() < 0.7)
    good = picture(90)

    def come() -> None:
        for _ in range(rng.choice((1, 1, 2, 6))):
            fake.deliver(
                good,
                flags=v4l2.FLAG_ERROR if rng.random() < 0.1 else 0,
                bytesused=rng.choice((*[good.size] * 8, 0, good.size - 1)),
                age_s=rng.uniform(-0.01, 0.03),
                sequence=rng.choice((None, None, None, 0, fake.sequence + 3)),
            )

    fake.on_idle = come
    last_id, last_ns = -1, 0
    for _ in range(40):
        if rng.random() < 0.5:
            come()
        frame = camera.read()
        assert frame is not None and grey_of(frame) == 90
        assert frame.frame_id > last_id and last_ns <= frame.t_capture_ns <= time.monotonic_ns()
        assert len(fake.queue) + len(fake.done) == len(fake.slots) == camera._device.count
        last_id, last_ns = frame.frame_id, frame.t_capture_ns


def test_lost_frames_are_gaps_for_the_capture(made: Make) -> None:
    fake, camera = made()
    levels = iter(range(1, 8))

    def come() -> None:
        level = next(levels, None)
        if level is None:
            camera.interrupt()
        else:
            fake.deliver(picture(level), sequence=level if level < 4 else level + 10)

    fake.on_idle = come
    with Capture(camera, policy="every") as capture:
        ids = []
        while (taken := capture.get(10.0)) is not None:
            ids.append(taken.frame.frame_id)
    assert ids == [0, 1, 2, 13, 14, 15, 16] and capture.lost == 10


def test_a_driver_that_does_not_count_is_counted_for_and_that_is_said(made: Make) -> None:
    fake, camera = made(numbered=False)
    ids = []
    for level in range(12):
        fake.deliver(picture(level))
        frame = camera.read()
        assert frame is not None
        ids.append(frame.frame_id)
    assert ids == list(range(12))
    assert [note for note in camera.notes if "doesn't number" in note] == camera.notes[-1:]


@pytest.mark.parametrize(
    ("sequences", "ids"),
    [
        ([2**32 - 2, 2**32 - 1, 0, 3], [0, 1, 2, 5]),
        ([500, 501, 0, 1, 4], [0, 1, 2, 3, 6]),
        ([7, 7, 8], [0, 1, 2]),
    ],
)
def test_numbers_rise_whatever_the_driver_does(made: Make, sequences: list[int], ids: list[int]) -> None:
    fake, camera = made()
    found = []
    for number in sequences:
        fake.deliver(picture(), sequence=number)
        frame = camera.read()
        assert frame is not None
        found.append(frame.frame_id)
    assert found == ids and not any("number" in note for note in camera.notes)


@pytest.mark.parametrize(
    ("flags", "from_driver", "note"),
    [
        (MONOTONIC, True, "end of the frame"),
        (MONOTONIC | SOE, True, "start of exposure"),
        (v4l2.TIMESTAMP_UNKNOWN, False, "no known clock"),
        (v4l2.TIMESTAMP_COPY | SOE, False, "no known clock"),
    ],
)
def test_stamps_are_the_drivers_where_it_names_our_clock(made: Make, flags: int, from_driver: bool, note: str) -> None:
    fake, camera = made(stamp_flags=flags)
    before_ns = time.monotonic_ns()
    fake.deliver(picture(), age_s=0.05)
    frame = camera.read()
    assert frame is not None and len(camera.notes) == 1 and note in camera.notes[0]
    assert (frame.t_capture_ns < before_ns) is from_driver
    if from_driver:
        stated = fake.slots[0].filled
        assert frame.t_capture_ns == stated.seconds * 10**9 + stated.microseconds * 1000


@pytest.mark.parametrize("age_s", [-5.0, 40.0, -1.7e9])
def test_a_stamp_that_cannot_be_true_is_replaced_and_that_is_said_once(made: Make, age_s: float) -> None:
    fake, camera = made()
    for _ in range(2):
        before_ns = time.monotonic_ns()
        fake.deliver(picture(), age_s=age_s)
        frame = camera.read()
        assert frame is not None and before_ns <= frame.t_capture_ns <= time.monotonic_ns()
    assert [note for note in camera.notes if "can't be true" in note] == camera.notes[1:]


def test_stamps_never_run_backwards(made: Make) -> None:
    fake, camera = made()
    watch = FrameWatch(health := Health("front"))
    for age_s in (-1.0, 0.02, 0.02):  # the first is stamped when it came, which is after the others' own stamps
        time.sleep(0.002)
        fake.deliver(picture(), age_s=age_s)
        frame = camera.read()
        assert frame is not None and watch.look(frame, time.monotonic_ns()) is not None
    assert not health.status().counts


def test_a_frame_that_the_driver_gives_twice_is_seen_as_that(made: Make) -> None:
    fake, camera = made()
    watch = FrameWatch(health := Health("front"))
    fake.deliver(picture())
    first = camera.read()
    fake.deliver(picture())
    stated, again = fake.slots[0].filled, fake.slots[fake.done[0]].filled
    again.seconds, again.microseconds = stated.seconds, stated.microseconds
    second = camera.read()
    assert first is not None and second is not None and first.t_capture_ns == second.t_capture_ns
    assert watch.look(first, time.monotonic_ns()) is not None
    assert watch.look(second, time.monotonic_ns()) is None and health.status().counts == {"duplicate": 1}


def test_a_slow_cameras_old_frame_is_not_stamped_anew() -> None:
    fake = FakeDriver({"BGR3": {HW: (0.5,)}})
    camera = camera_of(fake)
    fake.deliver(picture(), age_s=3.0)
    frame = camera.read()
    assert frame is not None and time.monotonic_ns() - frame.t_capture_ns >= 3_000_000_000
    camera.close()


def test_broken_buffers_and_wrong_lengths_are_counted_as_failed(made: Make) -> None:
    fake, camera = made()
    good = picture(90)
    fake.deliver(good)
    fake.deliver(good, flags=v4l2.FLAG_ERROR)
    spoilt = iter([{"bytesused": 0}, {"bytesused": good.size - 1}, {"bytesused": good.size + 1}, {}])
    fake.on_idle = lambda: fake.deliver(good, **next(spoilt))
    frame = camera.read()
    assert frame is not None and (grey_of(frame), frame.frame_id) == (90, 5)
    assert camera.failed == 4 and len(fake.queue) == 4


def test_a_camera_whose_frames_are_all_broken_is_an_error(made: Make) -> None:
    fake, camera = made("MJPG")
    fake.on_idle = lambda: fake.deliver(b"no picture")
    with pytest.raises(CameraError, match="10 frames in a row could not be decoded"):
        camera.read()
    assert camera.failed == 10


def test_a_camera_that_gives_nothing_is_an_error_after_a_while(made: Make) -> None:
    _, camera = made(ask={"read_s": 0.15})
    with pytest.raises(CameraError, match=r"gave no frame for 0\.15 s; check its cable"):
        camera.read()


def test_a_driver_that_says_ready_and_has_nothing_is_not_asked_without_pause(made: Make) -> None:
    fake, camera = made(ask={"read_s": 0.35})
    fake.streaming = False
    fake.refuses[v4l2.DQBUF] = errno.EAGAIN
    with pytest.raises(CameraError, match="gave no frame"):
        camera.read()
    assert fake.polls < 10


def test_a_camera_that_is_pulled_out_while_it_is_waited_for(made: Make) -> None:
    fake, camera = made()
    threading.Timer(0.1, fake.unplug).start()
    with pytest.raises(CameraError, match=r"/dev/video7 is gone or failed .* check its cable"):
        camera.read()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENODEV])
def test_a_driver_that_fails(made: Make, code: int) -> None:
    fake, camera = made()
    fake.deliver(picture())
    fake.refuses[v4l2.DQBUF] = code
    with pytest.raises(CameraError, match="gone or failed"):
        camera.read()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refuses": {0: errno.EACCES}}, "may not be opened.*group video"),
        ({"refuses": {0: errno.ENODEV}}, "gone or failed"),
        ({"refuses": {v4l2.QUERYCAP: errno.ENOTTY}}, "is no V4L2 device"),
        ({"refuses": {v4l2.QUERYCAP: errno.EIO}}, "gone or failed"),
        ({"refuses": {v4l2.S_FMT: errno.EBUSY}}, "in use by another program.*fuser -v"),
        ({"refuses": {v4l2.REQBUFS: errno.EBUSY}}, "in use by another program"),
        ({"refuses": {v4l2.REQBUFS: errno.ENOMEM}}, "failed .*memory.*buffers were asked for"),
        ({"refuses": {v4l2.STREAMON: errno.ENOSPC}}, "too little of its bus.*MJPG"),
        ({"refuses": {v4l2.STREAMON: errno.EPIPE}}, "media-ctl"),
        ({"refuses": {v4l2.G_PARM: errno.EIO}}, "gone or failed"),
        ({"most_buffers": 0}, "gave no buffers"),
        ({"device_caps": v4l2.CAP_META_CAPTURE | v4l2.CAP_STREAMING}, "metadata and no pictures"),
        ({"device_caps": v4l2.CAP_VIDEO_CAPTURE_MPLANE | v4l2.CAP_STREAMING}, "multi-planar device, not supported yet"),
        ({"device_caps": v4l2.CAP_VIDEO_M2M_MPLANE}, "codec or scaler"),
        ({"device_caps": v4l2.CAP_VIDEO_OUTPUT}, "v4l2loopback"),
        ({"device_caps": v4l2.CAP_VIDEO_CAPTURE}, r"only read\(\)"),
        ({"device_caps": 0}, "gives no pictures"),
        ({"extra": {"width": 0}}, "states a size of 0x48"),
        ({"extra": {"bytesperline": 7}}, "states 7 bytes for a line of 192"),
        ({"extra": {"pixelformat": v4l2.fourcc("H264")}}, "gives H264, which can't be decoded here; opencv:NUMBER"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(settings: dict[str, Any], message: str) -> None:
    fake = driver(**settings)
    with pytest.raises(CameraError, match=message) as caught:
        camera_of(fake)
    assert str(caught.value).startswith(PATH) and "\n" not in str(caught.value)
    assert fake.open_files == 0 and not fake.streaming


def test_old_capabilities_count_where_the_driver_has_no_others() -> None:
    fake = driver(capabilities=v4l2.CAP_VIDEO_CAPTURE | v4l2.CAP_STREAMING, device_caps=0)
    camera_of(fake).close()


def test_a_camera_of_formats_that_cannot_be_decoded_names_them() -> None:
    with pytest.raises(CameraError, match="gives RG10, H264 only, none of which can be decoded here"):
        camera_of(driver("RG10", "H264"))


def test_colours_need_whole_pairs() -> None:
    with pytest.raises(CameraError, match="YUYV in 63x48"):
        camera_of(FakeDriver({"YUYV": {(48, 63): (30.0,)}}))


HD, VGA = (720, 1280), (480, 640)
USB2 = {"YUYV": {VGA: (30.0,), HD: (10.0,)}, "MJPG": {VGA: (30.0,), HD: (30.0, 15.0)}}


@pytest.mark.parametrize(
    ("modes", "ask", "chosen"),
    [
        (USB2, {"size_hw": HD}, ("MJPG", HD, 30.0)),
        (USB2, {"size_hw": VGA}, ("YUYV", VGA, 30.0)),
        (USB2, {"size_hw": HD, "fps": 10.0}, ("YUYV", HD, 10.0)),
        (USB2, {"size_hw": HD, "pixel_format": "YUYV"}, ("YUYV", HD, 10.0)),
        (USB2, {"size_hw": VGA, "pixel_format": "MJPG", "fps": 30.0}, ("MJPG", VGA, 30.0)),
        (USB2, {}, ("YUYV", VGA, 30.0)),
        ({"GREY": {HD: (60.0,)}, "MJPG": {HD: (30.0,)}}, {}, ("MJPG", HD, 30.0)),
        ({"GREY": {HD: (60.0,)}}, {}, ("GREY", HD, 60.0)),
        ({"MJPG": {HD: (5.0,)}, "YUYV": {HD: (2.0,)}}, {"size_hw": HD}, ("MJPG", HD, 5.0)),
        ({"H264": {HD: (30.0,)}, "NV12": {HD: (30.0,)}, "UYVY": {HD: (29.97,)}}, {}, ("UYVY", HD, 29.97)),
    ],
)
def test_the_format_is_the_best_that_is_fast_enough(
    modes: dict[str, dict[tuple[int, int], tuple[float, ...]]],
    ask: dict[str, Any],
    chosen: tuple[str, tuple[int, int], float],
) -> None:
    fake = FakeDriver(modes)
    camera = camera_of(fake, **ask)
    assert (v4l2.name_of(fake.pix.pixelformat), camera.size_hw) == chosen[:2]
    assert camera.notes == [STAMPED]
    camera.close()


def test_sizes_in_steps_are_understood() -> None:
    steps = (16, 1920, 16, 16, 1088, 8)
    fake = FakeDriver({"MJPG": {HD: (30.0,)}, "YUYV": {HD: (30.0,)}}, stepwise=steps)
    camera = camera_of(fake, size_hw=(1080, 1904))
    assert (camera.size_hw, v4l2.name_of(fake.pix.pixelformat)) == ((1080, 1904), "YUYV")
    camera.close()


def test_a_driver_that_lists_no_sizes_is_taken_at_its_word() -> None:
    silent = (v4l2.ENUM_FRAMESIZES, v4l2.ENUM_FRAMEINTERVALS, v4l2.G_PARM, v4l2.S_PARM)
    fake = FakeDriver(USB2, silent_about=silent)
    camera = camera_of(fake, size_hw=HD, fps=10.0)
    assert (camera.size_hw, camera.fps) == (HD, 30.0)
    assert camera.notes[:2] == [
        f"{PATH}: states no usable rate, 30 frames/s assumed",
        f"{PATH}: rate 10 asked, none found",
    ]
    camera.close()


def test_what_differs_from_what_was_asked_is_said() -> None:
    fake = FakeDriver({"YUYV": {VGA: (30.0,)}}, most_buffers=2)
    camera = camera_of(fake, size_hw=HD, fps=60.0, pixel_format="MJPG")
    assert camera.notes == [
        f"{PATH}: pixel format MJPG asked, YUYV found",
        f"{PATH}: width 1280 asked, 640 found",
        f"{PATH}: height 720 asked, 480 found",
        f"{PATH}: rate 60 asked, 30 found",
        f"{PATH}: 4 buffers asked, 2 found",
        STAMPED,
    ]
    camera.close()


def test_a_driver_that_refuses_a_format_keeps_its_own() -> None:
    fake = FakeDriver({"YUYV": {VGA: (30.0,)}}, refuses={v4l2.S_FMT: errno.EINVAL})
    camera = camera_of(fake, size_hw=HD)
    assert camera.size_hw == VGA and f"{PATH}: width 1280 asked, 640 found" in camera.notes
    camera.close()


@pytest.mark.parametrize(
    ("name", "extra", "note"),
    [
        ("YUYV", {"quantization": 1}, "states full range, colours"),
        ("YUYV", {"colorspace": 7}, "states full range, colours"),
        ("NV12", {"colorspace": 3}, "states BT.709, colours"),
        ("UYVY", {"ycbcr_enc": 2, "quantization": 1}, "states full range and BT.709, colours"),
        ("YUYV", {"colorspace": 8}, ""),
        ("BGR3", {"quantization": 1}, ""),
        ("BGR3", {"field": 4}, "fields of interlaced pictures"),
    ],
)
def test_colours_and_fields_that_are_not_followed_are_said(name: str, extra: dict[str, int], note: str) -> None:
    camera = camera_of(driver(name, extra=extra))
    assert len(camera.notes) == 1 + bool(note) and note in camera.notes[0]
    camera.close()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ({"pixel_format": "Y16 "}, "can't be decoded here; choose one of BGR3"),
        ({"pixel_format": "MJPEG"}, "choose one of"),
        ({"fps": float("nan")}, "0.01 to 10000"),
        ({"fps": -3.0}, "0.01 to 10000"),
    ],
)
def test_wishes_that_cannot_be_are_refused(ask: dict[str, Any], message: str) -> None:
    with pytest.raises(CameraError, match=message):
        camera_of(driver(), **ask)


def test_the_command_line_offers_what_can_be_decoded() -> None:
    assert sorted(source_module.PIXEL_FORMATS) == sorted(PIXEL_FORMATS)


def test_a_link_that_names_the_device_for_good_is_taken() -> None:
    link = "/dev/v4l/by-id/usb-Fake_camera-video-index0"
    kernel = FakeKernel()
    kernel.devices[link] = driver()
    camera = V4L2Camera(link, kernel=kernel)
    assert camera.camera_id == link
    camera.close()


@pytest.mark.parametrize("end", [V4L2Camera.close, interrupt])
def test_a_read_that_waits_is_ended_from_another_thread(made: Make, end: Callable[[V4L2Camera], object]) -> None:
    _, camera = made()
    found: list[Frame | None] = []
    thread = threading.Thread(target=lambda: found.append(camera.read()))
    thread.start()
    time.sleep(0.05)
    start_s = time.monotonic()
    end(camera)
    thread.join(5.0)
    assert found == [None] and time.monotonic() - start_s < 4.0


def test_a_driver_that_hangs_does_not_hold_up_close(made: Make) -> None:
    fake, camera = made()
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait(20.0)

    fake.on_idle = hang
    thread = threading.Thread(target=camera.read)
    thread.start()
    assert hangs.wait(5.0)
    camera.close()
    assert fake.open_files == 1
    goes_on.set()
    thread.join(5.0)
    assert fake.open_files == 0


def test_a_camera_is_opened_again_after_it_was_pulled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = driver(), driver()
    kernel = FakeKernel(video7=first)
    monkeypatch.setattr(v4l2, "LinuxKernel", lambda: kernel)
    health = Health("front")
    camera = open_camera(PATH, give_up_s=20.0, health=health)
    for level in (1, 2):
        first.deliver(picture(level), age_s=-9.0)
        assert grey_of(camera.read()) == level
    assert any("can't be true" in note for note in camera.notes), "what turns up later is told too"
    first.unplug()
    kernel.devices[PATH] = second
    second.on_idle = lambda: second.deliver(picture(3))
    frame = camera.read()
    assert grey_of(frame) == 3 and frame is not None and frame.frame_id >= 3
    assert health.status().counts == {"disconnected": 1} and first.open_files == 0
    camera.close()
    assert second.open_files == 0


@needs_codes
def test_no_old_frames_are_held_while_nobody_reads() -> None:
    """The camera's buffers as `--prove` counts them: a time code is filmed while reading pauses."""
    fake = FakeDriver({"GREY": {(240, 240): (20.0,)}})
    camera = camera_of(fake)
    over = threading.Event()

    def film() -> None:
        while not over.wait(0.05):
            fake.deliver(draw_code(time.monotonic_ns(), 240), age_s=0.0)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        assert held_frames(camera, pause_s=0.4) < 2  # one may be filmed late on a busy machine; four would be held
    finally:
        over.set()
        thread.join(5.0)
        camera.close()


@pytest.mark.parametrize("name", BYTES)
def test_nothing_of_the_size_of_a_frame_is_taken(name: str) -> None:
    fake = FakeDriver({name: {HD: (SLOW,)}}, padding=32)
    data = pack(name, picture(90, HD), 32)
    camera = camera_of(fake)
    peak, kept = growth(camera, fake, data, each=lambda image: None)
    assert peak < HD[0] * HD[1] * 3 / 16 and kept < HD[0] * HD[1] * 3 / 16
    copied, _ = growth(camera, fake, data, each=lambda image: image.copy())
    assert copied > HD[0] * HD[1] * 3  # so this would be seen
    camera.close()


def growth(
    camera: V4L2Camera, fake: FakeDriver, data: bytes, *, each: Callable[[NDArray[np.uint8]], object]
) -> tuple[int, int]:
    """Bytes above what there was after a warm-up: at the most, and at the end. The driver's own are left out."""
    tracemalloc.start()
    try:
        peak = before = 0
        for i in range(20):
            fake.deliver(data)
            if i == 8:
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            frame = camera.read()
            assert frame is not None
            each(frame.image)
            del frame
            peak = max(peak, tracemalloc.get_traced_memory()[1]) if i >= 8 else 0
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return peak - before, after - before
