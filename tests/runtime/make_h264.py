"""Encodes counter.h264, 100 pictures of `counter_picture` as Annex B, a key frame at each 50th.

    pip install av && python tests/runtime/make_h264.py

PyAV brings an encoder; it is needed here only, so nothing depends on it.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
from rtsp_server import HEIGHT, WIDTH, counter_picture

FRAMES, GROUP = 100, 50


def main() -> None:
    """Write counter.h264 beside this file."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, 25), Fraction(25, 1), GROUP
    encoder.options = {
        "tune": "zerolatency",
        "preset": "veryfast",
        "crf": "30",
        "x264-params": "slices=1:sliced-threads=0:threads=1",
    }
    data = b""
    for number in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(counter_picture(number), format="bgr24")
        data += b"".join(bytes(packet) for packet in encoder.encode(frame))
    data += b"".join(bytes(packet) for packet in encoder.encode(None))
    path = Path(__file__).with_name("counter.h264")
    path.write_bytes(data)
    sys.stderr.write(f"{path}: {len(data)} bytes\n")


if __name__ == "__main__":
    main()
