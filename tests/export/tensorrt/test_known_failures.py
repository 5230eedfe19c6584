"""Every failure that is known of TensorRT, each by the smallest graph that has it, on the real parser and builder.

Each gives its own code and names its node, with TensorRT for RTX, and without it where the file alone shows it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from edgetl_export.tensorrt.check import CANNOT_TELL, MODULES, check_onnx
from edgetl_export.tensorrt.graph import Graph
from edgetl_export.tensorrt.lint import lint
from edgetl_runtime.tensorrt.process import run_worker
from edgetl_runtime.tensorrt.protocol import Job
from edgetl_runtime.tensorrt.worker import WORKER

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None and importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed: pip install 'edgetl[rtx]'",
)
F, H, B, U8, I8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.UINT8, TensorProto.INT8
I16, I32, I64, S = TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.STRING
FP8, FP4, U4 = TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1, TensorProto.UINT4
Value = tuple[str, int, list[int | str]]
X: Value = ("x", F, [1, 3, 32, 32])
Y: Value = ("y", F, [1, 8, 30, 30])


@dataclasses.dataclass(frozen=True)
class Failure:
    """A graph and what must be said of it. kinds: how the check may end."""

    code: str
    op: str
    node: str
    nodes: Sequence[NodeProto]
    inputs: Sequence[Value]
    outputs: Sequence[Value]
    constants: Sequence[TensorProto] = ()
    opset: int = 17
    target: str = "rtx"
    kinds: tuple[str, ...] = ("parse",)

    def save(self, path: Path) -> Path:
        """As an ONNX file."""
        inputs, outputs = ([helper.make_tensor_value_info(*v) for v in vs] for vs in (self.inputs, self.outputs))
        graph = helper.make_graph(list(self.nodes), "graph", inputs, outputs, list(self.constants))
        domains = sorted({node.domain for node in self.nodes} - {""})
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in domains)]
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=11), path)
        return path


def tensor(name: str, dtype: int, shape: Sequence[int], value: float = 0) -> TensorProto:
    """A constant of one value."""
    return helper.make_tensor(name, dtype, shape, [value] * math.prod(shape))


def alone(
    op: str, *, code: str, inputs: Sequence[Value] = (("x", F, [8]),), output: Value = ("y", F, [8]), **more: object
) -> Failure:
    """A graph of one operator called `it`."""
    fields = {f.name: more.pop(f.name) for f in dataclasses.fields(Failure) if f.name in more}
    constants = fields.get("constants", ())
    names = [*(i[0] for i in inputs), *(c.name for c in constants)]  # type: ignore[attr-defined]
    node = helper.make_node(op, names, [output[0]], "it", **more)
    return Failure(code, op, "it", [node], inputs, [output], **fields)  # type: ignore[arg-type]


def quantised(
    code: str, node: str, *, act: int = I8, zero: int = 0, weight: int = I8, bias: bool = False, opset: int = 17
) -> Failure:
    """A convolution between Q/DQ pairs, of which one is wrong."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "x_zero_point"], ["xq"], "quantise"),
        helper.make_node("DequantizeLinear", ["xq", "s", "x_zero_point"], ["xd"], "dequantise"),
        helper.make_node("DequantizeLinear", ["wq", "s", "wz"], ["wd"], "dequantise_w"),
    ]
    constants = [
        tensor("s", F, [], 0.1), tensor("x_zero_point", act, [], zero),
        tensor("wq", weight, [8, 3, 3, 3], 1), tensor("wz", weight, []),
    ]  # fmt: skip
    if bias:
        nodes.append(helper.make_node("DequantizeLinear", ["bq", "s"], ["bd"], "dequantise_b"))
        constants.append(tensor("bq", I32, [8], 1))
    nodes.append(helper.make_node("Conv", ["xd", "wd", *(["bd"] if bias else [])], ["y"], "conv"))
    op = "QuantizeLinear" if node == "quantise" else "DequantizeLinear"
    return Failure(code, op, node, nodes, [X], [Y], constants, opset)


def cast_then(node: NodeProto, to: int, outputs: Sequence[Value], constants: Sequence[TensorProto] = ()) -> Failure:
    """Half of a network is of another type: x goes through a Cast into the node's input h."""
    cast = helper.make_node("Cast", ["x"], ["h"], "cast", to=to)
    return Failure("mixed-types", node.op_type, node.name, [cast, node], [X], outputs, constants)


