"""A foreign network as a Source: graph and reference agree, and a mistake in the graph is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgetl_export.budget import Budget, Measured
from edgetl_export.export import ExportRequest, export
from edgetl_export.foreign.compose import compose
from edgetl_export.foreign.decoders import AnyDecoder
from edgetl_export.foreign.decoders.classification import Classification
from edgetl_export.foreign.decoders.detr import Detr
from edgetl_export.foreign.decoders.fastestdet import FastestDet
from edgetl_export.foreign.decoders.segmentation import Segmentation
from edgetl_export.foreign.decoders.yolo import Yolo
from edgetl_export.foreign.network import read_network
from edgetl_export.foreign.source import Foreign, foreign
from edgetl_export.foreign.spec_file import InputSide, SpecFile, WeightsNote
from edgetl_export.graph import load_model, save_model
from edgetl_export.parity import Infer
from edgetl_export.passes.fold_input import fold_input
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import GateFailed, InputError
from edgetl_runtime.spec import Provenance

Write = Callable[..., Path]
SIZE_HW = (64, 96)
SIDE = InputSide(size_hw=SIZE_HW, channel_order="rgb", mean=(123.0, 116.0, 103.0), std=(58.0, 57.0, 56.0))
SEGMENT = Segmentation(name="ground", labels=tuple("abcdef"))


def spec_of(*heads: AnyDecoder, side: InputSide = SIDE, outputs: tuple[str, ...] = ()) -> SpecFile:
    note = WeightsNote(source="tests", licence="none")
    return SpecFile(name="net", input=side, heads=heads, weights=note, outputs=outputs)


def test_tensors_that_are_called_like_those_around_the_network(write_network: Write, tmp_path: Path) -> None:
    """As those of a network that went through here before."""
    tail = [
        helper.make_node("Neg", ["maps"], ["input/Transpose_1"], name="input/Transpose_1"),
        helper.make_node("Relu", ["input/Transpose_1"], ["decode_0_segmentation/ArgMax_0"], name="relu"),
    ]
    path = write_network(tail=tail, outputs=["decode_0_segmentation/ArgMax_0"])
    check(foreign(str(path), spec_of(SEGMENT)), tmp_path)


def test_the_hash_is_of_weights_beside_the_file_too(write_network: Write, tmp_path: Path) -> None:
    model, hashes = onnx.load(str(write_network())), []
    for factor in (1, 2):
        weight = model.graph.initializer[0]
        weight.CopyFrom(onnx.numpy_helper.from_array(factor * onnx.numpy_helper.to_array(weight), weight.name))
        path = tmp_path / str(factor) / "net.onnx"
        path.parent.mkdir()
        onnx.save(model, str(path), save_as_external_data=True, location="net.bin", size_threshold=0)
        hashes.append(foreign(str(path), spec_of(SEGMENT)).sha256)
        model = onnx.load(str(path))
    assert hashes[0] != hashes[1]


def frames(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (1, *SIZE_HW, 3), np.uint8) for _ in range(count)]


def run_file(path: Path, frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frame": frame}), strict=True))


def check(found: Foreign, tmp_path: Path) -> Path:
    """Write the graph; its outputs are the contract's and agree with the reference on other frames."""
    path = tmp_path / "graph.onnx"
    found.source.write(path)
    model = load_model(path)
    assert [i.name for i in model.graph.input] == ["frame"]
    assert [o.name for o in model.graph.output] == [*found.source.outputs, *found.source.probes]
    assert all(n.name for n in model.graph.node) and len({n.name for n in model.graph.node}) == len(model.graph.node)
    for frame in frames(3):
        expected, given = found.source.infer(frame), run_file(path, frame)
        for name in (*found.source.outputs, *found.source.probes):
            assert expected[name].dtype == given[name].dtype and expected[name].shape == given[name].shape
            if expected[name].dtype == np.uint8:
                assert (expected[name] != given[name]).mean() < 1e-3
            else:
                np.testing.assert_allclose(expected[name], given[name], rtol=1e-4, atol=2e-3)
    return path


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (123.0, 116.0, 103.0)])
@pytest.mark.parametrize("std", [(1.0, 1.0, 1.0), (58.0, 57.0, 56.0)])
def test_every_way_to_normalise(write_network: Write, tmp_path: Path, order: Any, mean: Any, std: Any) -> None:
    side = InputSide(size_hw=SIZE_HW, channel_order=order, mean=mean, std=std)
    path = check(foreign(str(write_network()), spec_of(SEGMENT, side=side)), tmp_path)
    folded, note = fold_input(load_model(path))
    assert "folded into the first convolution" in note
    save_model(folded, tmp_path / "folded.onnx")
    frame = frames(1)[0]
    a, b = run_file(path, frame), run_file(tmp_path / "folded.onnx", frame)
    np.testing.assert_allclose(a["maps"], b["maps"], atol=1e-3 * np.abs(a["maps"]).max())


