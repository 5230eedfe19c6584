"""Engines, one file each, found by name: an ONNX file in, an object that infers out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from edgetl_runtime.errors import EngineError, MissingPackage, UnfitProcessor
from edgetl_runtime.imports import present
from edgetl_runtime.spec import EngineName

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.spec import Manifest, Precision, TensorSpec, Variant

Spin = Literal["short", "off", "default"]
"""How worker threads wait between frames: a short busy wait, none, or the engine's own default."""

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
ONNX_ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")
"""The engines that run an ONNX file itself; TensorRT runs what `edgetl build` made of it."""


class Engine(Protocol):
    """A loaded network. Not for two threads at once.

    inputs, outputs: names, dtypes and static shapes. precision: what the engine runs the network in, read
    back from it where it can say.
    """

    name: EngineName
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Run once. Inputs must be C-contiguous and stay unchanged meanwhile.

        The returned arrays belong to the engine and are valid until its next infer or close: copy what must
        live longer. Raises EngineError for a wrong name, dtype or shape, or a failure inside.
        """

    def close(self) -> None:
        """Free the network; infer raises EngineError afterwards. Closing twice is fine."""


def available_engines() -> tuple[EngineName, ...]:
    """The engines whose package is on this machine, TensorRT only with a GPU; nothing is imported."""
    return tuple(name for name in ENGINES if (_tensorrt_runs() if name == "tensorrt" else present(name)))


def _tensorrt_runs() -> bool:
    from edgetl_runtime.tensorrt.device import lacks

    return not lacks()


def load_engine(
    name: str,
    model_path: str | os.PathLike[str],
    *,
    precision: Precision,
    threads: int = 0,
    spin: Spin = "short",
    keep: bool = False,
) -> Engine:
    """Load an ONNX file into the engine called `name`, one of ONNX_ENGINES. threads: 0 lets the engine choose. keep:
    what the engine compiles may be kept in the user's cache for the next start.

    Raises EngineError for an unknown name, a model that does not load, or a precision that the engine or
    this CPU does not run; MissingPackage where the engine's package is absent.
    """
    if name == "onnxruntime":
        from edgetl_runtime.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model_path, precision=precision, threads=threads, spin=spin)
    if name == "openvino":
        from edgetl_runtime.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(model_path, precision=precision, threads=threads, keep=keep)
    if name == "tensorrt":
        raise EngineError(
            "tensorrt runs no ONNX file, it runs an engine that was built on the device",
            remedy="run edgetl build BUNDLE, then use the bundle with --engine tensorrt",
        )
    raise EngineError(f"no engine {name!r}", remedy=f"choose one of {', '.join(ENGINES)}")


def load_side_by_side(
    name: str, model_path: str | os.PathLike[str], *, precision: Precision, copies: int, threads: int = 1
) -> list[Engine]:
    """One network as several engines for as many threads at the same time; it is compiled once.

    threads: of each. More frames a second than one engine with all threads, each frame later: for measuring accuracy.
    Raises as `load_engine` does.
    """
    first: OnnxRuntimeEngine | OpenVinoEngine
    if name == "openvino":
        from edgetl_runtime.engines.openvino import OpenVinoEngine

        first = OpenVinoEngine(model_path, precision=precision, threads=copies * threads, streams=copies)
    elif name == "onnxruntime":
        from edgetl_runtime.engines.onnxruntime import OnnxRuntimeEngine

        first = OnnxRuntimeEngine(model_path, precision=precision, threads=threads)
    else:
        return [load_engine(name, model_path, precision=precision, threads=threads)]
    return [first, *(first.another() for _ in range(copies - 1))]


def choose(
    bundle: Bundle, *, variant: str | None = None, engine: str | None = None, engine_dir: Path | None = None
) -> tuple[Variant, EngineName]:
    """The pair to run: what was asked for, else what the manifest chose. Never another one in silence.

    An engine that was asked for alone, and that the chosen variant is not for, runs its own form of it, like int8-ort
    for int8, where that kept the accuracy budget. For TensorRT the variant is by default the one that `edgetl build`
    measured to be the fastest on this device.

    Raises EngineError that lists every pair in the bundle where the one asked for is not among them.
    """
    manifest = bundle.manifest
    if engine == "tensorrt" and variant is None:
        from edgetl_runtime.engines.tensorrt import built_variant

        variant = built_variant(bundle, engine_dir)
    wanted = (variant or _chosen_for(engine, manifest), engine or manifest.chosen.engine)
    for candidate in manifest.variants:
        for name in candidate.engines:
            if (candidate.name, name) == wanted:
                return candidate, name
    pairs = ", ".join(f"{v.name} on {' or '.join(v.engines)}" for v in manifest.variants)
    raise EngineError(
        f"the bundle {bundle.path} has no variant {wanted[0]!r} for engine {wanted[1]!r}",
        remedy=f"there are: {pairs}; choose with --variant and --engine",
    )


def _chosen_for(engine: str | None, manifest: Manifest) -> str:
    """The chosen variant, or this engine's own form of it within the budget."""
    chosen = manifest.variant(manifest.chosen.variant)
    if engine is None or engine in chosen.engines:
        return chosen.name
    passed = {hop.hop for hop in manifest.hops if hop.passed}
    own = (
        v.name
        for v in manifest.variants
        if v.name.startswith(f"{chosen.name}-") and v.precision == chosen.precision and f"{engine}/{v.name}" in passed
    )
    return next(own, chosen.name)


