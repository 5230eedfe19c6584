"""Engines: the same network gives the same numbers, and nothing other than what was asked for runs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from runtime_support import SIZE_HW, expected_outputs, tiny_model, write_test_bundle

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import ONNX_ENGINES, available_engines, choose, load_bundle_engine, load_engine
from edgetl_runtime.engines import openvino as openvino_engine
from edgetl_runtime.engines.openvino import last_line
from edgetl_runtime.errors import EngineError, MissingPackage, UnfitProcessor
from edgetl_runtime.golden import read_golden, variant_of
from edgetl_runtime.spec import Chosen, Hop, Latency, TensorSpec, Variant

FRAMES = np.random.default_rng(3).integers(0, 256, (4, *SIZE_HW, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_engines_agree_with_numpy(model: Path, name: str) -> None:
    engine = load_engine(name, model, precision="fp32")
    expected = expected_outputs(FRAMES)
    for i in range(len(FRAMES)):
        found = engine.infer({"frame": FRAMES[i : i + 1]})
        np.testing.assert_allclose(found["scores"][0], expected["scores"][i], rtol=1e-5)
        np.testing.assert_array_equal(found["boxes"][0], expected["boxes"][i])
        np.testing.assert_array_equal(found["classes"][0], expected["classes"][i])
        assert found["classes"].dtype == np.int64
    assert engine.name == name
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"frame": FRAMES[:1]})


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_reused_buffer_is_read_again(model: Path, name: str) -> None:
    engine = load_engine(name, model, precision="fp32", threads=1)
    buffer = np.empty((1, *SIZE_HW, 3), np.uint8)
    scores = []
    for frame in FRAMES:
        np.copyto(buffer[0], frame)
        scores.append(engine.infer({"frame": buffer})["scores"].copy())
    np.testing.assert_allclose(np.concatenate(scores), expected_outputs(FRAMES)["scores"], rtol=1e-5)


@pytest.mark.parametrize("name", ONNX_ENGINES)
@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"image": FRAMES[:1]},
        {"frame": FRAMES[:1].astype(np.float32)},
        {"frame": FRAMES[:2]},
        {"frame": FRAMES[:1, :, ::-1]},
        {"frame": FRAMES[:1], "more": FRAMES[:1]},
    ],
)
def test_wrong_inputs_are_refused(model: Path, name: str, inputs: dict[str, np.ndarray]) -> None:
    engine = load_engine(name, model, precision="fp32")
    with pytest.raises(EngineError, match="input"):
        engine.infer(inputs)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_broken_and_missing_models(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError, match="no model at"):
        load_engine(name, tmp_path / "none.onnx", precision="fp32")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match="can't load"):
        load_engine(name, tmp_path / "broken.onnx", precision="fp32")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Exception from src/core.cpp:117:\nException from src/plugin.cpp:54:\nprecision should be single\n\n", "prec"),
        ("one line", "one line"),
        ("", "RuntimeError"),
    ],
)
def test_of_what_openvino_says_the_end_is_told(said: str, told: str) -> None:
    assert last_line(RuntimeError(said)).startswith(told)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_dynamic_shapes_are_refused(tmp_path: Path, name: str) -> None:
    proto = onnx.load(tiny_model(tmp_path / "tiny.onnx"))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(proto, tmp_path / "dynamic.onnx")
    with pytest.raises(EngineError, match="dynamic"):
        load_engine(name, tmp_path / "dynamic.onnx", precision="fp32")


def test_an_unknown_engine_lists_the_choices(model: Path) -> None:
    with pytest.raises(EngineError, match="choose one of onnxruntime, openvino, tensorrt"):
        load_engine("tflite", model, precision="fp32")
    with pytest.raises(EngineError, match="edgetl build BUNDLE"):
        load_engine("tensorrt", model, precision="fp32")


def test_bf16_is_refused_where_it_can_not_run(model: Path) -> None:
    with pytest.raises(EngineError, match="bf16"):
        load_engine("onnxruntime", model, precision="bf16")


def test_openvino_refuses_what_the_cpu_lacks() -> None:
    from edgetl_runtime.engines.openvino import _check_capability

    class OldCpu:
        def get_property(self, device: str, key: str) -> list[str]:
            return ["FP32", "INT8"]

    _check_capability(OldCpu(), "int8")
    with pytest.raises(EngineError, match=r"bf16 .*offers FP32, INT8"):
        _check_capability(OldCpu(), "bf16")


def test_openvino_compares_what_it_compiled_for(model: Path) -> None:
    from edgetl_runtime.engines.openvino import _check_compiled
    from edgetl_runtime.imports import openvino as import_openvino

    openvino = import_openvino()
    compiled = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    _check_compiled(openvino, compiled, "fp32")
    with pytest.raises(EngineError, match="asked for bf16, it compiled for f32"):
        _check_compiled(openvino, compiled, "bf16")


def test_a_bundle_runs_its_chosen_pair(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    engine = load_bundle_engine(bundle)
    assert (engine.name, engine.precision) == ("onnxruntime", "fp32")
    assert choose(bundle, engine="openvino")[1] == "openvino"


def test_an_engine_runs_its_own_form_of_the_chosen_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where OpenVINO is not installed: that of ONNX Runtime has another name. One over the budget is asked for by
    name alone."""
    file = "model.fp32.onnx"
    variants = (
        Variant(name="fp32", file=file, precision="fp32", engines=("onnxruntime", "openvino")),
        Variant(name="int8", file=file, precision="int8", engines=("openvino",)),
        Variant(name="int8-bf16", file=file, precision="int8-bf16", engines=("openvino",)),
        Variant(name="int8-ort", file=file, precision="int8", engines=("onnxruntime",)),
    )
    chosen = Chosen(variant="int8", engine="openvino", reason="fastest")
    own = Hop(hop="onnxruntime/int8-ort", metric="ap50", value=0.8, max_rel_error=0.1, cosine=1.0, passed=True)
    over = msgspec.structs.replace(own, passed=False)
    bundle, other = (
        open_bundle(write_test_bundle(tmp_path / name, variants=variants, chosen=chosen, hops=(hop,)))
        for name, hop in (("b", own), ("over", over))
    )
    with pytest.raises(EngineError, match="no variant 'int8' for engine 'onnxruntime'"):
        choose(other, engine="onnxruntime")
    assert [(v.name, e) for v, e in (choose(bundle), choose(bundle, engine="openvino"))] == [("int8", "openvino")] * 2
    assert [x if isinstance(x, str) else x.name for x in choose(bundle, engine="onnxruntime")] == [
        "int8-ort", "onnxruntime",
    ]  # fmt: skip
    assert choose(bundle, variant="fp32", engine="onnxruntime")[0].name == "fp32"
    with pytest.raises(EngineError, match=r"no variant 'int8' for engine 'onnxruntime'.*int8-ort on onnxruntime"):
        choose(bundle, variant="int8", engine="onnxruntime")
    with closing(load_bundle_engine(bundle, engine="onnxruntime")) as engine:
        assert variant_of(bundle, engine) == "int8-ort"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackage, match="--variant int8-ort --engine onnxruntime"):
        load_bundle_engine(bundle)


