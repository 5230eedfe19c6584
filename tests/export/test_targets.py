"""The target table: complete, consistent, and honest about what is not known."""

from __future__ import annotations

import pytest

from edgetl_export.targets import TARGETS, Target, get_target
from edgetl_runtime.errors import InputError

RTX_COMPILES_FOR = {"SM75", "SM80", "SM86", "SM89", "SM120", "SM121"}


def test_every_promised_target_is_there() -> None:
    assert list(TARGETS) == ["cpu", "rtx", "orin-nano", "orin-nx", "agx-orin", "thor", "drive-orin", "drive-thor"]


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"no target 'xavier'.*cpu, rtx, orin-nano"):
        get_target("xavier")


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_row_holds_together(target: Target) -> None:
    assert target.name and target.summary and target.precisions
    assert set(target.compile_for) <= RTX_COMPILES_FOR
    assert bool(target.compile_for) == (target.compiler != "none")
    assert target.compile_is_proxy == (target.compiler == "tensorrt")
    assert target.built_on_host == (target.compiler != "tensorrt")
    assert target.unknown, "no host knows everything about a target"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_device_is_compiled_for_the_nearest_gpu_only_as_a_proxy(target: Target) -> None:
    if target.sm is not None:
        assert target.compile_for == {87: ("SM86",), 110: ("SM120",)}[target.sm]
        assert f"SM{target.sm}" not in target.compile_for


def test_tensorrt_8_has_no_strongly_typed_networks() -> None:
    for target in TARGETS.values():
        versions = [release.tensorrt for release in target.releases if release.tensorrt]
        if any(version.startswith("8.") for version in versions):
            assert target.strongly_typed == "no"
            assert "bf16" not in target.precisions
