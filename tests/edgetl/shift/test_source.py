"""Reading the two sides, and the network that looks at them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgetl.data import Dataset
from edgetl.models.backbone import build_backbone
from edgetl.shift.source import Eye, groups_of, known_embeddings, look, read_side, spread
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, Preprocess

EYE = Eye(None, "tf_efficientnet_lite0", "none", (32, 64))


def plain(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((32, 64, 3), 20 * i, np.uint8))
    return folder


def test_a_split_is_named_behind_a_colon(yolo_dir: Path) -> None:
    assert read_side(str(yolo_dir), split="train").name == "yolo/train"
    assert read_side(f"{yolo_dir}:val", split="train").name == "yolo/val"
    with pytest.raises(InputError, match="no split 'night'"):
        read_side(f"{yolo_dir}:night", split="train")


def test_a_folder_of_plain_images(tmp_path: Path) -> None:
    folder = plain(tmp_path / "frames", ["a_1.png", "a_2.png", "b_1.png"])
    (folder / "notes.txt").write_text("no image")
    dataset = read_side(str(folder), split="train")
    assert [s.group for s in dataset.samples] == ["a_1", "a_2", "b_1"] and dataset.classes == ()
    grouped = read_side(str(folder), split="train", group_pattern="^[a-z]+")
    assert [s.group for s in grouped.samples] == ["a", "a", "b"]
    with pytest.raises(InputError, match="regular expression"):
        read_side(str(folder), split="train", group_pattern="(")
    with pytest.raises(InputError, match=r"the group pattern 'cam\[0-9\]' fits no file name; the first is a_1"):
        read_side(str(folder), split="train", group_pattern="cam[0-9]")
    with pytest.raises(InputError, match="nonsense"):
        read_side(str(folder), split="train", format="nonsense")
    assert len(read_side(str(folder), split="train", format="yolo")) == 3  # the other side's


def test_a_colon_in_a_path_that_exists_is_no_split(tmp_path: Path) -> None:
    folder = plain(tmp_path / "12:30", ["a.png"])
    assert len(read_side(str(folder), split="train")) == 1


@pytest.mark.parametrize("text", ["nowhere", "nowhere:val"])
def test_what_is_not_there_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no such dataset directory"):
        read_side(str(tmp_path / text), split="train")


def test_groups_are_shared_within_a_directory_only(tmp_path: Path) -> None:
    a, b = plain(tmp_path / "a", ["1.png", "2.png"]), plain(tmp_path / "b", ["1.png"])
    first, second = read_side(str(a), split=""), read_side(str(b), split="")
    ours, theirs = groups_of(str(a), str(b), first, second, shared=False)
    assert not set(ours) & set(theirs)
    assert groups_of(f"{a}:x", f"{a}:y", first, second, shared=False) == (["1", "2"], ["1"])
    assert groups_of(str(a), str(b), first, second, shared=True) == (["1", "2"], ["1"])


def test_spread_takes_every_image_once(tmp_path: Path) -> None:
    dataset = read_side(str(plain(tmp_path / "a", [f"{i}.png" for i in range(9)])), split="")
    assert len(spread(dataset, 4)) == 4 and len(spread(dataset, 100)) == 9
    twice = Dataset("twice", (), dataset.samples + dataset.samples)
    assert len(spread(twice, 100)) == 9


def test_a_backbone_sees_means_and_deviations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    dataset = read_side(str(plain(tmp_path / "a", ["1.png", "2.png", "3.png"])), split="")
    seen = look(EYE, dataset)
    assert [level.shape for level in seen.levels] == [(3, 48), (3, 80), (3, 224), (3, 640)]
    np.testing.assert_array_equal(seen.embedding, seen.levels[-1][:, :320])
    assert "none weights" in EYE.name
    torch.manual_seed(0)
    backbone = build_backbone("tf_efficientnet_lite0", "none")
    frame = torch.full((1, 3, 32, 64), (40 - 127) / 128)
    with torch.inference_mode():
        maps = backbone.module.eval()(frame)
    for level, cells in zip(seen.levels, maps, strict=True):
        expected = torch.cat([cells.mean((2, 3)), cells.std((2, 3), correction=0)], dim=1)[0]
        np.testing.assert_allclose(level[2], expected.numpy(), rtol=1e-3, atol=1e-5)


def test_what_another_engine_sees_is_another_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    dataset = read_side(str(plain(tmp_path / "a", ["1.png"])), split="")
    answers = iter([np.full((1, 2), i, np.float32) for i in range(9)])
    keys = [
        ("m", "onnxruntime", "fp32"),
        ("m", "openvino", "fp32"),
        ("m", "openvino", "int8"),
        ("n", "openvino", "int8"),
    ]
    first, second = ([known_embeddings(*k, dataset, lambda: next(answers))[0, 0] for k in keys] for _ in range(2))
    assert first == second == [0, 1, 2, 3]


class FakeEngine:
    """Gives each frame's mean colour as its embedding, in a buffer that it uses again."""

    def __init__(self) -> None:
        self.inputs = (SimpleNamespace(name="frame"),)
        self.calls = 0
        self._buffer = np.zeros((1, 3), np.float32)

    def infer(self, feed: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        self.calls += 1
        self._buffer[0] = feed["frame"].mean(axis=(0, 1, 2))
        return {"embedding": self._buffer}

    def close(self) -> None:
        self.inputs = ()


@pytest.mark.parametrize("outputs", [("boxes", "embedding"), ("boxes",)])
def test_a_bundle_sees_its_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outputs: tuple[str, ...]) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    engine, precision = FakeEngine(), ["int8"]
    manifest = SimpleNamespace(
        outputs=[SimpleNamespace(name=name) for name in outputs],
        chosen=SimpleNamespace(variant="fp32", engine="onnxruntime"),
        files={"m.onnx": SimpleNamespace(sha256="0" * 64)},
        variant=lambda name: SimpleNamespace(file="m.onnx", precision=precision[0]),
        preprocess=Preprocess(size_hw=(32, 64), mean=(0, 0, 0), std=(1, 1, 1)),
    )
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    monkeypatch.setattr("edgetl_runtime.bundle.open_bundle", lambda path: SimpleNamespace(path=path, manifest=manifest))
    monkeypatch.setattr("edgetl_runtime.engines.load_bundle_engine", lambda bundle: engine)
    dataset = read_side(str(plain(tmp_path / "a", ["1.png", "2.png", "3.png"])), split="")
    eye = Eye(tmp_path / "bundle", "", "", (1, 1))
    if "embedding" not in outputs:
        with pytest.raises(InputError, match="gives no embedding"):
            look(eye, dataset)
        return
    seen = look(eye, dataset)
    assert seen.levels == () and seen.embedding[:, 0].tolist() == [0, 20, 40]
    assert engine.inputs == () and engine.calls == 3
    look(eye, dataset)
    assert engine.calls == 3  # from the cache
    precision[0] = "int8-bf16"  # the same file, other rounding
    engine.inputs = (SimpleNamespace(name="frame"),)
    look(eye, dataset)
    assert engine.calls == 6


