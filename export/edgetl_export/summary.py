"""What an export came to: the hop table for people, the stable JSON for programs."""

from __future__ import annotations

import msgspec

from edgetl_runtime.bench import BASELINE
from edgetl_runtime.spec import Manifest


def latency_by_pair(manifest: Manifest) -> dict[str, float]:
    """`engine/variant` -> p50 in milliseconds, from the export's own interleaved run."""
    return {f"{r.engine}/{r.variant}": r.p50_ms for r in manifest.latencies}


def speedup(manifest: Manifest) -> float | None:
    """p50 of ONNX Runtime at fp32 over p50 of the chosen pair; None where the first was not measured."""
    times = latency_by_pair(manifest)
    chosen = times[f"{manifest.chosen.engine}/{manifest.chosen.variant}"]
    return round(times[BASELINE] / chosen, 3) if BASELINE in times else None


def summary_text(manifest: Manifest) -> str:
    """The hop table, and what was chosen."""
    times = latency_by_pair(manifest)
    metric = manifest.hops[0].metric.upper()
    lines = [f"{'hop':<22}{metric:>8}{'max rel error':>16}{'cosine':>10}{'p50 ms':>9}"]
    for h in manifest.hops:
        ms = f"{times[h.hop]:9.2f}" if h.hop in times else " " * 9
        mark = "" if h.passed else "  over the budget"
        lines.append(f"{h.hop:<22}{h.value:8.4f}{h.max_rel_error:16.2e}{h.cosine:10.6f}{ms}{mark}".rstrip())
    chosen = f"{manifest.chosen.engine}/{manifest.chosen.variant}"
    for h in manifest.hops:
        if h.hop == chosen:
            was = manifest.hops[0].domains
            lines += [f"on {name:<19}{was[name].value:8.4f} to {now.value:.4f}" for name, now in h.domains.items()]
    lines.append(f"chosen       {chosen}: {manifest.chosen.reason}")
    return "\n".join(lines)


def summary_json(manifest: Manifest) -> dict[str, object]:
    """targets, hops, latencies, chosen and speedup as plain values."""
    return {
        "targets": msgspec.to_builtins(manifest.targets),
        "hops": msgspec.to_builtins(manifest.hops),
        "latencies": msgspec.to_builtins(manifest.latencies),
        "chosen": msgspec.to_builtins(manifest.chosen),
        "speedup": speedup(manifest),
    }
