"""Golden samples: the right model passes, a wrong one does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runtime_support import (
    CLASSIFY,
    HEADS,
    SEGMENT,
    SIZE_HW,
    expected_outputs,
    make_manifest,
    tiny_model,
    write_test_bundle,
)

from edgetl_runtime.bundle import open_bundle, write_manifest
from edgetl_runtime.engines import ONNX_ENGINES, load_bundle_engine
from edgetl_runtime.errors import BundleError
from edgetl_runtime.golden import Golden, box_error, head_error, read_golden, replay_golden, write_golden


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_every_engine_reproduces_them(shared_bundle: Path, engine: str) -> None:
    bundle = open_bundle(shared_bundle)
    report = replay_golden(bundle, load_bundle_engine(bundle, engine=engine))
    assert report.ok and report.compared == 3
    assert report.worst_rel_error < 1e-5
    assert report.tolerance == (1e-3 if engine == "onnxruntime" else 1e-1)
    assert report.heads == {"detect": report.worst_rel_error}


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_every_head_is_replayed(shared_many: Path, engine: str) -> None:
    bundle = open_bundle(shared_many)
    report = replay_golden(bundle, load_bundle_engine(bundle, engine=engine))
    assert report.ok and set(report.heads) == {"detect", "ground", "light"}
    assert report.worst_rel_error == max(report.heads.values()) < 1e-5
    golden = read_golden(bundle)
    assert {*golden.outputs} == {"boxes", "scores", "classes", "mask_ground", "probabilities"}
    assert golden.outputs["probabilities"].argmax(1).tolist() == [1, 0, 2], "the frames must differ"


@pytest.mark.parametrize(("head", "output"), [("ground", "mask_ground"), ("light", "probabilities")])
def test_one_head_that_differs_is_found(tmp_path: Path, head: str, output: str) -> None:
    folder = write_test_bundle(tmp_path / "b", heads=HEADS)
    golden = read_golden(open_bundle(folder))
    changed = golden.outputs[output][:, ::-1]
    write_golden(folder / "golden.npz", Golden(golden.frames, golden.outputs | {output: changed}))
    write_manifest(folder, make_manifest(folder, heads=HEADS))
    bundle = open_bundle(folder)
    report = replay_golden(bundle, load_bundle_engine(bundle))
    assert not report.ok and report.heads.pop(head) > 0.05
    assert max(report.heads.values()) < 1e-5


def test_masks_are_compared_by_the_share_of_cells_that_differ() -> None:
    was = {"mask_ground": np.zeros((1, 4, 5), np.uint8)}
    now = {"mask_ground": was["mask_ground"].copy()}
    now["mask_ground"][0, 0, :3] = 2
    assert head_error(SEGMENT, was, now, side=96) == pytest.approx(3 / 20)
    assert head_error(SEGMENT, was, {"mask_ground": np.zeros((1, 5, 4), np.uint8)}, side=96) == 1.0


@pytest.mark.parametrize(
    ("row", "error"), [([0.2, 0.3, 0.5], 0.0), ([0.2, 0.45, 0.35], 0.15), ([0.2, np.nan, 0.5], 1.0)]
)
def test_categories_are_compared_by_the_largest_difference(row: list[float], error: float) -> None:
    was = {"probabilities": np.array([[0.2, 0.3, 0.5]], np.float32)}
    assert head_error(CLASSIFY, was, {"probabilities": np.array([row], np.float32)}, side=96) == pytest.approx(
        error, abs=1e-6
    )


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
    assert box_error(expected, turned, thresholds=(0.0,) * 3, side=96) == 0.0


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
    assert box_error(expected, found, thresholds=(0.0,) * 3, side=96) >= 4 / 96


def test_only_boxes_from_their_labels_threshold_on_are_compared() -> None:
    expected = outputs()
    found = {k: v.copy() for k, v in expected.items()}
    label = int(expected["classes"][0, 0])
    found["boxes"][0, expected["classes"][0] == label] += 4
    others = tuple(1.0 if i == label else 0.0 for i in range(3))
    assert box_error(expected, found, thresholds=others, side=96) == 0.0
    own = tuple(0.0 if i == label else 1.0 for i in range(3))
    assert box_error(expected, found, thresholds=own, side=96) == pytest.approx(4 / 96)


def test_samples_that_do_not_fit_are_refused(bundle_dir: Path) -> None:
    golden = read_golden(open_bundle(bundle_dir))
    outputs = golden.outputs
    for spoilt, name in (
        (Golden(golden.frames[:, ::2], outputs), "frames"),
        (Golden(golden.frames[:0], {k: v[:0] for k, v in outputs.items()}), "frames"),
        (Golden(golden.frames, outputs | {"scores": outputs["scores"][:2]}), "scores"),
        (Golden(golden.frames, outputs | {"classes": outputs["classes"].astype(np.int32)}), "classes"),
        (Golden(golden.frames, {k: v for k, v in outputs.items() if k != "boxes"}), "unreadable.*out_boxes"),
    ):
        write_golden(bundle_dir / "golden.npz", spoilt)
        write_manifest(bundle_dir, make_manifest(bundle_dir))
        with pytest.raises(BundleError, match=name):
            read_golden(open_bundle(bundle_dir))


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_test_bundle(tmp_path / "b")
    (folder / "golden.npz").write_bytes(b"nothing")
    write_manifest(folder, make_manifest(folder))
    with pytest.raises(BundleError, match="unreadable"):
        read_golden(open_bundle(folder))
