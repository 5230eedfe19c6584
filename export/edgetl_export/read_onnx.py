"""Reading an ONNX file that somebody else made: every claim it makes is checked before anything is done with it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from edgetl_export.graph import bare_with_shapes
from edgetl_export.onnx_bytes import read_model_bytes
from edgetl_runtime.errors import InputError

MOST_TENSOR_BYTES = 4 * 2**30
"""A tensor that the network reads or makes at run time; a frame of 8,000 x 8,000 in float32 has 0.8 GB."""
AGAIN = "get it again from where it was made"
UNKNOWN_OPERATOR = re.compile(r"No Op registered for")


def read_onnx(path: Path, *, static_shapes: bool = False, weights: bool = False) -> ModelProto:
    """A checked model. static_shapes: refuse inputs without fixed sizes. weights: load those kept in other files too.

    Operators that ONNX does not know are let through: which target has them is the lint's to say. Raises InputError,
    and nothing else, for a file that is missing, cut off, damaged, no ONNX, without a network, newer than the installed
    onnx, with tensors that do not hold what they claim, or with weights outside its own folder.
    """
    data = read_model_bytes(path)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's implementations each have their own
        raise InputError(f"{path} is damaged: its parts are not those of an ONNX model", remedy=AGAIN) from error
    _check_versions(path, model)
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path} holds no network: {len(model.graph.node)} nodes, {len(model.graph.output)} outputs")
    for tensor in _tensors(model):
        _check_tensor(path, tensor)
    if static_shapes:
        _require_fixed_inputs(path, model)
    _check_rules(path)
    _check_sizes(path, model)
    if weights:
        onnx.load_external_data_for_model(model, str(path.parent))
    return model


def weight_files(path: Path) -> tuple[Path, ...]:
    """The files beside an ONNX file that hold weights of its network, sorted; none where it can't be read."""
    model = ModelProto()
    try:
        model.ParseFromString(read_model_bytes(path))
    except Exception:  # read_onnx says why
        return ()
    outside = [t for t in _tensors(model) if t.data_location == TensorProto.EXTERNAL]
    places = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
    return tuple(path.parent / place for place in sorted(places))


def _check_versions(path: Path, model: ModelProto) -> None:
    known = onnx.defs.onnx_opset_version()
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    newer = "export it with opset 18, or install a newer onnx"
    if opset > known:
        raise InputError(f"{path} has opset {opset}, onnx {onnx.__version__} knows up to {known}", remedy=newer)
    if model.ir_version > onnx.IR_VERSION:
        raise InputError(
            f"{path} has IR version {model.ir_version}, onnx {onnx.__version__} knows up to {onnx.IR_VERSION}",
            remedy=newer,
        )
    if model.ir_version < 1 or not model.opset_import:
        raise InputError(f"{path} is not an ONNX model: it states no version")


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every constant: of the graph, of the graphs within, of local functions."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                if sparse.dims:
                    yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of(graph)


def _check_tensor(path: Path, tensor: TensorProto) -> None:
    """Raises InputError unless the tensor holds as much as its shape says."""
    bits = _bits(tensor.data_type)
    kind = f"[{', '.join(map(str, tensor.dims))}] {_type_name(tensor.data_type)}"
    if bits is None or any(d < 0 for d in tensor.dims):
        raise InputError(f"{path}: the tensor {tensor.name!r} is {kind}, which is no tensor", remedy=AGAIN)
    count = math.prod(tensor.dims)
    claimed = (count * bits + 7) // 8
    external = tensor.data_location == TensorProto.EXTERNAL
    held = _held_outside(path, tensor, claimed) if external else _held_inside(tensor, count, claimed)
    if held != claimed:
        raise InputError(
            f"{path}: the tensor {tensor.name!r} claims {_size(claimed)} ({kind}), the file holds {_size(held)} of it",
            remedy=AGAIN,
        )