def load_bundle_engine(
    bundle: Bundle,
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int = 0,
    spin: Spin = "short",
    engine_dir: Path | None = None,
) -> Engine:
    """Load one variant of a bundle, by default the chosen pair; its tensors are compared with the manifest.

    engine_dir: where `edgetl build` put its engines, by default beside the bundle.

    Raises EngineError for a pair that is not in the bundle or tensors that differ. Naming the pairs that this machine
    could run instead: MissingPackage where the engine's package is absent, UnfitProcessor where the processor does not
    run the precision.
    """
    picked, name = choose(bundle, variant=variant, engine=engine, engine_dir=engine_dir)
    loaded: Engine
    try:
        if name == "tensorrt":
            from edgetl_runtime.engines.tensorrt import load_built

            loaded = load_built(bundle, picked, engine_dir=engine_dir)
        else:
            loaded = load_engine(
                name, bundle.model_path(picked), precision=picked.precision, threads=threads, spin=spin, keep=True
            )
    except MissingPackage as error:
        if others := pairs_here(bundle.manifest):
            error.remedy += f"; or run another pair that works here: {', '.join(others)}"
        raise
    except UnfitProcessor as error:
        if others := pairs_here(bundle.manifest):
            error.remedy = f"run another pair that works here: {', '.join(others)}"
        raise
    for kind, found, expected in (
        ("inputs", loaded.inputs, bundle.manifest.inputs),
        ("outputs", loaded.outputs, bundle.manifest.outputs),
    ):
        if sorted(found, key=lambda t: t.name) != sorted(expected, key=lambda t: t.name):
            loaded.close()
            raise EngineError(
                f"{picked.file} has {kind} {describe(found)}, the manifest says {describe(expected)}",
                remedy="export the bundle again",
            )
    return loaded


def pairs_here(manifest: Manifest) -> list[str]:
    """The pairs that this machine can run, as one asks for them: those within the accuracy budget first, the fastest of
    the machine that made the bundle first."""
    here = available_engines()
    times = {f"{row.engine}/{row.variant}": row.p50_ms for row in manifest.latencies}
    passed = {hop.hop for hop in manifest.hops if hop.passed}
    found = [
        (f"{e}/{v.name}", v, e) for v in manifest.variants for e in v.engines if e in here and _runs(e, v.precision)
    ]
    found.sort(key=lambda pair: (pair[0] not in passed, times.get(pair[0], math.inf)))
    return [f"--variant {variant.name} --engine {engine}" for _, variant, engine in found]


def _runs(engine: EngineName, precision: Precision) -> bool:
    if engine != "openvino":
        return True
    from edgetl_runtime.engines.openvino import runs

    return runs(precision)


def describe(tensors: tuple[TensorSpec, ...]) -> str:
    """Tensors as text for a person."""
    return ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in tensors)
