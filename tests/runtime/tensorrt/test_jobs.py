"""Compiling in the worker process: the real TensorRT for RTX where it is installed, and workers that misbehave."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetl_runtime.cuda import load_driver
from edgetl_runtime.errors import EngineError
from edgetl_runtime.tensorrt.jobs import Options, Share, compile_onnx, explain
from edgetl_runtime.tensorrt.process import Outcome, run_worker
from edgetl_runtime.tensorrt.protocol import Finding, Job, Progress, Result, decode, encode
from edgetl_runtime.tensorrt.worker import WORKER

RTX = next((n for n in ("tensorrt_rtx", "tensorrt_rtx_bindings") if importlib.util.find_spec(n)), "")
needs_rtx = pytest.mark.skipif(not RTX, reason="TensorRT for RTX is not installed: pip install 'edgetl[rtx]'")


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough different convolutions for a build of some seconds."""
    rng = np.random.default_rng(0)
    nodes, weights, channels = [], [], 3
    for i in range(60):
        out, size = 16 + 4 * (i % 13), 1 + 2 * (i % 3)
        values = rng.normal(size=(out, channels, size, size)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{i}"))
        source, pads = f"t{i}", [size // 2] * 4
        nodes.append(helper.make_node("Conv", [source, f"w{i}"], [f"c{i}"], f"/body/{i}/Conv", pads=pads))
        nodes.append(helper.make_node("Softmax", [f"c{i}"], [f"t{i + 1}"], f"/body/{i}/Softmax", axis=1 + i % 3))
        channels = out
    ends = [
        helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1, 3, 64, 64]),
        helper.make_tensor_value_info("t60", TensorProto.FLOAT, [1, channels, 64, 64]),
    ]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], weights)
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def job(model: Path, engine: Path | None = None, **changes: object) -> Job:
    """A build of `model` with TensorRT for RTX."""
    values: dict[str, object] = {
        "onnx": str(model),
        "modules": (RTX,),
        "compile_for": ("SM86",),
        "engine": str(engine or ""),
    }
    return Job(**(values | changes))  # type: ignore[arg-type]


def options(*worker: str, timeout_s: float = 60.0) -> Options:
    """Options with this worker, by default the real one."""
    return Options(worker=worker or WORKER, timeout_s=timeout_s)


@needs_rtx
def test_a_real_build_is_whole_and_says_how_far_it_is(deep: Path, tmp_path: Path) -> None:
    plan, seen = tmp_path / "deep.plan", []
    outcome = run_worker(job(deep, plan), command=WORKER, timeout_s=60, on_progress=seen.append)
    assert outcome.result.kind == "ok" and outcome.result.engine_bytes == plan.stat().st_size
    assert outcome.result.layer_precisions["fp32"] > 0
    share = Share()
    shares = [share.after(event) for event in seen]
    assert shares == sorted(shares) and 0.5 < shares[-1] <= 1
    assert [p.name for p in tmp_path.iterdir()] == ["deep.plan"]


@needs_rtx
def test_a_real_build_is_cancelled_at_once(deep: Path, tmp_path: Path) -> None:
    plan = tmp_path / "deep.plan"
    process = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(encode(job(deep, plan)))
    process.stdin.flush()
    assert isinstance(decode(process.stdout.readline()), Progress)
    process.stdin.close()
    start = time.monotonic()
    events = [decode(line) for line in process.stdout]
    took = time.monotonic() - start
    assert isinstance(events[-1], Result) and events[-1].kind == "canceled"
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    assert took < 15.0
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_ctrl_c_ends_a_real_build_and_leaves_nothing(deep: Path, tmp_path: Path) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_worker(job(deep, tmp_path / "a.plan"), command=WORKER, timeout_s=60, on_progress=interrupt, grace_s=60)
    assert time.monotonic() - start < 55  # a worker that has to be killed takes a minute more
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_a_workers_end_of_time_is_said(deep: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"deep: no engine was built: no result within 0.4 s.*give more --timeout-s"):
        compile_onnx(
            deep,
            tmp_path / "a.plan",
            title="deep",
            modules=(RTX,),
            workspace_mb=256,
            timing_cache=None,
            options=options(timeout_s=0.4),
            compile_for=("SM86",),
        )
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_no_timing_cache_with_rtx(deep: Path, tmp_path: Path) -> None:
    outcome = run_worker(job(deep, timing_cache=str(tmp_path / "timing.cache")), command=WORKER, timeout_s=60)
    assert outcome.result.kind == "ok"
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_a_graph_that_it_rejects_is_explained_by_node_and_module(tmp_path: Path) -> None:
    transpose = helper.make_node("Transpose", ["x"], ["y"], "/backbone/turn/Transpose", perm=[0, 3, 1, 2])
    ends = [
        helper.make_tensor_value_info(n, TensorProto.UINT8, s) for n, s in (("x", [1, 8, 8, 3]), ("y", [1, 3, 8, 8]))
    ]
    graph = helper.make_graph([transpose], "g", ends[:1], ends[1:])
    path = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    outcome = run_worker(job(path), command=WORKER, timeout_s=60)
    line = str(explain(outcome, "fp16"))
    assert "fp16: TensorRT can't build it: uint8-read Transpose /backbone/turn/Transpose (backbone.turn)" in line
    assert "put Cast first" in line


