"""Real networks with random weights through the lint and the real builder, for every GPU that it knows.

    pytest tests/export/zoo -m slow

takes under three minutes on two cores and ends with a table.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetl_export.lint import LintReport, lint_onnx
from edgetl_export.targets import TARGETS
from edgetl_export.tensorrt.check import MODULES
from edgetl_export.tensorrt.lint import SOME_TOO_OLD
from edgetl_runtime.tensorrt.process import Outcome, run_worker
from edgetl_runtime.tensorrt.protocol import Job, Progress
from edgetl_runtime.tensorrt.worker import WORKER

pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None and importlib.util.find_spec("tensorrt_rtx_bindings") is None,
        reason="TensorRT for RTX is not installed: pip install 'edgetl[rtx]'",
    ),
]
EVERY_SM = ("SM80", "SM86", "SM89", "SM120", "SM121")
"""One build serves them all: TensorRT for RTX compiles for a list. SM75 does not go with the others."""
SAMPLERS = ("dfine_nano", "edgetl_rtdetrv2_r18")
NAMES = (
    "resnet18", "mobilenetv3_small", "efficientnet_lite0", "convnext_atto", "vit_tiny", "segformer_b0", "dfine_nano",
    "bert_tiny", "gpt2_tiny", "anchor_free", "edgetl_detect", "edgetl_segment", "edgetl_rtdetrv2_r18",
)  # fmt: skip


def compile_for(path: Path, gpus: tuple[str, ...], on_progress: Callable[[Progress], None] | None = None) -> Outcome:
    """Parse and build."""
    job = Job(onnx=str(path), modules=MODULES, compile_for=gpus)
    return run_worker(job, timeout_s=120, on_progress=on_progress, command=WORKER)


def codes(report: LintReport) -> set[str]:
    """The codes of everything found on any target."""
    return {check.code for target in report.targets.values() for check in target.checks}


@pytest.mark.parametrize("name", NAMES)
def test_it_compiles_for_every_gpu(
    name: str, exported: Callable[[str], Path], record_property: Callable[[str, object], None]
) -> None:
    begun = time.monotonic()
    path = exported(name)
    written = time.monotonic()
    report = lint_onnx(path, tuple(TARGETS))
    linted = time.monotonic()
    events: list[float] = []
    outcome = compile_for(path, EVERY_SM, lambda _: events.append(time.monotonic()))
    ended = time.monotonic()
    turing = compile_for(path, ("SM75",))
    figures = {
        "network": name,
        "export s": written - begun,
        "lint s": linted - written,
        "parse s": (events[0] if events else ended) - linted,
        "build s": ended - events[0] if events else 0.0,
        "engine MB": (outcome.result.engine_bytes or 0) / 1e6,
        "findings": ", ".join(sorted(codes(report) | {f"SM75: {f.check.code}" for f in turing.findings if f.fatal})),
    }
    for key, value in figures.items():
        record_property(key, value)
    assert outcome.result.kind == "ok", outcome.findings
    assert outcome.result.engine_bytes and outcome.result.layer_precisions
    assert {target: found.verdict for target, found in report.targets.items()} == dict.fromkeys(TARGETS, "ok")
    # Nothing that the builder takes may be called wrong by the rules that read the file alone; older ones take less.
    assert codes(report) - {"opset-above-ceiling", SOME_TOO_OLD} == ({"grid-sample"} if name in SAMPLERS else set())
    check_turing(report, turing)


def check_turing(report: LintReport, turing: Outcome) -> None:
    """FP32 matrix products are refused for SM75, each with its line; networks of convolutions compile."""
    matrices = {"MatMul", "Gemm"}.intersection(use.op for use in report.ops)
    fatal = [finding.check for finding in turing.findings if finding.fatal]
    if not matrices:
        assert (turing.result.kind, fatal) == ("ok", [])
        return
    assert turing.result.kind == "cannot-tell", turing
    assert [(c.code, c.op in matrices, bool(c.node)) for c in fatal] == [("turing-fp32", True, True)]


def test_the_list_of_names_is_the_zoo(networks: object) -> None:
    assert tuple(networks.ZOO) == NAMES  # type: ignore[attr-defined]
