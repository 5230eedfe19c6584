"""Statistics of another domain: a network whose input was scaled and shifted sees as before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from edgetl.adapt.renormalise import Moments, output_moments, renormalise
from edgetl.data import Dataset, MaskLayer
from edgetl.heads import heads_for, kinds_of, network_of
from edgetl.models.backbone import Backbone, build_backbone
from edgetl.models.fold import fold_batch_norms
from edgetl.models.network import Network

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Dataset("d", ("car",), (), ("day", "night"), (MaskLayer("ground", ("other", "road")),))
EXAMPLE = torch.zeros(1, 3, 64, 96)


def settled(batches: list[Tensor]) -> Network:
    """ResNet18 with heads whose norms have seen these batches, as after training.

    Its convolutions are padded by what lies on the other side: zeros would not be shifted with the frame, and no
    statistics could make up for that.
    """
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", "none")
    network = network_of(backbone, kinds_of(heads_for(DATA, ("detect", "segment", "classify")), DATA))
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
        if isinstance(norm, nn.Conv2d):
            norm.padding_mode = "circular"
    network.train()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    return network.eval()


def folded(network: Network) -> Network:
    changed = copy.deepcopy(network)
    changed.backbone = fold_batch_norms(network.backbone)
    assert isinstance(changed.backbone, nn.Module) and "bn1" not in [
        n for n, m in changed.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)
    ]
    return changed


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = [torch.randn(5, 3, 8, 12, generator=generator) for _ in range(3)]
    return [nn.functional.interpolate(c, size=(64, 96), mode="bilinear") for c in coarse]


@pytest.fixture(scope="module")
def network(batches: list[Tensor]) -> Network:
    return settled(batches)


def other_light(batch: Tensor) -> Tensor:
    """Less contrast and another tint."""
    return batch * 0.7 + torch.tensor([0.8, -0.5, 0.4])[:, None, None]


def off(one: Network, two: Network, x: Tensor, y: Tensor) -> float:
    """How far apart the logits of the masks are, as a share of how much they vary."""
    with torch.inference_mode():
        a, b = one(x).heads["ground"], two(y).heads["ground"]
    return float((a - b).abs().mean() / a.std())


@pytest.mark.parametrize("form", ["with norms", "folded"])
def test_a_shifted_domain_is_brought_back(network: Network, batches: list[Tensor], form: str) -> None:
    original = network if form == "with norms" else folded(network)
    shifted = [other_light(b) for b in batches]
    old = output_moments(original, batches)
    new = output_moments(original, shifted, old)
    changed = copy.deepcopy(original)
    renormalise(changed, old, new, 1.0, EXAMPLE)
    before, after = off(original, original, batches[0], shifted[0]), off(original, changed, batches[0], shifted[0])
    assert before > 0.25, "the shift would not have mattered"
    assert after < 0.2 * before
    assert set(changed.state_dict()) == set(original.state_dict()), "a checkpoint must still fit"
    if form == "folded":
        plain_new = output_moments(network, shifted, output_moments(network, batches))
        plain = copy.deepcopy(network)
        renormalise(plain, output_moments(network, batches), plain_new, 1.0, EXAMPLE)
        assert off(plain, changed, shifted[0], shifted[0]) < 0.02, "folded or not, the same network"


def test_no_share_and_no_shift_change_nothing(network: Network, batches: list[Tensor]) -> None:
    old = output_moments(network, batches)
    for new, share in ((output_moments(network, [other_light(b) for b in batches], old), 0.0), (old, 1.0)):
        changed = copy.deepcopy(network)
        renormalise(changed, old, new, share, EXAMPLE)
        assert off(network, changed, batches[0], batches[0]) < 1e-3


def test_more_share_comes_nearer(network: Network, batches: list[Tensor]) -> None:
    shifted = [other_light(b) for b in batches]
    old = output_moments(network, batches)
    new = output_moments(network, shifted, old)
    found = []
    for share in (0.0, 0.5, 1.0):
        changed = copy.deepcopy(network)
        renormalise(changed, old, new, share, EXAMPLE)
        found.append(off(network, changed, batches[0], shifted[0]))
    assert found[0] > found[1] > found[2]


def test_moments_of_batches_are_those_of_all_cells() -> None:
    parts = [torch.randn(n, 3, 4, 5) * 2 + 1 for n in (1, 5, 2)]
    moments = Moments(torch.zeros(3), torch.zeros(3))
    for part in parts:
        moments.add(part)
    cells = torch.cat(parts).transpose(0, 1).flatten(1)
    torch.testing.assert_close(moments.mean, cells.mean(1))
    torch.testing.assert_close(moments.deviation, cells.std(1, correction=0), rtol=1e-4, atol=1e-5)
    assert moments.weight == cells.shape[1]


def test_channels_that_never_vary_are_not_blown_up() -> None:
    conv = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))
        conv.bias.zero_()  # type: ignore[union-attr]
    batches, far = [torch.randn(4, 1, 6, 6)], [torch.randn(4, 1, 6, 6) * 100]
    old = output_moments(conv, batches)
    renormalise(conv, old, output_moments(conv, far, old), 1.0, torch.zeros(1, 1, 6, 6))
    assert conv.weight.flatten().tolist() == [pytest.approx(0.5), 0.0], "at most twice or half"


@pytest.mark.parametrize(("was", "now", "gain"), [(1, 100, 0.5), (1, 0.01, 2.0), (0, 1, 1.0), (1, 0, 1.0)])
def test_a_correction_stays_within_bounds(was: float, now: float, gain: float) -> None:
    """At most twice or half, and none where either domain shows no variation to go by."""
    conv = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.bias.zero_()  # type: ignore[union-attr]
    x = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    old = output_moments(conv, [x * was])
    renormalise(conv, old, output_moments(conv, [x * now], old), 1.0, torch.zeros(1, 1, 6, 6))
    assert conv.weight.item() == pytest.approx(gain)


def test_last_layers_of_heads_are_left_alone_and_those_before_are_not(network: Network, batches: list[Tensor]) -> None:
    """What a head says must move with the new domain; no norm ever held it."""
    found = set(output_moments(network, batches[:1]))
    assert not found & {"dense.detect.heat", "dense.detect.box", "dense.ground.logits"}
    assert any(n.startswith("dense.detect.shared.") for n in found) and any(n.startswith("neck.") for n in found)


def test_looking_leaves_no_hooks(network: Network, batches: list[Tensor]) -> None:
    output_moments(network, batches[:1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_the_backbone_record() -> None:
    assert isinstance(build_backbone("resnet18", "none"), Backbone)
