"""A look at a file's bytes before anything parses them: is it ONNX, and is all of it there?"""

from __future__ import annotations

from pathlib import Path

from edgetl_runtime.errors import InputError

MOST_BYTES = 2**31 - 1
"""What one protobuf message can hold."""
KNOWN = (
    (b"PK\x03\x04", "a ZIP archive, such as a PyTorch checkpoint"),
    (b"\x80", "a Python pickle, such as an old PyTorch checkpoint"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file: fetch it with git lfs pull"),
    (b"\x89HDF", "an HDF5 file, such as a Keras model"),
    (b"ptrt", "a TensorRT engine"),
    (b"ftrt", "a TensorRT engine"),
    (b"<", "XML or HTML, such as an OpenVINO model or an error page"),
    (b"{", "JSON"),
)
FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Field number -> wire type (0 number, 2 length and bytes) of ONNX's ModelProto, as onnx.proto defines them."""


def read_model_bytes(path: Path) -> bytes:
    """The bytes of a file that looks like a whole ONNX model. Raises InputError with what it is instead."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"no ONNX file at {path}")
        if size > MOST_BYTES:
            raise InputError(
                f"{path} has {size / 1e9:.1f} GB, one ONNX file holds up to 2.1", remedy="save its weights beside it"
            )
        data = path.read_bytes()
    except OSError as error:
        why = f"no ONNX file at {path}" if isinstance(error, FileNotFoundError) else f"{path}: {error.strerror}"
        raise InputError(why) from error
    _recognise(path, data)
    return data


def _recognise(path: Path, data: bytes) -> None:
    """The outer fields one by one, without what they hold."""
    if not data:
        raise InputError(f"{path} is empty, expected an ONNX model")
    for start, what in KNOWN:
        if data.startswith(start):
            raise InputError(f"{path} is not an ONNX model, it looks like {what}")
    if data[4:8] == b"TFL3":
        raise InputError(f"{path} is not an ONNX model, it looks like a TensorFlow Lite model")
    place = 0
    while place < len(data):
        begins = place == 0
        tag, place = _number(data, place)
        field, wire = tag >> 3, tag & 7
        if FIELDS.get(field) != wire:
            raise InputError(f"{path} is not an ONNX model" if begins else _damaged(path))
        value, place = _number(data, place)
        if wire == 2:
            place += value
        if place > len(data):
            raise InputError(
                f"{path} is cut off: one part of it ends at byte {place}, the file at byte {len(data)}",
                remedy="copy it again",
            )


def _damaged(path: Path) -> str:
    return f"{path} is damaged: it begins as an ONNX model and does not go on as one"


def _number(data: bytes, place: int) -> tuple[int, int]:
    """A protobuf varint and the place behind it; past the end where it is cut off."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            return 0, len(data) + 1
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            break
    return value, place
