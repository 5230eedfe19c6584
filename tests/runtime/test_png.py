"""PNGs that lie about their length cost no memory."""

from __future__ import annotations

import resource
from pathlib import Path

import cv2
import pytest
from runtime_support import scene

from edgetl_runtime.cameras._png import refuse_false_png
from edgetl_runtime.cameras.images import ImagesCamera
from edgetl_runtime.errors import CameraError


def png() -> bytes:
    data: bytes = cv2.imencode(".png", scene(4, 6))[1].tobytes()
    return data


def test_whole_ones_and_other_files_pass() -> None:
    for data in (png(), png() + b"more", memoryview(png()), b"", b"\xff\xd8\xff", b"BM"):
        refuse_false_png(data)


@pytest.mark.parametrize("length", [b"\x5b\0\0\x22", b"\xff\xff\xff\xff", b"\0\0\1\0"])
def test_a_chunk_that_is_longer_than_the_file(length: bytes, tmp_path: Path) -> None:
    """The first was found by fuzzing: OpenCV takes 3.5 GB for it."""
    data = png()
    at = data.index(b"IDAT") - 4
    lie = data[:at] + length + data[at + 4 :]
    with pytest.raises(ValueError, match="claims"):
        refuse_false_png(lie)
    (tmp_path / "a.png").write_bytes(lie)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CameraError, match=r"a\.png"):
        ImagesCamera(tmp_path).read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 500_000


def test_one_that_is_cut_anywhere_is_refused() -> None:
    data = png()
    for end in range(8, len(data)):
        with pytest.raises(ValueError, match=r"claims|ends before"):
            refuse_false_png(data[:end])
