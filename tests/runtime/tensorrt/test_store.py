"""Records beside engines that were damaged: there is none then, and the engine is built again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl_runtime.tensorrt.protocol import decode
from edgetl_runtime.tensorrt.store import EngineStore

DAMAGED = (
    b"",
    b"\xff",
    b'{"variant": "\xff"}',
    b'{"type": "log", "severity": "\xff", "text": ""}',
    b"[" * 100_000,
    b"[]",
)


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_record_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "fp32.json").write_bytes(data)
    (tmp_path / "chosen.json").write_bytes(data)
    store = EngineStore(tmp_path)
    assert store.record("fp32") is None
    assert store.fastest() is None


@pytest.mark.parametrize("line", DAMAGED)
def test_a_line_that_is_no_event_is_none(line: bytes) -> None:
    assert decode(line) is None
