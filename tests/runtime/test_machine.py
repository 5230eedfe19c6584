"""What /proc says of the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl_runtime.machine import saturates_int8


@pytest.mark.parametrize(
    ("flags", "saturates"),
    [
        ("flags\t\t: fpu sse4_2 avx avx2 fma", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw", True),
        ("flags\t\t: fpu avx2 avx_vnni", False),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
        ("flags\t\t: fpu avx2 amx_int8", False),
        ("flags\t\t: fpu sse4_2", False),
        ("Features\t: fp asimd asimddp", False),
    ],
)
def test_int8_saturates_on_x86_without_vnni(flags: str, saturates: bool, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nmodel name\t: some\n{flags}\n", encoding="utf-8")
    assert saturates_int8(tmp_path) == saturates


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert not saturates_int8(tmp_path)
