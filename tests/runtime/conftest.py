"""Fixtures of the runtime's tests; the helpers themselves are in runtime_support.py."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One valid bundle for tests that only read it."""
    from runtime_support import write_test_bundle

    return write_test_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bundle")


@pytest.fixture(scope="session")
def shared_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One valid bundle with boxes, a mask, a category and an embedding for tests that only read it."""
    from runtime_support import HEADS, write_test_bundle

    return write_test_bundle(tmp_path_factory.mktemp("bundle") / "many.bundle", heads=HEADS)


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    """A valid bundle that a test may spoil."""
    from runtime_support import write_test_bundle

    return write_test_bundle(tmp_path / "tiny.bundle")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short mp4 for tests that only read it."""
    from runtime_support import write_clip

    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")
