"""Images from bytes that rosbags made, and from bytes that nobody should have made."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ros_listener import typestore

from edgetl_runtime.pool import FramePool
from edgetl_runtime.ros.messages import CompressedImage
from edgetl_runtime.ros.payload import Encoder
from edgetl_runtime.ros.pixels import MAX_SIDE, picture_size, read_compressed, read_image, to_bgr

STORE = typestore()
BGR = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)


def packed(
    data: bytes, encoding: str, channels: int, *, little: bool = True, size_hw: tuple[int, int] = (6, 8), pad: int = 0
) -> bytes:
    """A sensor_msgs/Image as rosbags writes it."""
    types = STORE.types
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=12, nanosec=34), frame_id="lens"
    )
    height, width = size_hw
    image = types["sensor_msgs/msg/Image"](
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=width * channels + pad,
        data=np.frombuffer(data, np.uint8),
    )
    return bytes(STORE.serialize_cdr(image, "sensor_msgs/msg/Image", little_endian=little))


def squeezed(data: bytes, stated: str = "jpeg") -> bytes:
    """A sensor_msgs/CompressedImage as rosbags writes it."""
    types = STORE.types
    header = types["std_msgs/msg/Header"](stamp=types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), frame_id="")
    image = types["sensor_msgs/msg/CompressedImage"](header=header, format=stated, data=np.frombuffer(data, np.uint8))
    return bytes(STORE.serialize_cdr(image, "sensor_msgs/msg/CompressedImage"))


def bgr_of(data: bytes) -> NDArray[np.uint8]:
    return to_bgr(read_image(data), FramePool())


@pytest.mark.parametrize("little", [True, False])
def test_an_image_is_read_with_its_header_in_both_byte_orders(little: bool) -> None:
    image = read_image(packed(BGR.tobytes(), "bgr8", 3, little=little))
    assert (image.epoch_ns, image.frame_id, image.height, image.width) == (12_000_000_034, "lens", 6, 8)
    assert (to_bgr(image, FramePool()) == BGR).all()


@pytest.mark.parametrize(
    ("encoding", "code"),
    [("rgb8", "COLOR_BGR2RGB"), ("bgra8", "COLOR_BGR2BGRA"), ("rgba8", "COLOR_BGR2RGBA"), ("8UC3", None)],
)
def test_colour_orders_become_bgr_exactly(encoding: str, code: str | None) -> None:
    made = BGR if code is None else cv2.cvtColor(BGR, getattr(cv2, code))
    assert (bgr_of(packed(made.tobytes(), encoding, made.shape[2])) == BGR).all()


def test_grey_is_the_same_in_all_channels() -> None:
    grey = BGR[..., 0].copy()
    for encoding in ("mono8", "8UC1"):
        assert (bgr_of(packed(grey.tobytes(), encoding, 1)) == grey[..., None]).all()


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422_yuy2", (0, 1, 2, 3)), ("yuyv", (0, 1, 2, 3)), ("uyvy", (1, 0, 3, 2)), ("yuv422", (1, 0, 3, 2))],
)
def test_yuv_orders(encoding: str, order: tuple[int, ...]) -> None:
    """A red pixel pair by BT.601 in studio range: Y 82, U 90, V 240."""
    pair = np.array([82, 90, 82, 240], np.uint8)[list(order)]
    found = bgr_of(packed(np.tile(pair, 6 * 4).tobytes(), encoding, 2))
    assert np.abs(found.astype(int) - (0, 0, 255)).max() <= 3


def test_rows_may_be_longer_than_their_pixels() -> None:
    rows = np.zeros((6, 8 * 3 + 5), np.uint8)
    rows[:, :24] = BGR.reshape(6, 24)
    assert (bgr_of(packed(rows.tobytes(), "bgr8", 3, pad=5)) == BGR).all()


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_compressed_images_are_decoded_as_opencv_does(kind: str) -> None:
    data = cv2.imencode(kind, BGR)[1].tobytes()
    image = read_compressed(squeezed(data, "bgr8; jpeg compressed bgr8"))
    assert (image.height, image.width, image.epoch_ns) == (6, 8, 1_000_000_002)
    assert (to_bgr(image, FramePool()) == cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)).all()


def test_our_own_compressed_image_has_the_bytes_of_rosbags() -> None:
    data = cv2.imencode(".jpg", BGR)[1].tobytes()
    read = STORE.deserialize_cdr(
        Encoder().with_octets(CompressedImage(format="jpeg"), data), "sensor_msgs/msg/CompressedImage"
    )
    assert read.data.tobytes() == data and read.format == "jpeg"
    assert bytes(STORE.serialize_cdr(read, "sensor_msgs/msg/CompressedImage")) == Encoder().with_octets(
        CompressedImage(format="jpeg"), data
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "expected plain CDR, found 0 bytes"),
        (b"\x00\x07\x00\x00", "expected plain CDR"),
        (packed(BGR.tobytes(), "bgr8", 3)[:-1], "bytes are to follow"),
        (packed(BGR.tobytes(), "bgr8", 3) + bytes(4), "4 bytes too many"),
        (packed(BGR.tobytes()[:-3], "bgr8", 3), "141 bytes in all"),
        (packed(BGR.tobytes(), "bgr8", 2), "rows of 16 bytes"),
        (packed(BGR.tobytes(), "bayer_rggb8", 3), "encoding 'bayer_rggb8'; known are 8UC1"),
        (packed(b"", "bgr8", 3, size_hw=(0, 8)), "a picture of 8x0"),
        (packed(b"", "mono8", 1, size_hw=(MAX_SIDE + 1, 1)), "a picture of 1x16385"),
        (packed(b"", "bgr8", 3, size_hw=(16384, 16384)), "a picture of 16384x16384"),
        (packed(bytes(6 * 7 * 2), "yuyv", 2, size_hw=(6, 7)), "7x6 yuyv"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_image(data)


def test_lengths_that_are_not_there_take_no_memory() -> None:
    whole = bytearray(packed(BGR.tobytes(), "bgr8", 3))
    at = len(whole) - BGR.size - 4
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(ValueError, match="4294967295 bytes are to follow, 144 do"):
        read_image(bytes(whole))
    whole[12:16] = b"\xff\xff\xff\x7f"  # of the frame's name
    with pytest.raises(ValueError, match="a text of 2147483647 bytes"):
        read_image(bytes(whole))


def test_a_picture_that_states_a_giant_size_is_not_decoded() -> None:
    png = bytearray(cv2.imencode(".png", BGR)[1].tobytes())
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    jpeg = bytearray(cv2.imencode(".jpg", BGR)[1].tobytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    for data, why in ((png, "60000x60000"), (jpeg, "65535x65535")):
        with pytest.raises(ValueError, match=f"a picture of {why}"):
            read_compressed(squeezed(bytes(data)))


def test_a_broken_picture_is_refused() -> None:
    data = cv2.imencode(".png", BGR)[1].tobytes()
    with pytest.raises(ValueError, match="ends before its last chunk"):
        read_compressed(squeezed(data[:40]))
    for what in (b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\xff\xd8" + bytes(20)):
        with pytest.raises(ValueError):
            picture_size(memoryview(what))


def survives(data: bytes) -> None:
    """It is an image, or it is refused; nothing else happens."""
    readers: tuple[Any, ...] = (read_image, read_compressed)
    for read in readers:
        try:
            found = to_bgr(read(data), FramePool())
        except ValueError:
            continue
        assert found.ndim == 3 and found.dtype == np.uint8


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_are_refused(data: bytes) -> None:
    survives(data)
    survives(b"\x00\x01\x00\x00" + data)


WHOLE = (packed(BGR.tobytes(), "bgr8", 3), squeezed(cv2.imencode(".jpg", BGR)[1].tobytes()))


@settings(max_examples=300)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 40),
)
def test_any_change_to_a_message_leaves_an_image_or_is_refused(
    whole: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    spoiled = bytearray(whole)
    for at, value in changes:
        spoiled[at % len(spoiled)] = value
    survives(bytes(spoiled[: len(spoiled) - cut]))
