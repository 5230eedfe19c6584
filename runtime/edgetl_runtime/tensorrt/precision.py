"""Proof of precision: what every layer of a built engine runs in, against what the ONNX file asks for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgetl_runtime.tensorrt.onnx_file import OnnxFile, OnnxNode
from edgetl_runtime.tensorrt.protocol import Mismatch, Proof

HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
REDUCED = frozenset({"fp16", "bf16"})
_COPIES = ("reformat", "noop", "constant", "quantize", "dequantize", "signal", "wait")
_SHAPERS = frozenset({"Transpose", "Reshape", "Identity", "Flatten", "Unsqueeze", "Squeeze"})
_INDEX_OPS = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero"})
_TRUTH_OPS = frozenset({"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Not", "And", "Or", "Xor"})
_SECOND_INPUT = frozenset({"Where"})
_WORDS = (
    ("int8", r"int8"),
    ("fp8", r"fp8"),
    ("bf16", r"bf(loat)?16"),
    ("fp16", r"fp16|half|float16"),
    ("fp32", r"fp32|float32|\bfloat\b"),
)
"""How the inspector words a type, e.g. "Channel major FP16 format where channel % 8 == 0", "Half", "Int8"."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the file asks of one node: its precision, and whether it is a convolution or a matrix product."""

    precision: str
    heavy: bool


def asked_precisions(onnx: OnnxFile) -> dict[str, Asked]:
    """By node name, or place where it has none, what each computes in: the file's types followed from input to output.

    A convolution or matrix product whose both operands come from DequantizeLinear is "int8"; weights alone in INT8
    leave it in the type of its activations.
    """
    types = dict(onnx.types)
    makers: dict[str, OnnxNode] = {}
    asked = {}
    for place, node in enumerate(onnx.nodes):
        for index, name in enumerate(node.outputs):
            makers[name] = node
            types.setdefault(name, _output_type(node, index, types))
        if not node.inputs or not node.outputs:
            continue
        heavy = node.op in HEAVY
        if heavy and len(node.inputs) > 1 and all(_is_dequantised(makers, name) for name in node.inputs[:2]):
            precision = "int8"
        else:
            precision = types.get(node.inputs[0] if heavy else node.outputs[0], "")
        asked[node.name or f"node {place}"] = Asked(precision, heavy)
    return asked


def _is_dequantised(makers: Mapping[str, OnnxNode], name: str) -> bool:
    """Whether DequantizeLinear made a tensor, directly or behind a change of shape."""
    maker = makers.get(name)
    while maker is not None and maker.op in _SHAPERS and maker.inputs:
        maker = makers.get(maker.inputs[0])
    return maker is not None and maker.op == "DequantizeLinear"


def _output_type(node: OnnxNode, index: int, types: Mapping[str, str]) -> str:
    if node.to_type:
        return node.to_type
    if node.op in _INDEX_OPS or (node.op == "TopK" and index == 1):
        return "int64"
    if node.op in _TRUTH_OPS:
        return "bool"
    if node.op == "QuantizeLinear":
        return types.get(node.inputs[2], "uint8") if len(node.inputs) > 2 else "uint8"
    if node.op == "DequantizeLinear" or node.op in _SECOND_INPUT:
        return types.get(node.inputs[1], "") if len(node.inputs) > 1 else ""
    return types.get(node.inputs[0], "") if node.inputs else ""


