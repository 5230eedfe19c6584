"""ONNX operators that TensorRT's parser has no importer for, each with what to write instead; tables of facts.

Found by giving the parser of TensorRT for RTX 1.7.1 every operator of ONNX by itself. TensorRT's parser is the
same code in other releases; what older ones lack beside is in SINCE.
"""

from __future__ import annotations

import re

_QDQ = "Quantise with QuantizeLinear and DequantizeLinear pairs (the QDQ format), not with integer operators."
_TEXT = "Do the text's part on the host and give the network numbers."
_SEQUENCE = "Use one tensor (Concat, Split, Slice with fixed sizes) in place of a sequence."
_OPTIONAL = "Fix whether the optional value is there before the export, so that the operator goes."
_BITS = "Write it with And, Or and Not on BOOL, or with integer arithmetic."
_LOSS = "Export the network in eval mode, without its loss."
_RANDOM = "Export in eval mode, or give the random numbers as an input: an engine must answer the same twice."

REWRITES: dict[str, str] = {
    "AffineGrid": "Make the grid with MatMul on a constant mesh, or as a constant where the transform is fixed.",
    "Bernoulli": _RANDOM,
    "BitCast": "Keep the value in one type: convert with Cast, or reinterpret the bytes on the host.",
    "BitwiseAnd": _BITS,
    "BitwiseNot": _BITS,
    "BitwiseOr": _BITS,
    "BitwiseXor": _BITS,
    "CenterCropPad": "Write it as Slice and Pad with fixed sizes.",
    "Col2Im": "Write fold as a ConvTranspose with constant one-hot weights; patches that don't overlap need only "
    "Reshape and Transpose.",
    "ConcatFromSequence": _SEQUENCE,
    "ConvInteger": _QDQ,
    "CumProd": "Write it as Exp of CumSum of Log for positive values, or as a fixed number of Mul.",
    "DFT": "Transform on the host, or as a MatMul with a constant matrix of sines and cosines.",
    "Det": "Write the determinant of a small matrix with Mul and Sub, or take it out of the graph.",
    "DynamicQuantizeLinear": "Calibrate once and quantise statically with Q/DQ pairs.",
    "ImageDecoder": "Decode the picture on the host and give the network its pixels.",
    "MatMulInteger": _QDQ,
    "MaxRoiPool": "Use RoiAlign where a GPU can check it, or pool with fixed windows.",
    "MaxUnpool": "Upsample with Resize or ConvTranspose.",
    "MelWeightMatrix": "Make the matrix a constant.",
    "Multinomial": _RANDOM,
    "NegativeLogLikelihoodLoss": _LOSS,
    "Optional": _OPTIONAL,
    "OptionalGetElement": _OPTIONAL,
    "OptionalHasElement": _OPTIONAL,
    "QLinearConv": _QDQ,
    "QLinearMatMul": _QDQ,
    "RegexFullMatch": _TEXT,
    "SequenceAt": _SEQUENCE,
    "SequenceConstruct": _SEQUENCE,
    "SequenceEmpty": _SEQUENCE,
    "SequenceErase": _SEQUENCE,
    "SequenceInsert": _SEQUENCE,
    "SequenceLength": _SEQUENCE,
    "SequenceMap": _SEQUENCE,
    "SoftmaxCrossEntropyLoss": _LOSS,
    "SplitToSequence": _SEQUENCE,
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "TfIdfVectorizer": _TEXT,
    "Unique": "Return the values with their repeats and remove these after the engine: its shapes must be fixed.",
}

SINCE: dict[str, tuple[str, str]] = {
    "Attention": ("10.6", "10.15"),
    "BitShift": ("10.15", ""),
    "BlackmanWindow": ("10.3", "10.4"),
    "CastLike": ("8.5", "9.2"),
    "Compress": ("10.15", ""),
    "DeformConv": ("10.0", "10.1"),
    "Gelu": ("9.2", "10.6"),
    "GroupNormalization": ("8.5", "8.6"),
    "HammingWindow": ("10.3", "10.4"),
    "HannWindow": ("10.3", "10.4"),
    "Hardmax": ("9.1", "9.2"),
    "IsInf": ("8.5", "8.6"),
    "LayerNormalization": ("8.5", "8.6"),
    "Mish": ("9.2", "10.6"),
    "RMSNormalization": ("10.6", "10.15"),
    "RotaryEmbedding": ("10.6", "10.15"),
    "STFT": ("10.4", "10.5"),
}
"""Operators that older releases of TensorRT lack: the last that is known to be without, and the first that is known to
have it, "" where none is.

From docs/operators.md of https://github.com/onnx/onnx-tensorrt as published with 8.5, 9.2, 10.6 and 10.15, and from its
docs/Changelog.md.
"""

PLUGINS = re.compile(
    r"^(NonZero|DeformConv|MatMulNBits|MultiscaleDeformableAttnPlugin|ModulatedDeformConv2d|EfficientNMS\w*|"
    r"BatchedNMS\w*|NMS\w*|ROIAlign\w*|PyramidROIAlign\w*|InstanceNormalization\w+|GroupNormalization\w+|"
    r"\w+_TRT)$"
)
"""Names of TensorRT's own plugins: TensorRT for RTX has none of them, the full TensorRT most."""
