"""The report of a bundle: what its manifest says, laid out for a person who has to trust it."""

from __future__ import annotations

from collections.abc import Sequence

from edgetl_export.report.blocks import Badge, KeyFigure, KeyFigures, Text, significant
from edgetl_export.report.classes import classes_section
from edgetl_export.report.contract import contract_section, provenance_section, reliability_section
from edgetl_export.report.hops import hops_section
from edgetl_export.report.latency import latency_section
from edgetl_export.report.lookup import chosen_key, hop_of, key_of, metric_name, minus
from edgetl_export.report.page import Report, Section, render
from edgetl_export.report.quantisation import quantisation_section
from edgetl_export.report.target_matrix import targets_section
from edgetl_export.report.worst import worst_section
from edgetl_export.worst import Worst
from edgetl_runtime.bench import BASELINE
from edgetl_runtime.spec import Manifest


def bundle_report(
    manifest: Manifest,
    *,
    before: Sequence[Section] = (),
    left_out: Sequence[str] = (),
    worst: Worst | None = None,
) -> str:
    """The page of a bundle.

    before: sections that come after the summary. left_out: pairs not measured, and why. worst: the frames on which
    the chosen pair differs most.
    """
    summary, *rest = sections_from_manifest(manifest, left_out=left_out, worst=worst)
    report = Report(
        title=manifest.name,
        subtitle=f"{manifest.provenance.architecture}, {_size(manifest)}, {_heads_line(manifest)}",
        sections=(summary, *before, *rest),
        status=_status(manifest),
        footer=f"edgetl {manifest.provenance.edgetl} · {manifest.provenance.created} · {manifest.provenance.machine}",
    )
    return render(report)


def sections_from_manifest(
    manifest: Manifest, *, left_out: Sequence[str] = (), worst: Worst | None = None
) -> list[Section]:
    """Everything that the manifest says, the most asked-for first."""
    return [
        _summary(manifest),
        latency_section(manifest, left_out),
        hops_section(manifest),
        *classes_section(manifest),
        *quantisation_section(manifest),
        *worst_section(worst),
        targets_section(manifest),
        *reliability_section(manifest),
        contract_section(manifest),
        provenance_section(manifest),
    ]


def _summary(manifest: Manifest) -> Section:
    figures = []
    chosen, reference = hop_of(manifest, chosen_key(manifest)), manifest.hops[0] if manifest.hops else None
    shown = chosen or reference
    if shown is not None:
        change = f"{100 * (shown.value - reference.value):+.2f} points against {reference.hop}" if reference else ""
        figures.append(KeyFigure(f"{100 * shown.value:.1f}", metric_name(shown), minus(change)))
    times = {key_of(row): row for row in manifest.latencies}
    fast, base = times.get(chosen_key(manifest)), times.get(BASELINE)
    if fast:
        figures.append(KeyFigure(f"{significant(fast.p50_ms)} ms", "latency p50", f"p99 {significant(fast.p99_ms)} ms"))
    if fast and base and fast.p50_ms > 0:
        label = "the baseline itself" if fast is base else f"over {BASELINE}"
        figures.append(KeyFigure(f"{base.p50_ms / fast.p50_ms:.2f}×", "speed-up", label))
    ready = sum(result.deployable for result in manifest.targets.values())
    figures.append(KeyFigure(f"{ready} of {len(manifest.targets)}", "targets deployable", "the others: on the device"))
    said = [_sentence(part) for part in minus(manifest.chosen.reason).split("; ")]
    return Section("At a glance", [KeyFigures(figures), Text([f"Chosen: {chosen_key(manifest)}.", *said])])


def _heads_line(manifest: Manifest) -> str:
    if len(manifest.heads) == 1:
        return f"{len(manifest.heads[0].labels)} classes"
    return "heads: " + ", ".join(h.name for h in manifest.heads)


def _status(manifest: Manifest) -> Badge:
    hop = hop_of(manifest, chosen_key(manifest))
    if hop is not None and not hop.passed:
        return Badge("gate failed", "bad")
    return Badge("gates passed", "good") if manifest.hops else Badge("not gated", "warn")


def _size(manifest: Manifest) -> str:
    height, width = manifest.preprocess.size_hw
    return f"{width} × {height} pixels"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
