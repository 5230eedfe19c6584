"""The table of operators that TensorRT lacks, against its real parser."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from onnx import TensorProto, defs, helper

from edgetl_runtime.tensorrt.operators import PLUGINS, REWRITES

SCRIPT = """
import sys
import tensorrt_rtx_bindings as trt

class Quiet(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)

    def log(self, severity, text):
        pass

logger = Quiet()
builder = trt.Builder(logger)
for line in sys.stdin.read().split():
    op, data = line.split(":")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    taken = parser.parse(bytes.fromhex(data))
    error = "" if taken else f"{parser.get_error(0).code()} {parser.get_error(0).desc()}".replace(chr(10), " ")
    print(op, error, sep=":", flush=True)
"""


def lone_node(op: str) -> bytes:
    """A graph of this operator on float inputs."""
    schema = max((s for s in defs.get_all_schemas() if s.domain == "" and s.name == op), key=lambda s: s.since_version)
    inputs = [f"i{k}" for k in range(max(schema.min_input, 1) if schema.max_input else 0)]
    outputs = [f"o{k}" for k in range(max(schema.min_output, 1))]
    values = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 4]) for n in names] for names in (inputs, outputs)
    ]
    graph = helper.make_graph([helper.make_node(op, inputs, outputs, "it")], "g", *values)
    versions = [helper.make_opsetid("", max(schema.since_version, 20))]
    return bytes(helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString())


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT for RTX is not here")
def test_the_parser_has_none_of_them() -> None:
    """It says UNSUPPORTED_NODE without a reason, or looks for a plugin of that name."""
    lines = "\n".join(f"{op}:{lone_node(op).hex()}" for op in (*REWRITES, "Relu"))
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=lines, capture_output=True, text=True, check=True)
    said = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert said.pop("Relu") == ""
    assert set(said) == set(REWRITES)
    wrong = {
        op: words
        for op, words in said.items()
        if not words.endswith("UNSUPPORTED_NODE false") and "lugin not found" not in words
    }
    assert wrong == {}


@pytest.mark.parametrize("op", REWRITES)
def test_every_one_is_an_operator_of_onnx_and_has_a_fix(op: str) -> None:
    assert defs.has(op) and not PLUGINS.match(op)
    assert REWRITES[op].endswith(".") and len(REWRITES[op]) > 20


@pytest.mark.parametrize(
    ("name", "plugin"),
    [
        ("EfficientNMS_TRT", True),
        ("NonZero", True),
        ("DeformConv", True),
        ("Conv", False),
        ("ScatterElements", False),
        ("FastGelu", False),
        ("", False),
    ],
)
def test_names_of_plugins(name: str, plugin: bool) -> None:
    assert bool(PLUGINS.match(name)) == plugin
