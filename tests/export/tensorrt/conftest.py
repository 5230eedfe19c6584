"""The graphs module as a fixture: the test folders are not packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def graphs() -> ModuleType:
    """tests/export/tensorrt/graphs.py."""
    path = Path(__file__).with_name("graphs.py")
    spec = importlib.util.spec_from_file_location("tensorrt_test_graphs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
