"""edgetl inspect: what is in a bundle. Needs the base dependencies only."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from edgetl.commands.arguments import add_signature_argument, signature_json, signature_line
from edgetl_runtime.spec import Calibration, DetectHead, Head, Manifest, SegmentHead, task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgetl_runtime.bundle import Bundle

    Licences = Mapping[str, Mapping[str, list[str]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Shows a bundle's contract, variants, checks, latencies, targets, provenance and licences."
    parser.add_argument("bundle", help="the bundle's folder")
    add_signature_argument(parser)


def run(args: argparse.Namespace) -> dict[str, object]:
    """Verify and show a bundle; the document is its manifest, its size, its signature and its licences."""
    import msgspec

    from edgetl_export.sbom import licence_list, read_sbom
    from edgetl_runtime.bundle import open_bundle

    required = args.require_signature
    bundle = open_bundle(args.bundle, require_signature=required)
    bill = read_sbom(bundle)
    licences = licence_list(bill) if bill else {}
    sys.stderr.write(_text(bundle, signature_line(bundle, required), licences) + "\n")
    document: dict[str, object] = msgspec.to_builtins(bundle.manifest)
    extra = {"signature": signature_json(bundle, required), "licences": licences}
    return {"bundle": str(bundle.path), "bytes": _size(bundle.manifest), **document, **extra}


def _size(manifest: Manifest) -> int:
    return sum(entry.bytes for entry in manifest.files.values())


def _text(bundle: Bundle, signature: str, licences: Licences) -> str:
    m = bundle.manifest
    sections = [
        [
            m.name,
            *(_row(h.name if h.name == task_of(h) else f"{task_of(h)} {h.name}", ", ".join(h.labels)) for h in m.heads),
            f"  {len(m.files)} files, {_size(m) / 1e6:.1f} MB, verified",
            f"  signature: {signature}",
        ],
        _contract(m),
        _variants(m),
        [
            "hops",
            *(
                _row(
                    h.hop,
                    f"{h.metric} {h.value:.3f}",
                    ", ".join(f"{name} {value:.3f}" for name, value in h.heads.items()),
                    f"max error {h.max_rel_error:.1e}",
                    "passed" if h.passed else "FAILED",
                    h.note,
                )
                for h in m.hops
            ),
        ],
        [
            "latency where it was exported",
            *(
                _row(f"{x.engine}/{x.variant}", f"p50 {x.p50_ms:.2f}", f"p95 {x.p95_ms:.2f}", f"p99 {x.p99_ms:.2f} ms")
                for x in m.latencies
            ),
        ],
        _targets(m),
        *(_calibration(c) for c in (m.calibration,) if c),
        _provenance(m),
        _licences(licences),
    ]
    return "\n".join("\n".join(lines) for lines in sections if len(lines) > 1)


def _row(first: str, *rest: str) -> str:
    return f"  {first:<24} " + "  ".join(part for part in rest if part)


def _contract(m: Manifest) -> list[str]:
    p = m.preprocess
    tensors = [
        _row(f"{kind} {t.name}", f"{t.dtype} {list(t.shape)}")
        for kind, group in (("input", m.inputs), ("output", m.outputs))
        for t in group
    ]
    return [
        "contract",
        _row("host", f"{p.resize} to {p.size_hw[1]}x{p.size_hw[0]}, {p.interpolation}, pad {p.pad_value}, uint8 BGR"),
        _row("in the graph", f"{p.channel_order}, mean {list(p.mean)}, std {list(p.std)}"),
        *tensors,
        *(_row(f"head {h.name}", _meaning(h), _trust(m, h)) for h in m.heads),
        *(_row("training domain", f"{d.images} images, by {d.output}, in {d.file}") for d in (m.domain,) if d),
    ]


def _meaning(head: Head) -> str:
    if isinstance(head, SegmentHead):
        return f"one class for {head.stride}x{head.stride} network pixels"
    scores = f"scores from {head.thresholds[0]:g}"
    if len(set(head.thresholds)) > 1:
        scores = "scores from " + ", ".join(f"{t:g} {n}" for n, t in zip(head.labels, head.thresholds, strict=True))
    limit = f", at most {head.max_detections} boxes" if isinstance(head, DetectHead) else ""
    return f"{scores}{limit}, temperature {head.temperature:g}"


def _trust(m: Manifest, head: Head) -> str:
    found = m.reliability.get(head.name)
    if found is None:
        return ""
    return f"calibration error {found.error_before:.3f}, shipped {found.error_after:.3f}"


def _variants(m: Manifest) -> list[str]:
    rows = []
    for v in m.variants:
        size = f"{m.files[v.file].bytes / 1e6:.1f} MB"
        mark = f"chosen on {m.chosen.engine}: {m.chosen.reason}" if v.name == m.chosen.variant else ""
        rows.append(_row(v.name, v.precision, ", ".join(v.engines), v.file, size, mark))
    return ["variants", *rows]


def _targets(m: Manifest) -> list[str]:
    rows = ["targets"]
    for name, t in sorted(m.targets.items()):
        state = "deployable" if t.deployable else "NOT deployable"
        rows.append(_row(name, f"{t.variant} on {t.engine}", state, t.note))
        rows += [_row("", f"{c.code} {c.op} {c.node}".rstrip(), c.advice) for c in t.checks]
    return rows


def _calibration(c: Calibration) -> list[str]:
    return [
        "calibration",
        _row("frames", str(c.frames), c.method, f"sha256 {c.sha256[:12]}"),
        *(_row(kind, counts) for kind, counts in c.by_kind().items()),
    ]


def _provenance(m: Manifest) -> list[str]:
    p = m.provenance
    return [
        "provenance",
        _row("edgetl", p.edgetl, p.created, p.machine),
        _row("architecture", p.architecture),
        _row("weights", p.weights, p.weights_licence, f"sha256 {p.weights_sha256[:12]}"),
        _row("dataset", p.dataset, f"sha256 {p.dataset_sha256[:12]}"),
        _row("packages", ", ".join(f"{k} {v}" for k, v in sorted(p.packages.items())) or "none named"),
    ]


def _licences(groups: Licences) -> list[str]:
    """What a bundle's owner must keep to, and what only had a hand in making it."""
    rows = ["licences (sbom.json)"]
    for group, licences in groups.items():
        rows.append(f"  {group}")
        rows += [f"    {licence}: {', '.join(parts)}" for licence, parts in licences.items()]
    return rows
