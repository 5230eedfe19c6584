"""Image files of every kind that cameras and labelling tools leave, and what their headers say."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data import MaskLayer, read_image, read_mask, read_mask_of
from edgetl.data.header import image_size, read_header
from edgetl_runtime.errors import InputError


def picture(height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth colours, different in every corner, so that JPEG keeps them apart."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 9, columns * 6, 255 - rows * 5 - columns * 3], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif", "ppm"])
@pytest.mark.parametrize("size_wh", [(40, 24), (1, 1), (301, 7)])
def test_the_header_knows_the_size_that_decoding_gives(tmp_path: Path, suffix: str, size_wh: tuple[int, int]) -> None:
    file = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(file), np.full((size_wh[1], size_wh[0], 3), 77, np.uint8))
    assert image_size(file) == size_wh
    assert read_image(file).shape == (size_wh[1], size_wh[0], 3)


@pytest.mark.parametrize("quality", [80, 101])
def test_webp_of_both_codings(tmp_path: Path, quality: int) -> None:
    file = tmp_path / "a.webp"
    cv2.imwrite(str(file), picture(), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert image_size(file) == (40, 24)


def test_webp_with_alpha_loses_it(tmp_path: Path) -> None:
    file = tmp_path / "a.webp"
    cv2.imwrite(str(file), np.dstack([picture(), np.full((24, 40), 9, np.uint8)]), [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert image_size(file) == (40, 24)
    np.testing.assert_array_equal(read_image(file), picture())


def with_orientation(jpeg: bytes, orientation: int, order: str) -> bytes:
    """The JPEG with an Exif segment that states an orientation; order: < or > for the bytes of its numbers."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_opencv_turns_it(tmp_path: Path, orientation: int, order: str) -> None:
    file = tmp_path / "a.jpg"
    encoded = cv2.imencode(".jpg", picture())[1].tobytes()
    file.write_bytes(with_orientation(encoded, orientation, order))
    shown = read_image(file)
    np.testing.assert_array_equal(shown, cv2.imread(str(file), cv2.IMREAD_COLOR))
    assert image_size(file) == (shown.shape[1], shown.shape[0]) == ((24, 40) if orientation >= 5 else (40, 24))
    assert read_header(file).orientation == orientation


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_tiff_is_turned_as_its_size_says(tmp_path: Path, orientation: int, order: str) -> None:
    """Red, green and blue in three corners of 6 x 4 pixels, uncompressed."""
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[0, 0], picture[0, -1], picture[-1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    tags = [(256, 4, 6), (257, 4, 4), (259, 3, 1), (262, 3, 2), (273, 4, 140), (274, 3, orientation), (277, 3, 3)]
    tags += [(278, 4, 4), (279, 4, picture.nbytes)]
    rows = [struct.pack(order + "HHI" + ("I" if k == 4 else "HH"), t, k, 1, *((v,) if k == 4 else (v, 0)))
            for t, k, v in tags]  # fmt: skip
    rows.insert(2, struct.pack(order + "HHII", 258, 3, 3, 134))
    assert 8 + 2 + 12 * len(rows) + 4 == 134
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    body = struct.pack(order + "H", len(rows)) + b"".join(rows) + bytes(4) + struct.pack(order + "3H", 8, 8, 8)
    file = tmp_path / "a.tif"
    file.write_bytes(head + body + picture.tobytes())
    seen = read_image(file)[..., ::-1]
    wanted = _turned(picture, orientation)
    np.testing.assert_array_equal(seen, wanted)
    assert image_size(file) == (wanted.shape[1], wanted.shape[0])


def _turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    """TIFF 6.0's table: where the stored first row and column lie in the picture."""
    flipped, upside = picture[:, ::-1], picture[::-1]
    return {
        2: flipped, 3: flipped[::-1], 4: upside, 5: picture.swapaxes(0, 1), 6: upside.swapaxes(0, 1),
        7: flipped[::-1].swapaxes(0, 1), 8: flipped.swapaxes(0, 1),
    }.get(orientation, picture)  # fmt: skip


def test_exif_that_is_damaged_or_says_nothing_is_no_orientation(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    encoded = cv2.imencode(".jpg", picture())[1].tobytes()
    for body in (b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0<x/>"):
        file.write_bytes(encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + encoded[2:])
        assert image_size(file) == (40, 24)
    file.write_bytes(with_orientation(encoded, 99, "<"))
    assert read_header(file).orientation == 1


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    grey = picture()[..., 0]
    cv2.imwrite(str(file), grey)
    np.testing.assert_array_equal(read_image(file), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path, suffix: str, channels: int) -> None:
    file = tmp_path / f"a.{suffix}"
    deep = np.random.default_rng(3).integers(0, 65536, (24, 40, channels)).astype(np.uint16)
    cv2.imwrite(str(file), deep)
    assert image_size(file) == (40, 24)
    np.testing.assert_array_equal(read_image(file), np.broadcast_to(deep >> 8, (24, 40, 3)))


def test_pixels_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    cv2.imwrite(str(file), np.zeros((4, 4, 3), np.float32))
    with pytest.raises(InputError, match=r"a\.tif: pixels of type float32"):
        read_image(file)


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.dstack([picture(), np.zeros((24, 40), np.uint8)]))
    np.testing.assert_array_equal(read_image(file), picture())


def test_a_cmyk_jpeg_is_read_as_opencv_reads_it(tmp_path: Path) -> None:
    pil = pytest.importorskip("PIL.Image")
    file = tmp_path / "a.jpg"
    pil.fromarray(np.ascontiguousarray(picture()[..., ::-1])).convert("CMYK").save(file, quality=95)
    np.testing.assert_array_equal(read_image(file), cv2.imread(str(file)))
    assert image_size(file) == (40, 24)


def test_forty_megapixels_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    cv2.imwrite(str(file), np.full((5000, 8000, 3), 200, np.uint8))
    assert read_image(file).shape == (5000, 8000, 3)


def test_a_small_file_that_claims_a_huge_picture_is_refused_undecoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bomb.png"
    head = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r" + head + struct.pack(">I", zlib.crc32(head)))

    def decode(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    with pytest.raises(InputError, match=r"bomb\.png: 20000 x 20000 pixels, at most 200 million") as caught:
        read_image(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"\x89PNG\r\n\x1a\n",
        b"P6\nwide",
        b"II*\0\xff\xff\xff\x7f",
        b"BM",
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "frame.png"
    file.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=r"frame\.png: not an image"):
            read(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: can't be read"):
        read_image(tmp_path / "gone.png")


def test_mask_values_mean_classes_and_all_others_are_void(tmp_path: Path) -> None:
    file = tmp_path / "m.png"
    cv2.imwrite(str(file), np.array([[0, 1, 2, 3, 200, 255]], np.uint8))
    assert read_mask(file, MaskLayer("a", ("x", "y"))).tolist() == [[0, 1, 255, 255, 255, 255]]
    assert read_mask(file, MaskLayer("a", ("x", "y"), (3, 0))).tolist() == [[1, 255, 255, 0, 255, 255]]
    assert read_mask(file, MaskLayer("a", ("x", "y"), ((255, 1), 0))).tolist() == [[1, 0, 255, 255, 255, 0]]


@pytest.mark.parametrize("bits", [2, 4])
def test_masks_whose_values_a_decoder_changes_are_refused(tmp_path: Path, bits: int) -> None:
    """A PNG of 2 bits a pixel is decoded to 0, 85, 170 and 255, a JPEG to values near those that were written."""
    file, layer = tmp_path / "m.png", MaskLayer("a", ("x", "y"))
    rows = np.packbits(np.tile(np.eye(8, dtype=np.uint8)[bits - 1], (4, 2))).tobytes()  # 8 / bits pixels in a byte
    lines = b"".join(b"\0" + rows[i : i + 1] for i in range(4))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 8 // bits, 4, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(InputError, match=rf"m\.png: expected a mask .* found {bits} bits a pixel"):
        read_mask(file, layer)
    file.write_bytes(cv2.imencode(".jpg", np.eye(16, dtype=np.uint8))[1].tobytes())
    with pytest.raises(InputError, match=r"m\.png: expected a mask .* found a JPEG"):
        read_mask(file, layer)


def test_a_mask_of_one_bit_holds_0_and_255(tmp_path: Path) -> None:
    file = tmp_path / "m.png"
    cv2.imwrite(str(file), np.array([[0, 255]], np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert file.read_bytes()[24] == 1
    assert read_mask(file, MaskLayer("a", ("x", "y"), (0, 255))).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("size_hw", "fits"), [((96, 64), False), ((64, 64), False), ((32, 48), True), ((21, 32), True)]
)
def test_a_mask_must_have_its_images_shape(tmp_path: Path, size_hw: tuple[int, int], fits: bool) -> None:
    file = tmp_path / "m.png"
    cv2.imwrite(str(file), np.zeros(size_hw, np.uint8))
    if fits:
        assert read_mask_of(file, MaskLayer("a", ("x",)), (64, 96)).shape == size_hw
        return
    with pytest.raises(InputError, match=r"m\.png: a mask of 64x(96|64) pixels for an image of 96x64"):
        read_mask_of(file, MaskLayer("a", ("x",)), (64, 96))


def test_a_mask_of_three_channels_or_sixteen_bits_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.png"
    for wrong in (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)):
        cv2.imwrite(str(file), wrong)
        with pytest.raises(InputError, match=r"m\.png: expected a mask with one 8-bit channel, found"):
            read_mask(file, MaskLayer("a", ("x",)))
