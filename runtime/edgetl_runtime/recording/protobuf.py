"""Protocol buffers, as far as recordings need them: writing fields, and descriptors of messages that tables describe.

After https://protobuf.dev/programming-guides/encoding and google/protobuf/descriptor.proto.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["double", "int32", "int64", "bool", "string", "bytes", "fixed32", "message", "enum"]

_TYPE: dict[Kind, int] = {
    "double": 1,
    "int64": 3,
    "int32": 5,
    "fixed32": 7,
    "bool": 8,
    "string": 9,
    "message": 11,
    "bytes": 12,
    "enum": 14,
}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_OPTIONAL, _REPEATED = 1, 3


def varint(value: int) -> bytes:
    """A whole number from 0 to 2^64 - 1 in groups of 7 bits, lowest first."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _key(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def whole(number: int, value: int) -> bytes:
    """A field int32, int64, bool or enum; below zero as its 64-bit two's complement."""
    return _key(number, _VARINT) + varint(value & (1 << 64) - 1)


def double(number: int, value: float) -> bytes:
    """A field double."""
    return _key(number, _FIXED64) + struct.pack("<d", value)


def fixed32(number: int, value: int) -> bytes:
    """A field fixed32."""
    return _key(number, _FIXED32) + struct.pack("<I", value)


def head(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of a field string, bytes or message."""
    return _key(number, _LENGTH) + varint(size)


def packed(number: int, value: bytes | str) -> bytes:
    """A field string, bytes or message."""
    data = value.encode() if isinstance(value, str) else value
    return head(number, len(data)) + data


@dataclass(frozen=True, slots=True)
class FieldType:
    """One field of a message. of: the full name of the message or enum that it holds; many: whether it repeats."""

    name: str
    number: int
    kind: Kind
    of: str = ""
    many: bool = False


@dataclass(frozen=True, slots=True)
class EnumType:
    """An enum inside a message; names in the order of their numbers, from 0."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileType:
    """A .proto file with one message. needs: the files that it imports."""

    file: str
    package: str
    message: str
    fields: tuple[FieldType, ...]
    needs: tuple[str, ...] = ()
    enum: EnumType | None = None


def descriptor_set(files: Sequence[FileType]) -> bytes:
    """A google.protobuf.FileDescriptorSet, by which any reader can take messages apart; imports come first."""
    return b"".join(packed(1, _file(f)) for f in files)


def _file(file: FileType) -> bytes:
    message = packed(1, file.message) + b"".join(packed(2, _field(f)) for f in file.fields)
    if file.enum is not None:
        values = (packed(1, name) + whole(2, i) for i, name in enumerate(file.enum.values))
        message += packed(4, packed(1, file.enum.name) + b"".join(packed(2, v) for v in values))
    needs = b"".join(packed(3, name) for name in file.needs)
    return packed(1, file.file) + packed(2, file.package) + needs + packed(4, message) + packed(12, "proto3")


def _field(field: FieldType) -> bytes:
    label = _REPEATED if field.many else _OPTIONAL
    data = packed(1, field.name) + whole(3, field.number) + whole(4, label) + whole(5, _TYPE[field.kind])
    return data + packed(6, f".{field.of}") if field.of else data
