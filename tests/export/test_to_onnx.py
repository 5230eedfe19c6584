"""Torch to ONNX: static shapes, given names, a gate where the graph is not the module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgetl_export.to_onnx import OPSET, exporter_of, to_onnx
from edgetl_runtime.engines import load_engine
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.spec import TensorSpec

FRAME = torch.randint(0, 256, (1, 64, 96, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


class Maps(nn.Module):
    """A convolution's map, and the class of its largest channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        y = self.conv(frame.float().permute(0, 3, 1, 2))
        return y, y.argmax(1)


class OtherWhenExported(nn.Module):
    """One channel less in the exported graph."""

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        y = frame.float()
        return (y[..., :2] if torch.compiler.is_exporting() or torch.jit.is_tracing() else y,)


class DataDependent(nn.Module):
    """A shape that depends on the picture."""

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        return (frame.float().flatten().nonzero(),)


class Branching(nn.Module):
    """A branch on a pixel, of which only one side can be written down."""

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        y = frame.float()
        return (y * 2 if float(y.mean()) > 3 else y,)


class Unwritable(nn.Module):
    """It runs, and can't be followed while it does."""

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise RuntimeError("no graph of me\nmore about that")
        return (frame.float(),)


def export(module: nn.Module, path: Path, *names: str) -> tuple[TensorSpec, ...]:
    return to_onnx(module.eval(), FRAME, path, input_name="frame", output_names=names)


def test_names_shapes_and_values(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module, path = Maps(), tmp_path / "net.onnx"
    specs = export(module, path, "map", "best")
    assert specs == (
        TensorSpec(name="map", dtype="float32", shape=(1, 4, 32, 48)),
        TensorSpec(name="best", dtype="int64", shape=(1, 32, 48)),
    )
    assert capfd.readouterr().out == "", "stdout belongs to --json"
    model = onnx.load(path)
    assert [o.version for o in model.opset_import if o.domain == ""] == [OPSET]
    assert [i.name for i in model.graph.input] == ["frame"]
    assert not model.metadata_props and b"test_to_onnx.py" not in path.read_bytes(), "paths of this machine"
    assert exporter_of(path) == "torch.export"
    engine = load_engine("onnxruntime", path, precision="fp32")
    found = engine.infer({"frame": FRAME.numpy()})
    with torch.inference_mode():
        expected = module(FRAME)
    np.testing.assert_allclose(found["map"], expected[0].numpy(), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found["best"], expected[1].numpy())
    engine.close()


def test_one_module_one_file(tmp_path: Path) -> None:
    module = Maps()
    for name in ("a", "b"):
        export(module, tmp_path / name, "map", "best")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_disk_is_not_the_modules_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", full)
    with pytest.raises(OSError, match="No space left on device"):
        export(Maps(), tmp_path / "net.onnx", "map", "best")


@pytest.mark.parametrize(
    ("module", "says"),
    [(OtherWhenExported(), r"output shapes .*2\).* the torch module .*3\)"), (DataDependent(), r"output shapes|could")],
    ids=["other shape", "dynamic shape"],
)
def test_shapes_that_are_not_the_modules_own_fail_the_gate(tmp_path: Path, module: nn.Module, says: str) -> None:
    with pytest.raises(GateFailed, match=says):
        export(module, tmp_path / "net.onnx", "y")


def test_what_the_exporter_refuses_fails_the_gate_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        GateFailed, match=r"torch\.export could not write ONNX.*; TorchScript could not write"
    ) as caught:
        export(Unwritable(), tmp_path / "net.onnx", "y")
    assert "\n" not in caught.value.message and "no graph of me" in caught.value.message
    assert not (tmp_path / "net.onnx").exists()


def test_what_the_first_exporter_refuses_the_second_may_write(tmp_path: Path) -> None:
    module, path = Branching().eval(), tmp_path / "net.onnx"
    specs = export(module, path, "y")
    assert exporter_of(path) == "TorchScript"
    assert specs == (TensorSpec(name="y", dtype="float32", shape=(1, 64, 96, 3)),)
    model = onnx.load(path)
    assert [o.version for o in model.opset_import if o.domain == ""] == [OPSET]
    engine = load_engine("onnxruntime", path, precision="fp32")
    np.testing.assert_array_equal(engine.infer({"frame": FRAME.numpy()})["y"], module(FRAME)[0].numpy())
    engine.close()


def test_a_refusal_without_words_is_named_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(GateFailed, match="AssertionError"):
        export(Maps(), tmp_path / "net.onnx", "map", "best")
