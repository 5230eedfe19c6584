"""`module.py:function`: the user's own torch module, its names, and everything that can be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetl_export.foreign.decoders.segmentation import Segmentation
from edgetl_export.foreign.module_file import flattened, load_module, named_outputs
from edgetl_export.foreign.source import foreign
from edgetl_export.foreign.spec_file import InputSide, SpecFile, WeightsNote
from edgetl_export.graph import load_model
from edgetl_runtime.errors import InputError

SIDE = InputSide(size_hw=(64, 96), channel_order="rgb", mean=(0.0,) * 3, std=(255.0,) * 3)
FILE = """
import torch
from torch import nn
from beside import CHANNELS


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, CHANNELS, 4, stride=4)
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        y = self.drop(self.conv(x))
        return {RESULT}


def build_model():
    return Net()


def broken():
    raise RuntimeError("no weights\\nhere")


def number():
    return 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, "y")


def write(folder: Path, result: str) -> Path:
    (folder / "beside.py").write_text("CHANNELS = 2\n")
    path = folder / "net.py"
    path.write_text(FILE.replace("{RESULT}", result))
    return path


def spec_of(output: str = "", outputs: tuple[str, ...] = (), **side: Any) -> SpecFile:
    head = Segmentation(name="lane", labels=("other", "lane"), output=output)
    note = WeightsNote(source="tests", licence="none")
    merged = InputSide(**{"size_hw": (64, 96), "channel_order": "rgb", "mean": (0.0,) * 3, "std": (255.0,) * 3} | side)
    return SpecFile(name="n", input=merged, heads=(head,), weights=note, outputs=outputs)


def test_the_module_comes_in_eval_mode(file: Path) -> None:
    module = load_module(file, "build_model")
    assert not module.training and sum(p.numel() for p in module.parameters()) == 3 * 2 * 16 + 2


@pytest.mark.parametrize(
    ("result", "outputs", "probe"),
    [
        ("y", (), "output_0"),
        ("y", ("mask",), "mask"),
        ("(y,)", ("mask",), "mask"),
        ('{"lane": y}', (), "lane"),
    ],
)
def test_the_torch_module_is_the_reference(tmp_path: Path, result: str, outputs: tuple[str, ...], probe: str) -> None:
    found = foreign(f"{write(tmp_path, result)}:build_model", spec_of(outputs=outputs))
    assert found.source.name == "torch" and found.source.probes == (probe,)
    assert found.kind == "torch module net.py:build_model" and len(found.sha256) == 64
    frame = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    module = load_module(tmp_path / "net.py", "build_model")
    with torch.inference_mode():
        x = torch.from_numpy(frame[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
        raw = module(x)
    raw = raw if isinstance(raw, torch.Tensor) else next(iter(raw.values() if isinstance(raw, dict) else raw))
    given = found.source.infer(frame)
    np.testing.assert_allclose(given[probe], raw.numpy(), atol=1e-5)
    np.testing.assert_array_equal(given["mask_lane"], raw.argmax(1).numpy())
    note = found.source.write(tmp_path / "g.onnx")
    assert "torch.export" in note
    assert [o.name for o in load_model(tmp_path / "g.onnx").graph.output] == ["mask_lane", probe]


def test_other_weights_have_another_hash(file: Path) -> None:
    first = foreign(f"{file}:build_model", spec_of()).sha256
    assert foreign(f"{file}:build_model", spec_of()).sha256 == first
    file.write_text(file.read_text().replace("manual_seed(0)", "manual_seed(1)"))
    assert foreign(f"{file}:build_model", spec_of()).sha256 != first


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("build", r"has no function 'build'; it has: .*build_model"),
        ("broken", r"net\.py:broken failed: RuntimeError: no weights here"),
        ("number", r"net\.py:number returned int, expected a torch module"),
    ],
)
def test_a_function_that_gives_no_module(file: Path, function: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        load_module(file, function)


def test_a_file_that_can_not_be_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_module(tmp_path / "gone.py", "f")
    (tmp_path / "bad.py").write_text("import nowhere_at_all\n")
    with pytest.raises(InputError, match=r"bad\.py:f failed: ModuleNotFoundError"):
        load_module(tmp_path / "bad.py", "f")
    (tmp_path / "worse.py").write_text("def f(:\n")
    with pytest.raises(InputError, match=r"worse\.py:f failed: SyntaxError"):
        load_module(tmp_path / "worse.py", "f")


@pytest.mark.parametrize(
    ("found", "wanted", "line"),
    [
        (3, (), "returned int, expected tensors"),
        ({"a": 3}, (), "tensors only: a is int"),
        ((torch.zeros(1, 2), None), (), "tensors only: output_1 is NoneType"),
        ((torch.zeros(1, 2),), ("a", "b"), r"names 2 tensors, m returned 1: output_0 \(1, 2\)"),
    ],
)
def test_results_that_are_not_tensors(found: object, wanted: tuple[str, ...], line: str) -> None:
    with pytest.raises(InputError, match=line):
        named_outputs(found, wanted, "m")


def test_a_module_that_wants_another_input(file: Path) -> None:
    module = load_module(file, "build_model")
    with pytest.raises(InputError, match=r"m can't run an input of shape \(1, 4, 8, 8\): RuntimeError"):
        flattened(module, torch.zeros(1, 4, 8, 8), (), "m")
    with pytest.raises(InputError, match="a torch module takes nchw"):
        foreign(f"{file}:build_model", spec_of(layout="nhwc"))
    with pytest.raises(InputError, match=r"has no output 'lane'; it has output_0 \(1, 2, 16, 24\)"):
        foreign(f"{file}:build_model", spec_of(output="lane"))
