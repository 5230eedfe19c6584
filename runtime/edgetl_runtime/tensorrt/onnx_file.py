"""Reading an ONNX file's nodes without the onnx package, which a device has not: names, types, modules.

Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding) with the field numbers of onnx.proto3.
Weights are stepped over, never copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgetl_runtime.errors import InputError
from edgetl_runtime.tensorrt.nodes import Node

ELEMENT_TYPES = {
    1: "fp32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "fp16",
    11: "fp64",
    16: "bf16",
    17: "fp8",
    19: "fp8",
    22: "int4",
    23: "fp4",
}
"""TensorProto.DataType by edgetl's name of the precision."""
MAX_NODES = 100_000
"""A node can be two bytes of the file, and is a hundred times that in memory."""
SCOPE_KEYS = ("pkg.torch.onnx.name_scopes", "namespace")

_Fields = Iterator[tuple[int, "int | memoryview"]]


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """A node with the names of its tensors. to_type: of a Cast, what it casts to; of a Constant, its type."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    to_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """nodes: in the file's order, which is one of execution. types: of inputs, weights and what the file states."""

    nodes: tuple[OnnxNode, ...]
    types: dict[str, str]

    @property
    def count(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)

    def find(self, name: str, index: int, op: str) -> Node | None:
        """The node that a parser error names: by name, else by index where the operator agrees."""
        for node in self.nodes:
            if name and label_of(node.name, node.outputs) == name:
                return _named(node)
        if 0 <= index < len(self.nodes) and (not op or self.nodes[index].op == op):
            return _named(self.nodes[index])
        return None

    def named_in(self, text: str) -> Node | None:
        """The node whose name stands in a free text; the builder may add `_0` to it."""
        nodes = {label_of(node.name, node.outputs): node for node in self.nodes}
        for name in sorted(nodes, key=len, reverse=True):
            if re.search(rf"(?<![\w/.]){re.escape(name)}(_\d+)?(?![\w/.])", text):
                return _named(nodes[name])
        return None


def read_onnx(path: Path) -> OnnxFile:
    """The nodes of an ONNX file. Raises InputError for a file that is none."""
    try:
        found = _model(memoryview(path.read_bytes()))
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is no readable ONNX file ({error})", remedy="export the bundle again") from error
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}", remedy="check its permissions") from error
    if not found.nodes:
        raise InputError(f"{path} holds no ONNX graph", remedy="export the bundle again")
    return found


def label_of(name: str, outputs: Sequence[str]) -> str:
    """A node's name, or the one that TensorRT gives to a node without: after its first output."""
    return name or f"node_of_{next(iter(outputs), '')}"


def module_of(name: str, metadata: Mapping[str, str]) -> str:
    """The PyTorch module that a node comes from, "" where the file does not say.

    torch's exporter writes name scopes as metadata; its older one has them in the node's name (/a/b/Conv).
    """
    for key in SCOPE_KEYS:
        if metadata.get(key):
            return _scope(metadata[key], listed=key.startswith("pkg."))
    return ".".join(part for part in name.split("/")[1:-1] if part) if name.startswith("/") else ""


def _scope(value: str, *, listed: bool) -> str:
    if listed:
        names = re.findall(r"'([^']*)'", value)
    else:
        names = [part.split(":")[0].strip() for part in value.split("/")]
    return names[-2] if len(names) > 1 else ""


def _named(node: OnnxNode) -> Node:
    return Node(node.op, label_of(node.name, node.outputs), module_of(node.name, node.metadata))


def _model(data: memoryview) -> OnnxFile:
    nodes: list[OnnxNode] = []
    types: dict[str, str] = {}
    for number, graph in _fields(data):
        if number != 7 or not isinstance(graph, memoryview):
            continue
        for part, value in _fields(graph):
            if not isinstance(value, memoryview):
                continue
            if part == 1:
                if len(nodes) == MAX_NODES:
                    raise ValueError(f"it has more than {MAX_NODES} nodes")
                nodes.append(_node(value))
            elif part == 5:
                name, kind = _tensor(value)
                types[name] = kind
            elif part in (11, 12, 13):
                name, kind = _value_info(value)
                if kind:
                    types[name] = kind
    return OnnxFile(tuple(nodes), types)


def _node(data: memoryview) -> OnnxNode:
    inputs, outputs, name, op, to_type = [], [], "", "", ""
    metadata: dict[str, str] = {}
    for number, value in _fields(data):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 3:
            name = _text(value)
        elif number == 4:
            op = _text(value)
        elif number == 5:
            to_type = _stated_type(value) or to_type
        elif number == 9:
            entry = {n: _text(v) for n, v in _fields(value) if isinstance(v, memoryview)}
            metadata[entry.get(1, "")] = entry.get(2, "")
    return OnnxNode(op, name, tuple(inputs), tuple(outputs), to_type, metadata)


def _stated_type(attribute: memoryview) -> str:
    """The element type that an attribute states: `to` of a Cast, the value of a Constant, an output_dtype."""
    name, number, tensor = "", 0, ""
    for part, value in _fields(attribute):
        if part == 1 and isinstance(value, memoryview):
            name = _text(value)
        elif part == 3 and isinstance(value, int):
            number = value
        elif part == 5 and isinstance(value, memoryview):
            tensor = _tensor(value)[1]
    if name in ("to", "output_dtype", "dtype"):
        return ELEMENT_TYPES.get(number, "")
    return tensor if name == "value" else ""


def _tensor(data: memoryview) -> tuple[str, str]:
    name, kind = "", 0
    for number, value in _fields(data):
        if number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and isinstance(value, memoryview):
            name = _text(value)
    return name, ELEMENT_TYPES.get(kind, "")


def _value_info(data: memoryview) -> tuple[str, str]:
    name, kind = "", ""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 2 and isinstance(value, memoryview):
            for part, tensor in _fields(value):
                if part == 1 and isinstance(tensor, memoryview):
                    code = next((v for n, v in _fields(tensor) if n == 1 and isinstance(v, int)), 0)
                    kind = ELEMENT_TYPES.get(code, "")
    return name, kind


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _fields(data: memoryview) -> _Fields:
    """Field numbers with their values; fixed-width ones are stepped over. Raises ValueError, IndexError."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("it is cut short")
            yield number, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"it is no ONNX: wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("it is no ONNX: an endless number")
