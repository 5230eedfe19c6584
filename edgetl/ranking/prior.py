"""Published ImageNet accuracy of networks that fit an edge computer: a weak prior on how well they transfer.

Better ImageNet networks transfer better on average (Kornblith et al., arXiv:1805.08974); on data far from ImageNet,
and for boxes and masks, far less so. It therefore has a small weight, and only networks that both have a figure are
compared by it.

Source of every figure: the results that timm publishes, results/results-imagenet.csv of
https://github.com/huggingface/pytorch-image-models at commit 7479d451a6dfd8af27f941b8e82a7402461fae80, the row of this
name and tag at this test size (of several sizes the one nearest 224 pixels).
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "timm results-imagenet.csv at 7479d45"


@dataclass(frozen=True, slots=True)
class Published:
    """top1: per cent on ImageNet-1k's validation images. size: side of the test images in pixels."""

    tag: str
    size: int
    top1: float


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "convnext_atto": (Published("d2_in1k", 224, 75.668),),
    "convnext_femto": (Published("d1_in1k", 224, 77.508),),
    "convnext_pico": (Published("d1_in1k", 224, 79.516),),
    "convnext_nano": (Published("in12k_ft_in1k", 224, 82.306), Published("d1h_in1k", 224, 80.762)),
    "densenet121": (Published("ra_in1k", 224, 75.576), Published("tv_in1k", 224, 74.748)),
    "dla34": (Published("in1k", 224, 74.632),),
    "edgenext_x_small": (Published("in1k", 256, 74.880),),
    "efficientnet_b0": (Published("ra_in1k", 224, 77.696), Published("ra4_e3600_r224_in1k", 224, 78.572)),
    "efficientnet_lite0": (Published("ra_in1k", 224, 75.490),),
    "fbnetc_100": (Published("rmsp_in1k", 224, 75.114),),
    "ghostnet_100": (Published("in1k", 224, 73.960),),
    "ghostnetv2_100": (Published("in1k", 224, 75.176),),
    "hardcorenas_a": (Published("miil_green_in1k", 224, 75.926),),
    "inception_v3": (Published("tv_in1k", 299, 77.474), Published("tf_in1k", 299, 77.866)),
    "lcnet_100": (Published("ra2_in1k", 224, 72.128),),
    "mnasnet_100": (Published("rmsp_in1k", 224, 74.662),),
    "mobilenetv1_100": (Published("ra4_e3600_r224_in1k", 224, 75.384),),
    "mobilenetv2_050": (Published("lamb_in1k", 224, 65.930),),
    "mobilenetv2_100": (Published("ra_in1k", 224, 72.936),),
    "mobilenetv2_140": (Published("ra_in1k", 224, 76.528),),
    "mobilenetv3_large_100": (Published("ra_in1k", 224, 75.786), Published("miil_in21k_ft_in1k", 224, 77.910)),
    "mobilenetv3_small_100": (Published("lamb_in1k", 224, 67.638),),
    "mobilenetv4_conv_medium": (Published("e500_r256_in1k", 256, 79.922), Published("e500_r224_in1k", 224, 79.092)),
    "mobilenetv4_conv_small": (Published("e2400_r224_in1k", 224, 73.730), Published("e1200_r224_in1k", 224, 73.436)),
    "mobileone_s0": (Published("apple_in1k", 224, 71.398),),
    "mobileone_s1": (Published("apple_in1k", 224, 75.774),),
    "regnetx_002": (Published("pycls_in1k", 224, 68.760),),
    "regnetx_004": (Published("pycls_in1k", 224, 72.432),),
    "regnetx_008": (Published("tv2_in1k", 224, 77.288), Published("pycls_in1k", 224, 75.062)),
    "regnety_002": (Published("pycls_in1k", 224, 70.294),),
    "regnety_004": (Published("tv2_in1k", 224, 75.588), Published("pycls_in1k", 224, 74.006)),
    "regnety_008": (Published("pycls_in1k", 224, 76.334),),
    "regnety_016": (Published("tv2_in1k", 224, 80.696), Published("pycls_in1k", 224, 77.908)),
    "repghostnet_100": (Published("in1k", 224, 74.200),),
    "repvgg_a0": (Published("rvgg_in1k", 224, 72.424),),
    "repvit_m0_9": (Published("dist_300e_in1k", 224, 78.654), Published("dist_450e_in1k", 224, 79.058)),
    "repvit_m1": (Published("dist_in1k", 224, 78.542),),
    "repvit_m1_0": (Published("dist_300e_in1k", 224, 80.152), Published("dist_450e_in1k", 224, 80.446)),
    "repvit_m1_1": (Published("dist_300e_in1k", 224, 80.826), Published("dist_450e_in1k", 224, 81.302)),
    "resnet18": (Published("a1_in1k", 224, 71.488), Published("tv_in1k", 224, 69.752)),
    "resnet26": (Published("bt_in1k", 224, 75.292),),
    "resnet34": (Published("a1_in1k", 224, 76.414), Published("tv_in1k", 224, 73.298)),
    "resnet50": (
        Published("a1_in1k", 224, 80.382),
        Published("tv2_in1k", 224, 80.844),
        Published("tv_in1k", 224, 76.156),
    ),
    "rexnet_100": (Published("nav_in1k", 224, 77.846),),
    "semnasnet_100": (Published("rmsp_in1k", 224, 75.464),),
    "tf_efficientnet_lite0": (Published("in1k", 224, 74.846),),
    "tf_efficientnet_lite1": (Published("in1k", 240, 76.672),),
    "tf_efficientnet_lite2": (Published("in1k", 260, 77.472),),
    "tf_efficientnet_lite3": (Published("in1k", 300, 79.832),),
    "tf_efficientnet_lite4": (Published("in1k", 380, 81.546),),
    "vgg16": (Published("tv_in1k", 224, 71.600),),
    "vgg16_bn": (Published("tv_in1k", 224, 73.356),),
}
"""By timm's name of the network; of several, the first is the tag that timm loads by default."""


def published(backbone: str, weights: str) -> Published | None:
    """The figure for these weights, None where there is none.

    weights: `package` and `hub` mean the default tag, `hub:TAG` or a backbone `name.tag` that tag; random weights and
    files have no published figure.
    """
    name, _, tag = backbone.partition(".")
    kind, _, hub_tag = weights.partition(":")
    if kind not in {"package", "hub"}:
        return None
    known = PUBLISHED.get(name, ())
    wanted = hub_tag or tag
    return next((p for p in known if not wanted or p.tag == wanted), None)
