"""The soak in short: 6,000 frames with every fault at least once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from runtime_support import write_test_bundle

sys.path.insert(0, str(Path(__file__).parent))

from soak import soak

pytestmark = pytest.mark.slow


def test_every_fault_is_seen_and_over_and_all_adds_up(tmp_path: Path) -> None:
    found = soak(write_test_bundle(tmp_path / "b"), 6000, 250.0)
    assert found["wrong"] == []
    assert all(row["injected"] >= 1 for row in found["faults"].values())
    assert found["processed"] > 2400
