"""RIHS01, the hash of a ROS 2 interface's definition, which is part of every topic's key expression.

It is the SHA-256 of the JSON of the type's description, with the types that it refers to sorted by name, without
default values and comments: https://www.ros.org/reps/rep-2011.html, its numbers of field types are those of
https://github.com/ros2/rcl_interfaces/blob/rolling/type_description_interfaces/msg/FieldType.msg. Here the
description is read off the classes in `edgetl_runtime.ros.messages`, so that bytes and hash can't disagree.
"""

from __future__ import annotations

import hashlib
import json
import typing
from typing import Any, TypedDict

PREFIX = "RIHS01_"
NOT_SUPPORTED = "TypeHashNotSupported"
"""What distributions before type hashes, such as Humble, have in its place."""

_NESTED = 1
_NUMBERS = {
    "int8": 2,
    "uint8": 3,
    "int16": 4,
    "uint16": 5,
    "int32": 6,
    "uint32": 7,
    "int64": 8,
    "uint64": 9,
    "float32": 10,
    "float64": 11,
    "bool": 15,
    "byte": 16,
    "str": 17,
}
_OF_ARRAY, _OF_SEQUENCE = 48, 144
"""What is added for an array of fixed length and for a sequence of any length."""


class FieldType(TypedDict):
    """In the order in which the keys are hashed."""

    type_id: int
    capacity: int
    string_capacity: int
    nested_type_name: str


class Field(TypedDict):
    """One field of a message."""

    name: str
    type: FieldType


class Description(TypedDict):
    """One type without those that it refers to."""

    type_name: str
    fields: list[Field]


def type_hash(message: type) -> str:
    """RIHS01_ and 64 hexadecimal digits. message: one of the classes in `messages`."""
    known: dict[str, Description] = {}
    own = _describe(message, known)
    del known[own["type_name"]]
    document = {
        "type_description": own,
        "referenced_type_descriptions": [known[name] for name in sorted(known)],
    }
    return PREFIX + hashlib.sha256(json.dumps(document).encode()).hexdigest()


def type_name(message: type) -> str:
    """`std_msgs/msg/Header`."""
    return str(message.__idl_typename__)  # type: ignore[attr-defined]


def dds_name(message: type) -> str:
    """`std_msgs::msg::dds_::Header_`, the name in key expressions."""
    package, kind, name = type_name(message).split("/")
    return f"{package}::{kind}::dds_::{name}_"


def _describe(message: type, known: dict[str, Description]) -> Description:
    name = type_name(message)
    if name not in known:
        hints = typing.get_type_hints(message, include_extras=True)
        fields = {n: h for n, h in hints.items() if not n.startswith("__")}
        known[name] = {"type_name": name, "fields": []}
        known[name]["fields"] = [{"name": n, "type": _field_type(h, known)} for n, h in fields.items()]
    return known[name]


def _field_type(hint: Any, known: dict[str, Description]) -> FieldType:
    mark: Any = hint.__metadata__[0] if hasattr(hint, "__metadata__") else None
    kind = type(mark).__name__
    if kind in ("array", "sequence"):
        inner = _field_type(mark.subtype, known)
        added, capacity = (_OF_ARRAY, mark.length) if kind == "array" else (_OF_SEQUENCE, 0)
        return _of(inner["type_id"] + added, capacity=capacity, nested=inner["nested_type_name"])
    if mark is None and hasattr(hint, "__idl_typename__"):
        return _of(_NESTED, nested=_describe(hint, known)["type_name"])
    name = mark.name if kind == "typedef" else mark if mark is not None else hint.__name__
    return _of(_NUMBERS[name])


def _of(type_id: int, *, capacity: int = 0, nested: str = "") -> FieldType:
    return {"type_id": type_id, "capacity": capacity, "string_capacity": 0, "nested_type_name": nested}
