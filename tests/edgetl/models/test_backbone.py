"""Backbones of many families: built, run, folded, deployed; what does not fit is refused in one line."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from edgetl.models.backbone import DEFAULT_BACKBONE, STRIDES, InputRange, build_backbone
from edgetl.models.fold import fold_batch_norms
from edgetl.models.reparameterise import branched, for_deployment
from edgetl_export.to_onnx import to_onnx
from edgetl_runtime import imports
from edgetl_runtime.errors import InputError

# Channels at strides 4 to 32, as the networks' papers have them.
FAMILIES = {
    "vgg16": (256, 512, 512, 512),
    "resnet18": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "inception_v3": (192, 288, 768, 2048),
    "mobilenetv2_100": (24, 32, 96, 320),
    "mobilenetv3_large_100": (24, 40, 112, 960),
    "mobilenetv4_conv_small": (32, 64, 96, 960),
    "tf_efficientnet_lite0": (24, 40, 112, 320),
    "efficientnet_b0": (24, 40, 112, 320),
    "convnext_atto": (40, 80, 160, 320),
    "repvit_m0_9": (48, 96, 192, 384),
    "regnety_002": (24, 56, 152, 368),
    "ghostnet_100": (24, 40, 80, 160),
}
TRIMS = {"inception_v3"}  # its convolutions without padding take cells off the sides
EXPORTED = ("repvit_m0_9",)
FULLY_FOLDED = sorted(set(FAMILIES) - {"vgg16", "convnext_atto", "repvit_m0_9"})


@pytest.mark.parametrize("name", ["dla34", "tresnet_m"])
def test_networks_whose_levels_timm_does_not_give_from_the_first_on(name: str) -> None:
    maps = build_backbone(name, "none").module.eval()(torch.zeros(1, 3, 64, 96))
    assert [(64 // m.shape[2], 96 // m.shape[3]) for m in maps] == [(s, s) for s in STRIDES]


def other_statistics(module: nn.Module) -> nn.Module:
    """Norms that do something: fresh ones pass on what they get, and any fold would look right."""
    generator = torch.Generator().manual_seed(7)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None
            assert m.running_var is not None
            m.running_mean.uniform_(-0.3, 0.3, generator=generator)
            m.running_var.uniform_(0.5, 2.0, generator=generator)
            with torch.no_grad():
                m.weight.uniform_(0.5, 1.5, generator=generator)
                m.bias.uniform_(-0.3, 0.3, generator=generator)
    return module


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_builds_runs_folds_and_deploys(name: str) -> None:
    backbone = build_backbone(name, "none")
    assert backbone.channels == FAMILIES[name]
    assert not backbone.folded
    module = other_statistics(backbone.module.eval())
    # 96x128 is small, 192x320 a real crop's shape, 100x132 no multiple of 32.
    for height, width in ((96, 128), (192, 320), (100, 132)):
        with torch.no_grad():
            maps = module(torch.randn(1, 3, height, width))
        assert [m.shape[1] for m in maps] == list(FAMILIES[name])
        for m, stride in zip(maps, STRIDES, strict=True):
            for cells, side in zip(m.shape[2:], (height, width), strict=True):
                if name in TRIMS:
                    assert side / stride - 5 <= cells <= side / stride
                else:
                    assert cells in {side // stride, -(-side // stride)}
    folded, deployed = fold_batch_norms(module), for_deployment(module)
    if name in FULLY_FOLDED:
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    x = torch.randn(2, 3, 128, 96)
    with torch.no_grad():
        for a, b, c in zip(module(x), folded(x), deployed(x), strict=True):
            scale = float(a.abs().max())
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * scale)
            torch.testing.assert_close(c, a, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("name", EXPORTED)
def test_what_deploys_exports_and_computes_the_same_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    export_and_compare(name, tmp_path / "x.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(EXPORTED)))
def test_the_other_families_export(name: str, tmp_path: Path) -> None:
    export_and_compare(name, tmp_path / "x.onnx")


def export_and_compare(name: str, path: Path) -> None:
    torch.manual_seed(0)  # whatever ran before
    module = for_deployment(other_statistics(build_backbone(name, "none").module))
    x = torch.randn(1, 3, 96, 160)
    specs = to_onnx(module, x, path, input_name="x", output_names=[f"s{s}" for s in STRIDES])
    assert tuple(s.shape[1] for s in specs) == FAMILIES[name]
    assert not branched(module)
    assert "BatchNormalization" not in {n.op_type for n in onnx.load(path).graph.node}
    session = imports.onnxruntime().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module(x)
    for a, b in zip(expected, session.run(None, {"x": x.numpy()}), strict=True):
        torch.testing.assert_close(torch.from_numpy(b), a, rtol=1e-3, atol=1e-4 * float(a.abs().max()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_network", "is not one of timm's"),
        ("vit_tiny_patch16_224", "features at strides [16]"),
        ("swin_tiny_patch4_window7_224", "can't take a frame"),
        ("mambaout_femto", "gives maps"),
        ("resnet18.no_such_tag", "no pretrained tag 'no_such_tag'"),
    ],
)
def test_networks_that_do_not_fit_are_refused_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        build_backbone(name, "none")
    assert reason in caught.value.message
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_input_range_is_that_of_the_weights() -> None:
    assert build_backbone(DEFAULT_BACKBONE, "none").input_range == InputRange((127.0,) * 3, (128.0,) * 3)
    half = build_backbone("inception_v3", "none").input_range
    assert half == InputRange((127.5,) * 3, (127.5,) * 3)
    imagenet = build_backbone("resnet18.a1_in1k", "none").input_range
    assert imagenet.mean == pytest.approx((123.675, 116.28, 103.53))
    assert imagenet.std == pytest.approx((58.395, 57.12, 57.375))


def test_building_leaves_a_network_that_still_learns() -> None:
    module = build_backbone("mobilenetv2_100", "none").module
    assert module.training
    sum(m.sum() for m in module(torch.randn(2, 3, 64, 96))).backward()
    assert all(p.grad is not None for p in module.parameters())


def test_what_is_folded_depends_on_the_architecture_only() -> None:
    """A checkpoint is loaded into a network with random weights: both must have the same tensors."""
    module = build_backbone("resnet18", "none").module
    fresh = fold_batch_norms(module).state_dict()
    taught = fold_batch_norms(other_statistics(module)).state_dict()
    assert list(fresh) == list(taught)
    folded = build_backbone("resnet18", "none", fold=True)
    assert folded.folded
    assert list(folded.module.state_dict()) == list(fresh)
