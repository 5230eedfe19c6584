"""Golden samples: the right model passes, a wrong one does not."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
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

from edgetl_runtime.bundle import Bundle, open_bundle, write_manifest
from edgetl_runtime.engines import ONNX_ENGINES, Engine, load_bundle_engine, load_engine
from edgetl_runtime.errors import BundleError, EngineError, InputError
from edgetl_runtime.golden import (
    SATURATES,
    Golden,
    allowance,
    box_error,
    head_error,
    load_proven,
    prove_golden,
    read_golden,
    replay_golden,
    start_check,
    tolerances_of,
    variant_of,
    write_golden,
)
from edgetl_runtime.spec import Chosen, DetectHead, EngineName, Precision, Variant


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


def test_the_head_that_is_furthest_for_what_it_is_allowed_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_test_bundle(tmp_path / "b", heads=HEADS)
    golden = read_golden(open_bundle(folder))
    mask = golden.outputs["mask_ground"].copy()
    mask[:, :4] = (mask[:, :4] + 1) % 3
    light = golden.outputs["probabilities"] - np.float32(0.05)
    write_golden(
        folder / "golden.npz", Golden(golden.frames, golden.outputs | {"mask_ground": mask, "probabilities": light})
    )
    write_manifest(folder, make_manifest(folder, heads=HEADS))
    bundle = open_bundle(folder)
    limits = {"detect": 0.1, "ground": 0.5, "light": 0.01}
    monkeypatch.setattr("edgetl_runtime.golden.tolerances_of", lambda *a: limits)
    report = replay_golden(bundle, load_bundle_engine(bundle))
    assert not report.ok and report.worst == "light" and report.heads["ground"] > report.worst_rel_error
    assert (report.worst_rel_error, report.tolerance) == (pytest.approx(0.05, abs=1e-5), 0.01)


def test_an_engine_that_is_not_proven_is_closed(bundle_dir: Path) -> None:
    tiny_model(bundle_dir / "model.fp32.onnx", bias=0.05)
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    bundle = open_bundle(bundle_dir)
    engine = load_bundle_engine(bundle)
    with pytest.raises(EngineError, match="nothing is run"):
        load_proven(bundle, lambda: engine, "replay")
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"image": np.zeros((1, *SIZE_HW, 3), np.uint8)})


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


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_samples_that_are_no_numbers_prove_nothing(wrong: float) -> None:
    expected, found = outputs(), outputs()
    expected["scores"][0, -1] = wrong
    assert box_error(expected, found, thresholds=(0.0,) * 3, side=96) == 1.0
    assert box_error(expected, expected, thresholds=(0.0,) * 3, side=96) == 1.0, "nor do they prove themselves"


def test_a_box_at_its_threshold_counts_and_another_number_of_boxes_is_wrong() -> None:
    expected = outputs()
    expected["scores"][0, 0] = 0.5
    found = {k: v.copy() for k, v in expected.items()}
    found["boxes"][0, 0] += 4
    at = tuple(0.5 if i == expected["classes"][0, 0] else 1.0 for i in range(3))
    expected["scores"][0, 1:] = found["scores"][0, 1:] = 0.25
    assert box_error(expected, found, thresholds=at, side=96) == pytest.approx(4 / 96)
    fewer = {k: v[:, :-1] for k, v in expected.items()}
    assert box_error(expected, fewer, thresholds=at, side=96) == 1.0


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


def two_variants(folder: Path, *, engines: dict[str, str]) -> Bundle:
    """A bundle whose further variant scores other boxes than the chosen one, with or without samples of its own."""
    write_test_bundle(folder)
    golden = read_golden(open_bundle(folder))
    tiny_model(folder / "model.other.onnx", bias=0.3)
    other = load_engine("onnxruntime", folder / "model.other.onnx", precision="fp32")
    rows = [{k: v.copy() for k, v in other.infer({"frame": f[None]}).items()} for f in golden.frames]
    outputs = {name: np.concatenate([row[name] for row in rows]) for name in golden.outputs}
    write_golden(folder / "golden.npz", Golden(golden.frames, golden.outputs, {"other": outputs}))
    variants = tuple(
        Variant(name=name, file=f"model.{name}.onnx", precision="fp32", engines=ONNX_ENGINES)
        for name in ("fp32", "other")
    )
    write_manifest(folder, make_manifest(folder, variants=variants, golden_engines=engines))
    return open_bundle(folder)


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_a_variant_is_held_against_itself(tmp_path: Path, engine: EngineName) -> None:
    bundle = two_variants(tmp_path / "b", engines={"other": "openvino"})
    report = replay_golden(bundle, load_bundle_engine(bundle, variant="other", engine=engine), variant="other")
    assert report.ok and report.worst_rel_error < 1e-5
    assert report.tolerance == (1e-3 if engine == "openvino" else 1e-1)
    wrong = replay_golden(bundle, load_bundle_engine(bundle, variant="other", engine=engine), variant="fp32")
    assert not wrong.ok and wrong.worst_rel_error > 0.2
    assert prove_golden(bundle, load_bundle_engine(bundle, variant="other"), variant="other").ok


def test_a_further_engine_is_held_against_its_own_samples(tmp_path: Path) -> None:
    bundle = two_variants(tmp_path / "b", engines={"other": "openvino"})
    golden = dict(np.load(bundle.file("golden.npz")))
    golden |= {
        name.replace("other.", "other@onnxruntime."): a for name, a in golden.items() if name.startswith("other.")
    }
    np.savez_compressed(bundle.path / "golden.npz", **golden)
    engines: dict[str, EngineName] = {"other": "openvino", "other@onnxruntime": "onnxruntime"}
    manifest = make_manifest(bundle.path, variants=bundle.manifest.variants, golden_engines=engines)
    write_manifest(bundle.path, manifest)
    bundle = open_bundle(bundle.path)
    for engine in ONNX_ENGINES:
        report = replay_golden(bundle, load_bundle_engine(bundle, variant="other", engine=engine), variant="other")
        assert report.ok and report.tolerance == 1e-3
    golden["other@onnxruntime.out_scores"] = golden["other@onnxruntime.out_scores"] * 0.9
    np.savez_compressed(bundle.path / "golden.npz", **golden)
    write_manifest(bundle.path, make_manifest(bundle.path, variants=manifest.variants, golden_engines=engines))
    bundle = open_bundle(bundle.path)
    found = {
        e: replay_golden(bundle, load_bundle_engine(bundle, variant="other", engine=e), variant="other").ok
        for e in ONNX_ENGINES
    }
    assert found == {"onnxruntime": False, "openvino": True}


def scores(*values: float) -> dict[str, NDArray[np.generic]]:
    """Two frames of boxes, all in one place and of one class."""
    rows = np.array(values, np.float32).reshape(2, -1)
    shape = rows.shape
    return {
        "boxes": np.tile(np.array([0, 0, 8, 8], np.float32), (*shape, 1)),
        "scores": rows,
        "classes": np.zeros(shape, np.int64),
    }


@pytest.mark.parametrize(
    ("moved", "allowed"), [((0.8, 0.4, 0.8, 0.4), 0.1), ((0.8, 0.4, 0.8, 0.28), 0.3), ((0.8, 0.4, 0.8, 0.0), 0.5)]
)
def test_another_engine_may_be_as_far_as_rounding_goes(moved: tuple[float, ...], allowed: float) -> None:
    """Twice as far as the precision itself moved the sample, and never so far that anything passes."""
    head = DetectHead(labels=("car",), max_detections=2, thresholds=(0.9,), stride=4)
    found = allowance([head], scores(0.8, 0.4, 0.8, 0.4), scores(*moved), side=64)
    assert found == {"detect": pytest.approx(allowed)}


@pytest.mark.parametrize(
    ("precision", "allowed"), [("fp32", 1e-3), ("int8", 2e-2), ("fp16", 2e-2), ("bf16", 1e-1), ("int8-bf16", 1e-1)]
)
def test_the_same_engine_elsewhere_rounds_bf16_in_other_places(tmp_path: Path, precision: str, allowed: float) -> None:
    bundle = two_variants(tmp_path / "b", engines={"other": "openvino"})
    engine = cast("Engine", SimpleNamespace(name="openvino", precision=precision))
    assert tolerances_of(bundle, engine, "other", read_golden(bundle, variant="other")) == {"detect": allowed}


def test_only_rounding_gives_an_allowance(tmp_path: Path) -> None:
    """Another variant of the same precision is another network: it gets none for what lies between."""
    bundle = two_variants(tmp_path / "b", engines={"other": "openvino"})
    golden = read_golden(bundle, variant="other")
    for precision, expected in (("fp32", 0.1), ("int8", 0.5)):
        engine = cast("Engine", SimpleNamespace(name="onnxruntime", precision=precision))
        assert tolerances_of(bundle, engine, "other", golden) == {"detect": pytest.approx(expected)}


def test_a_variant_without_samples_of_its_own_is_held_against_the_chosen_one(tmp_path: Path) -> None:
    bundle = two_variants(tmp_path / "b", engines={})
    report = replay_golden(bundle, load_bundle_engine(bundle, variant="other"), variant="other")
    assert not report.ok and report.tolerance == 1e-1


def test_an_engines_variant_is_found_by_its_precision(tmp_path: Path) -> None:
    folder = write_test_bundle(tmp_path / "b")
    pairs: dict[str, tuple[Precision, tuple[EngineName, ...]]] = {
        "fp32": ("fp32", ("onnxruntime", "openvino")),
        "int8": ("int8", ("onnxruntime", "openvino")),
        "trt-int8": ("int8", ("tensorrt",)),
        "mixed": ("int8", ("openvino",)),
    }
    variants = tuple(
        Variant(name=name, file="model.fp32.onnx", precision=precision, engines=engines)
        for name, (precision, engines) in pairs.items()
    )
    chosen = Chosen(variant="mixed", engine="openvino", reason="")
    write_manifest(folder, make_manifest(folder, variants=variants, chosen=chosen))
    bundle = open_bundle(folder)
    for engine, precision, name in (
        ("openvino", "fp32", "fp32"),
        ("onnxruntime", "int8", "int8"),
        ("tensorrt", "int8", "trt-int8"),
        ("openvino", "int8", "mixed"),
        ("tensorrt", "fp16", "mixed"),
    ):
        assert variant_of(bundle, cast("Engine", SimpleNamespace(name=engine, precision=precision))) == name


@pytest.mark.parametrize("name", ["nobody", "fp32"])
def test_samples_are_of_further_variants(bundle_dir: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"golden_engines names .*expected further ones"):
        make_manifest(bundle_dir, golden_engines={name: "openvino"})


def test_samples_that_are_named_and_not_there_are_refused(bundle_dir: Path) -> None:
    bundle = two_variants(bundle_dir, engines={})
    golden, variants = read_golden(bundle), bundle.manifest.variants
    write_golden(bundle_dir / "golden.npz", golden)
    write_manifest(bundle_dir, make_manifest(bundle_dir, variants=variants, golden_engines={"other": "openvino"}))
    with pytest.raises(BundleError, match=r"unreadable.*other\.out_"):
        read_golden(open_bundle(bundle_dir), variant="other")


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = write_test_bundle(tmp_path / "b")
    (folder / "golden.npz").write_bytes(b"nothing")
    write_manifest(folder, make_manifest(folder))
    with pytest.raises(BundleError, match="unreadable"):
        read_golden(open_bundle(folder))


def test_the_first_frames_only(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    whole, first = read_golden(bundle), read_golden(bundle, frames=1)
    assert (len(whole.frames), len(first.frames)) == (3, 1)
    np.testing.assert_array_equal(first.frames, whole.frames[:1])
    for name, value in first.outputs.items():
        np.testing.assert_array_equal(value, whole.outputs[name][:1])
    report = replay_golden(bundle, load_bundle_engine(bundle), frames=2)
    assert report.ok and report.compared == 2 and report.ms > 0


@pytest.mark.parametrize("key", ["frames", "out_scores"])
def test_samples_that_claim_10_gb_are_refused(tmp_path: Path, key: str) -> None:
    folder = write_test_bundle(tmp_path / "b")
    with zipfile.ZipFile(folder / "golden.npz") as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000,), }\n"
    entries[f"{key}.npy"] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    with zipfile.ZipFile(folder / "golden.npz", "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    write_manifest(folder, make_manifest(folder))
    with pytest.raises(BundleError, match=f"unreadable: {key} claims .* 10000000000 bytes; at most"):
        read_golden(open_bundle(folder))


def test_a_start_up_check_refuses_an_engine_that_differs(bundle_dir: Path) -> None:
    bundle = open_bundle(bundle_dir)
    engine = load_bundle_engine(bundle)
    report = prove_golden(bundle, engine)
    assert report.ok and report.compared == 1
    assert report.as_json().keys() == {"frames", "worst_rel_error", "tolerance", "ms"}
    assert start_check(bundle, engine, "skip") is None and start_check(bundle, engine, report) is report
    tiny_model(bundle_dir / "model.fp32.onnx", bias=0.05)
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    bundle = open_bundle(bundle_dir)
    engine = load_bundle_engine(bundle)
    for call in (lambda: prove_golden(bundle, engine), lambda: start_check(bundle, engine, "replay")):
        with pytest.raises(EngineError, match=r"onnxruntime at fp32 .*the head 'detect' differs by .*nothing is run"):
            call()
    with pytest.raises(EngineError, match="nothing is run"):
        start_check(bundle, engine, replay_golden(bundle, engine))


@pytest.mark.parametrize("mistyped", ["skp", "Replay", "", True, None])
def test_a_mistyped_wish_skips_no_proof(shared_bundle: Path, mistyped: object) -> None:
    bundle = open_bundle(shared_bundle)
    with pytest.raises(InputError, match="must be 'replay', 'skip' or a GoldenReport, found"):
        start_check(bundle, load_bundle_engine(bundle), mistyped)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "saturates", "said"), [("int8", True, True), ("int8", False, False), ("fp32", True, False)]
)
def test_int8_that_saturates_is_called_so(
    precision: str, saturates: bool, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = two_variants(tmp_path / "b", engines={"other": "onnxruntime"})
    engine = load_bundle_engine(bundle, variant="fp32")
    monkeypatch.setattr(engine, "precision", precision)
    monkeypatch.setattr("edgetl_runtime.golden.saturates_int8", lambda: saturates)
    with pytest.raises(EngineError) as caught:
        prove_golden(bundle, engine, variant="other")
    assert caught.value.remedy.startswith(SATURATES) == said
    assert replay_golden(bundle, engine, variant="fp32").why == ""
