"""Measured time of candidates as they would ship: exported, folded, quantised, on every engine of this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import EdgetlError
from edgetl_runtime.progress import Progress

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.spec import EngineName, Head, Precision

    Runner = tuple[EngineName, Precision]

CALIBRATION_FRAMES = 4
"""Enough for ranges that let an engine run at its speed; accuracy is not looked at here."""
QUICK_RUNS = 10
RUNS = 40


@dataclass(frozen=True, slots=True)
class Time:
    """Median milliseconds of the fastest pair of engine and variant; None, and why, where nothing ran."""

    ms: float | None
    pair: str = ""
    why: str = ""


def measure_latency(
    backbones: Sequence[str], dataset: Dataset, heads: tuple[Head, ...], size_hw: tuple[int, int], *, runs: int = RUNS
) -> dict[str, Time]:
    """Time of each backbone with these heads on this machine; weights don't matter to it and are random.

    Every backbone's fastest pair is found first; these then take turns, so that noise meets all alike.
    """
    from edgetl_runtime.bench import measure

    frames, unique = _frames(dataset, size_hw), list(dict.fromkeys(backbones))
    best: dict[str, tuple[str, Engine]] = {}
    times: dict[str, Time] = {}
    with tempfile.TemporaryDirectory(prefix="edgetl-rank-") as folder, ExitStack() as open_engines:
        with Progress("latency", len(unique), unit="networks") as progress:
            for name in unique:
                try:
                    files = compile_network(name, heads, size_hw, frames, Path(folder) / name)
                    best[name] = _fastest(files, frames[0])
                    open_engines.callback(best[name][1].close)
                except EdgetlError as error:
                    times[name] = Time(None, why=error.message)
                progress.step(note=name)
        if best:
            calls = {name: _call(engine, frames[0]) for name, (_, engine) in best.items()}
            measured = measure(calls, runs=runs, warmup=3)
            times |= {name: Time(float(np.median(measured[name])), best[name][0]) for name in best}
    return times


def compile_network(
    backbone: str, heads: tuple[Head, ...], size_hw: tuple[int, int], frames: Sequence[NDArray[np.uint8]], folder: Path
) -> Mapping[Runner, Path]:
    """ONNX files by engine and precision of a network of random weights with these heads.

    Raises GateFailed where the network can't be exported, InputError for a backbone that isn't one.
    """
    import torch

    from edgetl.heads import kinds_of, network_of
    from edgetl.models.backbone import build_backbone
    from edgetl.models.deploy import INPUT, Deployed
    from edgetl_export.candidates import FLOAT_RUNNERS
    from edgetl_export.graph import load_model, save_model, without_outputs
    from edgetl_export.passes import PASSES
    from edgetl_export.search import RUNNERS, named, quantiser_of
    from edgetl_export.to_onnx import to_onnx
    from edgetl_runtime.spec import Preprocess

    folder.mkdir()
    built = build_backbone(backbone, "none", fold=True)
    preprocess = Preprocess(size_hw=size_hw, mean=built.input_range.mean, std=built.input_range.std)
    kinds = kinds_of(heads)
    module = Deployed(network_of(built, kinds), kinds, preprocess).eval()
    raw, folded, fp32 = (folder / f"{n}.onnx" for n in ("raw", "folded", "fp32"))
    names = [*module.outputs, *module.probes]
    to_onnx(module, torch.from_numpy(frames[0]), raw, input_name=INPUT, output_names=names)
    model = load_model(raw)
    for each in PASSES:
        model, _ = each.run(model)
    save_model(model, folded)
    save_model(without_outputs(model, module.probes), fp32)
    quantiser = quantiser_of(folded, module.probes, frames, work=folder, ship=folder)
    schemes = dict.fromkeys(quantiser.scheme_for(engine) for engine, _ in RUNNERS)
    int8 = {scheme: quantiser.build(named("int8", scheme), scheme=scheme)[1] for scheme in schemes}
    files = {runner: int8[quantiser.scheme_for(runner[0])] for runner in RUNNERS}
    return {**dict.fromkeys(FLOAT_RUNNERS, fp32), **files}


def _fastest(files: Mapping[Runner, Path], frame: NDArray[np.uint8]) -> tuple[str, Engine]:
    """`engine/variant` and the loaded engine of the fastest pair that runs here; the caller closes it."""
    from edgetl_runtime.bench import measure
    from edgetl_runtime.engines import available_engines, load_engine
    from edgetl_runtime.errors import EngineError

    engines: dict[str, Engine] = {}
    reasons: list[str] = []
    for (engine, precision), path in files.items():
        if engine not in available_engines():
            continue
        try:
            engines[f"{engine}/{precision}"] = load_engine(engine, path, precision=precision)
        except EngineError as error:
            reasons.append(error.message)
    if not engines:
        raise EngineError("no engine of this machine runs it: " + ("; ".join(reasons) or "none is installed"))
    times = measure({k: _call(e, frame) for k, e in engines.items()}, runs=QUICK_RUNS, warmup=2)
    winner = min(engines, key=lambda k: float(np.median(times[k])))
    for key, loaded in engines.items():
        if key != winner:
            loaded.close()
    return winner, engines[winner]


def _call(engine: Engine, frame: NDArray[np.uint8]) -> Callable[[], object]:
    inputs = {engine.inputs[0].name: frame}
    return lambda: engine.infer(inputs)


def _frames(dataset: Dataset, size_hw: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Some of the dataset's images at network size."""
    from edgetl.data import read_image
    from edgetl_runtime.letterbox import Letterbox
    from edgetl_runtime.spec import Preprocess

    letterbox = Letterbox(Preprocess(size_hw=size_hw, mean=(0, 0, 0), std=(1, 1, 1)))
    return [letterbox(read_image(s.image))[0].copy() for s in dataset.take(CALIBRATION_FRAMES).samples]
