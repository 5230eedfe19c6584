"""Networks that others have trained, on real frames: FastestDet as an ONNX file, TwinLiteNet as a torch module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray

from edgetl import cli
from edgetl.data import read_dataset
from edgetl.heads import Scoring, kinds_of
from edgetl.metrics.align import align
from edgetl.metrics.predict import Frames, evaluate
from edgetl_export.foreign.source import Foreign, foreign
from edgetl_export.foreign.spec_file import SpecFile, read_spec

pytestmark = pytest.mark.real_data
BENCH = Path(__file__).parents[1] / "bench"
FASTESTDET = {
    "name": "fastestdet",
    "input": {"size_hw": [352, 352], "channel_order": "bgr", "mean": [0, 0, 0], "std": [255, 255, 255]},
    "weights": {"source": "FastestDet, COCO", "licence": "BSD-3-Clause"},
    "heads": [
        {
            "decoder": "fastestdet",
            "threshold": 0.5,
            "dataset_classes": {
                "person": ["person", "rider"],
                "bicycle": ["bike"],
                "motorbike": ["motor"],
            },
        }
    ],
}
TWINLITENET = {
    "name": "twinlitenet",
    "input": {"size_hw": [360, 640], "channel_order": "rgb", "mean": [0, 0, 0], "std": [255, 255, 255]},
    "weights": {"source": "TwinLiteNet, BDD100K", "licence": "MIT"},
    "heads": [{"decoder": "twinlitenet", "drivable": "drivable", "lane": "lane", "metric": "agreement"}],
}


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def fastestdet(real_data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The file and its spec."""
    weights = real_data / "peer_weights"
    (head,) = FASTESTDET["heads"]
    document = {**FASTESTDET, "heads": [{**head, "labels": str(weights / "coco.names")}]}  # type: ignore[dict-item]
    return weights / "FastestDet.onnx", written(tmp_path, document)


@pytest.fixture
def twinlitenet(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """The module and its spec."""
    monkeypatch.setenv("TWINLITENET_WEIGHTS", str(real_data / "peer_weights" / "twinlitenet_bdd100k_best.pth"))
    return f"{BENCH / 'twinlitenet.py'}:build_model", written(tmp_path, TWINLITENET)


def frames_of(real_data: Path, spec: SpecFile, count: int) -> Frames:
    return Frames(read_dataset(real_data / "bdd", "val").take(count), spec.input.preprocess)


def same_outputs(found: Foreign, frames: list[NDArray[np.uint8]], folder: Path) -> None:
    """What ships gives what the reference gives."""
    found.source.write(folder / "graph.onnx")
    session = onnxruntime.InferenceSession(str(folder / "graph.onnx"), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    for frame in frames:
        expected = found.source.infer(frame)
        given = dict(zip(names, session.run(names, {"frame": frame}), strict=True))
        for name in (n for h in found.heads for n in h.outputs):
            if expected[name].dtype == np.uint8:
                assert (expected[name] != given[name]).mean() < 1e-4
            else:
                np.testing.assert_allclose(given[name], expected[name], atol=1e-2)


def test_fastestdet_finds_vehicles(fastestdet: tuple[Path, Path], real_data: Path, tmp_path: Path) -> None:
    """Wrong channels, boxes or suppression would cost most of it."""
    path, spec_file = fastestdet
    spec = read_spec(spec_file)
    found = foreign(str(path), spec)
    frames = frames_of(real_data, spec, 60)
    same_outputs(found, frames.images[:12], tmp_path)
    names = {"detect": dict(spec.heads[0].dataset_classes)}
    frames.dataset = align(frames.dataset, found.heads, names)
    scoring = Scoring(merge=(("vehicle", ("car", "bus", "truck")),), min_height_px=16)
    metric = evaluate(found.source.infer, frames, kinds_of(found.heads), scoring=scoring).heads["detect"]
    assert 0.3 < metric.value < 0.6


def test_twinlitenet_finds_the_road(twinlitenet: tuple[str, Path], real_data: Path, tmp_path: Path) -> None:
    """Ahead of the car is road on nearly every frame, above the horizon never; lanes are thin and seldom missing."""
    module, spec_file = twinlitenet
    spec = read_spec(spec_file)
    found = foreign(module, spec)
    frames = frames_of(real_data, spec, 10)
    same_outputs(found, frames.images[:3], tmp_path)
    outputs = [found.source.infer(f) for f in frames.images]
    drivable = np.stack([o["mask_drivable"][0] for o in outputs])
    lane = np.stack([o["mask_lane"][0] for o in outputs])
    assert drivable[:, 240:290, 290:350].mean() > 0.4 and drivable[:, :120].mean() < 0.01
    assert 0.003 < lane.mean() < 0.06 and lane[:, :120].mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("which", ["fastestdet", "twinlitenet"])
def test_the_whole_way(
    which: str,
    request: pytest.FixtureRequest,
    real_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, spec = request.getfixturevalue(which)
    data, out = real_data / "bdd", tmp_path / "bundle"
    small = ("--val-images", "24", "--calibration", "16", "--max-drop", "20", "--targets", "cpu", "--json")
    words = ["export", str(network), "--spec", str(spec), "--data", str(data), "--out", str(out), *small]
    assert cli.main(words) == 0
    hops = {h["hop"]: h for h in json.loads(capsys.readouterr().out)["hops"]}
    assert hops["onnxruntime/fp32"]["max_rel_error"] < 1e-3
    assert cli.main(["verify", str(out)]) == 0
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, sample in enumerate(read_dataset(data, "val").take(3).samples):
        image = cv2.imread(str(sample.image))
        assert image is not None
        cv2.imwrite(str(folder / f"{i}.png"), image)
    assert cli.main(["run", str(out), str(folder), "--jsonl", str(tmp_path / "r.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    if which == "fastestdet":
        assert cli.main(["evaluate", str(out), str(data), "--limit", "10"]) == 0
        assert any(d["label"] == "car" for r in rows for d in r["detections"])
    else:
        assert all(r["masks"]["drivable"]["drivable"] > 0.01 for r in rows[:2])
