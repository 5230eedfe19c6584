"""edgetl build from end to end with a fake TensorRT in a real worker process; no GPU runs here."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import pytest
from fake_cuda import FakeDriver
from runtime_support import make_manifest, tiny_model, write_test_bundle

from edgetl_runtime import cuda
from edgetl_runtime.bench import bench_bundle
from edgetl_runtime.build import build_bundle
from edgetl_runtime.bundle import open_bundle, write_manifest
from edgetl_runtime.engines import available_engines, choose, load_bundle_engine
from edgetl_runtime.errors import EngineError, GateFailed, InputError
from edgetl_runtime.golden import replay_golden
from edgetl_runtime.spec import Variant
from edgetl_runtime.tensorrt.device import Device
from edgetl_runtime.tensorrt.jobs import Options
from edgetl_runtime.tensorrt.memory import MB, Memory
from edgetl_runtime.tensorrt.store import EngineStore

ORIN = Device(cuda.Gpu("Orin", "8.7", True), "CUDA 12.6", "tensorrt", "10.3.0")
WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
PLENTY = Memory(8000 * MB, None)
FP32 = Variant(name="fp32", file="model.fp32.onnx", precision="fp32", engines=("onnxruntime", "tensorrt"))
SECOND = Variant(name="second", file="second.onnx", precision="fp32", engines=("tensorrt",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with one variant for TensorRT."""
    return write_test_bundle(tmp_path / "cars.bundle", variants=(FP32,))


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle and its engines, to be copied."""
    root = tmp_path_factory.mktemp("built")
    build(write_test_bundle(root / "cars.bundle", variants=(FP32,)))
    return root


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A bundle with its engines beside it."""
    shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "cars.bundle"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A bundle with two variants for TensorRT, the same network twice."""
    target = write_test_bundle(tmp_path / "cars.bundle", variants=(FP32,))
    tiny_model(target / "second.onnx")
    write_manifest(target, make_manifest(target, variants=(FP32, SECOND)))
    return target


@pytest.fixture
def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU and TensorRT in this process, both fake."""
    monkeypatch.setattr(cuda, "load_driver", FakeDriver)
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)


def behave(monkeypatch: pytest.MonkeyPatch, **how: object) -> None:
    """Let the fake TensorRT behave so."""
    monkeypatch.setenv("FAKE_TENSORRT", json.dumps(how))


def build(
    folder: Path, *, device: Device = ORIN, memory: Memory = PLENTY, **changes: Any
) -> tuple[dict[str, Any], list[str]]:
    """The document of a build, and its lines."""
    lines: list[str] = []
    options = Options(**({"worker": WORKER, "runs": 10, "timeout_s": 60.0} | changes))
    document: dict[str, Any] = build_bundle(
        open_bundle(folder), options, say=lines.append, device=device, memory=lambda: memory
    )
    return document, lines


