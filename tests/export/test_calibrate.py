"""Calibrators: what each makes of a distribution, and that what is watched is what the network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NORMAL, conv, folded, frame_nodes, frames, graph_of, weights
from onnx import helper

from edgetl_export.calibrate import CALIBRATORS, Observed, magnitudes, observe, range_of, ranges
from edgetl_runtime.engines import load_engine
from edgetl_runtime.errors import InputError


def seen(values: np.ndarray) -> Observed:  # type: ignore[type-arg]
    flat = values.astype(np.float32)
    return Observed(float(flat.min()), float(flat.max()), flat, np.zeros(1))


def test_what_is_watched_is_what_the_network_computes(tmp_path: Path) -> None:
    path = folded(tmp_path / "net.onnx")
    found = observe(path, ["heat"], frames(3), tmp_path)["heat"]
    engine = load_engine("onnxruntime", path, precision="fp32")
    rows = np.concatenate([np.array(engine.infer({"frame": f})["heat"]) for f in frames(3)])
    engine.close()
    assert (found.low, found.high) == (float(rows.min()), float(rows.max()))
    np.testing.assert_allclose(found.means, rows.mean((0, 2, 3)), rtol=1e-4)
    assert set(found.samples.tolist()) <= set(rows.ravel().tolist())


def test_no_frames(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no calibration frames"):
        observe(folded(tmp_path / "net.onnx"), ["heat"], [], tmp_path)


def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path) -> None:
    constants = {**NORMAL, **weights("a", 4, 3, 3, 3)}
    constants["a_b"] = np.full(4, np.inf, np.float32)
    onnx.save(graph_of([*frame_nodes(), conv("a", "normal", "y")], ["y"], constants), tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"'y' is not finite on calibration frame 0"):
        observe(tmp_path / "net.onnx", ["y"], frames(1), tmp_path)


def test_minmax_takes_all_and_zero() -> None:
    assert range_of(seen(np.array([1.0, 5.0])), "minmax") == (0.0, 5.0)
    assert range_of(seen(np.array([-5.0, -1.0])), "minmax") == (-5.0, 0.0)


@pytest.mark.parametrize("calibrator", ["percentile", "entropy"])
def test_one_far_value_does_not_take_the_whole_range(calibrator: str) -> None:
    values = np.abs(np.random.default_rng(0).normal(size=200_000))
    values[0] = 1000.0
    low, high = range_of(seen(values), calibrator)  # type: ignore[arg-type]
    assert low == 0.0 and high < 500.0


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("values", [np.zeros(10), np.full(10, 3.0), np.array([-2.0]), np.array([1e-30, 0.0])])
def test_degenerate_tensors_get_a_range(calibrator: str, values: np.ndarray) -> None:  # type: ignore[type-arg]
    low, high = range_of(seen(values), calibrator)  # type: ignore[arg-type]
    assert low <= 0.0 <= high and high > low
    low, high = range_of(seen(values), calibrator, symmetric=True)  # type: ignore[arg-type]
    assert low == -high < 0.0


def test_mse_has_the_least_error_of_all() -> None:
    """On a heavy tail, counted on the samples themselves."""
    values = np.random.default_rng(0).standard_t(3, 100_000)

    def error(limits: tuple[float, float]) -> float:
        step = (limits[1] - limits[0]) / 255
        rounded = np.round((np.clip(values, *limits) - limits[0]) / step) * step + limits[0]
        return float(np.mean((rounded - values) ** 2))

    errors = {name: error(range_of(seen(values), name)) for name in CALIBRATORS}
    assert errors["mse"] == min(errors.values())


def test_a_symmetric_range_is_chosen_for_its_own_steps() -> None:
    """Behind a ReLU half of them are never used: what lies above costs less to cut than with 255."""
    values = np.abs(np.random.default_rng(0).standard_t(3, 100_000))

    def error(limits: tuple[float, float]) -> float:
        step = max(-limits[0], limits[1]) / 127
        return float(np.mean((np.clip(np.round(values / step), -127, 127) * step - values) ** 2))

    own = {name: error(range_of(seen(values), name, symmetric=True)) for name in CALIBRATORS}
    assert own["mse"] == min(own.values())
    assert own["mse"] < 0.9 * error(range_of(seen(values), "mse"))
    assert range_of(seen(np.array([-3.0, 2.0])), "minmax", symmetric=True) == (-3.0, 3.0)


def test_ranges_of_several_tensors() -> None:
    found = ranges({"a": seen(np.array([0.0, 2.0])), "b": seen(np.array([-1.0, 1.0]))}, "minmax")
    assert found == {"a": (0.0, 2.0), "b": (-1.0, 1.0)}


def test_the_largest_magnitude(tmp_path: Path) -> None:
    nodes = [*frame_nodes(), helper.make_node("Log", ["planes"], ["log"], name="log")]
    onnx.save(graph_of(nodes, ["normal", "log"], NORMAL), tmp_path / "net.onnx")
    dark = frames(1)[0] * 0
    found = magnitudes(tmp_path / "net.onnx", ["normal", "log"], [dark + 1, dark + 100], tmp_path)
    assert found == {"normal": pytest.approx(126 / 128), "log": pytest.approx(np.log(100))}
    assert magnitudes(tmp_path / "net.onnx", ["log"], [dark, dark + 1], tmp_path) == {"log": np.inf}
