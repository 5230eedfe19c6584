"""Published figures stand for the weights that they were measured with."""

from __future__ import annotations

import pytest

from edgetl.ranking.prior import PUBLISHED, published


def test_every_network_and_tag_is_one_of_timms_and_the_first_is_its_default() -> None:
    import timm

    for name, figures in PUBLISHED.items():
        assert timm.get_pretrained_cfg(name).tag == figures[0].tag, name
        tags = {m.partition(".")[2] for m in timm.list_pretrained(f"{name}.*")}
        assert {f.tag for f in figures} <= tags, name
        assert all(50 < f.top1 < 90 and 160 <= f.size <= 384 for f in figures), name


@pytest.mark.parametrize(
    ("backbone", "weights", "top1"),
    [
        ("resnet18", "hub", 71.488),
        ("resnet18", "hub:tv_in1k", 69.752),
        ("resnet18.tv_in1k", "hub", 69.752),
        ("tf_efficientnet_lite0", "package", 74.846),
        ("resnet18", "none", None),
        ("resnet18", "my/weights.pt", None),
        ("resnet18", "hub:no_such", None),
        ("vit_tiny_patch16_224", "hub", None),
    ],
)
def test_published(backbone: str, weights: str, top1: float | None) -> None:
    found = published(backbone, weights)
    assert (found.top1 if found else None) == top1