@pytest.mark.parametrize("own_transpose", [True, False])
def test_a_network_that_takes_nhwc(write_network: Write, tmp_path: Path, own_transpose: bool) -> None:
    path = write_network(shape=(1, 64, 96, 3), nhwc=True)
    if not own_transpose:
        model = onnx.load(str(path))
        for node in model.graph.node:
            if node.op_type == "Transpose":
                node.op_type = "Reshape"  # odd, but reads NHWC as it is
                del node.attribute[:]
                node.input.append("planes")
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3, 64, 96], np.int64), "planes"))
        onnx.save(model, str(path))
    side = msgspec.structs.replace(SIDE, layout="nhwc")
    graph = load_model(check(foreign(str(path), spec_of(SEGMENT, side=side)), tmp_path))
    assert [n.op_type for n in graph.graph.node].count("Transpose") == (1 if own_transpose else 2)


def test_a_network_that_takes_bytes(write_network: Write, tmp_path: Path) -> None:
    side = InputSide(size_hw=SIZE_HW, channel_order="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    check(foreign(str(write_network(input_type=TensorProto.UINT8)), spec_of(SEGMENT, side=side)), tmp_path)


@pytest.mark.parametrize("batch", ["n", 4])
def test_a_network_of_an_open_or_larger_batch(write_network: Write, tmp_path: Path, batch: Any) -> None:
    check(foreign(str(write_network(shape=(batch, 3, 64, 96))), spec_of(SEGMENT)), tmp_path)


def test_names_that_the_contract_needs_are_freed(write_network: Write, tmp_path: Path) -> None:
    """The input is called frame, an inner tensor classes, the outputs scores and boxes."""
    tail = [
        helper.make_node("Reshape", ["maps", "rows"], ["classes"]),
        helper.make_node("Transpose", ["classes"], ["flat"], perm=[0, 2, 1]),
        helper.make_node("Slice", ["flat", "zero", "four", "two"], ["boxes_raw"]),
        helper.make_node("Sigmoid", ["boxes_raw"], ["boxes"]),
        helper.make_node("Slice", ["flat", "four", "six", "two"], ["scores"]),
    ]
    constants = {"zero": [0], "two": [2], "four": [4], "six": [6], "rows": [1, 6, 96]}
    path = write_network(
        tail=tail,
        outputs=["scores", "boxes"],
        input_name="frame",
        constants={k: np.array(v, np.int64) for k, v in constants.items()},
    )
    decoder = Detr(labels=("car", "person"), logits="scores", boxes="boxes", max_detections=20)
    found = foreign(str(path), spec_of(decoder))
    assert found.source.outputs == ("boxes", "scores", "classes")
    assert found.source.probes == ("steady_raw_scores", "steady_raw_boxes")
    check(found, tmp_path)


@pytest.mark.parametrize(("activation", "steady"), [("sigmoid", True), ("probabilities", True), ("softmax", False)])
def test_queries_in_another_order_are_the_same(
    write_network: Write, tmp_path: Path, activation: Any, steady: bool
) -> None:
    """RT-DETR and D-FINE pick them by a TopK, where rounding swaps those of nearly equal scores."""
    constants = {"zero": [0], "two": [2], "three": [3], "four": [4], "end": [7], "rows": [1, 7, 96]}
    given = []
    for order in (np.arange(96), np.arange(96)[::-1]):
        tail = [
            helper.make_node("Reshape", ["maps", "rows"], ["columns"]),
            helper.make_node("Transpose", ["columns"], ["flat"], perm=[0, 2, 1]),
            helper.make_node("Gather", ["flat", "order"], ["ordered"], axis=1),
            helper.make_node("Sigmoid", ["ordered"], ["shares"]),
            helper.make_node("Slice", ["shares", "zero", "four", "two"], ["b"]),
            helper.make_node("Slice", ["shares", "four", "end", "two"], ["s"]),
        ]
        path = write_network(
            channels=7,
            tail=tail,
            outputs=["s", "b"],
            constants={k: np.array(v, np.int64) for k, v in {**constants, "order": order}.items()},
        )
        names = ("car", "person") if activation == "softmax" else ("car", "person", "rider")
        found = foreign(str(path), spec_of(Detr(labels=names, logits="s", boxes="b", activation=activation)))
        given.append(run_file(check(found, tmp_path), frames(1)[0]))
        assert all(name.startswith("steady_") == steady for name in found.source.probes)
    first, second = given
    assert all(np.array_equal(first[name], second[name]) == steady for name in found.source.probes)


def test_several_heads_on_one_network(write_network: Write, tmp_path: Path) -> None:
    tail = [
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Reshape", ["maps", "rows"], ["columns"]),
    ]
    path = write_network(
        tail=tail, outputs=["maps", "pooled", "columns"], constants={"rows": np.array([1, 6, 96], np.int64)}
    )
    heads = (
        Segmentation(name="ground", labels=tuple("abcdef"), output="maps", stride=4),
        Classification(labels=tuple("uvwxyz"), output="pooled"),
        Yolo(labels=("car", "person"), output="columns", activation="logits"),
    )
    found = foreign(str(path), spec_of(*heads))
    assert [h.name for h in found.heads] == ["ground", "classify", "detect"] and found.heads_each == (1, 1, 1)
    check(found, tmp_path)


@pytest.mark.parametrize(
    ("heads", "line"),
    [
        ((SEGMENT, SEGMENT), "two heads are called 'ground'"),
        ((SEGMENT, msgspec.structs.replace(SEGMENT, name="ground", stride=4)), "two heads are called 'ground'"),
        ((FastestDet(labels=("a",)), FastestDet(labels=("b",))), "two heads are called 'detect'"),
    ],
)
def test_two_heads_of_one_name(write_network: Write, heads: Sequence[AnyDecoder], line: str) -> None:
    with pytest.raises(InputError, match=line):
        foreign(str(write_network()), spec_of(*heads))


def test_output_names_are_for_modules(write_network: Write) -> None:
    with pytest.raises(InputError, match="`outputs` names what a torch module returns"):
        foreign(str(write_network()), spec_of(SEGMENT, outputs=("a",)))


def request_of(found: Foreign, side: InputSide) -> ExportRequest:
    validation = frames(4, seed=9)
    answers = [np.array(found.source.infer(f)["mask_ground"]) for f in validation]

    def metric(infer: Infer) -> Measured:
        same = [np.mean(infer(f)["mask_ground"] == a) for f, a in zip(validation, answers, strict=True)]
        return Measured({"ground": float(np.mean(same))})

    texts = ("edgetl", "created", "architecture", "weights", "weights_sha256", "weights_licence")
    more = ("dataset", "dataset_sha256", "machine")
    return ExportRequest(
        name="net",
        source=found.source,
        heads=found.heads,
        preprocess=side.preprocess,
        calibration=frames(4, seed=1),
        frames=frames(3, seed=2),
        metric=metric,
        metric_name="agreement",
        budget=Budget(0.5),
        targets=("cpu",),
        provenance=Provenance(**dict.fromkeys((*texts, *more), "x")),
        latency_runs=3,
        dataset_classes={"ground": {"a": ("asphalt",)}},
    )


def test_the_whole_export(write_network: Write, tmp_path: Path) -> None:
    found = foreign(str(write_network()), spec_of(SEGMENT))
    export(request_of(found, SIDE), tmp_path / "b", say=lambda text: None)
    manifest = open_bundle(tmp_path / "b").manifest
    assert [h.hop for h in manifest.hops][:2] == ["onnxruntime", "onnx"]
    assert manifest.hops[0].value == 1.0 and manifest.hops[0].metric == "agreement"
    assert manifest.dataset_classes == {"ground": {"a": ("asphalt",)}}
    assert manifest.domain is None


@pytest.mark.parametrize(
    "wrong", [{"channel_order": "bgr"}, {"mean": (103.0, 116.0, 123.0)}, {"std": (255.0, 255.0, 255.0)}], ids=str
)
def test_a_planted_mistake_before_the_network_is_found(
    write_network: Write, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """The reference shares nothing with the graph, so parity of the first hop names it."""
    path = write_network()
    found = foreign(str(path), spec_of(SEGMENT))
    planted = msgspec.structs.replace(SIDE, **wrong).preprocess

    def write(target: Path) -> str:
        save_model(compose(read_network(path, SIDE), planted, (SEGMENT,), found.heads), target)
        return ""

    broken = dataclasses.replace(found, source=dataclasses.replace(found.source, write=write))
    with pytest.raises(GateFailed, match="the step 'onnx' broke the network: maps differs"):
        export(request_of(broken, SIDE), tmp_path / "b", say=lambda text: None)
    assert not (tmp_path / "b").exists()
