"""What documents name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
_NAMED = re.compile(r"\btests/[\w/]+\.py(?:::(\w+))?")


def missing(text: str) -> list[str]:
    """Every `tests/FILE.py` and `tests/FILE.py::NAME` that is not there."""
    return [found[0] for found in _NAMED.finditer(text) if not _exists(found[0])]


def _exists(reference: str) -> bool:
    file, _, name = reference.partition("::")
    path = REPOSITORY / file
    if not path.is_file():
        return False
    tests = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    return not name or name in tests


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_test_that_is_named_exists(document: Path) -> None:
    assert not missing(document.read_text(encoding="utf-8"))


def test_the_threat_model_names_tests() -> None:
    text = (REPOSITORY / "docs" / "threat-model.md").read_text(encoding="utf-8")
    assert sum("::" in found[0] for found in _NAMED.finditer(text)) > 50


def test_a_name_that_is_gone_is_found() -> None:
    assert missing("`tests/test_docs.py::test_gone`, `tests/gone.py`, `tests/test_docs.py`, `tests/gone/x.py::y`") == [
        "tests/test_docs.py::test_gone",
        "tests/gone.py",
        "tests/gone/x.py::y",
    ]