def test_a_file_that_is_no_onnx_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    outcome = run_worker(job(tmp_path / "a.onnx"), command=WORKER, timeout_s=60)
    assert outcome.result.kind == "invalid-model" and "a.onnx" in str(explain(outcome, "x"))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (Result(kind="crash", note="the library crashed (SIGSEGV)"), "SIGSEGV.*lower --workspace-mb"),
        (Result(kind="too-old", note="8.6 has no strong typing"), "8.6 has no strong typing; update"),
        (Result(kind="build"), "ended with 'build'"),
    ],
)
def test_every_end_has_a_line(result: Result, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        raise explain(Outcome(result), "fp16")


def test_a_fatal_finding_comes_before_the_note() -> None:
    from edgetl_runtime.spec import Check

    findings = [
        Finding(Check(code="hint", advice="no matter"), fatal=False),
        Finding(Check(code="out-of-memory", advice="Close other programs."), fatal=True),
    ]
    line = str(explain(Outcome(Result(kind="build", note="x"), findings=findings), "int8"))
    assert line == "int8: TensorRT can't build it: out-of-memory; Close other programs."


def test_the_share_never_falls_and_knows_nested_phases() -> None:
    share = Share()
    events = [
        Progress("build", 0, 4, 0),
        Progress("tactics", 5, 10, 1),
        Progress("build", 1, 4, 0),
        Progress("tactics", 0, 10, 1),
        Progress("inner", 1, 2, 2),
        Progress("empty", 0, 0, 1),
        Progress("build", 4, 4, 0),
        Progress("more", 1, 9, 0),
    ]
    assert [round(share.after(e), 4) for e in events] == [0, 0.125, 0.25, 0.25, 0.2625, 0.2625, 1, 1]


def test_a_folder_called_tensorrt_is_not_taken_for_the_library(tmp_path: Path) -> None:
    (tmp_path / "tensorrt").mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from edgetl_runtime.tensorrt.compiler import load_library\n"
        "print(load_library(('tensorrt',)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(None,") and "python3-libnvinfer" in done.stdout


REAL_RUNTIME = """
import sys
from pathlib import Path
sys.path.insert(0, {support!r})
from fake_cuda import FakeDriver
from edgetl_runtime.cuda import Cuda
from edgetl_runtime.engines.tensorrt import TensorRTEngine
from edgetl_runtime.errors import EngineError
try:
    TensorRTEngine(Path(sys.argv[1]), precision="fp32", module=sys.argv[2], cuda=Cuda(FakeDriver()))
except EngineError as error:
    print(error)
"""


@needs_rtx
@pytest.mark.skipif(load_driver() is not None, reason="the real library must not meet a fake driver on a GPU")
@pytest.mark.parametrize(("cut", "words"), [(None, "cudaError 35"), (100, "blobSize"), (0, "")])
def test_the_real_runtime_says_why_it_can_not_load_a_plan(
    deep: Path, tmp_path: Path, cut: int | None, words: str
) -> None:
    plan = tmp_path / "deep.plan"
    assert run_worker(job(deep, plan), command=WORKER, timeout_s=60).result.kind == "ok"
    plan.write_bytes(plan.read_bytes()[:cut])
    code = REAL_RUNTIME.format(support=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", code, str(plan), RTX], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"tensorrt can't load {plan}: ") and words in done.stdout
    assert "edgetl build BUNDLE --force" in done.stdout
