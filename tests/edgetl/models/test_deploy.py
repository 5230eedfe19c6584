"""What ships: names and shapes of the outputs of every head, and the same answers as the torch reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgetl.data import Dataset, MaskLayer
from edgetl.heads import heads_for, kinds_of, network_of
from edgetl.models.backbone import build_backbone
from edgetl.models.deploy import INPUT, Deployed
from edgetl.models.infer import TorchInfer
from edgetl_runtime.decode import decode
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.spec import EMBEDDING, Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = (MaskLayer("ground", ("other", "road")), MaskLayer("light", ("off", "red", "green")))
DATA = Dataset("d", ("car", "person"), (), ("day", "night"), LAYERS)
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(120.0, 115.0, 100.0), std=(58.0, 57.0, 57.5))


@pytest.fixture(scope="module")
def parts() -> tuple[Deployed, TorchInfer]:
    torch.manual_seed(0)
    kinds = kinds_of(heads_for(DATA, ("detect", "segment", "classify"), max_detections=9), DATA)
    network = network_of(build_backbone("resnet18", "none"), kinds).eval()
    return Deployed(network, kinds, PREPROCESS).eval(), TorchInfer(network, kinds, PREPROCESS)


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (1, 64, 96, 3), np.uint8)


def test_names_and_shapes_are_those_of_the_heads(parts: tuple[Deployed, TorchInfer]) -> None:
    deployed, _ = parts
    assert INPUT == "frame"
    assert deployed.outputs == (
        "boxes", "scores", "classes", "mask_ground", "mask_light", "probabilities", EMBEDDING,
    )  # fmt: skip
    assert deployed.probes == ("heat", "box", "logits_ground", "logits_light", "logits")
    with torch.inference_mode():
        found = deployed(torch.from_numpy(frame(0)))
    shapes = [tuple(t.shape) for t in found]
    assert shapes == [
        (1, 9, 4), (1, 9), (1, 9), (1, 32, 48), (1, 32, 48), (1, 2), (1, 512),
        (1, 2, 16, 24), (1, 4, 16, 24), (1, 2, 16, 24), (1, 3, 16, 24), (1, 2),
    ]  # fmt: skip
    assert found[3].dtype == torch.uint8 and found[2].dtype == torch.int64
    assert found[5].sum().item() == pytest.approx(1)


def test_the_reference_says_the_same(parts: tuple[Deployed, TorchInfer]) -> None:
    deployed, infer = parts
    for seed in range(3):
        with torch.inference_mode():
            shipped = dict(zip(deployed.outputs, deployed(torch.from_numpy(frame(seed))), strict=False))
        found = infer(frame(seed))
        assert set(found) == set(deployed.outputs)
        for name, value in found.items():
            np.testing.assert_allclose(value, shipped[name].numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def test_other_frames_give_other_answers(parts: tuple[Deployed, TorchInfer]) -> None:
    _, infer = parts
    one, two = infer(frame(1)), infer(frame(2))
    assert any(not np.allclose(one[name], two[name]) for name in one)


def test_the_runtime_reads_every_output(parts: tuple[Deployed, TorchInfer]) -> None:
    """The contract of the heads is what decode expects."""
    deployed, infer = parts
    outputs, place = infer(frame(3)), geometry((90, 160), (64, 96))
    for kind in deployed.kinds:
        decode(outputs, kind.head, place)
