"""A bundle's TensorRT engines, built on the device that will run them, and proven there.

Every variant that the manifest lists for TensorRT is compiled in a worker process, loaded in a second one, held
against the ONNX file's precisions and the golden samples, timed, and only then put in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgetl_runtime.errors import EdgetlError, EngineError, GateFailed, InputError
from edgetl_runtime.tensorrt.device import Device, default_engine_dir, fingerprint, free_memory, probe_device
from edgetl_runtime.tensorrt.jobs import Options, compile_onnx, examine_plans
from edgetl_runtime.tensorrt.memory import workspace_mb
from edgetl_runtime.tensorrt.protocol import Examined, Plan, Proof
from edgetl_runtime.tensorrt.store import EngineStore, Fastest, Percentiles, Record, file_sha256

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.spec import Variant
    from edgetl_runtime.tensorrt.device import Fingerprint
    from edgetl_runtime.tensorrt.memory import Memory

NAMED_LAYERS = 3
"""How many layers of a failed proof are named in the one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where one run of `build_bundle` works, and for whom."""

    bundle: Bundle
    options: Options
    device: Device
    store: EngineStore
    memory: Callable[[], Memory]
    say: Callable[[str], None]


def build_bundle(
    bundle: Bundle,
    options: Options,
    *,
    say: Callable[[str], None],
    device: Device | None = None,
    memory: Callable[[], Memory] | None = None,
) -> dict[str, object]:
    """Build what is missing or stale, keep what is up to date, and record the fastest variant.

    Returns {bundle, engine_dir, device, variants, chosen, seconds}. `device`, `memory`: None to look. Raises
    EngineError where nothing can be built here or a build fails, GateFailed where an engine does not run in what was
    asked for or gives other outputs; what other variants gained stands.
    """
    start = time.monotonic()
    variants = tensorrt_variants(bundle, options.variant)
    here = device or probe_device()
    store = EngineStore(options.engine_dir or default_engine_dir(bundle.path))
    site = Site(
        bundle=bundle,
        options=options,
        device=here,
        store=store,
        memory=memory or (lambda: free_memory(here)),
        say=say,
    )
    say(f"device       {here.gpu.name} ({here.gpu.compute_capability}), driver {here.driver}")
    say(f"library      {here.module} {here.version}, networks strongly typed: precisions are the ONNX file's")
    rows: dict[str, dict[str, object]] = {}
    failures: dict[str, EdgetlError] = {}
    with store.building() as staging:
        for variant in variants:
            try:
                rows[variant.name] = _bring_up_to_date(site, variant, staging)
            except (EngineError, GateFailed) as error:
                failures[variant.name] = error
        chosen = _choose(site, rows) if rows else None
    if failures:
        raise _failure(failures, list(rows))
    return {
        "bundle": str(bundle.path),
        "engine_dir": str(store.folder),
        "device": {
            "gpu": here.gpu.name,
            "compute_capability": here.gpu.compute_capability,
            "driver": here.driver,
            "library": here.module,
            "version": here.version,
        },
        "variants": rows,
        "chosen": msgspec.to_builtins(chosen),
        "seconds": round(time.monotonic() - start, 3),
    }


def tensorrt_variants(bundle: Bundle, name: str | None) -> list[Variant]:
    """The variants to build. Raises InputError where there is none, or not the one asked for."""
    there = [v for v in bundle.manifest.variants if "tensorrt" in v.engines]
    if not there:
        raise InputError(
            f"the bundle {bundle.path} has no variant for TensorRT",
            remedy="export it again with a TensorRT target, e.g. --target orin-nano",
        )
    picked = [v for v in there if name in (None, v.name)]
    if not picked:
        raise InputError(
            f"the bundle {bundle.path} has no TensorRT variant {name!r}",
            remedy=f"there are: {', '.join(v.name for v in there)}",
        )
    return picked


def _bring_up_to_date(site: Site, variant: Variant, staging: Path) -> dict[str, object]:
    """Keep a variant's engine or build it; the row that the document has for it."""
    entry = site.bundle.manifest.files[variant.file]
    wanted = fingerprint(site.device, onnx_sha256=entry.sha256, workspace_mb=site.options.workspace_mb)
    why = site.store.why_stale(variant.name, wanted)
    if why == [] and not site.options.force:
        record = site.store.record(variant.name)
        assert record is not None
        site.say(f"{variant.name:<12} up to date: built in {record.build_seconds:.0f} s, {_figures(record)}")
        return _row("kept", [], site.store, record)
    reasons = ["there is no engine yet"] if why is None else why or ["--force"]
    site.say(f"{variant.name:<12} building: {', '.join(reasons)}")
    record = _build(site, variant, staging, wanted)
    site.say(f"{variant.name:<12} built in {record.build_seconds:.0f} s, {_figures(record)}")
    return _row("built", reasons, site.store, record)


