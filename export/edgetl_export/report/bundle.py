"""The report of a bundle: what its manifest says, laid out for a person who has to trust it."""

from __future__ import annotations

from collections.abc import Sequence

from edgetl_export.report.blocks import (
    Badge,
    Bar,
    BarChart,
    Cell,
    Code,
    Facts,
    KeyFigure,
    KeyFigures,
    LineChart,
    Note,
    Num,
    Series,
    Table,
    Text,
    significant,
)
from edgetl_export.report.page import Report, Section, render
from edgetl_export.targets import TARGETS
from edgetl_export.tensorrt.check import CANNOT_TELL
from edgetl_runtime.bench import BASELINE
from edgetl_runtime.spec import Check, Head, Hop, Latency, Manifest, SegmentHead, TargetResult, task_of

HASH_CHARS = 12
REMARKS = frozenset({"opset-above-ceiling"})
"""Codes that do not stop a build."""


def bundle_report(manifest: Manifest, *, before: Sequence[Section] = (), left_out: Sequence[str] = ()) -> str:
    """The page of a bundle. before: sections that come after the summary. left_out: pairs not measured, and why."""
    summary, *rest = sections_from_manifest(manifest, left_out=left_out)
    report = Report(
        title=manifest.name,
        subtitle=f"{manifest.provenance.architecture}, {_size(manifest)}, {_heads_line(manifest)}",
        sections=(summary, *before, *rest),
        status=_status(manifest),
        footer=f"edgetl {manifest.provenance.edgetl} · {manifest.provenance.created} · {manifest.provenance.machine}",
    )
    return render(report)


def sections_from_manifest(manifest: Manifest, *, left_out: Sequence[str] = ()) -> list[Section]:
    """Summary, hops, latency, targets, contract, files and provenance."""
    return [
        _summary(manifest),
        _hops(manifest),
        _latency(manifest, left_out),
        *_reliability(manifest),
        _targets(manifest),
        _contract(manifest),
        _provenance(manifest),
    ]


def _summary(manifest: Manifest) -> Section:
    figures = []
    chosen, reference = _hop_of(manifest, _chosen_key(manifest)), manifest.hops[0] if manifest.hops else None
    shown = chosen or reference
    if shown is not None:
        change = f"{100 * (shown.value - reference.value):+.2f} points against {reference.hop}" if reference else ""
        figures.append(KeyFigure(f"{100 * shown.value:.1f}", _metric_name(shown), change.replace("-", "−")))
    times = {_key(row): row for row in manifest.latencies}
    fast, base = times.get(_chosen_key(manifest)), times.get(BASELINE)
    if fast:
        figures.append(KeyFigure(f"{significant(fast.p50_ms)} ms", "latency p50", f"p99 {significant(fast.p99_ms)} ms"))
    if fast and base and fast.p50_ms > 0:
        label = "the baseline itself" if fast is base else f"over {BASELINE}"
        figures.append(KeyFigure(f"{base.p50_ms / fast.p50_ms:.2f}×", "speed-up", label))
    ready = sum(result.deployable for result in manifest.targets.values())
    figures.append(KeyFigure(f"{ready} of {len(manifest.targets)}", "targets deployable", "the others: on the device"))
    chosen_text = f"Chosen: {_chosen_key(manifest)}. {_sentence(manifest.chosen.reason)}"
    return Section("At a glance", [KeyFigures(figures), Text([chosen_text])])


def _hops(manifest: Manifest) -> Section:
    rows: list[list[Cell]] = []
    pairs = {_key(row) for row in manifest.latencies}
    several = [h.name for h in manifest.heads if any(h.name in hop.heads for hop in manifest.hops)]
    for hop in manifest.hops:
        refused = Badge("over budget", "warn") if hop.hop in pairs else Badge("failed", "bad")
        verdict = Badge("passed", "good") if hop.passed else refused
        error = Num(f"{hop.max_rel_error:.1e}" if hop.max_rel_error else "0")
        numbers: list[Cell] = [Num(f"{100 * hop.value:.2f}"), error, Num(f"{hop.cosine:.6f}")]
        heads = [Num(f"{100 * hop.heads[name]:.2f}") if name in hop.heads else None for name in several]
        rows.append([hop.hop, hop.metric, numbers[0], *heads, *numbers[1:], verdict, hop.note])
    columns = ["hop", "metric", "value", *several, "max rel. error", "cosine", "gate", "note"]
    marked = frozenset(i for i, hop in enumerate(manifest.hops) if hop.hop == _chosen_key(manifest))
    lead = "Every step from the trained network to a running engine, compared with the first by tensor and by metric."
    return Section("Every hop", [Table(columns=columns, rows=rows, highlight=marked)], lead)


