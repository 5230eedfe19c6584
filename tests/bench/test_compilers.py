"""The comparison of compilers copes with peers that are missing, fail, or give figures that are none."""

from __future__ import annotations

import json
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parent))

from bench_compilers import make_all
from compilers.peers import PEERS, Job, with_names
from compilers.processes import PeerFailed, run, run_script
from compilers.table import Row, Skipped, document, markdown
from compilers.yolo_case import suppressed


def row(tool: str, p50_ms: float, score: float, seconds: float | None = None) -> Row:
    return Row(
        tool=tool, engine="OpenVINO", precision="INT8", p50_ms=p50_ms, p95_ms=p50_ms, scores={"ap50": score},
        seconds=seconds,
    )  # fmt: skip


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Conv -> Relu (the probe) -> Sigmoid, without node names."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Relu", ["c"], ["probe"]),
            helper.make_node("Sigmoid", ["probe"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [onnx.numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")],
    )
    plain = tmp_path / "plain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), plain)
    return plain


def job_for(network: Path, folder: Path) -> Job:
    named = folder / "named.onnx"
    probes = with_names(network, named, ["probe", "not there"])
    np.save(folder / "frames.npy", np.zeros((2, 1, 3, 8, 8), np.float32))
    frames = folder / "frames.npy"
    return Job(
        model=named, input="x", calibration=frames, validation=frames, probes=probes, max_drop=0.005,
        answer=lambda _: 0.0,
    )  # fmt: skip


def test_nodes_get_names_and_decoding_is_what_follows_the_probes(network: Path, tmp_path: Path) -> None:
    job = job_for(network, tmp_path)
    assert job.probes == ("probe",)
    assert sorted(job.float_nodes()) == ["node_1", "node_2"]


@pytest.mark.parametrize(
    ("python", "why"), [(None, "no environment"), (Path("/nowhere/python"), "no Python at /nowhere/python")]
)
def test_a_missing_environment_skips_its_peers_with_the_reason(
    network: Path, tmp_path: Path, python: Path | None, why: str
) -> None:
    peers = [p for p in PEERS if p.environment == "nncf"]
    made, skipped = make_all(peers, job_for(network, tmp_path), tmp_path, {"nncf": python})
    assert made == []
    assert [s.tool for s in skipped] == [p.tool for p in peers]
    assert all(why in s.why for s in skipped)
    assert why in markdown([row("fp32", 2, 0.5)], skipped)


@pytest.mark.skipif(find_spec("nncf") is not None, reason="nncf is installed here")
def test_a_peer_without_its_package_fails_in_one_line(network: Path, tmp_path: Path) -> None:
    """This environment has no nncf, as an environment might that was made for something else."""
    peers = [p for p in PEERS if p.method == "mixed"][:1]
    made, skipped = make_all(peers, job_for(network, tmp_path), tmp_path, {"nncf": Path(sys.executable)})
    assert made == []
    assert skipped[0].why == "ModuleNotFoundError: No module named 'nncf'"


def test_onnx_runtimes_defaults_make_a_file(network: Path, tmp_path: Path) -> None:
    peers = [p for p in PEERS if p.method == "defaults"]
    made, skipped = make_all(peers, job_for(network, tmp_path), tmp_path, {"project": Path(sys.executable)})
    assert skipped == []
    ops = [n.op_type for n in onnx.load(made[0].path).graph.node]
    assert "QuantizeLinear" in ops
    assert made[0].seconds is not None and made[0].packages["onnxruntime"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system doesn't say what a process takes")
def test_a_process_is_told_apart_from_the_benchmarks_own_memory(tmp_path: Path) -> None:
    ballast = np.ones(300 << 17)  # 300 MB
    code = "import time; held = bytearray(range(256)) * (80 << 12); time.sleep(0.5)"  # 80 MB
    done = run([sys.executable, "-c", code], tmp_path / "log", dict(os.environ))
    assert ballast.nbytes > 250e6
    assert done.rss_mb is not None and 80 <= done.rss_mb < 200


def test_questions_are_answered_and_documents_kept(tmp_path: Path) -> None:
    code = (
        "import json, sys; print(json.dumps({'score': 'a'}), flush=True); got = float(sys.stdin.readline())\n"
        "print(json.dumps({'got': got, 'more': [1, 2]}, indent=2))"
    )
    asked: list[dict[str, Any]] = []

    def answer(document: dict[str, Any]) -> float:
        asked.append(document)
        return 0.25

    done = run([sys.executable, "-c", code], tmp_path / "log", dict(os.environ), answer)
    assert asked == [{"score": "a"}]
    assert done.documents == ({"got": 0.25, "more": [1, 2]},)


def test_a_failure_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=r"^too little memory$"):
        run([sys.executable, "-c", "raise SystemExit('so far well\\ntoo little memory')"], tmp_path / "log", {})
    with pytest.raises(PeerFailed, match="no environment"):
        run_script(None, "ort_peer.py", {}, tmp_path, lambda _: 0.0)


def test_a_peer_that_hangs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=r"^stopped after"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", {}, limit_s=0.5)


def test_the_table_compares_with_its_first_row() -> None:
    rows = [row("fp32", 20.0, 0.5), row("fast", 5.0, 0.49, seconds=12.3), row("broken", 4.0, math.nan)]
    text = markdown(rows, [Skipped("gone", "no environment was given for it")])
    lines = text.splitlines()
    assert "| 4.00 | 0.4900 (-1.00) | 12 |" in lines[3]
    assert "| 5.00 | - |" in lines[4]
    assert lines[-1] == "- not in the table: gone: no environment was given for it"
    found = json.loads(json.dumps(document(rows, []), allow_nan=False))
    assert found["rows"][1]["speedup"] == 4.0
    assert found["rows"][1]["drop_points"] == {"ap50": pytest.approx(1.0)}
    assert found["rows"][2]["scores"] == {"ap50": None}


def test_a_table_of_nothing_still_says_why() -> None:
    skipped = [Skipped("Ultralytics", "no environment was given for it")]
    assert "no environment was given for it" in markdown([], skipped)
    assert document([], skipped)["rows"] == []


def test_suppression_is_within_a_class() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [50, 50, 60, 60]], np.float32)
    assert suppressed(boxes, np.array([0, 0, 1, 0])) == [0, 2, 3]
