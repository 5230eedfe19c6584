"""The table that turns TensorRT's words into advice."""

from __future__ import annotations

import pytest

from edgetl_runtime.tensorrt.diagnostics import QUOTED_CHARS, RULES, classify, essence, to_check

UINT8 = (
    "Invalid Node - tr\nITensor::getDimensions: Error Code 4: API Usage Error (tr: first input has type UInt8 but must "
    "have type Float, Half. In checkType at /_src/optimizer/common/nodeBase.cpp:456)\n"
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (CUDA driver version is insufficient)"
)


@pytest.mark.parametrize(
    ("message", "error_code", "op", "code", "tells"),
    [
        (UINT8, "INVALID_NODE", "Transpose", "uint8-read", "graph"),
        ("Non-zero zero point is not supported.", "INVALID_NODE", "QuantizeLinear", "asymmetric-quantisation", "graph"),
        (
            "input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8",
            "",
            "DequantizeLinear",
            "quantised-bias",
            "graph",
        ),
        ("Found unsupported input type of UINT8", "", "DequantizeLinear", "uint8-weights", "graph"),
        (
            "Failed to import initializer: images_zero_point",
            "",
            "QuantizeLinear",
            "int16-activations",
            "graph",
        ),
        ("ElementWiseOperation SUM must have same input types", "", "Add", "mixed-types", "graph"),
        ("input type is BFloat16 but kernel is of type Float", "", "Conv", "mixed-types", "graph"),
        ("nms_0 has no runners that implement it", "", "NonMaxSuppression", "nms-not-in-rtx", "library"),
        ("x has no runners that implement it", "", "Conv", "no-kernel", "graph"),
        (
            "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for "
            "node w + node_of_w_quantized + node_of_y. In computeCosts at optimizer.cpp:4265)",
            "",
            "Conv",
            "no-kernel",
            "graph",
        ),
        (
            "Could not find any implementation for node {ForeignNode[a...b]} due to insufficient workspace. See "
            "verbose log for requested sizes.",
            "",
            "",
            "workspace",
            "gpu",
        ),
        ("Target GPU SM 120 is not supported by this TensorRT release.", "", "", "wrong-gpu", "library"),
        (
            "plugin != nullptr: ROIAlign plugin was not found",
            "UNSUPPORTED_NODE",
            "RoiAlign",
            "needs-gpu",
            "gpu",
        ),
        (
            "NonZero plugin creator version 1 was not found in plugin registry",
            "UNSUPPORTED_NODE",
            "NonZero",
            "missing-plugin",
            "library",
        ),
        ("false", "UNSUPPORTED_NODE", "Det", "unsupported-op", "graph"),
        (
            "Antialiasing is not supported currently",
            "UNSUPPORTED_NODE_ATTR",
            "Resize",
            "antialias",
            "graph",
        ),
        ("mode", "UNSUPPORTED_NODE_ATTR", "Resize", "unsupported-attribute", "graph"),
        ("K exceeds the maximum value allowed (3840)", "", "TopK", "topk-limit", "graph"),
        (
            "Network has dynamic or shape inputs, but no optimization profile has been defined",
            "",
            "",
            "dynamic-shape",
            "graph",
        ),
        (
            "model contains HW-specific datatypes: fp8_e4m3",
            "",
            "",
            "hardware-datatype",
            "graph",
        ),
        ("FP32 GEMM is not supported for Turing (SM75)", "", "", "turing-fp32", "library"),
        ("something new", "INTERNAL_ERROR", "Conv", "not-classified", "graph"),
    ],
)
def test_a_message_finds_its_rule(message: str, error_code: str, op: str, code: str, tells: str) -> None:
    rule = classify(message, error_code=error_code, op=op)
    assert (rule.code, rule.tells) == (code, tells)


def test_codes_are_unique_and_every_rule_gives_advice() -> None:
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes)
    assert all(rule.advice.endswith(".") for rule in RULES)


def test_the_essence_drops_positions_and_what_cuda_said_earlier() -> None:
    assert essence(UINT8) == "tr: first input has type UInt8 but must have type Float, Half."


@pytest.mark.parametrize("text", ["", "\n", "Invalid Node - a"])
def test_the_essence_of_little_is_little(text: str) -> None:
    assert essence(text) == text.strip()


def test_a_long_message_is_cut() -> None:
    assert len(essence("x" * 5000)) == QUOTED_CHARS


def test_a_check_gives_advice_and_quotes() -> None:
    check = to_check(classify(UINT8), UINT8, op="Transpose", node="tr", module="stem")
    assert (check.code, check.op, check.node, check.module) == ("uint8-read", "Transpose", "tr", "stem")
    assert check.advice.startswith("Only Cast may read") and "first input has type UInt8" in check.advice
