"""Trials are kept by what they depend on, in memory always, on disk where a key says so."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edgetl_export.budget import Measured
from edgetl_export.trials import Trial, Trials

TRIAL = Trial(
    max_rel_error=0.1,
    cosine=0.9,
    tensor="heat",
    frame=1,
    measured=Measured(
        {"detect": 0.5}, {"detect": {"car": 0.5, "train": math.nan}}, {"night": Measured({"detect": math.nan})}
    ),
)


def never() -> Trial:
    raise AssertionError("was known")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.onnx").write_bytes(b"one")
    return tmp_path / "net.onnx"


def test_known_in_the_next_process(graph: Path) -> None:
    assert Trials("key").recall(graph, "openvino", "int8", lambda: TRIAL) is TRIAL
    later = Trials("key")
    found = later.recall(graph, "openvino", "int8", never)
    was, now = TRIAL.measured, found.measured
    assert now.heads == was.heads and math.isnan(now.classes["detect"]["train"]) and later.reused == 1
    assert math.isnan(now.domains["night"].heads["detect"])


@pytest.mark.parametrize(
    ("key", "engine", "precision", "content"),
    [
        ("other", "openvino", "int8", b"one"),
        ("key", "onnxruntime", "int8", b"one"),
        ("key", "openvino", "int8-bf16", b"one"),
        ("key", "openvino", "int8", b"two"),
    ],
)
def test_another_key_engine_precision_or_graph_is_another_trial(
    graph: Path, key: str, engine: str, precision: str, content: bytes
) -> None:
    Trials("key").recall(graph, "openvino", "int8", lambda: TRIAL)
    graph.write_bytes(content)
    with pytest.raises(AssertionError, match="was known"):
        Trials(key).recall(graph, engine, precision, never)


def test_without_a_key_nothing_is_written(graph: Path) -> None:
    trials = Trials("")
    trials.recall(graph, "openvino", "int8", lambda: TRIAL)
    assert trials.recall(graph, "openvino", "int8", never) is TRIAL
    assert not (graph.parent / "cache").exists()


def test_a_broken_file_is_computed_anew(graph: Path) -> None:
    Trials("key").recall(graph, "openvino", "int8", lambda: TRIAL)
    (file,) = (graph.parent / "cache" / "trials").iterdir()
    file.write_bytes(file.read_bytes()[:10])
    assert Trials("key").recall(graph, "openvino", "int8", lambda: TRIAL) is TRIAL
    assert Trials("key").recall(graph, "openvino", "int8", never).measured.heads == TRIAL.measured.heads


def test_what_the_network_answered_is_kept_with_its_graph(graph: Path) -> None:
    made = {"scores": np.arange(6, dtype=np.float32).reshape(3, 2), "mask": np.ones((3, 4), np.uint8)}
    Trials("key").keep_answers(graph, "torch", made)
    found = Trials("key").answers(graph, "torch", 3)
    assert found is not None and set(found) == set(made)
    for name, array in made.items():
        np.testing.assert_array_equal(found[name], array)
    assert Trials("key").answers(graph, "torch", 4) is None, "another number of frames"
    assert Trials("key").answers(graph, "onnxruntime", 3) is None
    assert Trials("other").answers(graph, "torch", 3) is None
    graph.write_bytes(b"two")
    assert Trials("key").answers(graph, "torch", 3) is None


def test_answers_without_a_key_or_whole_file_are_not_known(graph: Path) -> None:
    made = {"scores": np.zeros((3, 2), np.float32)}
    Trials("").keep_answers(graph, "torch", made)
    assert not (graph.parent / "cache").exists() and Trials("").answers(graph, "torch", 3) is None
    Trials("key").keep_answers(graph, "torch", made)
    (file,) = (graph.parent / "cache" / "answers").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert Trials("key").answers(graph, "torch", 3) is None


def test_a_disk_that_takes_nothing_costs_only_the_memory(graph: Path) -> None:
    (graph.parent / "cache").write_bytes(b"a file is in the way")
    assert Trials("key").recall(graph, "openvino", "int8", lambda: TRIAL) is TRIAL
