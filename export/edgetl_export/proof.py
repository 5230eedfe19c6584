"""What each layer really runs in, read back from the engine, against what was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from msgspec import structs

from edgetl_export.candidates import Candidate, Shipped
from edgetl_export.layers import Layer
from edgetl_runtime.engines import Engine
from edgetl_runtime.engines.onnxruntime import PROVIDER, session_options
from edgetl_runtime.engines.openvino import OpenVinoEngine
from edgetl_runtime.imports import onnxruntime as need_onnxruntime
from edgetl_runtime.spec import Precision

QUANTISED_OPS = frozenset({"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"})
REST: dict[Precision, Precision] = {"int8-bf16": "bf16", "int8": "fp32", "bf16": "bf16", "fp32": "fp32"}
"""What layers run in that are not quantised."""


@dataclass(frozen=True, slots=True)
class Proof:
    """int8: how many of the `asked` layers run in INT8. wrong: layers by name that run in another precision than asked,
    with that precision. finer: float layers that run in a finer one, which costs time and no accuracy. untold: layers
    that an engine which tells names does not name; told: whether it names any. Where an engine tells no names these
    are empty.
    """

    asked: int
    int8: int
    wrong: dict[str, Precision]
    finer: int = 0
    untold: int = 0
    told: bool = True

    @property
    def ok(self) -> bool:
        """Whether every layer whose precision the engine tells got what was asked for, one is told at least, and INT8
        is there at all.

        ONNX Runtime only tells how many. Where it does not fuse a pair into a layer it computes in float what the pair
        says, so that accuracy is as measured, and so is the time.
        """
        return self.told and not self.wrong and (self.int8 > 0 or not self.asked)

    def __str__(self) -> str:
        """One phrase."""
        text = f"{self.int8} of {self.asked} INT8 layers run in INT8" if self.asked else "precision as asked"
        if not self.told:
            return "the engine tells no layer's precision"
        if self.finer:
            text += f", {self.finer} float layers in FP32"
        if self.untold:
            text += f", of {self.untold} layers it is not told"
        if self.wrong:
            named = [f"{name} ({found})" for name, found in list(self.wrong.items())[:3]]
            text += f"; not as asked: {', '.join(named)}" + (" ..." if len(self.wrong) > 3 else "")
        return text


def prove(engine: Engine, layers: Collection[Layer], int8: Collection[str], fp32: Collection[str] = ()) -> Proof:
    """Ask OpenVINO for the precision of every layer of the graph that it has loaded; int8: names of those that were
    quantised, fp32: of those that stay in float32 where others run in bf16.
    """
    assert isinstance(engine, OpenVinoEngine)
    found, rest = engine.layer_precisions(), REST[engine.precision]
    wrong, right, finer, untold = {}, 0, 0, 0
    for layer in layers:
        asked: Precision = "int8" if layer.name in int8 else "fp32" if layer.name in fp32 else rest
        got = next((found[name] for name in layer.known_as if name in found), None)
        right += asked == got == "int8"
        untold += got is None
        if got == "fp32" and asked != "int8":
            finer += asked != "fp32"
        elif got is not None and got != asked:
            wrong[layer.name] = got
    return Proof(len(int8), right, wrong, finer, untold, told=not layers or untold < len(layers))


def proved(
    candidate: Candidate,
    shipped: Shipped,
    layers: Collection[Layer],
    int8: Collection[str],
    *,
    fp32: Collection[str] = (),
) -> Candidate:
    """The candidate with its proof in the note; it does not pass where the proof does not hold."""
    pair, hop = candidate.pair, candidate.hop
    if pair.engine == "onnxruntime":
        proof = prove_by_count(pair.file, int8)
    else:
        proof = prove(shipped.engine(pair), layers, int8, fp32)
    hop = structs.replace(hop, passed=hop.passed and proof.ok, note=f"{hop.note}; {proof}")
    return replace(candidate, hop=hop)


def prove_by_count(path: Path, int8: Collection[str]) -> Proof:
    """What ONNX Runtime can tell of a graph: how many layers it fused."""
    return Proof(len(int8), min(_quantised_nodes(path), len(int8)), {})


def _quantised_nodes(path: Path) -> int:
    """How many quantised layers ONNX Runtime makes of the graph when it optimises it."""
    ort = need_onnxruntime()
    with tempfile.TemporaryDirectory(prefix="edgetl-proof-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = session_options(ort, 0, "short")
        options.optimized_model_filepath = str(optimised)
        ort.InferenceSession(str(path), sess_options=options, providers=[PROVIDER])
        return sum(node.op_type in QUANTISED_OPS for node in onnx.load(str(optimised)).graph.node)