def _latency(manifest: Manifest, left_out: Sequence[str]) -> Section:
    ordered = sorted(manifest.latencies, key=lambda row: row.p50_ms)
    baseline = next((row for row in ordered if _key(row) == BASELINE), None)
    bars, rows = [], []
    for row in ordered:
        hop = _hop_of(manifest, _key(row))
        is_chosen = _key(row) == _chosen_key(manifest)
        note = "" if hop is None or hop.passed else "over budget"
        bars.append(Bar(label=_key(row), value=row.p50_ms, whisker=row.p99_ms, note=note, highlight=is_chosen))
        speed = Num(f"{baseline.p50_ms / row.p50_ms:.2f}×") if baseline and row.p50_ms > 0 else None
        points = Num(f"{100 * hop.value:.2f}") if hop else None
        rows.append(
            [_key(row), *(Num(f"{v:.2f}") for v in (row.p50_ms, row.p95_ms, row.p99_ms)), speed, points, row.runs]
        )
    metric = manifest.hops[0].metric if manifest.hops else "metric"
    columns = ["engine / variant", "p50 ms", "p95 ms", "p99 ms", "speed", metric, "runs"]
    marked = frozenset(i for i, row in enumerate(ordered) if _key(row) == _chosen_key(manifest))
    chart = BarChart(
        title="Time of one frame",
        unit="ms",
        bars=bars,
        caption="bar p50, whisker p99",
        value_name="p50",
        whisker_name="p99",
        numbers=False,
    )
    table = Table(columns=columns, rows=rows, highlight=marked, caption=f"Speed is against {BASELINE}.")
    notes = [Note("Not measured here: " + "; ".join(left_out))] if left_out else []
    lead = f"Measured in turns on {manifest.provenance.machine}, the chosen pair in colour."
    return Section("Latency", [chart, table, *notes], lead)


def _targets(manifest: Manifest) -> Section:
    rows: list[list[Cell]] = []
    found: dict[Check, list[str]] = {}
    unknown: dict[tuple[str, ...], list[str]] = {}
    for name, result in manifest.targets.items():
        rows.append([name, result.variant, result.engine, _state(result), result.note or _codes(result)])
        for check in result.checks:
            found.setdefault(check, []).append(name)
        if name in TARGETS and TARGETS[name].unknown:
            unknown.setdefault(TARGETS[name].unknown, []).append(name)
    findings: list[list[Cell]] = [
        [", ".join(names), Code(c.code), _where(c.op, c.node), c.module, c.advice] for c, names in found.items()
    ]
    matrix = Table(columns=["target", "variant", "engine", "state", "what the host found"], rows=rows)
    blocks: list[Table] = [matrix]
    if findings:
        columns = ["target", "finding", "operator", "module", "what to do"]
        blocks.append(Table(columns=columns, rows=findings, caption="Findings of the host check"))
    if unknown:
        open_rows: list[list[Cell]] = [[", ".join(names), _listed(texts)] for texts, names in unknown.items()]
        blocks.append(Table(columns=["target", "only the target itself can tell"], rows=open_rows))
    return Section("Targets", blocks, "What is ready to run, what was only checked here, and what nobody knows yet.")


def _state(result: TargetResult) -> Badge:
    """What the manifest says about one target, in two or three words."""
    if result.deployable:
        return Badge("deployable", "good")
    open_questions = [check for check in result.checks if check.code not in REMARKS]
    if not open_questions:
        return Badge("build on device")
    if all(check.advice.startswith(CANNOT_TELL) for check in open_questions):
        return Badge("not known here", "warn")
    return Badge("needs a change", "bad")


def _contract(manifest: Manifest) -> Section:
    p = manifest.preprocess
    height, width = p.size_hw
    tensors: list[list[Cell]] = [
        [tensor.name, side, tensor.dtype, Code(" × ".join(map(str, tensor.shape)))]
        for side, group in (("input", manifest.inputs), ("output", manifest.outputs))
        for tensor in group
    ]
    facts: list[tuple[str, Cell]] = [
        (
            "frame",
            f"uint8 BGR, {p.resize} to {height} × {width} (height × width), pad {p.pad_value}, {p.interpolation}",
        ),
        ("inside the graph", f"(x − mean) / std in {p.channel_order}: mean {_triple(p.mean)}, std {_triple(p.std)}"),
    ]
    if manifest.domain is not None:
        d = manifest.domain
        facts.append(("training domain", f"{d.file}: {d.images} images as {d.output} shows them"))
    heads: list[list[Cell]] = [
        [h.name, task_of(h), ", ".join(h.labels), _thresholds(h), getattr(h, "temperature", None)]
        for h in manifest.heads
    ]
    meanings = Table(columns=["head", "task", "labels", "score from", "temperature"], rows=heads)
    table = Table(columns=["tensor", "", "type", "shape"], rows=tensors)
    return Section(
        "Contract", [meanings, table, Facts(facts)], "Stated once, here; training, checks and the vehicle follow it."
    )


