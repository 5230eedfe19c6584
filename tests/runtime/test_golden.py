"""Golden samples: the right model passes, a wrong one does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runtime_support import SIZE_HW, expected_outputs, make_manifest, tiny_model, write_test_bundle

from edgetl_runtime.bundle import open_bundle, write_manifest
from edgetl_runtime.engines import ENGINES, load_bundle_engine
from edgetl_runtime.errors import BundleError
from edgetl_runtime.golden import Golden, frame_error, read_golden, replay_golden, write_golden


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_reproduces_them(shared_bundle: Path, engine: str) -> None:
    bundle = open_bundle(shared_bundle)
    report = replay_golden(bundle, load_bundle_engine(bundle, engine=engine))
    assert report.ok and report.compared == 3
    assert report.worst_rel_error < 1e-5
    assert report.tolerance == (1e-3 if engine == "onnxruntime" else 1e-1)


def test_another_model_fails(bundle_dir: Path) -> None:
    tiny_model(bundle_dir / "model.fp32.onnx", bias=0.05)
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    bundle = open_bundle(bundle_dir)
    report = replay_golden(bundle, load_bundle_engine(bundle))
    assert not report.ok
    assert report.worst_rel_error == pytest.approx(0.05 / 0.98, rel=0.1)


def outputs() -> dict[str, np.ndarray]:
    frames = np.random.default_rng(0).integers(0, 256, (1, *SIZE_HW, 3), np.uint8)
    return expected_outputs(frames)


def test_the_order_of_near_equal_scores_does_not_matter() -> None:
    expected = outputs()
    turned = {k: v[:, ::-1] for k, v in expected.items()}
    assert frame_error(expected, turned, threshold=0.0, side=96) == 0.0


@pytest.mark.parametrize("spoil", ["box", "class", "nan score", "nan box"])
def test_every_output_counts(spoil: str) -> None:
    expected = outputs()
    found = {k: v.copy() for k, v in expected.items()}
    if spoil == "box":
        found["boxes"][0, 0] += 4
    elif spoil == "class":
        found["classes"][0, 0] = 77
    elif spoil == "nan score":
        found["scores"][0, 0] = np.nan
    else:
        found["boxes"][:] = np.nan
    assert frame_error(expected, found, threshold=0.0, side=96) >= 4 / 96


def test_samples_that_do_not_fit_are_refused(bundle_dir: Path) -> None:
    golden = read_golden(open_bundle(bundle_dir))
    small = Golden(golden.frames[:, ::2], golden.boxes, golden.scores, golden.classes)
    write_golden(bundle_dir / "golden.npz", small)
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    with pytest.raises(BundleError, match="frames"):
        read_golden(open_bundle(bundle_dir))


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_test_bundle(tmp_path / "b")
    (folder / "golden.npz").write_bytes(b"nothing")
    write_manifest(folder, make_manifest(folder))
    with pytest.raises(BundleError, match="unreadable"):
        read_golden(open_bundle(folder))
