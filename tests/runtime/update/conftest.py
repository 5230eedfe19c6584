"""A fleet's keys and signed releases, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from update_support import Fleet


@pytest.fixture(scope="session")
def made_fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    Fleet(folder)
    return folder


@pytest.fixture
def fleet(made_fleet: Path, tmp_path: Path) -> Fleet:
    """Keys and bundles that a test may spoil."""
    shutil.copytree(made_fleet, tmp_path / "fleet")
    return Fleet(tmp_path / "fleet")
