"""What TensorRT's messages mean, and what to do: one table, most specific first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edgetl_runtime.spec import Check
from edgetl_runtime.tensorrt.operators import PLUGINS, REWRITES

Tells = Literal["graph", "library", "gpu"]
QUOTED_CHARS = 240
TOPK_LIMIT = 3840
SAID = " TensorRT said: "
NEVER = r"(?!)"
"""For what TensorRT's words don't tell from other troubles: only the file shows it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A message, what it means, what to do.

    tells: "graph", the network is at fault on every target; "library", only TensorRT for RTX lacks it;
    "gpu", it needs a GPU to be decided. `op` limits the rule to operators that match.
    """

    code: str
    pattern: re.Pattern[str]
    advice: str
    tells: Tells = "graph"
    op: re.Pattern[str] = re.compile("")


def _rule(code: str, pattern: str, advice: str, tells: Tells = "graph", op: str = "") -> Rule:
    return Rule(code, re.compile(pattern, re.IGNORECASE), advice, tells, re.compile(op))


_NO_PLUGIN = (
    r"plugin (creator )?.*was not found|plugin not found|could not find any plugin|no plugin|failed to load \w+ plugin"
)

RULES = (
    _rule(
        "needs-gpu",
        r"roi_?align.*plugin|Cuda Error in \w*ROIAlign",
        "RoiAlign's plugin asks the GPU when it is made: build on the device, or write the head without RoiAlign.",
        "gpu",
        r"^(RoiAlign)?$",
    ),
    _rule(
        "missing-plugin",
        _NO_PLUGIN,
        "This operator is a plugin that TensorRT for RTX lacks and the full TensorRT may have: build on the device, "
        "or express it with standard operators.",
        "library",
        rf"^$|{PLUGINS.pattern}",
    ),
    _rule(
        "custom-op",
        _NO_PLUGIN,
        "Neither ONNX nor TensorRT has an operator of this name: write it with standard ones, or export the file again "
        "without the step (another framework's, or an optimiser's) that put it there.",
    ),
    _rule(
        "nms-not-in-rtx",
        r"has no runners that implement it",
        "TensorRT for RTX accepts this layer and then can't build it (NonMaxSuppression is known for it); full "
        "TensorRT has its own. Keep NMS outside the engine, or use a head with a static TopK.",
        "library",
        r"^(NonMaxSuppression)?$",
    ),
    _rule(
        "workspace",
        r"insufficient workspace|increas\w+ (the )?workspace",
        "The builder's workspace is too small for a kernel of this layer: give more with --workspace-mb, and close "
        "other programs that use the GPU.",
        "gpu",
    ),
    _rule(
        "no-kernel",
        r"has no runners that implement it|could not find any implementation for node",
        "No kernel runs this layer in its types on this GPU: leave it in FP16 where it is INT8, take another variant "
        "with --variant, or give the builder more memory with --workspace-mb.",
    ),
    _rule(
        "wrong-gpu",
        r"Target GPU SM ?\d+ is not supported|Unsupported SM|no kernel image is available",
        "This TensorRT is not made for this GPU: install the one of the device's own system (JetPack, DRIVE OS), or a "
        "later one.",
        "library",
    ),
    _rule(
        "uint8-weights",
        r"unsupported input type of UINT8|type UINT8 .*(weight|zero)",
        "Quantise weights and activations as signed INT8 (QInt8), symmetric; a camera's bytes go through a Cast.",
        op="^DequantizeLinear$",
    ),
    _rule(
        "uint8-read",
        r"input has type UInt8 but must have type|unsupported input type of UINT8|UINT8 types for intermediate tensors",
        "Only Cast may read a uint8 tensor: put Cast first, then Transpose, Resize and normalise.",
    ),
    _rule(
        "asymmetric-quantisation",
        r"non-zero zero ?point|shiftIsAllZeros",
        "Quantise symmetrically: TensorRT wants every zero point to be 0 (S8S8). The CPU variant may stay U8S8.",
    ),
    _rule(
        "quantised-bias",
        r"input has type Int32 but must have type FP8",
        "Leave biases in floating point: TensorRT rejects a DequantizeLinear of INT32 (QuantizeBias=False).",
    ),
    _rule(
        "int16-activations",
        r"Failed to import initializer: \S*zero_point",
        "Quantise activations to INT8: TensorRT has no INT16.",
    ),
    _rule("uint4-weights", NEVER, "Quantise weights as signed INT4, or as INT8: TensorRT has no UINT4."),
    _rule(
        "string-tensor", NEVER, "Do the text's part on the host and give the network numbers: TensorRT has no strings."
    ),
    _rule(
        "element-type",
        r"Failed to import initializer|Failed to convert ONNX date type|Unsupported data type for the Cast",
        "TensorRT has no tensors of this element type: use FLOAT, HALF, BFLOAT16, INT32, INT64, BOOL, or INT8 within "
        "Q/DQ pairs.",
    ),
    _rule(
        "quantised-constant",
        r"Quantized constant .* only allowed before DQ",
        "Only DequantizeLinear may read an INT8 constant: store the others as INT32, INT64 or BOOL.",
    ),
    _rule(
        "mixed-types",
        r"must have same input types|must (all )?be of (the )?same type|input type is \w+ but kernel is of type",
        "Make both inputs the same type with an explicit Cast; where batch-norm was folded into float weights of a "
        "half-precision graph, fold it before the conversion.",
    ),
    _rule(
        "hardware-datatype",
        r"HW-specific datatypes",
        "This GPU has no kernels for the type (FP8 needs SM89, FP4 SM120): choose another precision for the target.",
    ),
    _rule("turing-fp32", r"for Turing", "Compile FP32 for SM80 and later, or give Turing an FP16 graph.", "library"),
    _rule("topk-limit", r"K exceeds the maximum", f"TensorRT's TopK takes K up to {TOPK_LIMIT}: lower max_detections."),
    _rule(
        "dynamic-shape",
        r"no optimization profile has been defined|missing dimensions in profile|MIN<=OPT<=MAX",
        "Export with static shapes: edgetl engines have one.",
    ),
    _rule(
        "scatter-reduction",
        r"Unsupported reduction type|ScatterND with reduction",
        "Scatter without a reduction: add up with a MatMul by a one-hot matrix, or on indices that differ.",
    ),
    _rule("antialias", r"Antialiasing", "Set antialias to 0 on Resize, or resize on the host."),
    _rule(
        "out-of-memory",
        r"out ?of ?memory|bad_alloc|insufficient memory",
        "Close other programs, lower the workspace, or build on a machine with more memory.",
    ),
    _rule("canceled", r"BuildCanceled", "The build was cancelled."),
    _rule("no-output", r"at least one output", "The file holds no network: export it again."),
    _rule(
        "no-gpu",
        r"CUDA initialization failure|CUDA driver version is insufficient",
        "This step needs an NVIDIA driver: run it on the device.",
        "gpu",
    ),
)

UNSUPPORTED = Rule(
    "unsupported-op",
    re.compile("UNSUPPORTED_NODE"),
    "TensorRT's parser has no such operator: replace it, or move it out of the graph.",
)
ATTRIBUTE = Rule(
    "unsupported-attribute",
    re.compile("UNSUPPORTED_NODE_ATTR"),
    "The operator is known but not with this attribute: choose another value.",
)
OTHER = Rule("not-classified", re.compile(""), "Read what TensorRT said, and look at the named node.")


def classify(message: str, *, error_code: str = "", op: str = "") -> Rule:
    """The rule for one message; `error_code` is the parser's own, e.g. UNSUPPORTED_NODE."""
    if op in REWRITES:
        return UNSUPPORTED
    for rule in RULES:
        if rule.op.search(op) and rule.pattern.search(message):
            return rule
    if error_code == "UNSUPPORTED_NODE_ATTR":
        return ATTRIBUTE
    return UNSUPPORTED if error_code.startswith("UNSUPPORTED_NODE") else OTHER


