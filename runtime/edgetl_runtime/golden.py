"""Golden samples: frames that travel in the bundle, with what each variant gave for them where it was exported.

A variant is held against itself: INT8 and fp32 of one network may differ by a box that hardly reached its threshold,
which says nothing about the device.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgetl_runtime.errors import BundleError, EngineError, InputError
from edgetl_runtime.machine import saturates_int8
from edgetl_runtime.npz import BadArrays, read_npz
from edgetl_runtime.spec import DetectHead, Head, SegmentHead, sample_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.spec import Precision

TOLERANCE = 1e-3
"""For the engine that gave them, at fp32: the same program on the same numbers, up to the order of its sums."""
TOLERANCE_REDUCED = 2e-2
"""For the engine that gave them, at int8: instruction sets round a few of 256 steps differently."""
TOLERANCE_BF16 = 1e-1
"""For the engine that gave them, at bf16: a processor without its instructions rounds in other places. 0.05 between
AVX512-BF16 and OpenVINO's emulation on AVX512, whose metric is as good."""
TOLERANCE_OTHER = 1e-1
"""For another engine, or where only another variant has samples: catches a wrong model or colour order; the metric
judges the rest. See `allowance` for networks that rounding moves further."""
MOST_ALLOWED = 0.5
"""Of what an engine without samples of its own may be apart, however much the precision costs."""
ROUNDINGS = 2.0
"""Two engines that round the same graph may lie on either side of float."""

FLOAT = "fp32"
"""The variant whose samples show what another's precision costs."""

SATURATES = "sums of INT8 saturate on this processor, which has no VNNI: run fp32, or export on such a one"

Replay = Literal["replay", "skip"]
SKIPPED = "the golden samples were not replayed before the first frame, as was asked for"
"""The note in the summary of a run whose engine was not compared with the bundle's golden samples."""
START_FRAMES = 1
"""Replayed before the first frame on the vehicle: the engine's slow first run is due anyway, so it costs little."""
MAX_BYTES = 256 * 1024 * 1024
"""Of any one array of golden samples, which are a handful of frames."""