def _build(site: Site, variant: Variant, staging: Path, wanted: Fingerprint) -> Record:
    """Compile, examine and publish one variant."""
    entry = site.bundle.manifest.files[variant.file]
    asked = site.options.workspace_mb
    allowed = workspace_mb(site.memory(), onnx_bytes=entry.bytes, wanted_mb=asked)
    if allowed < asked:
        site.say(f"{variant.name:<12} workspace {allowed} MB instead of {asked} MB: no more memory is free")
    plan = staging / f"{variant.name}.plan"
    compiled = compile_onnx(
        site.bundle.model_path(variant),
        plan,
        title=variant.name,
        modules=(site.device.module,),
        workspace_mb=allowed,
        timing_cache=None if site.device.is_rtx else site.store.timing_cache,
        options=site.options,
    )
    (found,) = _examine(site, [Plan(variant=variant.name, file=str(plan))])
    _gate(variant, found)
    if found.proof.asked and not found.proof.found:
        site.say(f"{variant.name:<12} precision NOT proven: this TensorRT does not say what its layers run in")
    result = compiled.result
    record = Record(
        variant=variant.name,
        precision=variant.precision,
        fingerprint=wanted,
        plan_sha256=file_sha256(plan),
        plan_bytes=plan.stat().st_size,
        build_seconds=result.seconds,
        workspace_mb_used=allowed,
        weights_bytes=result.weights_bytes,
        activation_bytes=result.activation_bytes,
        proof=found.proof,
        layers=found.layers,
        golden_error=found.golden_error,
        latency=_percentiles(found),
    )
    site.store.publish(plan, record)
    return record


def _examine(site: Site, plans: list[Plan]) -> list[Examined]:
    return examine_plans(site.bundle, plans, module=site.device.module, options=site.options)


def _gate(variant: Variant, found: Examined) -> None:
    """Raise GateFailed where an engine runs in another precision than was asked for, or gives other outputs."""
    wrong = found.proof.mismatches
    if wrong:
        named = [f"{m.layer or 'a layer'}: {m.asked} was asked, {m.found} found" for m in wrong[:NAMED_LAYERS]]
        more = f" and {len(wrong) - NAMED_LAYERS} more" if len(wrong) > NAMED_LAYERS else ""
        raise GateFailed(
            f"{variant.name}: the engine does not run in the precision of its ONNX file: {'; '.join(named)}{more}",
            remedy="take another variant, and export with fewer quantised layers or another target",
        )
    if not found.golden_error <= found.golden_tolerance:
        raise GateFailed(
            f"{variant.name}: the engine's outputs are {found.golden_error:.2g} from the bundle's golden samples, "
            f"allowed {found.golden_tolerance:.0e}; nothing was kept of it",
            remedy="take another variant; for GridSample see this TensorRT's known issues",
        )


def _choose(site: Site, rows: dict[str, dict[str, object]]) -> Fastest:
    """The fastest variant here; all are timed again in turns where one is new or the answer is missing."""
    known = site.store.fastest()
    there = _usable(site)
    unchanged = all(row["state"] == "kept" for row in rows.values())
    if known is not None and unchanged and set(known.latencies) == {r.variant for r in there}:
        site.say(f"chosen       {known.variant}: {known.reason}")
        return known
    latencies = {r.variant: r.latency for r in there}
    if len(there) > 1:
        plans = [Plan(variant=r.variant, file=str(site.store.plan(r.variant).resolve())) for r in there]
        latencies = {found.variant: _percentiles(found) for found in _examine(site, plans)}
        for record in there:
            site.store.write_record(msgspec.structs.replace(record, latency=latencies[record.variant]))
    best = min(latencies, key=lambda name: latencies[name].p50_ms)
    others = [f"{name} {p.p50_ms:.2f} ms" for name, p in latencies.items() if name != best]
    reason = f"{latencies[best].p50_ms:.2f} ms" + (f" against {', '.join(others)}" if others else ", the only one")
    fastest = Fastest(variant=best, reason=reason, latencies=latencies)
    site.store.write_fastest(fastest)
    site.say(f"chosen       {best}: {reason}")
    return fastest


def _usable(site: Site) -> list[Record]:
    """The records of every engine here that is up to date, those that were not asked for this time included."""
    records = []
    for variant in tensorrt_variants(site.bundle, None):
        sha256 = site.bundle.manifest.files[variant.file].sha256
        record = site.store.record(variant.name)
        if record is not None:
            asked = record.fingerprint.workspace_mb
            if (
                site.store.why_stale(variant.name, fingerprint(site.device, onnx_sha256=sha256, workspace_mb=asked))
                == []
            ):
                records.append(record)
    return records


def _failure(failures: dict[str, EdgetlError], good: list[str]) -> EdgetlError:
    """One error for all variants that failed; the gate's, with its exit status, where one failed there."""
    errors = list(failures.values())
    gate = next((error for error in errors if isinstance(error, GateFailed)), None)
    first = gate or errors[0]
    rest = [error.message for error in errors if error is not first]
    message = "; ".join([first.message, *rest])
    if good:
        message += f"; the engines of {', '.join(good)} are in place"
    return type(first)(message, remedy=first.remedy)


def _row(state: str, why: list[str], store: EngineStore, record: Record) -> dict[str, object]:
    kept = msgspec.to_builtins(record)
    return {"state": state, "why": why, "plan": str(store.plan(record.variant)), **kept}


def _figures(record: Record) -> str:
    size = f"{record.plan_bytes / 1e6:.1f} MB"
    return f"{size}, p50 {record.latency.p50_ms:.2f} ms, {proof_words(record.proof)}"


def proof_words(proof: Proof) -> str:
    """A proof of precision as text: what the convolutions and matrix products run in, and how many did not say."""
    counts = ", ".join(f"{n} {kind}" for kind, n in proof.found.items()) or "none said"
    unknown = f", {proof.unknown} not said" if proof.unknown else ""
    return f"convolutions and matrix products: {counts}{unknown}"


def _percentiles(found: Examined) -> Percentiles:
    return Percentiles(p50_ms=found.p50_ms, p95_ms=found.p95_ms, p99_ms=found.p99_ms, runs=found.runs)
