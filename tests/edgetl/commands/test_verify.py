"""edgetl verify: golden samples of every head, and each head's metric against what was stored for it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from msgspec.structs import replace
from runtime_support import HEADS, SIZE_HW, expected_many, make_manifest, scene, write_test_bundle

from edgetl.commands import verify
from edgetl.versions import package_versions
from edgetl_runtime.bundle import Bundle, open_bundle, write_manifest
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.golden import SATURATES, Golden, read_golden, write_golden
from edgetl_runtime.spec import Hop

PAIR = "onnxruntime/fp32"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with boxes, a mask and a category."""
    return write_test_bundle(tmp_path / "b", heads=HEADS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images with masks as the bundle's network gives them, but for an eighth of each: half of all the road."""
    root = tmp_path / "data"
    for name in ("images/val", "masks/ground/val"):
        (root / name).mkdir(parents=True)
    (root / "masks" / "ground" / "classes.txt").write_text("background\nroad\nlane\n")
    for i in range(3):
        image = scene(*SIZE_HW, i)
        image[32:] = 120
        mask = expected_many(image[None])["mask_ground"][0].repeat(4, 0).repeat(4, 1)
        assert (mask[32:] == 1).all()
        mask[48:] = 0
        cv2.imwrite(str(root / f"images/val/{i}.png"), image)
        cv2.imwrite(str(root / f"masks/ground/val/{i}.png"), mask)
    return root


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    document = verify.run(parser.parse_args([str(a) for a in arguments]))
    json.dumps(document)
    return document


def hop(name: str, value: float, **heads: float) -> Hop:
    return Hop(hop=name, metric="mean", value=value, max_rel_error=0, cosine=1, passed=True, heads=heads)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        (("detect", "ground"), {"detect": 0.4, "ground": 0.8}),
        (("ground",), {"ground": 0.8}),
        (("other",), {}),
    ],
)
def test_the_stored_figure_of_each_head(asked: tuple[str, ...], stored: dict[str, float]) -> None:
    hops = (hop("torch", 0.9), hop(PAIR, 0.6, detect=0.4, ground=0.8))
    assert verify.stored_values(hops, PAIR, asked) == stored


def test_a_hop_over_one_head_has_its_figure_in_value() -> None:
    hops = (hop(PAIR, 0.6),)
    assert verify.stored_values(hops, PAIR, ["detect"]) == {"detect": 0.6}
    assert verify.stored_values(hops, PAIR, ["detect", "ground"]) == {}, "whose is it?"
    assert verify.stored_values(hops, "openvino/int8", ["detect"]) == {}


def test_an_engine_that_was_built_is_held_to_what_its_graph_computed() -> None:
    hops = (hop(PAIR, 0.9), hop("trt-int8", 0.6), hop("trt-fp16", 0.8))
    assert verify.stored_values(hops, "tensorrt/trt-int8", ["detect"]) == {"detect": 0.6}
    assert verify.stored_values(hops, "openvino/trt-int8", ["detect"]) == {}


def test_agreement_is_no_figure_that_labels_are_held_to() -> None:
    hops = (replace(hop(PAIR, 0.99, detect=1.0, ground=0.98), metric="agreement"),)
    assert verify.stored_values(hops, PAIR, ["detect", "ground"]) == {}


def test_the_metric_is_of_the_engine_that_the_golden_samples_ran_on(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []

    def load(bundle: Bundle, **options: Any) -> Engine:
        folders.append(options["engine_dir"])
        return load_bundle_engine(bundle, **options)

    monkeypatch.setattr("edgetl_runtime.engines.load_bundle_engine", load)
    monkeypatch.setattr("edgetl.metrics.subject.load_bundle_engine", load)
    call(folder, "--data", data, "--engine-dir", tmp_path / "engines")
    assert folders == [tmp_path / "engines"] * 2


def test_golden_samples_of_every_head(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = call(folder)
    assert document["ok"] is True and document["exit_status"] == 0 and document["metric"] is None
    assert document["golden"]["compared"] == 3 and document["golden"]["worst_rel_error"] < 1e-5
    shown = capsys.readouterr()
    assert shown.out == "" and all(f"{h.name} " in shown.err for h in HEADS)


@pytest.mark.parametrize(("exported", "said"), [("0.1", True), (None, False), ("", False)])
def test_another_version_of_the_engine_is_said(
    folder: Path, exported: str | None, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    here = package_versions()["onnxruntime"]
    packages = {} if exported == "" else {"onnxruntime": exported or here}
    provenance = replace(make_manifest(folder, heads=HEADS).provenance, packages=packages)
    write_manifest(folder, make_manifest(folder, heads=HEADS, provenance=provenance))
    assert call(folder)["engine_versions"] == ({"here": here, "exported": exported or here} if packages else {})
    assert (f"onnxruntime {here} here, 0.1 where it was exported" in capsys.readouterr().err) is said


def other_masks(folder: Path) -> None:
    """Let the golden samples have other masks than the network gives."""
    golden = read_golden(open_bundle(folder))
    masks = golden.outputs["mask_ground"].copy()
    masks[0, :4] = (masks[0, :4] + 1) % 3
    write_golden(folder / "golden.npz", Golden(golden.frames, golden.outputs | {"mask_ground": masks}))
    write_manifest(folder, make_manifest(folder, heads=HEADS))


def test_a_mask_that_came_out_otherwise_fails(folder: Path) -> None:
    other_masks(folder)
    document = call(folder)
    assert document["ok"] is False and document["exit_status"] == 1
    assert document["golden"]["worst_rel_error"] == pytest.approx(4 / 16)


@pytest.mark.parametrize("saturates", [True, False])
def test_what_is_known_of_the_reason_is_said(
    saturates: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(bundle: Bundle, **options: Any) -> Engine:
        engine = load_bundle_engine(bundle, **options)
        engine.precision = "int8"
        return engine

    other_masks(folder)
    monkeypatch.setattr("edgetl_runtime.engines.load_bundle_engine", load)
    monkeypatch.setattr("edgetl_runtime.golden.saturates_int8", lambda: saturates)
    assert call(folder)["ok"] is False
    assert (SATURATES in capsys.readouterr().err) == saturates


@pytest.mark.parametrize(("stored", "ok"), [(0.0, True), (None, True), (0.9, False)])
def test_only_heads_with_labels_are_measured_each_against_its_own(
    folder: Path, data: Path, stored: float | None, ok: bool
) -> None:
    """The mean over all heads is far above; a data set with masks alone must not be held against it."""
    heads = {"detect": 0.99, "light": 0.99} | ({} if stored is None else {"ground": stored})
    write_manifest(folder, make_manifest(folder, heads=HEADS, hops=(hop(PAIR, 0.99, **heads),)))
    metric = call(folder, "--data", data)["metric"]
    assert metric["ok"] is ok and metric["images"] == 3 and metric["name"] == "miou"
    assert metric["stored"] == stored
    assert metric["heads"] == {
        "ground": {"metric": "miou", "value": metric["value"], "stored": stored, "ok": ok},
    }
    assert 0.5 < metric["value"] < 0.85


def test_what_the_metric_may_lose_is_in_points(folder: Path, data: Path) -> None:
    value = call(folder, "--data", data)["metric"]["value"]
    write_manifest(folder, make_manifest(folder, heads=HEADS, hops=(hop(PAIR, 0.5, ground=value + 0.02),)))
    assert call(folder, "--data", data, "--max-drop", "2.1")["ok"] is True
    assert call(folder, "--data", data, "--max-drop", "1.9")["ok"] is False