def names(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


def test_an_engine_is_built_proven_timed_and_kept(folder: Path) -> None:
    document, lines = build(folder)
    json.dumps(document)
    engines = folder.with_name("cars.bundle.engines")
    assert names(engines) == {"fp32.plan", "fp32.json", "chosen.json", "timing.cache", ".lock"}
    row = document["variants"]["fp32"]
    assert (row["state"], row["why"]) == ("built", ["there is no engine yet"])
    assert row["proof"] == {"asked": {"fp32": 1}, "found": {"fp32": 1}, "unknown": 0, "mismatches": ()}
    assert row["layers"] == {"/cells/Conv": "fp32"} and row["golden_error"] < 1e-5
    assert 0 < row["latency"]["p50_ms"] <= row["latency"]["p99_ms"] and row["latency"]["runs"] == 10
    assert row["fingerprint"]["strongly_typed"] is True and len(row["fingerprint"]["onnx_sha256"]) == 64
    assert document["chosen"]["variant"] == "fp32" and document["device"]["library"] == "tensorrt"
    assert "strongly typed" in lines[1] and any("there is no engine yet" in line for line in lines)
    open_bundle(folder)  # its hashes still hold

    plan = (engines / "fp32.plan").stat().st_mtime_ns
    document, lines = build(folder)
    assert document["variants"]["fp32"]["state"] == "kept"
    assert any("up to date" in line for line in lines)
    assert (engines / "fp32.plan").stat().st_mtime_ns == plan


@pytest.mark.usefixtures("on_a_device")
def test_a_built_engine_runs_by_name(folder: Path) -> None:
    bundle = open_bundle(folder)
    with pytest.raises(EngineError, match=r"no TensorRT engine of variant 'fp32'.*edgetl build BUNDLE"):
        load_bundle_engine(bundle, engine="tensorrt")
    build(folder)
    assert "tensorrt" in available_engines()
    engine = load_bundle_engine(bundle, engine="tensorrt")
    assert (engine.name, engine.precision) == ("tensorrt", "fp32")
    assert replay_golden(bundle, engine).ok
    engine.close()
    document: Any = bench_bundle(bundle, runs=5)
    assert {(r["engine"], r["variant"]) for r in document["rows"]} == {("onnxruntime", "fp32"), ("tensorrt", "fp32")}


@pytest.mark.usefixtures("on_a_device")
def test_an_engine_in_another_folder(folder: Path, tmp_path: Path) -> None:
    build(folder, engine_dir=tmp_path / "elsewhere")
    assert not folder.with_name("cars.bundle.engines").exists()
    load_bundle_engine(open_bundle(folder), engine="tensorrt", engine_dir=tmp_path / "elsewhere").close()


@pytest.mark.parametrize(
    ("device", "changes", "why"),
    [
        (Device(ORIN.gpu, "CUDA 12.8", "tensorrt", "10.3.0"), {}, "driver was CUDA 12.6 and is CUDA 12.8"),
        (Device(cuda.Gpu("Thor", "11.0", True), "CUDA 12.6", "tensorrt", "10.3.0"), {}, "gpu was Orin and is Thor"),
        (ORIN, {"workspace_mb": 512}, "workspace_mb was 1024 and is 512"),
        (ORIN, {"force": True}, "--force"),
    ],
)
def test_a_stale_engine_is_rebuilt_and_the_reason_said(
    built: Path, device: Device, changes: dict[str, Any], why: str
) -> None:
    document, lines = build(built, device=device, **changes)
    assert document["variants"]["fp32"]["state"] == "built"
    assert any("building:" in line and why in line for line in lines)


def test_a_new_version_of_tensorrt_makes_it_stale(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, version="10.7.0")
    _, lines = build(built, device=Device(ORIN.gpu, "CUDA 12.6", "tensorrt", "10.7.0"))
    assert any("version was 10.3.0 and is 10.7.0" in line for line in lines)


@pytest.mark.usefixtures("on_a_device")
def test_another_network_of_the_same_name_makes_it_stale(built: Path) -> None:
    tiny_model(built / "model.fp32.onnx", bias=1e-6)
    write_manifest(built, make_manifest(built, variants=(FP32,)))
    with pytest.raises(EngineError, match=r"is stale: onnx_sha256 was \w+\.\.\. and is \w+\.\.\.; run: edgetl build"):
        load_bundle_engine(open_bundle(built), engine="tensorrt")
    assert build(built)[0]["variants"]["fp32"]["state"] == "built"


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize("spoil", ["fp32.plan", "fp32.json"])
def test_a_spoiled_engine_is_refused_and_rebuilt(built: Path, spoil: str) -> None:
    (built.with_name("cars.bundle.engines") / spoil).write_bytes(b"{}")
    with pytest.raises(EngineError, match=r"stale: the plan is not the one|no TensorRT engine"):
        load_bundle_engine(open_bundle(built), engine="tensorrt")
    document, _ = build(built)
    assert document["variants"]["fp32"]["state"] == "built"


def test_two_are_timed_in_turns_and_the_fastest_is_recorded(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, lines = build(two)
    assert set(document["variants"]) == set(document["chosen"]["latencies"]) == {"fp32", "second"}
    chosen = document["chosen"]["variant"]
    assert any(line.startswith("chosen") and "against" in line for line in lines)
    assert choose(open_bundle(two), engine="tensorrt")[0].name == chosen
    store = EngineStore(two.with_name("cars.bundle.engines"))
    record = store.record(chosen)
    assert record is not None and record.latency == store.fastest().latencies[chosen]  # type: ignore[union-attr]
    document, _ = build(two, variant="second", force=True)
    assert set(document["variants"]) == {"second"} and set(document["chosen"]["latencies"]) == {"fp32", "second"}


def test_an_engine_in_the_wrong_precision_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, datatype="Channel major FP16 format where channel % 8 == 0")
    with pytest.raises(GateFailed, match="/cells/Conv: fp32 was asked, fp16 found"):
        build(folder)
    assert names(folder.with_name("cars.bundle.engines")) == {".lock", "timing.cache"}


def test_what_the_engine_does_not_say_is_not_called_proven(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, inspector=False)
    document, lines = build(folder)
    assert document["variants"]["fp32"]["proof"]["unknown"] == 1
    assert any("precision NOT proven" in line for line in lines)


def test_an_engine_with_other_outputs_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, offset=20.0)
    with pytest.raises(GateFailed, match="from the bundle's golden samples, allowed 1e-01"):
        build(folder)
    assert not (folder.with_name("cars.bundle.engines") / "fp32.plan").exists()


