"""PNGs that lie about their length, told before OpenCV decodes them.

OpenCV 4.11 and later make room for what a chunk claims before they read it: 124 bytes can take 3.5 GB. Layout after the
PNG specification, 5.3: https://www.w3.org/TR/png-3/#5Chunk-layout.
"""

from __future__ import annotations

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AROUND = 12
"""Length, type and check sum of a chunk."""


def refuse_false_png(data: bytes | memoryview) -> None:
    """Raise ValueError for a PNG with a chunk that is longer than what follows; anything else passes."""
    if data[: len(SIGNATURE)] != SIGNATURE:
        return
    at = len(SIGNATURE)
    while len(data) - at >= _AROUND:
        length = int.from_bytes(data[at : at + 4], "big")
        if length > len(data) - at - _AROUND:
            raise ValueError(f"a chunk claims {length} bytes where {len(data) - at - _AROUND} are left")
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += _AROUND + length
    raise ValueError("it ends before its last chunk")
