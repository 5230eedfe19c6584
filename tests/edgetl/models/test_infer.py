"""One run of a network, decoded in several ways."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from edgetl.data import Dataset, MaskLayer
from edgetl.heads import heads_for, kinds_of, network_of
from edgetl.models.backbone import build_backbone
from edgetl.models.deploy import Deployed, deployable
from edgetl.models.infer import RunOnce
from edgetl.models.network import Network
from edgetl_runtime.spec import Preprocess, SegmentHead

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Dataset("d", ("car", "person"), (), ("day", "night"), (MaskLayer("ground", ("other", "road")),))
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(120.0, 115.0, 100.0), std=(58.0, 57.0, 57.5))
HEADS = heads_for(DATA, ("detect", "segment", "classify"), max_detections=9)


class Counted:
    """How often a network was run."""

    def __init__(self, network: Network) -> None:
        self.runs = 0
        network.register_forward_hook(self._count)

    def _count(self, *args: object) -> None:
        self.runs += 1


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return deployable(network_of(build_backbone("resnet18", "none"), kinds_of(HEADS, DATA)))


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (1, 64, 96, 3), np.uint8)


def test_every_way_of_decoding_gives_the_bits_that_are_exported(network: Network) -> None:
    counted, frames = Counted(network), [frame(0), frame(1)]
    run = RunOnce(network, PREPROCESS, 1 << 30)
    assert not run.holds(frames)
    warm = tuple(h if isinstance(h, SegmentHead) else msgspec.structs.replace(h, temperature=0.7) for h in HEADS)
    found = {heads: [run.decoded(kinds_of(heads, DATA))(f) for f in frames] for heads in (HEADS, warm)}
    assert counted.runs == 2 and run.holds(frames) and not run.holds([*frames, frame(0)])
    for heads, rows in found.items():
        deployed = Deployed(network, kinds_of(heads, DATA), PREPROCESS).eval()
        for image, row in zip(frames, rows, strict=True):
            with torch.inference_mode():
                expected = dict(zip(deployed.outputs, deployed(torch.from_numpy(image)), strict=False))
            assert list(row) == [name for head in heads for name in head.outputs]
            assert all(np.array_equal(row[name], expected[name].numpy()) for name in row)
    assert not np.array_equal(found[HEADS][0]["scores"], found[warm][0]["scores"])


def test_what_is_more_than_may_be_kept_is_run_again(network: Network) -> None:
    counted, frames = Counted(network), [frame(0), frame(1)]
    one = 4 * (16 * 24 * (2 + 4 + 2) + 2)  # two heat maps, four of boxes, two of masks, two categories
    run = RunOnce(network, PREPROCESS, 2 * one - 1)
    infer = run.decoded(kinds_of(HEADS, DATA))
    first = [infer(f) for f in frames]
    assert run.holds(frames[:1]) and not run.holds(frames)
    again = [infer(f) for f in frames]
    assert counted.runs == 3
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first, again, strict=True) for name in a)