def rule_of(code: str) -> Rule:
    """The rule of this code."""
    return next(rule for rule in (*RULES, UNSUPPORTED) if rule.code == code)


def to_check(rule: Rule, message: str = "", *, op: str = "", node: str = "", module: str = "") -> Check:
    """The finding as the manifest keeps it: advice first, then TensorRT's own words."""
    advice = f"TensorRT's parser has no {op}. {REWRITES[op]}" if rule is UNSUPPORTED and op in REWRITES else rule.advice
    said = essence(message)
    quoted = f'{SAID}"{said}"' if said not in ("", "false") else ""
    return Check(code=rule.code, op=op, node=node, module=module, advice=advice + quoted)


def essence(message: str) -> str:
    """The one line of a message that says what is wrong, without source positions."""
    lines = [line for line in message.splitlines() if line.strip() and "catchCudaError" not in line]
    telling = [line for line in lines if not line.startswith("Invalid Node")] or lines
    text = telling[0] if telling else ""
    text = re.sub(r"\s*In \w+ at \S+:\d+\s*", "", text)
    text = re.sub(r"^\s*(\[[^\]]*\])?\s*\S*:? ?Error Code \d+: [A-Za-z ]+ ", "", text)
    text = " ".join(text.split()).strip("() ")
    return text if len(text) <= QUOTED_CHARS else text[: QUOTED_CHARS - 1] + "…"
