"""What a bundle promises, how far its scores can be trusted, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from edgetl_export.report.blocks import Cell, Code, Facts, LineChart, Num, Series, Table
from edgetl_export.report.page import Section
from edgetl_runtime.spec import Head, Manifest, SegmentHead, task_of

HASH_CHARS = 12


def contract_section(manifest: Manifest) -> Section:
    """Heads, tensors and preprocessing."""
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


def reliability_section(manifest: Manifest) -> list[Section]:
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


def provenance_section(manifest: Manifest) -> Section:
    """Weights, data, machine, packages and files."""
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


def _thresholds(head: Head) -> str | None:
    if isinstance(head, SegmentHead):
        return None
    if len(set(head.thresholds)) == 1:
        return f"{head.thresholds[0]:g}"
    return ", ".join(f"{t:g} {label}" for label, t in zip(head.labels, head.thresholds, strict=True))


def _triple(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _bytes(count: int) -> str:
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 1_000_000 else f"{count / 1e6:.1f} MB"
