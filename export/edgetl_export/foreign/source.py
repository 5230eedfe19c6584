"""A foreign network as a Source: the graph that ships, and the reference that knows nothing of that graph.

The reference prepares frames, runs the network as its owner would, and decodes, all without a line of the graph:
numpy, ONNX Runtime on the file as it came (or torch on the module), numpy. So a mistake in the graph shows in parity.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edgetl_export.foreign.compose import compose, heads_of, probe_names, raw_names
from edgetl_export.foreign.decoders import Decoder
from edgetl_export.foreign.module_file import flattened, load_module, module_of
from edgetl_export.foreign.network import Network, read_network
from edgetl_export.foreign.spec_file import SpecFile
from edgetl_export.graph import save_model
from edgetl_export.parity import Infer
from edgetl_export.read_onnx import weight_files
from edgetl_export.source import Source
from edgetl_export.to_onnx import exporter_of, to_onnx
from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import onnxruntime as need_onnxruntime
from edgetl_runtime.spec import Head, Preprocess

if TYPE_CHECKING:
    from torch import nn

RunNetwork = Callable[[NDArray[np.generic]], Mapping[str, NDArray[np.generic]]]
"""The network's input, batch 1, to its outputs by name."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A network with its heads.

    heads_each: how many of them each of the spec's decoders gives. sha256: of the ONNX file and those that hold its
    weights, or of the module's weights. kind: what it is, for provenance.
    """

    source: Source
    heads: tuple[Head, ...]
    heads_each: tuple[int, ...]
    sha256: str
    kind: str


def foreign(network: str, spec: SpecFile) -> Foreign:
    """The network `model.onnx` or `module.py:function` as the spec describes it.

    Raises InputError where file and spec don't fit each other.
    """
    named = module_of(network)
    if named is not None:
        return _from_module(*named, spec)
    return _from_onnx(Path(network), spec)


def prepare(
    frame: NDArray[np.uint8], preprocess: Preprocess, *, layout: str = "nchw", dtype: type[np.generic] = np.float32
) -> NDArray[np.generic]:
    """A frame (1, H, W, 3) uint8 BGR as the network's input."""
    image = frame[..., ::-1] if preprocess.channel_order == "rgb" else frame
    x = (image - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return np.ascontiguousarray(x if layout == "nhwc" else x.transpose(0, 3, 1, 2)).astype(dtype)


def _reference(
    run: RunNetwork,
    preprocess: Preprocess,
    reads: Sequence[tuple[Decoder, Sequence[str]]],
    probes: Mapping[str, str],
    *,
    layout: str,
    dtype: type[np.generic],
) -> Infer:
    """A frame to the heads' outputs and the network's own, by the names that they have in the graph."""

    def infer(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        raw = run(prepare(frame, preprocess, layout=layout, dtype=dtype))
        found: dict[str, NDArray[np.generic]] = {probes[name]: np.asarray(raw[name]) for name in probes}
        for decoder, wanted in reads:
            arrays = [np.asarray(raw[n], np.float32) for n in wanted]
            found |= decoder.reference(arrays, preprocess.size_hw)
            found |= {probes[wanted[place]]: array for place, array in decoder.steady(arrays).items()}
        return found

    return infer


def source_of(network: Network, spec: SpecFile, run: RunNetwork, *, name: str, note: str = "") -> Source:
    """A Source whose reference is `run` between numpy's preparation and decoding."""
    preprocess = spec.input.preprocess
    heads = heads_of(network, spec.heads, preprocess.size_hw)
    probes = probe_names(network, spec.heads, raw_names(network, spec.heads, heads))
    uint8 = network.input_type == TensorProto.UINT8

    def write(path: Path) -> str:
        save_model(compose(network, preprocess, spec.heads, heads), path)
        return note or "the file's graph with the frame before it and the decoders behind it"

    return Source(
        name=name,
        outputs=tuple(o for h in heads for o in h.outputs),
        probes=tuple(probes.values()),
        infer=_reference(
            run,
            preprocess,
            [(d, [o.name for o in network.read_by(d)]) for d in spec.heads],
            probes,
            layout=network.layout,
            dtype=np.uint8 if uint8 else np.float32,
        ),
        write=write,
    )


def _from_onnx(path: Path, spec: SpecFile) -> Foreign:
    if spec.outputs:
        raise InputError("`outputs` names what a torch module returns; an ONNX file has names", remedy="remove it")
    network = read_network(path, spec.input)
    source = source_of(network, spec, file_runner(network), name="onnxruntime")
    digest = hashlib.sha256()
    for file in (path, *weight_files(path)):
        digest.update(file.read_bytes())
    return _foreign(network, spec, source, digest.hexdigest(), f"ONNX file {path.name}")


def _foreign(network: Network, spec: SpecFile, source: Source, sha256: str, kind: str) -> Foreign:
    size_hw = spec.input.size_hw
    each = tuple(len(heads_of(network, [d], size_hw)) for d in spec.heads)
    return Foreign(source, heads_of(network, spec.heads, size_hw), each, sha256, kind)


def file_runner(network: Network) -> RunNetwork:
    """ONNX Runtime on the file as it came; a batch that the file has fixed is filled with the one frame."""
    ort = need_onnxruntime()
    session = ort.InferenceSession(str(network.path), providers=["CPUExecutionProvider"])
    outputs = list(network.outputs)

    def run(x: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        arrays = session.run(outputs, {network.input_name: np.repeat(x, network.batch, axis=0)})
        return {n: a[:1] if network.batch > 1 else a for n, a in zip(outputs, arrays, strict=True)}

    return run


def _from_module(path: Path, function: str, spec: SpecFile) -> Foreign:
    import torch

    module = load_module(path, function)
    if spec.input.layout != "nchw":
        raise InputError("a torch module takes nchw", remedy="remove input.layout from the spec")
    example = torch.zeros(1, 3, *spec.input.size_hw)
    named, outputs = flattened(module, example, spec.outputs, f"{path.name}:{function}")
    with tempfile.TemporaryDirectory(prefix="edgetl-module-") as folder:
        file = Path(folder) / "module.onnx"
        to_onnx(named, example, file, input_name="input", output_names=outputs)
        note = f"written by {exporter_of(file)}, with the frame before it and the decoders behind it"
        network = read_network(file, spec.input)

    def run(x: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        # Weight decay leaves numbers below the normal range of float, each a hundred times slower: zero meanwhile.
        torch.set_flush_denormal(True)
        try:
            with torch.inference_mode():
                return dict(zip(outputs, (t.numpy() for t in named(torch.from_numpy(x))), strict=True))
        finally:
            torch.set_flush_denormal(False)

    source = source_of(network, spec, run, name="torch", note=note)
    return _foreign(network, spec, source, _weights_sha256(module), f"torch module {path.name}:{function}")


def _weights_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