def layers_of(information: str) -> list[dict[str, Any]]:
    """The layers in the inspector's JSON that carry detail; none where it is no such document, so nothing is known."""
    try:
        document = json.loads(information)
    except ValueError:
        return []
    layers = document.get("Layers") if isinstance(document, dict) else None
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def layer_precisions(layers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What each layer computes in, by its name; layers whose type is not said are left out."""
    found = {str(layer.get("Name", "")): _precision(layer) for layer in layers}
    return {name: precision for name, precision in found.items() if precision}


def prove(layers: Iterable[Mapping[str, Any]], asked: Mapping[str, Asked]) -> Proof:
    """Hold an engine's layers against what was asked.

    A heavy node is a mismatch where a layer names it and none that does runs in what was asked. A layer of other
    nodes is one where all of them were asked to run in FP16 or BF16 and it reads and writes FP32 only.
    """
    ran: dict[str, list[tuple[str, str]]] = {}
    mismatches, seen = [], set[str]()
    for layer in layers:
        if str(layer.get("LayerType", "")).lower().startswith(_COPIES):
            continue
        title, precision = str(layer.get("Name", "")), _precision(layer)
        seen.add(precision)
        named = tuple(name for name in _names(layer) if name in asked)
        heavy = [name for name in named if asked[name].heavy]
        for name in heavy:
            ran.setdefault(name, []).append((title, precision))
        wanted = {asked[name].precision for name in named}
        if named and not heavy and wanted <= REDUCED and _types(layer) == {"fp32"}:
            mismatches.append(Mismatch(title, named, "/".join(sorted(wanted)), "fp32"))
    found: Counter[str] = Counter()
    for name, layers_of_it in ran.items():
        kinds = [kind for _, kind in layers_of_it if kind]
        precision = asked[name].precision
        if kinds and precision:
            found[precision if precision in kinds else kinds[0]] += 1
            if precision not in kinds:
                mismatches.append(Mismatch(layers_of_it[0][0], (name,), precision, kinds[0]))
    heavy_asked = Counter(a.precision for a in asked.values() if a.heavy)
    if heavy_asked["int8"] and seen - {""} and "int8" not in seen:
        mismatches.append(Mismatch("the whole engine", (), "int8", "no layer in INT8"))
    halves = [kind for kind in sorted(REDUCED) if heavy_asked[kind]]
    if halves and not mismatches and seen - {""} == {"fp32"}:
        mismatches.append(Mismatch("the whole engine", (), "/".join(halves), "every layer in FP32"))
    return Proof(
        asked=dict(sorted(heavy_asked.items())),
        found=dict(sorted(found.items())),
        unknown=sum(heavy_asked.values()) - sum(found.values()),
        mismatches=tuple(mismatches),
    )


def _names(layer: Mapping[str, Any]) -> list[str]:
    """The ONNX nodes in a layer: from its metadata, else from its own name, which joins them with plus signs."""
    listed = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(layer.get("Metadata", "")))
    if listed:
        return [str(name) for name in listed]
    parts = re.split(r"\s*(?:\+|\|\|)\s*", str(layer.get("Name", "")))
    return [re.sub(r"^PWN\(|\)+$", "", part) for part in parts]


def _precision(layer: Mapping[str, Any]) -> str:
    """What a layer computes in: the type of its first input that has one, else of its weights."""
    for tensor in _tensors(layer, "Inputs"):
        if kind := _type(tensor):
            return kind
    weights = layer.get("Weights")
    return _worded(str(weights.get("Type", ""))) if isinstance(weights, dict) else ""


def _types(layer: Mapping[str, Any]) -> set[str]:
    """Every type that a layer reads or writes, as far as it is said."""
    return {_type(tensor) for key in ("Inputs", "Outputs") for tensor in _tensors(layer, key)} - {""}


def _tensors(layer: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = layer.get(key)
    return [tensor for tensor in value if isinstance(tensor, dict)] if isinstance(value, list) else []


def _type(tensor: Mapping[str, Any]) -> str:
    """TensorRT 10 has one key for format and type, 11 one for each."""
    keys = {str(key).lower().replace(" ", ""): str(value) for key, value in tensor.items()}
    return _worded(keys.get("datatype") or keys.get("format/datatype") or keys.get("format", ""))


def _worded(text: str) -> str:
    for name, pattern in _WORDS:
        if re.search(pattern, text, re.IGNORECASE):
            return name
    return ""
