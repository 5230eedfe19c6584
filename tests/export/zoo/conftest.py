"""The zoo's files, each written once in a session, and a table of what became of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

COLUMNS = ("network", "export s", "lint s", "parse s", "build s", "engine MB", "findings")
"""Names of the properties that a test of a network records."""


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """tests/export/zoo/networks.py: the test folders are not packages."""
    spec = importlib.util.spec_from_file_location("zoo_networks", Path(__file__).with_name("networks.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def exported(networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A network's ONNX file by its name."""
    import torch

    folder = tmp_path_factory.mktemp("zoo")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def export(name: str) -> Path:
        path = folder / f"{name}.onnx"
        return path if path.is_file() else networks.export(name, path)

    yield export
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each network that was built."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.stats.get(outcome, [])]
    rows = [dict(r.user_properties) for r in reports]
    rows = sorted((row for row in rows if set(COLUMNS) <= row.keys()), key=lambda row: str(row["network"]))
    if not rows:
        return
    terminalreporter.section("zoo: one build for SM80, SM86, SM89, SM120 and SM121 together")
    terminalreporter.write_line(f"{COLUMNS[0]:<22}" + "".join(f"{c:>10}" for c in COLUMNS[1:-1]) + f"  {COLUMNS[-1]}")
    for row in rows:
        numbers = "".join(f"{row[c]:>10.1f}" for c in COLUMNS[1:-1])
        terminalreporter.write_line(f"{row['network']:<22}{numbers}  {row['findings']}")