def test_what_one_variant_gained_stands_when_another_fails(two: Path) -> None:
    tiny_model(two / "second.onnx", bias=0.7)
    write_manifest(two, make_manifest(two, variants=(FP32, SECOND)))
    with pytest.raises(GateFailed, match=r"second: .*golden samples.*; the engines of fp32 are in place"):
        build(two)
    assert {"fp32.plan", "fp32.json", "chosen.json"} <= names(two.with_name("cars.bundle.engines"))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"crash": str(int(signal.SIGSEGV))}, r"the library crashed \(SIGSEGV\).*'Building engine'.*--workspace-mb"),
        ({"crash": str(int(signal.SIGKILL))}, "killed .*SIGKILL.*memory runs out"),
        ({"error": "Error Code 2: OutOfMemory (Requested size was 9)"}, "out-of-memory; Close other programs"),
        ({"error": "/cells/Conv has no runners that implement it"}, "no-kernel Conv /cells/Conv"),
        ({"strongly_typed": False}, "no strongly typed networks.*TensorRT 10 or later"),
        ({"error": "something new"}, "can't build it: not-classified"),
        (
            {"run_crash": str(int(signal.SIGSEGV))},
            r"fp32: the engine was built and does not run here: the library crashed \(SIGSEGV\)",
        ),
    ],
)
def test_a_build_that_fails_has_one_line_and_loses_nothing(
    built: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object], words: str
) -> None:
    engines = built.with_name("cars.bundle.engines")
    before = {p.name: p.read_bytes() for p in engines.iterdir() if p.suffix in (".plan", ".json")}
    behave(monkeypatch, **how)
    with pytest.raises(EngineError, match=words) as caught:
        build(built, force=True)
    assert "\n" not in str(caught.value)
    assert before == {p.name: p.read_bytes() for p in engines.iterdir() if p.suffix in (".plan", ".json")}
    assert not (engines / ".building").exists()


def test_a_timeout_keeps_what_was_timed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behave(monkeypatch, steps=4000, step_s=0.02)
    for seconds in (2, 8, 32):  # on a busy machine the worker begins late
        with pytest.raises(
            EngineError, match=f"no result within {seconds} s, stopped in phase .*; give more"
        ) as caught:
            build(folder, timeout_s=float(seconds))
        if "'Building engine'" in str(caught.value):
            break
    else:
        pytest.fail(str(caught.value))
    cache = folder.with_name("cars.bundle.engines") / "timing.cache"
    kept = len(cache.read_bytes())
    assert kept > 0
    behave(monkeypatch)
    build(folder)
    assert len(cache.read_bytes()) == kept + 4


def test_another_gpus_timings_are_left_behind(folder: Path) -> None:
    engines = folder.with_name("cars.bundle.engines")
    engines.mkdir()
    (engines / "timing.cache").write_bytes(b"foreign and long")
    build(folder)
    assert (engines / "timing.cache").read_bytes() == b"tttt"


def test_too_little_memory_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(InputError, match=r"needs about \d+ MB of memory, 500 MB are free"):
        build(folder, memory=Memory(500 * MB, None))
    _, lines = build(folder, memory=Memory(900 * MB, None))
    assert any("workspace 299 MB instead of 1024 MB" in line for line in lines)


def test_what_can_not_be_built_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no TensorRT variant 'int8'; there are: fp32"):
        build(folder, variant="int8")
    with pytest.raises(InputError, match="no variant for TensorRT; export it again"):
        build(write_test_bundle(tmp_path / "cpu.bundle"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"can't write the engines to .*--engine-dir"):
        build(folder, engine_dir=tmp_path / "file")


def test_two_builds_do_not_meet(folder: Path) -> None:
    store = EngineStore(folder.with_name("cars.bundle.engines"))
    with store.building(), pytest.raises(InputError, match="another edgetl build is at work"):
        build(folder)
    (store.folder / ".building").mkdir()
    (store.folder / ".building" / "half.plan").write_bytes(b"half")
    build(folder)
    assert not (store.folder / ".building").exists()


INTERRUPTED = """
import json, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_build
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
test_build.build(Path(sys.argv[1]))
"""


def test_ctrl_c_cancels_and_leaves_only_the_timings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    behave(monkeypatch, steps=4000, step_s=0.02, begun=str(begun))
    code = INTERRUPTED.format(here=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE, text=True)
    engines = folder.with_name("cars.bundle.engines")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not begun.exists():
        time.sleep(0.05)
    assert (engines / ".building").exists()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert names(engines) == {".lock", "timing.cache"}


def test_frames_are_not_all_alike(folder: Path) -> None:
    """Another input must give another output, or the golden samples prove nothing."""
    with np.load(folder / "golden.npz") as archive:
        assert not np.array_equal(archive["out_scores"][0], archive["out_scores"][1])