@dataclass(frozen=True, slots=True)
class Golden:
    """frames: (N, H, W, 3) uint8 BGR at network size. outputs: every head's outputs by name, each (N, ...), of the
    chosen variant or of the one that was asked for. others: by variant, what further ones gave."""

    frames: NDArray[np.uint8]
    outputs: dict[str, NDArray[np.generic]]
    others: Mapping[str, Mapping[str, NDArray[np.generic]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """compared: frames replayed. worst_rel_error: of the worst head, 0 to 1, see `head_error`. tolerance: what it was
    held against. heads: the worst error of each. ms: how long reading and replaying took. worst: the head that is the
    furthest from its samples, for what it is allowed. why: what is known of the reason, where it is too far.
    """

    compared: int
    worst_rel_error: float
    tolerance: float
    ok: bool
    heads: dict[str, float]
    ms: float = 0.0
    worst: str = ""
    why: str = ""

    def as_json(self) -> dict[str, float]:
        """Plain values for a run's summary."""
        figures = {"worst_rel_error": self.worst_rel_error, "tolerance": self.tolerance, "ms": round(self.ms, 1)}
        return {"frames": self.compared, **figures}


def write_golden(path: str | os.PathLike[str], golden: Golden) -> None:
    """Write golden samples as a compressed .npz at `path`."""
    named: dict[str, NDArray[np.generic]] = {_key(name): value for name, value in golden.outputs.items()}
    for variant, outputs in golden.others.items():
        named |= {_key(name, variant): value for name, value in outputs.items()}
    np.savez_compressed(path, frames=golden.frames, **named)  # type: ignore[arg-type]


def _key(output: str, variant: str = "") -> str:
    """What an output's array is called, "" for the chosen variant."""
    return f"{variant}.out_{output}" if variant else f"out_{output}"


def read_golden(bundle: Bundle, *, frames: int | None = None, variant: str = "", engine: str = "") -> Golden:
    """The golden samples of a bundle, or the first `frames` of them, with the outputs of a variant that has some.

    engine: whose samples are taken where there are some of this very pair.
    Raises BundleError where they can't be read or don't fit the manifest.
    """
    name, manifest = bundle.manifest.golden, bundle.manifest
    of = _sample_of(bundle, variant, engine)
    wanted = {_key(output, of): output for head in manifest.heads for output in head.outputs}
    try:
        arrays = read_npz(bundle.file(name), ("frames", *wanted), max_bytes=MAX_BYTES, rows=frames)
    except BadArrays as error:
        raise BundleError(
            f"the golden samples {name} are unreadable: {error}", remedy="export the bundle again"
        ) from error
    pictures = arrays["frames"]
    outputs = {output: arrays[key] for key, output in wanted.items()}
    specs = {s.name: s for s in manifest.outputs}
    count = len(pictures) if pictures.ndim else 0
    _fits(name, "frames", pictures, (*manifest.preprocess.size_hw, 3), "uint8", count)
    for output, value in outputs.items():
        _fits(name, output, value, specs[output].shape[1:], specs[output].dtype, count)
    return Golden(np.asarray(pictures, np.uint8), outputs)


def _fits(file: str, key: str, array: NDArray[np.generic], shape: tuple[int, ...], dtype: str, count: int) -> None:
    """Raise BundleError unless `array` holds `count` (at least one) of this shape and dtype."""
    if count == 0 or array.shape != (count, *shape) or array.dtype.name != dtype:
        raise BundleError(
            f"the golden samples {file} hold {key} {array.dtype}{list(array.shape)}, "
            f"expected {dtype}{[count, *shape]} and at least one",
            remedy="export the bundle again",
        )


def variant_of(bundle: Bundle, engine: Engine) -> str:
    """The variant that an engine runs, by its name and precision: the chosen one where that fits."""
    manifest = bundle.manifest
    fitting = [v.name for v in manifest.variants if engine.name in v.engines and engine.precision == v.precision]
    return manifest.chosen.variant if manifest.chosen.variant in fitting or not fitting else fitting[0]


def _sample_of(bundle: Bundle, variant: str, engine: str) -> str:
    """The name of the samples that this pair is held against, "" for the chosen pair's."""
    manifest = bundle.manifest
    if (variant, engine) == (manifest.chosen.variant, manifest.chosen.engine):
        return ""
    names = (sample_name(variant, engine), variant)
    return next((name for name in names if name in manifest.golden_engines), "")


def tolerances_of(bundle: Bundle, engine: Engine, variant: str, golden: Golden) -> dict[str, float]:
    """How far `engine` may be from the golden outputs, 0 to 1 in the measure of `head_error`, by head."""
    manifest = bundle.manifest
    of = _sample_of(bundle, variant, engine.name)
    gave = manifest.golden_engines.get(of, manifest.chosen.engine)
    sampled = of.partition("@")[0] or manifest.chosen.variant
    if (sampled, gave) == (variant, engine.name):
        return dict.fromkeys((head.name for head in manifest.heads), _own_tolerance(engine.precision))
    known = manifest.chosen.variant == FLOAT or FLOAT in manifest.golden_engines
    known = known and sampled == variant and engine.precision != "fp32"
    floats = read_golden(bundle, frames=len(golden.frames), variant=FLOAT).outputs if known else golden.outputs
    return allowance(manifest.heads, floats, golden.outputs, side=max(manifest.preprocess.size_hw))


def _own_tolerance(precision: Precision) -> float:
    if precision == "fp32":
        return TOLERANCE
    return TOLERANCE_BF16 if precision.endswith("bf16") else TOLERANCE_REDUCED


def allowance(
    heads: Sequence[Head],
    floats: Mapping[str, NDArray[np.generic]],
    rounded: Mapping[str, NDArray[np.generic]],
    *,
    side: int,
) -> dict[str, float]:
    """How far another engine may be from a variant's samples, by head: as far as its precision moved it, twice.

    floats, rounded: (N, ...) by output, what the network gave in float32 and in the variant's precision. In INT8 and
    FP16 single values fall to one side or the other, and two sound engines may be as far apart as each is from float.
    """
    found = {}
    for head in heads:
        apart = [
            head_error(head, _row(floats, i), _row(rounded, i), side=side) for i in range(len(rounded[head.outputs[0]]))
        ]
        found[head.name] = max(TOLERANCE_OTHER, min(ROUNDINGS * max(apart), MOST_ALLOWED))
    return found


def _row(outputs: Mapping[str, NDArray[np.generic]], index: int) -> dict[str, NDArray[np.generic]]:
    return {name: value[index : index + 1] for name, value in outputs.items()}


def replay_golden(
    bundle: Bundle,
    engine: Engine,
    *,
    variant: str = "",
    tolerance: float | None = None,
    frames: int | None = None,
) -> GoldenReport:
    """Run every golden frame, or the first `frames`, through `engine`; compare with the bundle's outputs by head.

    variant: that the engine runs, "" for the one that fits it. Where no samples are of it on this engine, those of
    another, and where none are of it, those of the chosen pair have to do: see `tolerances_of`. tolerance: of every
    head, instead of that.
    """
    start = time.perf_counter()
    variant = variant or variant_of(bundle, engine)
    golden = read_golden(bundle, frames=frames, variant=variant, engine=engine.name)
    side = max(bundle.manifest.preprocess.size_hw)
    name = engine.inputs[0].name
    errors = dict.fromkeys((h.name for h in bundle.manifest.heads), 0.0)
    limits = tolerances_of(bundle, engine, variant, golden) if tolerance is None else dict.fromkeys(errors, tolerance)
    for i in range(len(golden.frames)):
        found = engine.infer({name: golden.frames[i : i + 1]})
        expected = _row(golden.outputs, i)
        for head in bundle.manifest.heads:
            errors[head.name] = max(errors[head.name], head_error(head, expected, found, side=side))
    worst = max(errors, key=lambda head: errors[head] / limits[head])
    ok = errors[worst] <= limits[worst]
    ms = (time.perf_counter() - start) * 1e3
    why = SATURATES if not ok and engine.precision.startswith("int8") and saturates_int8() else ""
    return GoldenReport(
        len(golden.frames), errors[worst], limits[worst], ok=ok, heads=errors, ms=ms, worst=worst, why=why
    )


def prove_golden(bundle: Bundle, engine: Engine, *, variant: str = "", frames: int = START_FRAMES) -> GoldenReport:
    """Replay the first `frames` golden frames, as a start-up check. Raises EngineError where they differ."""
    report = replay_golden(bundle, engine, variant=variant, frames=frames)
    _refuse(bundle, engine, report)
    return report


def _refuse(bundle: Bundle, engine: Engine, report: GoldenReport) -> None:
    """Raise EngineError where the replay was too far off."""
    if not report.ok:
        raise EngineError(
            f"{engine.name} at {engine.precision} does not give what the bundle {bundle.path} recorded: the head "
            f"{report.worst!r} differs by {report.worst_rel_error:.2g}, allowed {report.tolerance:.0e}; nothing is run",
            remedy="; ".join(
                [*filter(None, [report.why]), "see `edgetl verify`, or run another pair with --variant and --engine"]
            ),
        )


def start_check(
    bundle: Bundle, engine: Engine, golden: GoldenReport | Replay, *, variant: str = ""
) -> GoldenReport | None:
    """The replay before the first frame, unless it was done already or is to be skipped (None).

    Raises EngineError where the engine differs, also by the report of a replay that was done, and InputError for
    anything else than these: what is mistyped skips nothing.
    """
    if isinstance(golden, GoldenReport):
        _refuse(bundle, engine, golden)
        return golden
    if golden not in ("replay", "skip"):
        raise InputError(f"golden must be 'replay', 'skip' or a GoldenReport, found {golden!r}")
    return prove_golden(bundle, engine, variant=variant) if golden == "replay" else None


def load_proven(
    bundle: Bundle, load: Callable[[], Engine], golden: GoldenReport | Replay, *, variant: str = ""
) -> tuple[Engine, GoldenReport | None]:
    """What `load` gives with the proof of `start_check`; closed where there is none. Raises as both do."""
    engine = load()
    try:
        return engine, start_check(bundle, engine, golden, variant=variant)
    except BaseException:
        engine.close()
        raise


def head_error(
    head: Head, expected: Mapping[str, NDArray[np.generic]], found: Mapping[str, NDArray[np.generic]], *, side: int
) -> float:
    """How far one head's outputs for one frame are from what they were, 0 to 1.

    Boxes: see `box_error`. Masks: the share of cells of another class, so that the tolerances allow 1 in 1000, 1 in
    50 and 1 in 10. Categories: the largest difference of a probability. Another shape, or a NaN, counts as 1.
    """
    if isinstance(head, DetectHead):
        return box_error(expected, found, thresholds=head.thresholds, side=side)
    name = head.outputs[0]
    was, now = np.asarray(expected[name]), np.asarray(found[name])
    if was.shape != now.shape:
        return 1.0
    if isinstance(head, SegmentHead):
        return float(np.mean(was != now))
    difference = np.abs(was.astype(np.float64) - now.astype(np.float64))
    return min(float(difference.max(initial=0.0)), 1.0) if np.isfinite(difference).all() else 1.0


def box_error(
    expected: Mapping[str, NDArray[np.generic]],
    found: Mapping[str, NDArray[np.generic]],
    *,
    thresholds: Sequence[float],
    side: int,
) -> float:
    """The relative error of one frame's boxes, 0 to 1.

    Scores are compared in falling order, relative to the largest one. Boxes at or above their label's threshold are
    compared with the nearest box of their class, relative to the network's longer side: engines may order near-equal
    scores differently. A missing box or a NaN counts as 1.
    """
    scores, other = _scores(expected), _scores(found)
    if scores.shape != other.shape or not (np.isfinite(scores).all() and np.isfinite(other).all()):
        return 1.0
    largest = max(float(np.abs(scores).max(initial=0.0)), 1e-6)
    error = float(np.abs(np.sort(scores) - np.sort(other)).max(initial=0.0)) / largest
    classes = np.asarray(expected["classes"])[0].astype(np.intp)
    sure = np.flatnonzero(scores >= np.asarray(thresholds).take(classes, mode="clip"))
    if len(sure):
        boxes = np.asarray(expected["boxes"], np.float64)[0, sure]
        far = np.abs(boxes[:, None] - np.asarray(found["boxes"], np.float64)[0][None]).max(axis=2) / side
        same = classes[sure][:, None] == np.asarray(found["classes"])[0][None]
        nearest = np.where(same & np.isfinite(far), far, 1.0).min(axis=1)
        error = max(error, float(nearest.max()))
    return min(error, 1.0)


def _scores(outputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = np.asarray(outputs["scores"], np.float64)[0]
    return scores
