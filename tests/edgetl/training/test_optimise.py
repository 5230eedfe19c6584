"""Rates, blocks and statistics: who learns how fast, and who not at all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgetl.data import Dataset, MaskLayer
from edgetl.heads import heads_for, kinds_of, network_of
from edgetl.models.backbone import STRIDES, build_backbone
from edgetl.models.network import Network
from edgetl.training.config import TuneConfig
from edgetl.training.optimise import blocks_of, freeze_statistics, parameter_groups, rate_at, set_rate, train_only

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Dataset("d", ("car",), (), ("day", "night"), (MaskLayer("ground", ("other", "road")),))
CONFIG = TuneConfig(head_lr=1e-2, backbone_lr=1e-3, depth_decay=0.5, weight_decay=0.1)


@pytest.fixture(scope="module")
def model() -> Network:
    kinds = kinds_of(heads_for(DATA, ("detect", "segment", "classify")), DATA)
    return network_of(build_backbone("resnet18", "none"), kinds)


def test_every_parameter_has_one_rate(model: Network) -> None:
    groups = parameter_groups(model, CONFIG, transfer=True)
    members = [id(p) for g in groups for p in g["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters())


def test_rates_fall_towards_the_input_and_norms_are_not_decayed(model: Network) -> None:
    groups = parameter_groups(model, CONFIG, transfer=True)
    rate = {id(p): (g["base_lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for part in model.new_parts():
        assert {rate[id(p)][0] for p in part.parameters()} == {1e-2}
    backbone = [rate[id(p)][0] for p in model.backbone.parameters()]
    assert backbone == sorted(backbone) and backbone[-1] == pytest.approx(1e-3)
    assert backbone[0] == pytest.approx(1e-3 * 0.5 ** (4 * 7 / 8)), "the first eighth lies 3.5 quarters earlier"
    assert len(set(backbone)) == 8
    for p in model.parameters():
        assert rate[id(p)][1] == (0.1 if p.ndim > 1 else 0.0)


def test_without_transfer_all_learn_alike(model: Network) -> None:
    assert {g["base_lr"] for g in parameter_groups(model, CONFIG, transfer=False)} == {1e-2}


def test_the_schedule_warms_up_and_falls_to_two_percent() -> None:
    rates = [rate_at(s, 100, warmup=10) for s in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == pytest.approx(1) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(55, 100, warmup=10) == pytest.approx(0.02 + 0.98 * 0.5)
    assert rate_at(100, 100, warmup=10) == rate_at(500, 100, warmup=10) == pytest.approx(0.02)
    assert all(0 < rate_at(s, 1, warmup=1) <= 1 for s in range(3)), "one step is enough"


def test_the_share_is_of_the_base_rate() -> None:
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimiser = torch.optim.SGD(
        [{"params": [w], "lr": r, "base_lr": r} for w, r in zip(weights, (1.0, 0.1), strict=True)]
    )
    for share in (0.5, 0.5, 1.0):
        set_rate(optimiser, share)
    assert [g["lr"] for g in optimiser.param_groups] == [1.0, 0.1]


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "inception_v3"])
def test_blocks_share_out_all_that_leads_to_features(name: str) -> None:
    module = build_backbone(name, "none").module.eval()
    next(iter(module.parameters())).requires_grad_(False)
    blocks = blocks_of(module)
    assert tuple(blocks) == STRIDES and all(blocks[s] for s in STRIDES)
    found = [id(p) for members in blocks.values() for p in members]
    assert len(found) == len(set(found))
    parameters = [id(p) for p in module.parameters()]
    assert [parameters.index(i) for i in found if i in parameters] == sorted(parameters.index(i) for i in found)
    assert not next(iter(module.parameters())).requires_grad, "asked only to look"
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("strides", [(), (32,), (4, 16), STRIDES])
def test_only_the_blocks_asked_for_learn(strides: tuple[int, ...]) -> None:
    module = build_backbone("resnet18", "none").module.eval()
    train_only(module, strides)
    layers = {4: ("conv1", "bn1", "layer1"), 8: ("layer2",), 16: ("layer3",), 32: ("layer4",)}
    wanted = {name for s in strides for name in layers[s]}
    assert {n.split(".")[0] for n, p in module.named_parameters() if p.requires_grad} == wanted


def test_frozen_statistics_stay_and_weights_still_learn() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    freeze_statistics(module.modules())
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    module(torch.randn(8, 3, 4, 4) * 9 + 5).sum().backward()
    assert norm.running_mean is not None and (norm.running_mean == 0).all()
    assert norm.weight.grad is not None and module[2].training


def test_learnt_statistics_are_those_of_norms_that_learn() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).train()
    module[0].requires_grad_(False)
    freeze_statistics(module.modules(), learnt=True)
    assert [m.training for m in module] == [False, True]
    freeze_statistics(module.modules())
    assert [m.training for m in module] == [False, False]


def test_a_rate_is_never_above_its_base() -> None:
    for steps, warmup in ((1, 1), (7, 3), (50, 60)):
        rates = [rate_at(s, steps, warmup=warmup) for s in range(steps)]
        assert all(0 < r <= 1 and math.isfinite(r) for r in rates)
