"""Planted faults: the chain names the step, the layer and what both sides made of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NORMAL, PROBES, conv, folded, frame_nodes, frames, graph_of, residual_net, weights
from onnx import ModelProto, helper

from edgetl_export.budget import Budget, Measured
from edgetl_export.calibrate import observe
from edgetl_export.candidates import Candidate, Pair, Reference, infer_of, judge
from edgetl_export.compile import compile_float, write_onnx
from edgetl_export.crew import Crew, crew_of
from edgetl_export.graph import copy_of, float_tensors, initializers, load_model, save_model, set_initializer
from edgetl_export.locate import locate, statistics_of
from edgetl_export.parity import Infer, record
from edgetl_export.passes import PASSES, Pass
from edgetl_export.passes.fold_input import fold_input
from edgetl_export.passes.half import describe_islands, to_half
from edgetl_export.passes.rounded import rounded
from edgetl_export.source import Source
from edgetl_runtime.engines import load_engine
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.spec import EngineName, Precision


def source_of(path: Path, written: Path | None = None) -> Source:
    """The network at `path` as the source; what it writes is another file where the export is planted."""
    engine = load_engine("onnxruntime", path, precision="fp32")

    def write(target: Path) -> str:
        target.write_bytes((written or path).read_bytes())
        return "copied"

    return Source(name="net", outputs=("scores",), probes=PROBES, infer=infer_of(engine), write=write)


def reference_of(source: Source) -> Reference:
    def metric(infer: Infer) -> Measured:
        return Measured({"detect": float(np.mean(np.asarray(infer(frames()[0])["scores"])))})

    return Reference(
        name=source.name,
        frames=frames(3),
        probes=PROBES,
        tensors=record(source.infer, frames(3), PROBES),
        measured=metric(source.infer),
        metric=metric,
        metric_name="mean",
        budget=Budget(0.005),
    )


def compiled(source: Source, folder: Path, passes: tuple[Pass, ...] = PASSES) -> list[str]:
    work, ship = folder / "work", folder / "ship"
    work.mkdir()
    ship.mkdir()
    graph, hops = compile_float(
        source, write_onnx(source, work), reference_of(source), work, ship, passes=passes, say=lambda text: None
    )
    assert graph.file.is_file()
    return [f"{hop.hop}: {hop.note}" for hop in hops]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    onnx.save(residual_net(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_nothing_planted_nothing_found(net: Path, tmp_path: Path) -> None:
    assert [text.partition(":")[0] for text in compiled(source_of(net), tmp_path)] == [
        "onnx", "flush-tiny", "fold-constants", "select-early", "fold-batch-norm", "join-branches",
        "join-pool", "fold-input", "drop-dead", "shuffle-late", "split-early",
    ]  # fmt: skip
    assert locate(net, tmp_path / "work" / "fold-input.onnx", frames()[0], limit=1e-3) is None


def test_a_step_that_changes_nothing_is_not_run_again(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def watched(engine: EngineName, file: Path, precision: Precision) -> AbstractContextManager[Crew]:
        loaded.append(file.stem)
        return crew_of(engine, file, precision)

    monkeypatch.setattr("edgetl_export.compile.crew_of", watched)
    passes = (Pass("same", lambda model: (model, "not applied")), Pass("fold-input", fold_input))
    notes = compiled(source_of(net), tmp_path, passes)
    assert [text.partition(":")[0] for text in notes] == ["onnx", "same", "fold-input"]
    assert loaded == ["onnx", "fold-input"] * 2, "for tensors, then for the metric"


def test_steps_with_the_same_bits_are_measured_on_the_last_alone(net: Path, tmp_path: Path) -> None:
    def named(model: ModelProto) -> tuple[ModelProto, str]:
        other = copy_of(model)
        other.graph.node[-1].name += "_other"
        return other, "named"

    source, measured = source_of(net), []
    reference = reference_of(source)

    def metric(infer: Infer) -> Measured:
        measured.append(infer)
        return reference.metric(infer)

    counted = replace(reference, metric=metric)
    passes = (Pass("named", named),)
    graph, hops = compile_float(
        source, write_onnx(source, tmp_path), counted, tmp_path, tmp_path, passes=passes, say=lambda text: None
    )
    pair = Pair(variant="fp32", precision="fp32", engine="onnxruntime", probe_file=graph.probe_file, file=graph.file)
    found = judge(pair, counted)
    assert isinstance(found, Candidate)
    assert len(measured) == 1, "for the file itself, the step, and the engine's hop"
    assert {hop.value for hop in (*hops, found.hop)} == {reference.measured.value}


def bad_pass(model: ModelProto) -> tuple[ModelProto, str]:
    """Halves the weights of one layer in the middle."""
    broken = copy_of(model)
    set_initializer(broken, "deep_w", initializers(broken)["deep_w"] * np.float32(0.5))
    return broken, "all is well"


def test_a_bad_pass_is_named_with_its_first_bad_layer(net: Path, tmp_path: Path) -> None:
    passes = (PASSES[0], Pass("halve", bad_pass), *PASSES[1:])
    with pytest.raises(GateFailed) as caught:
        compiled(source_of(net), tmp_path, passes)
    text = str(caught.value)
    assert "the step 'halve' broke the network: heat differs by" in text
    assert "first at Conv 'deep': deep_out differs by" in text and "before " in text and "after " in text
    assert not (tmp_path / "ship" / "model.fp32.onnx").exists()


def test_an_optional_bad_pass_is_left_out(net: Path, tmp_path: Path) -> None:
    notes = compiled(source_of(net), tmp_path, (Pass("halve", bad_pass, optional=True), *PASSES))
    assert any(text.startswith("halve: left out: the step 'halve' broke the network") for text in notes)


def test_what_is_small_beside_the_rest_of_its_tensor_is_found_by_the_metric(net: Path, tmp_path: Path) -> None:
    """Scores beside boxes in pixels: an error of all of a score is next to nothing of the tensor."""
    model = load_model(net)
    head = initializers(model)["head_w"] * np.array([1e4, 1], np.float32)[:, None, None, None]
    set_initializer(model, "head_w", head)
    save_model(model, tmp_path / "uneven.onnx")

    def lower(model: ModelProto) -> tuple[ModelProto, str]:
        broken = copy_of(model)
        set_initializer(broken, "head_b", initializers(broken)["head_b"] - np.array([0, 2], np.float32))
        return broken, "all is well"

    with pytest.raises(GateFailed, match=r"the step 'lower' broke the network: -\d.* though tensors agree to 1e-03"):
        compiled(source_of(tmp_path / "uneven.onnx"), tmp_path, (PASSES[0], Pass("lower", lower)))


def test_a_wrong_channel_order_is_named(net: Path, tmp_path: Path) -> None:
    model = load_model(net)
    set_initializer(model, "stem_w", np.ascontiguousarray(initializers(model)["stem_w"][:, ::-1]))
    save_model(model, tmp_path / "swapped.onnx")
    with pytest.raises(GateFailed, match="red and blue of the frame swapped it agrees: the channel order is wrong"):
        compiled(source_of(net, tmp_path / "swapped.onnx"), tmp_path)


def loud_net(path: Path) -> Path:
    """Its second layer makes values far beyond FP16, its third brings them back."""
    loud = weights("loud", 8, 8, 3, 3)
    loud["loud_w"] = loud["loud_w"] * np.float32(3e5)
    quiet = weights("quiet", 8, 8, 3, 3)
    quiet["quiet_w"] = quiet["quiet_w"] * np.float32(1e-5)
    nodes = [
        *frame_nodes(),
        conv("stem", "normal", "x0", stride=2),
        conv("loud", "x0", "x1"),
        helper.make_node("Relu", ["x1"], ["x2"], name="relu"),
        conv("quiet", "x2", "x3"),
        conv("head", "x3", "heat"),
        helper.make_node("Sigmoid", ["heat"], ["scores"], name="sigmoid"),
    ]
    constants = {**NORMAL, **weights("stem", 8, 3, 3, 3), **loud, **quiet, **weights("head", 2, 8, 3, 3)}
    onnx.save(graph_of(nodes, ["scores", "heat"], constants), path)
    return path


def half_of(path: Path, folder: Path, *, blind: bool) -> tuple[ModelProto, dict[str, float]]:
    model = load_model(path)
    seen = observe(path, float_tensors(model), frames(), folder)
    magnitudes = {} if blind else {name: max(-o.low, o.high) for name, o in seen.items()}
    half, islands = to_half(model, magnitudes, PROBES)
    save_model(rounded(half), folder / "half.onnx")
    return model, islands


def test_layers_that_fp16_can_not_hold_become_named_islands(tmp_path: Path) -> None:
    model, islands = half_of(loud_net(tmp_path / "loud.onnx"), tmp_path, blind=False)
    assert set(islands) == {"loud", "relu", "quiet"}
    text = describe_islands(model, islands)
    assert "3 layers stay FP32, FP16 ends at 65504: Conv 'loud' (up to " in text
    engine = load_engine("onnxruntime", tmp_path / "half.onnx", precision="fp32")
    found = np.array(engine.infer({"frame": frames()[1]})["heat"])
    engine.close()
    engine = load_engine("onnxruntime", tmp_path / "loud.onnx", precision="fp32")
    np.testing.assert_allclose(found, engine.infer({"frame": frames()[1]})["heat"], rtol=0.05, atol=0.05)
    engine.close()


def test_a_planted_overflow_is_found_and_named(tmp_path: Path) -> None:
    """Typed without ranges, as `.half()` does it: the first layer that is not finite is named, with both sides."""
    path = loud_net(tmp_path / "loud.onnx")
    half_of(path, tmp_path, blind=True)
    parting = locate(path, tmp_path / "half.onnx", frames()[1], limit=0.1)
    assert parting is not None
    assert (parting.node, parting.tensor) == ("loud/rounded", "x1")
    assert parting.after.not_finite > 0 and parting.before.not_finite == 0 and parting.before.high > 65504
    assert "not finite" in str(parting)


def test_graphs_without_common_tensors_have_nothing_to_compare(tmp_path: Path) -> None:
    onnx.save(graph_of([*frame_nodes(), conv("a", "normal", "y")], ["y"], {**NORMAL, **weights("a", 4, 3, 3, 3)}),
              tmp_path / "other.onnx")  # fmt: skip
    assert locate(folded(tmp_path / "net.onnx"), tmp_path / "other.onnx", frames()[0], limit=1e-3) is None


def test_statistics() -> None:
    found = statistics_of(np.array([1.0, np.nan, 3.0, np.inf]))
    assert (found.low, found.high, found.mean, found.not_finite) == (1.0, 3.0, 2.0, 2)
    assert statistics_of(np.array([np.nan])).not_finite == 1
    assert "1 to 3" in str(found) and "2 not finite" in str(found)


def test_tensors_whose_size_depends_on_the_frame_are_passed_over(tmp_path: Path) -> None:
    """No engine here gives such."""
    nodes = [
        *frame_nodes(),
        helper.make_node("NonZero", ["normal"], ["places"], name="places"),
        helper.make_node("Cast", ["places"], ["rows"], name="rows", to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["rows"], ["first"], name="first", keepdims=0),
        conv("a", "normal", "x"),
        helper.make_node("Add", ["x", "first"], ["y"], name="y"),
    ]
    held = {**NORMAL, **weights("a", 4, 3, 3, 3)}
    for name, constants in (("before", held), ("after", {**held, "a_w": held["a_w"] * 2})):
        save_model(graph_of(nodes, ["y"], constants), tmp_path / f"{name}.onnx")
    model = load_model(tmp_path / "after.onnx")
    parting = locate(tmp_path / "before.onnx", tmp_path / "after.onnx", frames()[0], limit=1e-3)
    assert "rows" in float_tensors(model) and parting is not None and parting.tensor == "x"