def eight_bits(dtype: int, target: str, *, opset: int, block: int = 0) -> Failure:
    """A matrix product whose weights are of a type that only some GPUs have."""
    extra = {"axis": 0, "block_size": block} if block else {}
    scales = tensor("ws", H, [64 // block, 32] if block else [], 1)
    nodes = [
        helper.make_node("DequantizeLinear", ["wq", "ws"], ["wd"], "dequantise_w", **extra),
        helper.make_node("MatMul", ["x", "wd"], ["y"], "matmul"),
    ]
    return Failure(
        "hardware-datatype" if dtype != U4 else "uint4-weights",
        "DequantizeLinear",
        "dequantise_w",
        nodes,
        [("x", H, [16, 64])],
        [("y", H, [16, 32])],
        [tensor("wq", dtype, [64, 32], 1), scales],
        opset,
        target,
        ("parse",) if dtype == U4 else ("build",),
    )


NMS = [tensor("k", I64, [1], 5), tensor("iou", F, [1], 0.5), tensor("low", F, [1], 0.2)]
BOXES: list[Value] = [("boxes", F, [1, 20, 4]), ("scores", F, [1, 3, 20])]
CORNERS: list[Value] = [("boxes", F, [1, 20, 4]), ("scores", F, [1, 20, 3])]
KERNEL = tensor("w", F, [8, 3, 3, 3], 1)

FAILURES: dict[str, Failure] = {
    "Unique": alone("Unique", code="unsupported-op", output=("y", F, ["n"])),
    "Det": alone("Det", code="unsupported-op", inputs=[("x", F, [2, 4, 4])], output=("y", F, [2])),
    "Col2Im": alone(
        "Col2Im", code="unsupported-op", inputs=[("x", F, [1, 5, 5])], output=("y", F, [1, 1, 5, 5]), opset=18,
        constants=[tensor("size", I64, [2], 5), tensor("block", I64, [2], 1)],
    ),
    "MaxUnpool": alone(
        "MaxUnpool", code="unsupported-op", inputs=[("x", F, [1, 1, 2, 2]), ("i", I64, [1, 1, 2, 2])],
        output=("y", F, [1, 1, 4, 4]), kernel_shape=[2, 2], strides=[2, 2],
    ),
    "Bernoulli": alone("Bernoulli", code="unsupported-op"),
    "ImageDecoder": alone(
        "ImageDecoder", code="unsupported-op", inputs=[("x", U8, [99])], output=("y", U8, ["h", "w", 3]), opset=20
    ),
    "strings": alone("Identity", code="string-tensor", inputs=[("x", S, [2])], output=("y", S, [2])),
    "NonZero": alone("NonZero", code="missing-plugin", output=("y", I64, [1, "n"]), kinds=("build",)),
    "DeformConv": alone(
        "DeformConv", code="missing-plugin", opset=19, output=("y", F, [1, 8, 30, 30]),
        inputs=[X, ("w", F, [8, 3, 3, 3]), ("offset", F, [1, 18, 30, 30])],
        kinds=("build",),
    ),
    "EfficientNMS_TRT": Failure(
        "missing-plugin", "EfficientNMS_TRT", "it",
        [helper.make_node("EfficientNMS_TRT", ["boxes", "scores"], ["n", "b", "s", "c"], "it", plugin_version="1")],
        CORNERS, [("n", I32, [1, 1]), ("b", F, [1, 5, 4]), ("s", F, [1, 5]), ("c", I32, [1, 5])],
        kinds=("build",),
    ),
    "EfficientNMS_TRT on a Jetson": Failure(
        "missing-plugin", "EfficientNMS_TRT", "it",
        [helper.make_node("EfficientNMS_TRT", ["boxes", "scores"], ["n"], "it", domain="TRT", plugin_version="1")],
        CORNERS, [("n", I32, [1, 1])], target="agx-orin", kinds=("cannot-tell",),
    ),
    "NonMaxSuppression": alone(
        "NonMaxSuppression", code="nms-not-in-rtx", inputs=BOXES, output=("y", I64, ["n", 3]), constants=NMS,
        kinds=("build",),
    ),
    "NonMaxSuppression on a Jetson": alone(
        "NonMaxSuppression", code="nms-not-in-rtx", inputs=BOXES, output=("y", I64, ["n", 3]), constants=NMS,
        kinds=("cannot-tell",), target="agx-orin",
    ),
    "RoiAlign": alone(
        "RoiAlign", code="needs-gpu", inputs=[X, ("rois", F, [2, 4])], output=("y", F, [2, 3, 2, 2]),
        constants=[tensor("index", I64, [2])], output_height=2, output_width=2, kinds=("cannot-tell", "ok"),
    ),
    "TopK": Failure(
        "topk-limit", "TopK", "it", [helper.make_node("TopK", ["x", "k"], ["y", "i"], "it")],
        [("x", F, [1, 8400])], [("y", F, [1, 4000]), ("i", I64, [1, 4000])], [tensor("k", I64, [1], 4000)],
        kinds=("build",),
    ),
    "TopK without a name": Failure(
        "topk-limit", "TopK", "node_of_y",
        [
            helper.make_node("Constant", [], ["k"], value=tensor("", I64, [1], 4000)),
            helper.make_node("TopK", ["x", "k"], ["y", "i"]),
        ],
        [("x", F, [1, 8400])], [("y", F, [1, 4000]), ("i", I64, [1, 4000])], kinds=("build",),
    ),
    "GridSample": alone(
        "GridSample", code="grid-sample", inputs=[X, ("grid", F, [1, 8, 8, 2])], output=("y", F, [1, 3, 8, 8]),
        kinds=("ok",),
    ),
    "antialias": Failure(
        "antialias", "Resize", "it",
        [helper.make_node("Resize", ["x", "", "", "to"], ["y"], "it", mode="linear", antialias=1)],
        [("x", F, [1, 5, 5, 5])], [("y", F, [5, 5, 5, 5])], [tensor("to", I64, [4], 5)], opset=18,
    ),
    "INT16 activations": quantised("int16-activations", "quantise", act=I16, opset=21),
    "UINT8 weights": quantised("uint8-weights", "dequantise_w", weight=U8),
    "INT32 bias": quantised("quantised-bias", "dequantise_b", bias=True),
    "zero point of INT8": quantised("asymmetric-quantisation", "quantise", zero=3),
    "zero point of UINT8": quantised("asymmetric-quantisation", "quantise", act=U8, zero=128),
    "FP8 on SM86": eight_bits(FP8, "rtx", opset=19),
    "FP4 on SM86": eight_bits(FP4, "orin-nano", opset=23, block=16),
    "UINT4": eight_bits(U4, "thor", opset=21, block=32),
    "float kernel in a bf16 graph": cast_then(
        helper.make_node("Conv", ["h", "w"], ["z"], "conv"), B, [("z", B, [1, 8, 30, 30])], [KERNEL]
    ),
    "Half and Float added": cast_then(helper.make_node("Add", ["x", "h"], ["y"], "add"), H, [("y", F, X[2])]),
    "Half and Float concatenated": cast_then(
        helper.make_node("Concat", ["x", "h"], ["y"], "concat", axis=1), H, [("y", F, [1, 6, 32, 32])]
    ),
    "Half and Float without a name": dataclasses.replace(
        cast_then(helper.make_node("MatMul", ["x", "h"], ["y"]), H, [("y", F, X[2])]), node="node_of_y"
    ),
    "uint8 transposed": alone(
        "Transpose", code="uint8-read", inputs=[("frame", U8, [1, 4, 4, 3])], output=("y", U8, [1, 3, 4, 4]),
        perm=[0, 3, 1, 2],
    ),
    "uint8 within": Failure(
        "uint8-read", "Identity", "it",
        [helper.make_node("Identity", ["frame"], ["a"], "it"), helper.make_node("Cast", ["a"], ["y"], "cast", to=F)],
        [("frame", U8, [1, 8])], [("y", F, [1, 8])],
    ),
    "batch not fixed": dataclasses.replace(
        alone("Relu", code="dynamic-shape", inputs=[("x", F, ["n", 3])], output=("y", F, ["n", 3]), kinds=("build",)),
        op="", node="x",
    ),
    "INT8 constant": Failure(
        "quantised-constant", "Cast", "cast",
        [helper.make_node("Cast", ["k"], ["f"], "cast", to=F), helper.make_node("Add", ["x", "f"], ["y"], "add")],
        [("x", F, [4])], [("y", F, [4])], [tensor("k", I8, [4], 1)], kinds=("build",),
    ),
    "ScatterElements that adds": alone(
        "ScatterElements", code="scatter-reduction", opset=18, reduction="add", output=("y", F, [4, 4]),
        inputs=[("x", F, [4, 4]), ("i", I64, [2, 4]), ("u", F, [2, 4])],
    ),
    "ScatterND that adds": alone(
        "ScatterND", code="scatter-reduction", opset=18, reduction="add", output=("y", F, [4, 4]),
        inputs=[("x", F, [4, 4]), ("i", I64, [2, 1]), ("u", F, [2, 4])],
    ),
    "UINT32": alone(
        "Cast", code="element-type", inputs=[("x", TensorProto.UINT32, [4])], output=("y", F, [4]), to=F
    ),
    "another framework's operator": dataclasses.replace(
        alone("FusedConvGelu", code="custom-op", domain="com.acme"), target="agx-orin"
    ),
    "an optimiser's operator": alone("FastGelu", code="custom-op", domain="com.microsoft"),
    "no importer": alone(
        "DFT", code="unsupported-op", inputs=[("x", F, [1, 8, 1])], output=("y", F, [1, 8, 2])
    ),
}  # fmt: skip


@needs_rtx
@pytest.mark.parametrize("name", FAILURES)
def test_tensorrt_says_so_and_the_node_is_named(name: str, tmp_path: Path) -> None:
    failure = FAILURES[name]
    found = check_onnx(failure.save(tmp_path / "a.onnx"), target=failure.target)
    assert found.kind in failure.kinds, found
    if found.ok and failure.code == "needs-gpu":
        return  # a GPU is here, and it decided
    check = next(c for c in found.diagnostics if c.code == failure.code)
    assert (check.op, check.node) == (failure.op, failure.node)
    assert len([c for c in found.diagnostics if c.code == failure.code]) == 1, "said once"
    assert check.advice.startswith(CANNOT_TELL) == (found.kind == "cannot-tell")
    assert found.verdict == {"ok": "ok", "cannot-tell": "cannot-tell"}.get(found.kind, "rewrite")


@pytest.mark.parametrize("name", FAILURES)
def test_the_file_alone_shows_it(name: str, tmp_path: Path) -> None:
    failure = FAILURES[name]
    graph = Graph(onnx.load(failure.save(tmp_path / "a.onnx")))
    found = [f.check for f in lint(graph, opset_ceiling=99, precisions=("fp32", "fp16", "bf16", "int8"))]
    assert {c.code for c in found} == {failure.code}
    assert (found[0].op, found[0].node) == (failure.op, failure.node)
    assert found[0].advice.endswith((".", ")"))


@needs_rtx
def test_fp32_matrices_on_turing(tmp_path: Path) -> None:
    """SM75 is no target of edgetl's; the builder's refusal is told apart from a wrong graph."""
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "/head/fc/Gemm")
    failure = Failure("", "", "", [node], [("x", F, [4, 64])], [("y", F, [4, 32])], [tensor("w", F, [64, 32], 1)])
    path = failure.save(tmp_path / "a.onnx")
    outcome = run_worker(Job(onnx=str(path), modules=MODULES, compile_for=("SM75",)), timeout_s=60, command=WORKER)
    (finding,) = outcome.findings
    assert outcome.result.kind == "cannot-tell"
    assert (finding.check.code, finding.check.node, finding.check.module) == (
        "turing-fp32", "/head/fc/Gemm", "head.fc",
    )  # fmt: skip


@needs_rtx
@pytest.mark.parametrize(("dtype", "target"), [(FP8, "SM89"), (FP4, "SM120"), (TensorProto.INT4, "SM86")])
def test_what_newer_gpus_have_compiles_for_them(dtype: int, target: str, tmp_path: Path) -> None:
    failure = eight_bits(dtype, "rtx", opset=23, block=0 if dtype == FP8 else 16)
    path = failure.save(tmp_path / "a.onnx")
    job = Job(onnx=str(path), modules=MODULES, compile_for=(target,))
    outcome = run_worker(job, timeout_s=60, command=WORKER)
    assert (outcome.result.kind, outcome.findings) == ("ok", [])
