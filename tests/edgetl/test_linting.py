"""edgetl export --lint: an ONNX file, a checkpoint without its dataset, and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgetl import cli
from edgetl.data import Dataset, MaskLayer
from edgetl.heads import build_network, heads_for, kinds_of
from edgetl.linting import write_graph
from edgetl.training.checkpoint import Checkpoint, ModelCard, save_checkpoint
from edgetl_export.read_onnx import read_onnx
from edgetl_runtime.spec import EMBEDDING, Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Dataset("drawn", ("car", "person"), (), (), (MaskLayer("ground", ("other", "road")),))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small network with boxes and a mask; its dataset is gone."""
    heads = heads_for(DATA, ("detect", "segment"), max_detections=9)
    built = build_network("resnet18", "none", kinds_of(heads, DATA))
    preprocess = Preprocess(size_hw=(64, 96), mean=built.input_range.mean, std=built.input_range.std)
    card = ModelCard(heads, "resnet18", preprocess, built.weights, "drawn", str(tmp_path / "gone"), "0" * 64)
    path = tmp_path / "best.pt"
    save_checkpoint(path, Checkpoint(card, built.network.state_dict()))
    return path


def graph(path: Path, op: str) -> Path:
    """x through one operator to y."""
    shapes = {"x": [2, 4, 4], "y": [2] if op == "Det" else [2, 4, 4]}
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    made = helper.make_graph([helper.make_node(op, ["x"], ["y"], "it")], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_the_graph_of_a_checkpoint_is_what_an_export_ships(checkpoint: Path, tmp_path: Path) -> None:
    model = read_onnx(write_graph(checkpoint, tmp_path), static_shapes=True)
    assert [o.name for o in model.graph.output] == ["boxes", "scores", "classes", "mask_ground", EMBEDDING]
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 64, 96, 3]


def test_a_checkpoint_is_linted_without_its_data(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert cli.main(["export", str(checkpoint), "--lint", "--targets", "cpu,thor", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["ok"] and set(document["targets"]) == {"cpu", "thor"}
    assert document["targets"]["cpu"]["verdict"] == "ok"
    conv = next(row for row in document["ops"] if row["op"] == "Conv")
    assert conv["count"] > 20 and any("backbone" in module for module in conv["modules"])
    assert "only the device can tell" in err and "verdict" in err
    assert sorted(tmp_path.iterdir()) == before, "nothing is left behind"


@pytest.mark.parametrize(("op", "status"), [("Relu", 0), ("Det", 1)])
def test_the_exit_status_says_whether_a_target_needs_a_rewrite(
    op: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = graph(tmp_path / "a.ONNX", op)
    assert cli.main(["export", str(path), "--lint", "--targets", "cpu,agx-orin", "--json"]) == status
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["ok"] == (status == 0) and document["targets"]["cpu"]["verdict"] == "ok"
    assert ("unsupported-op: Det it (agx-orin)" in err) == (op == "Det")


@pytest.mark.parametrize(
    ("content", "flags", "says"),
    [
        (b"PK\x03\x04", ["--lint"], "is not an ONNX model, it looks like a ZIP archive"),
        (None, ["--lint"], "no ONNX file at"),
        (b"\x08\x09\x3a\x7f", ["--lint"], "is cut off"),
        (b"", ["--lint", "--targets", "xavier"], "no target 'xavier'"),
        (b"", ["--lint", "--targets", ","], "no target is named"),
        (b"", [], "required: --out; or check the graph only, with --lint"),
    ],
)
def test_wrong_input_is_one_line(
    content: bytes | None, flags: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["export", str(path), *flags]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edgetl: error: ") and says in last
