"""Every TensorRT name that edgetl uses exists in every TensorRT version that was looked at.

The table of names is made from the real bindings and is not part of the project: EDGETL_SHARED names the
folder that holds tensorrt/api_core_matrix.json; without it a folder `shared` beside the repository is tried.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from pathlib import Path

import pytest

from edgetl_runtime.engines import tensorrt as engine_module
from edgetl_runtime.tensorrt import compiler

CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "error": "ParserError",
    "cache": "ITimingCache",
    "_runtime": "Runtime",
    "inspector": "EngineInspector",
    "_engine": "ICudaEngine",
    "_context": "IExecutionContext",
}
"""The class of every variable, and of every attribute of self, that holds a TensorRT object."""
ENUMS = ("NetworkDefinitionCreationFlag", "ProfilingVerbosity", "MemoryPoolType")
NOT_IN_THE_TABLE = {("TensorIOMode", "INPUT"), ("LayerInformationFormat", "JSON")}
"""Members that the table leaves out; NVIDIA documents them since TensorRT 8.5, and the test below asks the real RTX."""
RTX_ONLY = {"num_compute_capabilities", "set_compute_capability"}
MONITOR = {"phase_start", "step_complete", "phase_finish"}
RTX = next((n for n in ("tensorrt_rtx", "tensorrt_rtx_bindings") if importlib.util.find_spec(n)), "")

Matrix = dict[str, dict[str, object]]
TREE = ast.parse(Path(compiler.__file__).read_text())
TREES = (TREE, ast.parse(Path(engine_module.__file__).read_text()))


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    root = Path(os.environ.get("EDGETL_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    path = root / "tensorrt" / "api_core_matrix.json"
    if not path.is_file():
        pytest.skip(f"no API table at {path}; name its folder with EDGETL_SHARED")
    table: Matrix = json.loads(path.read_text())
    return table


def used() -> set[tuple[str, str]]:
    """(class, attribute) for every attribute of a TensorRT object that the sources name."""
    found = set()
    for node in (node for tree in TREES for node in ast.walk(tree)):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        if name in CLASSES:
            found.add((CLASSES[name], node.attr))
        elif name in ENUMS or (name, node.attr) in NOT_IN_THE_TABLE:
            found.add((name, node.attr))
    return found


def of_the_module() -> set[str]:
    """Every name that the sources take from the TensorRT module itself."""
    names = set()
    for node in (node for tree in TREES for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if name in ("trt", "_trt"):
                names.add(node.attr)
    return names - {"__name__", "__version__"}


def test_the_sources_use_what_they_should() -> None:
    assert {
        ("Builder", "build_serialized_network"),
        ("OnnxParser", "supports_model_v2"),
        ("ITimingCache", "serialize"),
        ("INetworkDefinition", "get_flag"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "get_tensor_mode"),
        ("IExecutionContext", "execute_async_v3"),
        ("EngineInspector", "get_engine_information"),
        ("ProfilingVerbosity", "DETAILED"),
        *NOT_IN_THE_TABLE,
    } <= used()
    assert len(used()) > 30


@pytest.mark.skipif(not RTX, reason="TensorRT for RTX is not installed: pip install 'edgetl[rtx]'")
def test_the_real_library_has_every_name() -> None:
    trt = importlib.import_module(RTX)
    assert [name for name in sorted(of_the_module()) if not hasattr(trt, name)] == []
    assert [f"{c}.{name}" for c, name in sorted(used()) if not hasattr(getattr(trt, c), name)] == []


def test_every_name_is_common_to_all_versions(matrix: Matrix) -> None:
    missing = [
        f"{cls}.{name}"
        for cls, name in sorted(used())
        if name not in RTX_ONLY and (cls, name) not in NOT_IN_THE_TABLE and name not in str_list(matrix[cls]["common"])
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
    everywhere = [
        n.attr for tree in TREES for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in RTX_ONLY
    ]
    assert inside >= RTX_ONLY and len(everywhere) == len(RTX_ONLY)
    differs = matrix["IBuilderConfig"]["differs"]
    assert isinstance(differs, dict)
    for name in RTX_ONLY:
        assert differs[name]["rtx1.7"] == "x"


def str_list(value: object) -> list[str]:
    """A list of strings out of the table."""
    assert isinstance(value, list)
    return [str(item) for item in value]
