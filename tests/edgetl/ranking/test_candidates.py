"""How candidates are named, and which are there without a download."""

from __future__ import annotations

import pytest

from edgetl.ranking.candidates import Candidate, here, parse_candidates
from edgetl_runtime.errors import InputError


def test_own_weights_win_over_the_common_ones() -> None:
    found = parse_candidates(["resnet18:none", "vgg16", "resnet18:hub:tv_in1k"], "package")
    assert found == (
        Candidate("resnet18", "none"), Candidate("vgg16", "package"), Candidate("resnet18", "hub:tv_in1k")
    )  # fmt: skip
    assert [c.name for c in found] == ["resnet18:none", "vgg16:package", "resnet18:hub:tv_in1k"]


def test_auto_takes_the_package_where_one_is_installed() -> None:
    found = parse_candidates(["tf_efficientnet_lite0", "resnet18"], "auto")
    assert [c.weights for c in found] == ["package", "hub"]


def test_the_same_twice_and_none_at_all() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_candidates(["resnet18", "resnet18:hub"], "auto")
    with pytest.raises(InputError, match="no candidate"):
        parse_candidates([], "auto")


def test_what_is_here_needs_no_download(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    assert Candidate("tf_efficientnet_lite0", "package") in here()
    import huggingface_hub.constants

    snapshot = tmp_path / "models--timm--resnet18.a1_in1k"
    (snapshot / "snapshots" / "abc").mkdir(parents=True)
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text("abc")
    (snapshot / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert Candidate("resnet18", "hub") in here()
    assert Candidate("vgg16", "hub") not in here()
