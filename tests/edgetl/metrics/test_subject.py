"""A checkpoint and a bundle behind one face, and data whose classes stand in another order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from runtime_support import HEADS, write_test_bundle

from edgetl.data import Dataset, Sample, read_dataset
from edgetl.metrics.predict import Frames
from edgetl.metrics.subject import Subject, open_subject
from edgetl.training.checkpoint import Checkpoint, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.start import first_model
from edgetl_runtime.bundle import sign_bundle
from edgetl_runtime.errors import BundleError, EdgetlError, InputError
from edgetl_runtime.keys import read_private_key, write_key_pair
from edgetl_runtime.spec import ClassifyHead, DetectHead, Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
DETECT = DetectHead(labels=("car", "person", "bus"), max_detections=5, thresholds=(0.3,) * 3, stride=4)
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3)


def subject(*heads: DetectHead | ClassifyHead) -> Subject:
    return Subject(lambda frame: {}, heads, PREPROCESS, "torch", "fp32")


def boxes(classes: tuple[str, ...], labels: list[int]) -> Dataset:
    n = len(labels)
    sample = Sample(Path("a.png"), np.zeros((n, 4), np.float32), np.array(labels, np.int64), np.zeros(n, np.bool_), "a")
    return Dataset("d", classes, (sample,))


@pytest.mark.parametrize(
    ("classes", "labels", "aligned"),
    [
        (("car", "person", "bus"), [0, 1, 2], [0, 1, 2]),
        (("bus", "car", "person"), [0, 1, 2, 0], [2, 0, 1, 2]),
        (("person",), [0, 0], [1, 1]),
        (("bus", "car"), [], []),
    ],
)
def test_classes_are_brought_into_the_networks_order(
    classes: tuple[str, ...], labels: list[int], aligned: list[int]
) -> None:
    found = subject(DETECT).align(boxes(classes, labels))
    assert found.classes == DETECT.labels and found.samples[0].labels.tolist() == aligned


def test_a_class_that_the_network_does_not_know() -> None:
    with pytest.raises(InputError, match=r"doesn't know: tram; .*car, person, bus"):
        subject(DETECT).align(boxes(("car", "tram"), [0, 1]))


def test_nothing_to_align() -> None:
    bare = Dataset("d", (), (), ("day",))
    assert subject(DETECT).align(bare) is bare
    other = boxes(("tram",), [0])
    assert subject(ClassifyHead(labels=("a", "b"), thresholds=(0.0, 0.0))).align(other) is other


@pytest.fixture
def run(scenes: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = TuneConfig(tasks=("detect", "segment"), backbone="resnet18", weights="none", size_hw=(64, 96))
    config = msgspec.structs.replace(config, crop_hw=(64, 96))
    card, model, _ = first_model(read_dataset(scenes, "train"), config, str(scenes))
    card = dataclasses.replace(card, heads=(msgspec.structs.replace(card.heads[0], temperature=2.0), card.heads[1]))
    save_checkpoint(tmp_path / "best.pt", Checkpoint(card, model.state_dict()))
    return tmp_path


def test_a_run_directory_and_its_file_are_the_same_subject(run: Path, scenes: Path) -> None:
    frames = Frames(read_dataset(scenes, "val"), PREPROCESS)
    found = []
    for path in (run, run / "best.pt"):
        with open_subject(path) as opened:
            assert (opened.engine, opened.variant) == ("torch", "fp32")
            assert [h.name for h in opened.heads] == ["detect", "ground"]
            found.append(opened.infer(frames.images[0]))
    assert set(found[0]) == {"boxes", "scores", "classes", "mask_ground", "embedding"}
    assert all(np.array_equal(found[0][k], found[1][k]) for k in found[0])


def test_a_bundle_is_opened_on_the_engine_asked_for(tmp_path: Path) -> None:
    bundle = write_test_bundle(tmp_path / "b", heads=HEADS)
    with open_subject(bundle, engine="onnxruntime") as opened:
        assert opened.engine == "onnxruntime" and opened.heads == HEADS
        frame = np.zeros((1, *opened.preprocess.size_hw, 3), np.uint8)
        assert set(opened.infer(frame)) >= {name for h in HEADS for name in h.outputs}
    with pytest.raises(EdgetlError, match="tensorrt"), open_subject(bundle, engine="tensorrt"):
        pass


def test_a_bundle_whose_signature_is_required(tmp_path: Path) -> None:
    bundle = write_test_bundle(tmp_path / "b", heads=HEADS)
    private, public, _ = write_key_pair(tmp_path / "k")
    with pytest.raises(BundleError, match="is not signed"), open_subject(bundle, require_signature=public):
        pass
    sign_bundle(bundle, read_private_key(private))
    with open_subject(bundle, require_signature=public) as opened:
        assert opened.heads == HEADS


@pytest.mark.parametrize("name", ["", "best.pt"])
@pytest.mark.parametrize("required", [True, "k.pub"])
def test_a_checkpoint_can_not_be_signed(run: Path, tmp_path: Path, name: str, required: bool | str) -> None:
    if isinstance(required, str):
        required = str(write_key_pair(tmp_path / "k")[1])
    with pytest.raises(BundleError, match=r"so it is no bundle|a bundle is a folder"):
        open_subject(run / name, require_signature=required).__enter__()


def test_neither_a_checkpoint_nor_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"), open_subject(tmp_path):
        pass
    with pytest.raises(EdgetlError), open_subject(tmp_path, engine="onnxruntime"):
        pass
