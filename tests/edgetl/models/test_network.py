"""One backbone for many heads: shapes at awkward sizes, shared layers, and features that come from a cache."""

from __future__ import annotations

import pytest
import torch

from edgetl.data import Dataset, MaskLayer
from edgetl.heads import heads_for, kinds_of, network_of
from edgetl.models.backbone import Backbone, build_backbone
from edgetl.models.classifier import CategoryHead
from edgetl.models.neck import WIDTHS, Neck, resized
from edgetl.models.network import Network
from edgetl.models.segmenter import MaskHead, enlarged

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Dataset("d", ("car", "person"), (), ("day", "night"), (MaskLayer("ground", ("other", "road", "walk")),))
TASKS = ("detect", "segment", "classify")


def network(name: str, tasks: tuple[str, ...] = TASKS) -> Network:
    torch.manual_seed(0)
    return network_of(build_backbone(name, "none"), kinds_of(heads_for(DATA, tasks), DATA)).eval()


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "inception_v3"])
@pytest.mark.parametrize("size_hw", [(96, 128), (128, 160)])
def test_dense_heads_stand_at_stride_4_whatever_the_backbone(name: str, size_hw: tuple[int, int]) -> None:
    """Inception's unpadded convolutions give maps that are no quarter of the frame."""
    with torch.inference_mode():
        heads, embedding = network(name)(torch.zeros(1, 3, *size_hw))
    cells = (size_hw[0] // 4, size_hw[1] // 4)
    assert tuple(heads["detect"].heat.shape) == (1, 2, *cells) and tuple(heads["detect"].box.shape) == (1, 4, *cells)
    assert tuple(heads["ground"].shape) == (1, 3, *cells) and tuple(heads["classify"].shape) == (1, 2)
    assert embedding.ndim == 2


def test_the_embedding_is_the_mean_of_the_coarsest_features() -> None:
    net, x = network("resnet18"), torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        features = net.backbone(x)
        torch.testing.assert_close(net(x).embedding, features[-1].flatten(2).mean(2))


def test_heads_on_features_equal_the_whole_way() -> None:
    net, x = network("resnet18"), torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        whole, parts = net(x), net.heads_on(net.backbone(x), (64, 96))
    torch.testing.assert_close(whole.heads["ground"], parts.heads["ground"])
    torch.testing.assert_close(whole.heads["detect"].box, parts.heads["detect"].box)
    torch.testing.assert_close(whole.heads["classify"], parts.heads["classify"])


def test_the_backbone_runs_once_for_all_heads() -> None:
    net, calls = network("resnet18"), []
    net.backbone.register_forward_hook(lambda *a: calls.append("backbone"))
    assert net.neck is not None
    net.neck.register_forward_hook(lambda *a: calls.append("neck"))
    with torch.inference_mode():
        net(torch.zeros(1, 3, 64, 96))
    assert calls == ["backbone", "neck"]


def test_new_parts_are_all_but_the_backbone() -> None:
    net = network("resnet18")
    new = {id(p) for part in net.new_parts() for p in part.parameters()}
    old = {id(p) for p in net.backbone.parameters()}
    assert new and not new & old and new | old == {id(p) for p in net.parameters()}


def test_each_level_of_the_pyramid_is_heard() -> None:
    neck = Neck((8, 16, 24, 32)).eval()
    maps = [torch.randn(1, c, 32 // 2**i, 48 // 2**i, requires_grad=True) for i, c in enumerate((8, 16, 24, 32))]
    out = neck(maps)
    assert out.shape == (1, WIDTHS[0], 32, 48) and neck.out_channels == WIDTHS[0]
    out.sum().backward()
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)


@pytest.mark.parametrize("size_hw", [(4, 6), (8, 12), (9, 11), (4, 7), (3, 5)])
def test_resized_repeats_cells(size_hw: tuple[int, int]) -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    out = resized(x, size_hw)
    assert tuple(out.shape[2:]) == size_hw
    for row in range(size_hw[0]):
        for column in range(size_hw[1]):
            assert out[0, 0, row, column] == x[0, 0, row * 4 // size_hw[0], column * 6 // size_hw[1]]


def test_enlarged_keeps_values_between_their_neighbours() -> None:
    x = torch.randn(1, 2, 5, 7)
    assert enlarged(x, 4) is x
    for stride in (1, 2):
        out = enlarged(x, stride)
        assert tuple(out.shape[2:]) == (20 // stride, 28 // stride)
        assert out.max() <= x.max() and out.min() >= x.min()
    torch.testing.assert_close(enlarged(torch.full((1, 1, 3, 3), 2.5), 1), torch.full((1, 1, 12, 12), 2.5))


def test_new_heads_start_undecided() -> None:
    """A head that begins sure of itself spoils pretrained features in its first steps."""
    torch.manual_seed(0)
    dense = MaskHead(64, 4).eval()(torch.randn(2, 64, 8, 8))
    whole = CategoryHead(320, 5).eval()(torch.randn(2, 320))
    assert torch.softmax(dense, 1).max() < 0.5 and torch.softmax(whole, 1).max() < 0.5


def test_a_backbone_record_is_all_that_a_network_needs() -> None:
    backbone = build_backbone("resnet18", "none")
    assert isinstance(backbone, Backbone)
    assert network_of(backbone, ()).neck is None
