"""Every TensorRT name that the worker uses exists in every TensorRT version that was looked at.

The table of names is made from the real bindings and is not part of the project: EDGETL_SHARED names the
folder that holds tensorrt/api_core_matrix.json; without it a folder `shared` beside the repository is tried.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

from edgetl_runtime.tensorrt import compiler

CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "error": "ParserError",
}
ENUMS = ("NetworkDefinitionCreationFlag", "ProfilingVerbosity", "MemoryPoolType")
RTX_ONLY = {"num_compute_capabilities", "set_compute_capability"}
MONITOR = {"phase_start", "step_complete", "phase_finish"}

Matrix = dict[str, dict[str, object]]
TREE = ast.parse(Path(compiler.__file__).read_text())


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    root = Path(os.environ.get("EDGETL_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    path = root / "tensorrt" / "api_core_matrix.json"
    if not path.is_file():
        pytest.skip(f"no API table at {path}; name its folder with EDGETL_SHARED")
    table: Matrix = json.loads(path.read_text())
    return table


def used() -> set[tuple[str, str]]:
    """(class, attribute) for every attribute of a TensorRT object that the worker's source names."""
    found = set()
    for node in ast.walk(TREE):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in CLASSES:
            found.add((CLASSES[node.value.id], node.attr))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr in ENUMS:
            found.add((node.value.attr, node.attr))
    return found


def test_the_worker_uses_what_it_should() -> None:
    assert {("Builder", "build_serialized_network"), ("OnnxParser", "supports_model_v2")} <= used()
    assert ("ProfilingVerbosity", "DETAILED") in used()
    assert len(used()) > 15


def test_every_name_is_common_to_all_versions(matrix: Matrix) -> None:
    missing = [
        f"{cls}.{name}"
        for cls, name in sorted(used())
        if name not in RTX_ONLY and name not in str_list(matrix[cls]["common"])
    ]
    assert missing == []


def test_the_monitor_overrides_methods_that_are_called(matrix: Matrix) -> None:
    assert set(str_list(matrix["IProgressMonitor"]["common"])) >= MONITOR
    defined = {node.name for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)}
    assert defined >= MONITOR


def test_names_that_only_rtx_has_stay_in_the_guarded_function(matrix: Matrix) -> None:
    guarded = next(n for n in TREE.body if isinstance(n, ast.FunctionDef) and n.name == "set_compute_capabilities")
    assert 'hasattr(trt, "ComputeCapability")' in ast.unparse(guarded).replace("'", '"')
    inside = {n.attr for n in ast.walk(guarded) if isinstance(n, ast.Attribute)}
    everywhere = [n.attr for n in ast.walk(TREE) if isinstance(n, ast.Attribute) and n.attr in RTX_ONLY]
    assert inside >= RTX_ONLY and len(everywhere) == len(RTX_ONLY)
    differs = matrix["IBuilderConfig"]["differs"]
    assert isinstance(differs, dict)
    for name in RTX_ONLY:
        assert differs[name]["rtx1.7"] == "x"


def str_list(value: object) -> list[str]:
    """A list of strings out of the table."""
    assert isinstance(value, list)
    return [str(item) for item in value]