def test_an_engine_without_the_chosen_precision_is_not_given_another(tmp_path: Path) -> None:
    variants = (
        Variant(name="fp32", file="model.fp32.onnx", precision="fp32", engines=("onnxruntime",)),
        Variant(name="int8", file="model.fp32.onnx", precision="int8", engines=("openvino",)),
    )
    chosen = Chosen(variant="int8", engine="openvino", reason="fastest")
    bundle = open_bundle(write_test_bundle(tmp_path / "b", variants=variants, chosen=chosen))
    with pytest.raises(EngineError, match="fp32 on onnxruntime, int8 on openvino"):
        choose(bundle, engine="onnxruntime")


@pytest.mark.parametrize("asked", [{"variant": "int8"}, {"engine": "tensorrt"}])
def test_a_pair_that_is_not_there_lists_those_that_are(shared_bundle: Path, asked: dict[str, str]) -> None:
    with pytest.raises(EngineError, match="fp32 on onnxruntime or openvino"):
        load_bundle_engine(open_bundle(shared_bundle), **asked)


def test_a_missing_engine_names_what_works_instead(shared_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime" not in available_engines()
    with pytest.raises(MissingPackage, match=r"edgetl\[desktop\].*--variant fp32 --engine openvino"):
        load_bundle_engine(open_bundle(shared_bundle))


def test_a_processor_without_the_precision_names_what_runs_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those within the budget come first, the fastest first; what this processor does not run either is none."""
    variants = (
        Variant(name="fp32", file="model.fp32.onnx", precision="fp32", engines=("onnxruntime", "openvino")),
        Variant(name="int8", file="model.fp32.onnx", precision="int8", engines=("openvino",)),
        Variant(name="int8-bf16", file="model.fp32.onnx", precision="int8-bf16", engines=("openvino",)),
        Variant(name="bf16", file="model.fp32.onnx", precision="bf16", engines=("openvino",)),
    )
    times = {"onnxruntime/fp32": 9.0, "openvino/fp32": 8.0, "openvino/int8": 4.0, "openvino/bf16": 5.0}
    latencies = tuple(
        Latency(engine=e, variant=v, p50_ms=t, p95_ms=t, p99_ms=t, runs=9)  # type: ignore[arg-type]
        for (e, v), t in ((key.split("/"), t) for key, t in times.items())
    )
    over = "openvino/int8"
    hops = tuple(Hop(hop=k, metric="ap50", value=0.5, max_rel_error=0.0, cosine=1.0, passed=k != over) for k in times)
    chosen = Chosen(variant="int8-bf16", engine="openvino", reason="fastest")
    made = write_test_bundle(tmp_path / "b", variants=variants, chosen=chosen, latencies=latencies, hops=hops)

    class OldCpu:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_engine, "_core", lambda ov: OldCpu())
    with pytest.raises(UnfitProcessor, match="does not run int8-bf16 in openvino") as caught:
        load_bundle_engine(open_bundle(made))
    wanted = "--variant fp32 --engine openvino, --variant fp32 --engine onnxruntime, --variant int8 --engine openvino"
    assert caught.value.remedy == f"run another pair that works here: {wanted}"


def test_tensors_are_compared_with_the_manifest(tmp_path: Path) -> None:
    wrong = (TensorSpec(name="frame", dtype="uint8", shape=(1, 32, 32, 3)),)
    bundle = open_bundle(write_test_bundle(tmp_path / "b", inputs=wrong))
    with pytest.raises(EngineError, match="the manifest says"):
        load_bundle_engine(bundle)


CALLS_HOME = """
import socket, sys, time
asked = []
socket.getaddrinfo = lambda *a, **k: asked.append(a) or []
from edgetl_runtime.engines import load_engine
load_engine(sys.argv[1], sys.argv[2], precision="fp32")
time.sleep(0.2)
print(asked)
"""


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_no_engine_calls_home_or_writes_there(model: Path, tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", CALLS_HOME, name, str(model)]
    kept = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY" and not k.startswith("XDG_")}
    environment = {**kept, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("openvino" not in available_engines(), reason="needs openvino")
def test_what_openvino_compiled_is_kept_and_gives_the_same(
    shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path))
    bundle = open_bundle(shared_bundle)
    frame = read_golden(bundle).frames[:1].copy()
    found = []
    for _ in range(2):
        engine = load_bundle_engine(bundle, engine="openvino")
        found.append({name: np.array(v) for name, v in engine.infer({"frame": frame}).items()})
        found[-1]["precisions"] = np.array(sorted(engine.layer_precisions().values()))  # type: ignore[attr-defined]
        engine.close()
    assert [p.suffix for p in (tmp_path / "openvino").iterdir()] == [".blob"]
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value)
    load_engine("openvino", bundle.model_path(bundle.manifest.variants[0]), precision="fp32", threads=1).close()
    assert len(list((tmp_path / "openvino").iterdir())) == 1, "an export's trials are not kept"