def _held_inside(tensor: TensorProto, count: int, claimed: int) -> int:
    """Bytes that the file has for a tensor; typed fields hold one entry an element, two halves of a byte packed."""
    if tensor.HasField("raw_data"):
        raw: bytes = tensor.raw_data
        return len(raw)
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    entries = max(len(tensor.string_data), *(len(field) for field in fields))
    name = _type_name(tensor.data_type)
    if name.startswith("COMPLEX"):
        entries //= 2
    packed = {"INT4": 2, "UINT4": 2, "FLOAT4E2M1": 2, "INT2": 4, "UINT2": 4}.get(name, 1)
    return claimed if entries == -(-count // packed) else int(entries) * max(_bits(tensor.data_type) or 0, 8) // 8


def _held_outside(path: Path, tensor: TensorProto, claimed: int) -> int:
    """Bytes that a file beside the model has for a tensor."""
    entries: dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = path.parent / location
    where = f"{path}: the weights of {tensor.name!r} are said to be in {location!r}"
    parts = PurePosixPath(location.replace("\\", "/")).parts
    if not location or ".." in parts or PurePosixPath(location).is_absolute() or ":" in location or "\0" in location:
        raise InputError(
            f"{where}, which is not inside the model's folder", remedy="export it with one file of weights"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", claimed))
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise InputError(f"{where}, which leads out of the model's folder")
        size = file.stat().st_size
    except ValueError:
        raise InputError(f"{where}, at a place that is no number", remedy=AGAIN) from None
    except OSError as error:
        raise InputError(f"{where}, which is not there", remedy="put it beside the model") from error
    if offset < 0 or length < 0:
        raise InputError(f"{where}, at a place before its start", remedy=AGAIN)
    return min(length, max(size - offset, 0))


def _check_rules(path: Path) -> None:
    """Raises InputError where onnx's own checker finds the model wrong; it reads the file itself."""
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        if not UNKNOWN_OPERATOR.search(str(error)):
            why = (lines[0] if lines else type(error).__name__)[:200]
            raise InputError(f"{path} is not a valid ONNX model: {why}") from error


def _check_sizes(path: Path, model: ModelProto) -> None:
    """Raises InputError for a tensor at run time that no machine here could hold; made ones count too."""
    try:
        graph = bare_with_shapes(model).graph
    except Exception:  # types that contradict each other: the lint says where
        graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        if any(d.HasField("dim_value") and d.dim_value < 0 for d in kind.shape.dim):
            raise InputError(f"{path}: {value.name!r} has the shape {_shape(value)}", remedy=AGAIN)
        sizes = [d.dim_value if d.HasField("dim_value") else 1 for d in kind.shape.dim]
        claimed = math.prod(sizes) * (_bits(kind.elem_type) or 8) // 8
        if claimed > MOST_TENSOR_BYTES:
            raise InputError(
                f"{path}: {value.name!r} would take {_size(claimed)} ({_shape(value)}), at most "
                f"{_size(MOST_TENSOR_BYTES)} is read",
                remedy="export it for smaller frames",
            )


def _require_fixed_inputs(path: Path, model: ModelProto) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and any(d.dim_value < 1 for d in dims):
            raise InputError(
                f"{path}: the input {value.name!r} has the shape {_shape(value)}, which is not fixed",
                remedy="export it with one batch and frame size",
            )


def _shape(value: ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return f"[{', '.join(d.dim_param or (str(d.dim_value) if d.HasField('dim_value') else '?') for d in dims)}]"


def _bits(element_type: int) -> int | None:
    """Of one element; a string counts as one byte; None for a number that is no element type."""
    name = _type_name(element_type)
    if name in ("", "UNDEFINED"):
        return None
    if name == "STRING":
        return 8
    four = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return four.get(name) or 8 * int(onnx.helper.tensor_dtype_to_np_dtype(element_type).itemsize)


def _type_name(element_type: int) -> str:
    known = element_type in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(element_type)) if known else ""


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
