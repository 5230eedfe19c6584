"""What `edgetl export` hands on."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgetl.answers import JUDGED_IMAGES
from edgetl.commands import export
from edgetl.export_cache import state_of


def parsed(*arguments: object, model: object = "run") -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return parser.parse_args([str(model), "--out", "b", *map(str, arguments)])


def test_the_metric_runs_over_what_tune_answers_at_last() -> None:
    """The command's own default, which it knows without importing torch."""
    assert parsed().val_images == JUDGED_IMAGES


def test_calibration_data_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgetl.exporting

    seen: dict[str, object] = {}

    def fake(checkpoint: Path, out: Path, options: edgetl.exporting.ExportOptions, *, name: str) -> None:
        seen.update(dataclasses.asdict(options))

    monkeypatch.setattr(edgetl.exporting, "export_checkpoint", fake)
    export._export(parsed("--calibration-data", "night:val", "--calibration-data", tmp_path), ("cpu",))
    assert seen["calibration_data"] == ["night:val", str(tmp_path)]
    export._export(parsed(), ("cpu",))
    assert seen["calibration_data"] == []


def test_a_kept_bundle_depends_on_all_calibration_data(tmp_path: Path) -> None:
    args = parsed("--data", tmp_path / "a", "--calibration-data", f"{tmp_path}/b:val", "--calibration-data", tmp_path)
    assert export._data_folders(args) == [tmp_path / "a", tmp_path / "b", tmp_path]


@pytest.mark.parametrize("form", ["{}", "{}:night", "{}/data.yaml"])
def test_a_kept_bundle_depends_on_the_data_however_they_are_named(tmp_path: Path, form: str) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "data.yaml").write_text("names: []")
    (folder,) = export._data_folders(parsed("--data", form.format(data)))
    before = state_of(folder)
    (data / "images" / "new.jpg").write_bytes(b"picture")
    assert state_of(folder) != before, f"a new image in {data} is not seen from {folder}"


def test_images_and_labels_that_a_data_yaml_names_elsewhere(tmp_path: Path) -> None:
    for folder in ("data", "far/images/val", "far/labels/val"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "data.yaml").write_text("path: ../far\nval: images/val\nnames: [car]\n")
    folders = export._data_folders(parsed("--data", tmp_path / "data"))
    assert folders == [tmp_path / "data", tmp_path / "far/images/val", tmp_path / "far/labels/val"]


def test_the_same_words_in_another_folder_are_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for place in ("one", "two"):
        (tmp_path / place / "run").mkdir(parents=True)
        (tmp_path / place / "run" / "best.pt").write_bytes(b"weights")
        monkeypatch.chdir(tmp_path / place)
        keys |= {export._key(parsed("--data", "data")), export._key(parsed("--calibration-data", "data:val"))}
    assert len(keys) == 4 and "" not in keys


SPEC = """
name: net
input: {size_hw: [64, 96], channel_order: rgb, mean: [0, 0, 0], std: [255, 255, 255]}
heads: [{decoder: classification, labels: labels.txt}]
weights: {source: tests, licence: none}
"""


@pytest.mark.parametrize("changed", ["labels.txt", "net.bin"])
def test_a_kept_bundle_depends_on_the_files_that_spec_and_network_name(tmp_path: Path, changed: str) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    info = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("MatMul", ["w", "x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [info("x", 1, [3, 1])], [info("y", 1, [2, 1])], [weight])
    model = onnx.helper.make_model(graph)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "labels.txt").write_text("stop\ngo\n")
    args = parsed("--spec", tmp_path / "spec.yaml", model=tmp_path / "net.onnx")
    before = export._key(args)
    data = (tmp_path / changed).read_bytes()
    assert before == export._key(args)
    (tmp_path / changed).write_bytes(data[::-1])
    assert export._key(args) not in ("", before)