def test_a_checkpoint_sees_with_its_own_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgetl.heads import kinds_of, network_of
    from edgetl.training.checkpoint import Checkpoint, ModelCard, save_checkpoint

    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    heads = (ClassifyHead(labels=("a", "b"), thresholds=(0.0, 0.0)),)
    backbone = build_backbone("tf_efficientnet_lite0", "none")
    network = network_of(backbone, kinds_of(heads)).eval()
    preprocess = Preprocess(size_hw=(32, 64), mean=(127, 127, 127), std=(128, 128, 128))
    card = ModelCard(heads, backbone.name, preprocess, backbone.weights, "", "", "")
    save_checkpoint(tmp_path / "best.pt", Checkpoint(card, network.state_dict()))
    dataset = read_side(str(plain(tmp_path / "a", ["1.png", "2.png"])), split="")
    seen = look(Eye(tmp_path / "best.pt", "", "", (1, 1)), dataset)
    with torch.inference_mode():
        frame = torch.full((1, 3, 32, 64), (20 - 127) / 128)
        expected = network(frame).embedding[0].numpy()
    np.testing.assert_allclose(seen.embedding[1], expected, rtol=1e-3, atol=1e-4)


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    dataset = read_side(str(plain(tmp_path / "a", ["1.png"])), split="")
    with pytest.raises(InputError, match="no such checkpoint"):
        look(Eye(tmp_path / "a", "", "", (32, 64)), dataset)
