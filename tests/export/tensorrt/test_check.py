"""The host check on real graphs, with the real parser and builder where TensorRT for RTX is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgetl_export.tensorrt.check import CANNOT_TELL, HostCheck, check_onnx
from edgetl_runtime.errors import InputError
from edgetl_runtime.tensorrt.protocol import Progress

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None and importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed: pip install 'edgetl[rtx]'",
)


def codes(found: HostCheck) -> list[str]:
    """The codes of what was found."""
    return [check.code for check in found.diagnostics]


@needs_rtx
@pytest.mark.parametrize(
    ("target", "deployable"), [("rtx", True), ("orin-nano", False), ("thor", False), ("drive-orin", False)]
)
def test_a_good_network_compiles(graphs: ModuleType, tmp_path: Path, target: str, deployable: bool) -> None:
    seen: list[Progress] = []
    engine = tmp_path / "model.engine"
    model = graphs.camera_net(tmp_path / "a.onnx", opset=17)
    found = check_onnx(model, target=target, on_progress=seen.append, engine_path=engine)
    assert (found.ok, found.kind, found.deployable) == (True, "ok", deployable)
    assert found.library.startswith("tensorrt_rtx") and found.version
    assert found.seconds > 0 and found.engine_bytes and found.weights_bytes and found.activation_bytes is not None
    assert found.layer_precisions == {"fp32": 2}
    assert codes(found) == []
    assert seen and all(p.total > 0 for p in seen)
    assert engine.exists() == deployable and (found.engine == engine) == deployable
    if deployable:
        assert engine.stat().st_size == found.engine_bytes
    else:
        assert "check only" in found.note and ("trtexec" in found.note) == (target == "drive-orin")


@needs_rtx
def test_int8_kernels_are_seen_in_the_plan(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.quantised_net(tmp_path / "a.onnx"), target="agx-orin")
    assert found.ok and found.layer_precisions == {"int8": 1}


@needs_rtx
def test_a_transpose_on_the_camera_bytes_is_named_with_its_fix(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.camera_net(tmp_path / "a.onnx", cast_first=False), target="orin-nx")
    assert (found.ok, found.kind) == (False, "parse")
    assert codes(found) == ["uint8-read"]
    check = found.diagnostics[0]
    assert (check.op, check.node) == ("Transpose", "to_planes")
    assert "put Cast first" in check.advice and "UInt8" in check.advice


@needs_rtx
def test_asymmetric_quantisation_is_named(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.quantised_net(tmp_path / "a.onnx", zero_point=3), target="rtx")
    assert (found.ok, found.kind, codes(found)) == (False, "parse", ["asymmetric-quantisation"])
    assert found.diagnostics[0].node == "quantise"


@needs_rtx
@pytest.mark.parametrize(("target", "kind", "blind"), [("rtx", "build", False), ("agx-orin", "cannot-tell", True)])
def test_nms_fails_on_rtx_and_says_nothing_about_a_jetson(
    graphs: ModuleType, tmp_path: Path, target: str, kind: str, blind: bool
) -> None:
    found = check_onnx(graphs.nms_net(tmp_path / "a.onnx"), target=target)
    assert (found.ok, found.kind, codes(found)) == (False, kind, ["nms-not-in-rtx"])
    assert (found.diagnostics[0].op, found.diagnostics[0].node) == ("NonMaxSuppression", "nms")
    assert found.diagnostics[0].advice.startswith(CANNOT_TELL) == blind


@needs_rtx
def test_roi_align_needs_a_gpu_to_be_decided(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.roi_align_net(tmp_path / "a.onnx"), target="rtx")
    assert (found.kind, codes(found)) in [("cannot-tell", ["needs-gpu"]), ("ok", [])]


@needs_rtx
def test_an_operator_that_no_parser_knows_is_named(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.unsupported_net(tmp_path / "a.onnx"), target="thor")
    assert (found.kind, codes(found)) == ("parse", ["unsupported-op"])
    assert found.diagnostics[0].op == "Det"


@needs_rtx
def test_a_dynamic_batch_is_named(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.dynamic_net(tmp_path / "a.onnx"), target="thor")
    assert found.kind == "build" and "dynamic-shape" in codes(found)


@needs_rtx
def test_an_opset_above_the_ceiling_is_reported_and_does_not_stop(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.camera_net(tmp_path / "a.onnx", opset=20), target="drive-orin")
    assert found.ok and codes(found) == ["opset-above-ceiling"]


@pytest.mark.parametrize("content", [b"\x00\x01 this is no model" * 20, b"", b"\x08"])
def test_garbage_is_not_a_model(tmp_path: Path, content: bytes) -> None:
    model = tmp_path / "garbage.onnx"
    model.write_bytes(content)
    found = check_onnx(model, target="rtx")
    assert (found.ok, found.kind, found.verdict) == (False, "invalid-model", "rewrite")
    assert found.note.startswith("garbage.onnx is ") and str(tmp_path) not in found.note


def test_a_missing_library_is_said_and_the_file_is_still_read(graphs: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "without_rtx.py"
    script.write_text(
        "import sys\n"
        "sys.modules['tensorrt_rtx'] = sys.modules['tensorrt_rtx_bindings'] = None\n"
        "from edgetl_runtime.tensorrt.worker import main\nsys.exit(main())\n"
    )
    model = graphs.quantised_net(tmp_path / "a.onnx", zero_point=3)
    found = check_onnx(model, target="thor", worker=[sys.executable, str(script)])
    assert (found.ok, found.kind, found.deployable, found.verdict) == (False, "missing-package", False, "rewrite")
    assert "pip install 'edgetl[rtx]'" in found.note
    assert codes(found) == ["asymmetric-quantisation", "not-compiled-here"]
    assert "2 such nodes" in found.diagnostics[0].advice
    assert found.ops[0].op == "DequantizeLinear"


def test_the_cpu_is_not_compiled_with_tensorrt(graphs: ModuleType, tmp_path: Path) -> None:
    found = check_onnx(graphs.camera_net(tmp_path / "a.onnx"), target="cpu")
    assert (found.ok, found.kind) == (False, "not-applicable")


def test_wrong_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ONNX file"):
        check_onnx(tmp_path / "nothing.onnx", target="rtx")
    with pytest.raises(InputError, match="no target 'xavier'"):
        check_onnx(tmp_path / "nothing.onnx", target="xavier")
