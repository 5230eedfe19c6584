"""The TensorRT engine's logic against a fake TensorRT and a fake driver; no GPU runs here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fake_tensorrt
import numpy as np
import onnx
import pytest
from fake_cuda import OUT_OF_MEMORY, FakeDriver
from runtime_support import SIZE_HW, expected_outputs, tiny_model

from edgetl_runtime.cuda import Cuda
from edgetl_runtime.engines.tensorrt import TensorRTEngine
from edgetl_runtime.errors import EngineError

FRAMES = np.random.default_rng(3).integers(0, 256, (3, *SIZE_HW, 3), np.uint8)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """The driver, with a fake TensorRT beside it."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    return FakeDriver()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan of the tiny detector."""
    return write_plan(tmp_path / "fp32.plan", tiny_model(tmp_path / "tiny.onnx"))


def write_plan(path: Path, model: Path, version: str = "10.3.0") -> Path:
    """What the fake's builder makes of a model."""
    path.write_bytes(f"fake plan of {version}\n".encode() + model.read_bytes())
    return path


def load(plan: Path, driver: FakeDriver) -> TensorRTEngine:
    """The engine on the fake driver."""
    return TensorRTEngine(plan, precision="fp32", module="tensorrt", cuda=Cuda(driver))


def test_frames_go_through_its_buffers(plan: Path, driver: FakeDriver) -> None:
    engine, expected = load(plan, driver), expected_outputs(FRAMES)
    assert [t.name for t in engine.inputs] == ["frame"] and len(engine.outputs) == 3
    before = dict(driver.live)
    for i in range(len(FRAMES)):
        found = engine.infer({"frame": FRAMES[i : i + 1]})
        np.testing.assert_allclose(found["scores"][0], expected["scores"][i], rtol=1e-5)
        np.testing.assert_array_equal(found["boxes"][0], expected["boxes"][i])
        assert found["classes"].dtype == np.int64
    assert driver.live == before == {"context": 1, "stream": 1, "device": 4, "host": 4}
    engine.close()
    engine.close()
    assert set(driver.live.values()) == {0}
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"frame": FRAMES[:1]})


@pytest.mark.parametrize("inputs", [{}, {"frame": FRAMES[:2]}, {"frame": FRAMES[:1].astype(np.float32)}])
def test_wrong_inputs_are_refused(plan: Path, driver: FakeDriver, inputs: dict[str, np.ndarray]) -> None:
    engine = load(plan, driver)
    with pytest.raises(EngineError, match="input"):
        engine.infer(inputs)


def test_a_plan_of_another_version_says_so(tmp_path: Path, driver: FakeDriver) -> None:
    old = write_plan(tmp_path / "old.plan", tiny_model(tmp_path / "tiny.onnx"), version="8.6.1")
    with pytest.raises(EngineError, match=r"can't load .*old\.plan: .*magicTag.*edgetl build BUNDLE --force"):
        load(old, driver)
    assert set(driver.live.values()) == {0}


def test_a_missing_plan_says_so(tmp_path: Path, driver: FakeDriver) -> None:
    with pytest.raises(EngineError, match=r"can't read .*none\.plan"):
        load(tmp_path / "none.plan", driver)


def test_a_full_gpu_says_so_and_all_is_given_back(
    plan: Path, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", json.dumps({"error": "no context"}))
    with pytest.raises(EngineError, match=r"execution context.*it gives no reason; close other programs"):
        load(plan, driver)
    monkeypatch.delenv("FAKE_TENSORRT")
    driver.fail["cuMemAlloc_v2"] = OUT_OF_MEMORY
    with pytest.raises(EngineError, match="OUT_OF_MEMORY"):
        load(plan, driver)
    assert set(driver.live.values()) == {0}


def test_a_run_that_fails_says_so(plan: Path, driver: FakeDriver) -> None:
    engine = load(plan, driver)
    engine._context.addresses.clear()
    with pytest.raises(EngineError, match="failed to run"):
        engine.infer({"frame": FRAMES[:1]})
    driver.fail["cuStreamSynchronize"] = 700
    engine = load(plan, driver)
    with pytest.raises(EngineError, match="ILLEGAL_ADDRESS"):
        engine.infer({"frame": FRAMES[:1]})


def test_dynamic_shapes_are_refused(tmp_path: Path, driver: FakeDriver) -> None:
    proto = onnx.load(tiny_model(tmp_path / "tiny.onnx"))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(proto, tmp_path / "dynamic.onnx")
    with pytest.raises(EngineError, match="dynamic"):
        load(write_plan(tmp_path / "a.plan", tmp_path / "dynamic.onnx"), driver)
    assert set(driver.live.values()) == {0}


def test_its_layers_are_said(plan: Path, driver: FakeDriver) -> None:
    engine = load(plan, driver)
    assert [layer["Name"] for layer in json.loads(engine.layer_information())["Layers"]] == ["/cells/Conv"]
