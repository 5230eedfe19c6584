"""A lint report for a person: targets, operators by target, findings with their fix, what only the device knows."""

from __future__ import annotations

from edgetl_export.lint import LintReport, Mark, mark_of
from edgetl_export.tensorrt.check import CANNOT_TELL, Verdict
from edgetl_runtime.spec import Check

MARKS: dict[Mark, str] = {"ok": "ok", "rewrite": "rewrite", "cannot-tell": "?", "not-reached": "-"}
VERDICTS: dict[Verdict, str] = {"ok": "ok", "rewrite": "rewrite", "cannot-tell": "cannot tell"}
LEGEND = "?: this host cannot tell   -: nothing known against it, and not compiled"
MODULES_CHARS = 48


def lint_text(report: LintReport) -> str:
    """The whole report."""
    sections = [_targets(report), _operators(report), _findings(report), _unknown(report)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _targets(report: LintReport) -> list[str]:
    width = max(len(t.checked_with) for t in report.targets.values()) + 2
    lines = [
        f"lint         {report.graph}: nodes {report.nodes}, operators {len(report.ops)}, in {report.seconds:.1f} s",
        f"{'target':<13}{'verdict':<13}{'checked with':<{max(width, 14)}}note",
    ]
    for name, target in report.targets.items():
        with_what = target.checked_with or "nothing"
        lines.append(f"{name:<13}{VERDICTS[target.verdict]:<13}{with_what:<{max(width, 14)}}{target.note}")
    return lines


def _operators(report: LintReport) -> list[str]:
    widths = {name: max(len(name), len("rewrite")) + 2 for name in report.targets}
    first = max([len(use.op) for use in report.ops] + [len("operator")]) + 2
    head = "".join(f"{name:<{width}}" for name, width in widths.items())
    lines, unclear = [f"{'operator':<{first}}{'count':>5}  {head}modules"], False
    for use in report.ops:
        marks = {name: mark_of(use.op, target) for name, target in report.targets.items()}
        unclear |= not {"cannot-tell", "not-reached"}.isdisjoint(marks.values())
        cells = "".join(f"{MARKS[marks[name]]:<{width}}" for name, width in widths.items())
        lines.append(f"{use.op:<{first}}{use.count:>5}  {cells}{_short(use.modules)}".rstrip())
    return lines + ([LEGEND] if unclear else [])


def _short(modules: tuple[str, ...]) -> str:
    text = ", ".join(modules)
    if len(text) <= MODULES_CHARS:
        return text
    kept = text[:MODULES_CHARS].rpartition(", ")[0] or modules[0][:MODULES_CHARS]
    more = len(modules) - kept.count(", ") - 1
    return f"{kept} and {more} more" if more else kept


def _findings(report: LintReport) -> list[str]:
    """Each finding once, with the targets that have it."""
    where: dict[tuple[str, str, str, str], dict[str, tuple[Check, bool]]] = {}
    for name, target in report.targets.items():
        for check in target.checks:
            blind = check.advice.startswith(CANNOT_TELL)
            key = (check.code, check.op, check.node, check.advice.removeprefix(f"{CANNOT_TELL}: "))
            where.setdefault(key, {})[name] = (check, blind)
    lines: list[str] = []
    for (code, op, node, advice), found in where.items():
        module = next(iter(found.values()))[0].module
        place = " ".join(part for part in (op, node, f"in {module}" if module else "") if part)
        sure = ", ".join(name for name, (_, blind) in found.items() if not blind)
        unsure = ", ".join(name for name, (_, blind) in found.items() if blind)
        who = "; ".join(part for part in (sure, f"cannot tell for {unsure}" if unsure else "") if part)
        lines += [f"{code}: {place or report.graph} ({who})", f"    {advice}"]
    return lines


def _unknown(report: LintReport) -> list[str]:
    """What no check on this host can answer, each once."""
    where: dict[str, list[str]] = {}
    for name, target in report.targets.items():
        for what in target.unknown:
            where.setdefault(what, []).append(name)
    lines = [f"    {what} ({', '.join(names)})" for what, names in where.items()]
    return ["only the device can tell", *lines] if lines else []