def _heads_line(manifest: Manifest) -> str:
    if len(manifest.heads) == 1:
        return f"{len(manifest.heads[0].labels)} classes"
    return "heads: " + ", ".join(h.name for h in manifest.heads)


def _thresholds(head: Head) -> str | None:
    if isinstance(head, SegmentHead):
        return None
    if len(set(head.thresholds)) == 1:
        return f"{head.thresholds[0]:g}"
    return ", ".join(f"{t:g} {label}" for label, t in zip(head.labels, head.thresholds, strict=True))


def _reliability(manifest: Manifest) -> list[Section]:
    """How often a score is right, before and after the temperature, head by head."""
    blocks: list[LineChart] = []
    for name, found in manifest.reliability.items():
        series = [Series("ideal", [0.0, 1.0], [0.0, 1.0])]
        for label, bins in (("as trained", found.before), ("as shipped", found.after)):
            if bins and not (label == "as shipped" and found.after == found.before):
                series.append(Series(label, [b[0] for b in bins], [b[1] for b in bins]))
        caption = (
            f"{found.answers} answers on validation images; expected calibration error "
            f"{found.error_before:.3f} as trained, {found.error_after:.3f} as shipped"
        )
        blocks.append(
            LineChart(
                title=f"Reliability of {name}", x_label="score", y_label="share right", series=series, caption=caption
            )
        )
    lead = "Of the answers with a score of 0.8, eight in ten should be right."
    return [Section("Trust in scores", blocks, lead)] if blocks else []


def _provenance(manifest: Manifest) -> Section:
    p = manifest.provenance
    facts: list[tuple[str, Cell]] = [
        ("architecture", p.architecture),
        ("weights", p.weights),
        ("weights' licence", p.weights_licence),
        ("weights' SHA-256", Code(p.weights_sha256)),
        ("dataset", p.dataset),
        ("dataset's SHA-256", Code(p.dataset_sha256)),
        ("made", f"{p.created} with edgetl {p.edgetl}"),
        ("machine", p.machine),
        ("packages", ", ".join(f"{name} {version}" for name, version in sorted(p.packages.items()))),
    ]
    files: list[list[Cell]] = [
        [name, Num(_bytes(entry.bytes)), Code(entry.sha256[:HASH_CHARS] + "…")]
        for name, entry in manifest.files.items()
    ]
    table = Table(columns=["file", "size", "SHA-256"], rows=files)
    return Section("Provenance", [Facts(facts), *_calibration(manifest), table])


def _calibration(manifest: Manifest) -> list[Facts | Table]:
    """Which frames INT8 ranges come from, and how many of them have what."""
    c = manifest.calibration
    if c is None:
        return []
    facts = Facts([("calibration frames", f"{c.frames} {c.method}".rstrip()), ("their SHA-256", Code(c.sha256))])
    rows: list[list[Cell]] = [[kind, counts] for kind, counts in c.by_kind().items()]
    return [facts, Table(columns=["of the calibration frames", "how many have it"], rows=rows)]


def _status(manifest: Manifest) -> Badge:
    hop = _hop_of(manifest, _chosen_key(manifest))
    if hop is not None and not hop.passed:
        return Badge("gate failed", "bad")
    return Badge("gates passed", "good") if manifest.hops else Badge("not gated", "warn")


def _size(manifest: Manifest) -> str:
    height, width = manifest.preprocess.size_hw
    return f"{width} × {height} pixels"


def _key(row: Latency) -> str:
    return f"{row.engine}/{row.variant}"


def _chosen_key(manifest: Manifest) -> str:
    return f"{manifest.chosen.engine}/{manifest.chosen.variant}"


def _hop_of(manifest: Manifest, key: str) -> Hop | None:
    return next((hop for hop in manifest.hops if hop.hop == key), None)


def _metric_name(hop: Hop) -> str:
    return {
        "ap50": "AP50, per cent",
        "ap": "AP, per cent",
        "miou": "mIoU, per cent",
        "accuracy": "accuracy, per cent",
        "mean": "mean over heads, per cent",
    }.get(hop.metric, hop.metric)


def _codes(result: TargetResult) -> str:
    return ", ".join(dict.fromkeys(check.code for check in result.checks))


def _where(op: str, node: str) -> Cell:
    return " ".join(part for part in (op, node) if part) or None


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(texts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _triple(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _bytes(count: int) -> str:
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"
