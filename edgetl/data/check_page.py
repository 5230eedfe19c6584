"""The page of a check: findings, classes and box sizes as charts, examples with their labels, leaking pairs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgetl.data.check import DEFAULT_SIZE_HW, Findings
from edgetl.data.check_boxes import BOX_EDGES
from edgetl.data.dataset import Dataset
from edgetl.data.draw import U8, draw_sample, side_by_side
from edgetl.data.findings import Severity, SplitFacts
from edgetl.data.leaks import WHYS, Leak, Leaks
from edgetl_export.report.blocks import (
    Badge,
    Bar,
    BarChart,
    Block,
    Cell,
    Gallery,
    KeyFigure,
    KeyFigures,
    Note,
    Num,
    Picture,
    Table,
    Tone,
)
from edgetl_export.report.page import Report, Section

TONES: dict[Severity, Tone] = {"error": "bad", "warning": "warn", "note": "neutral"}
BARS = 24
EXAMPLES = 6
PAIRS = 6
JPEG_QUALITY = 84
NAMED_FILES = 3


def check_report(
    title: str,
    datasets: Mapping[str, Dataset],
    found: Findings,
    *,
    size_hw: tuple[int, int] = DEFAULT_SIZE_HW,
) -> Report:
    """The whole page. datasets: those that were checked, for the pictures. size_hw: as given to the check."""
    sections = [_summary(found), _findings(found)]
    if found.leaks:
        sections.append(_leaks(found))
    sections += [_splits(found), _classes(found)]
    if any(sum(f.box_px) for f in found.splits.values()):
        sections.append(_box_sizes(found, size_hw))
    sections.append(_examples(datasets))
    errors, warnings = found.count("error"), found.count("warning")
    status = Badge(f"{errors} {'error' if errors == 1 else 'errors'}", "bad") if errors else Badge("no errors", "good")
    images = sum(f.images for f in found.splits.values())
    subtitle = f"{images} images in {len(found.splits)} splits; {warnings} warnings, {found.count('note')} notes"
    return Report(title=title, subtitle=subtitle, sections=sections, status=status)


def _summary(found: Findings) -> Section:
    facts = found.splits.values()
    errors, leaking = found.count("error"), sum(leaks.total for leaks in found.leaks)
    boxes = sum(f.boxes for f in facts)
    bare = f"{_plain(sum(f.unlabelled for f in facts))} images have no label"
    figures = [
        KeyFigure(str(errors), "errors", "to fix before training", "bad" if errors else "good"),
        KeyFigure(str(found.count("warning")), "warnings", "they show in the metric"),
        KeyFigure(_plain(sum(f.images for f in facts)), "images", bare),
        KeyFigure(_plain(boxes), "boxes", "in all splits") if boxes else KeyFigure(str(len(facts)), "splits"),
        KeyFigure(_plain(leaking), "images in two splits", "by group, file or picture"),
    ]
    return Section("At a glance", [KeyFigures(figures)])


def _findings(found: Findings) -> Section:
    if not found.findings:
        return Section("Findings", [Note("Nothing was found.", "good")])
    rows: list[list[Cell]] = []
    for f in found.findings:
        names = [file.rpartition("/")[2] for file in f.files[:NAMED_FILES]]
        such = (
            f" ({', '.join(names)}{' …' if f.count > len(names) else ''})" if names and names[0] not in f.text else ""
        )
        rows.append([Badge(f.severity, TONES[f.severity]), f.split, f.text + such, f.remedy])
    columns = ["", "split", "what was found", "what to do"]
    return Section("Findings", [Table(columns=columns, rows=rows)], "Worst first.")


def _leaks(found: Findings) -> Section:
    blocks: list[Block] = []
    for leaks in found.leaks:
        pictures = []
        for pair in _worth_showing(leaks):
            first, second = leaks.first.samples[pair.first], leaks.second.samples[pair.second]
            pictures.append(_picture(side_by_side(first, second), leaks.line(pair)))
        blocks.append(Gallery(pictures=pictures, caption=leaks.summary()))
    lead = "Left from the first split, right from the second. What stands in both makes a validation figure too good."
    return Section("Leaks between splits", blocks, lead)


def _worth_showing(leaks: Leaks) -> list[Leak]:
    """A few pairs of every kind: the same picture in other bytes first, since it is the hardest to believe."""
    kinds = [[p for p in leaks.pairs if p.why == why] for why in reversed(WHYS)]
    each = max(PAIRS // max(sum(bool(k) for k in kinds), 1), 1)
    return [p for kind in kinds for p in kind[:each]]


def _splits(found: Findings) -> Section:
    rows: list[list[Cell]] = [
        [name, f.images, f.groups, f.boxes, f.unlabelled, Num(_sizes(f))] for name, f in found.splits.items()
    ]
    columns = ["split", "images", "groups", "boxes", "without label", "width x height"]
    return Section("Splits", [Table(columns=columns, rows=rows)], "A group is what must stay on one side.")


def _sizes(facts: SplitFacts) -> str:
    (low_h, low_w), (high_h, high_w) = facts.size_hw_min, facts.size_hw_max
    return f"{low_w}x{low_h}" if (low_h, low_w) == (high_h, high_w) else f"{low_w}x{low_h} to {high_w}x{high_h}"


def _classes(found: Findings) -> Section:
    blocks: list[Block] = []
    kinds = list(dict.fromkeys(what for f in found.splits.values() for what in f.classes))
    for what in kinds:
        for name, facts in found.splits.items():
            counts = facts.classes.get(what, {})
            if any(counts.values()):
                blocks.append(_class_chart(name, what, counts))
        blocks.append(_class_table(what, found))
    return Section("Classes", blocks or [Note("The dataset names no classes.")])


def _class_chart(split: str, what: str, counts: dict[str, int]) -> BarChart:
    shown = list(counts.items())[:BARS]
    percent = 100 / max(sum(counts.values()), 1)
    bars = [Bar(label=c, value=n * percent, note="" if n else "never") for c, n in shown]
    more = f"the first {BARS} of {len(counts)} classes; all are in the table" if len(counts) > BARS else ""
    return BarChart(title=f"{split}: share of {what}", unit="%", bars=bars, caption=more, numbers=False)


def _class_table(what: str, found: Findings) -> Table:
    having = {name: f.classes[what] for name, f in found.splits.items() if what in f.classes}
    classes = list(dict.fromkeys(c for counts in having.values() for c in counts))
    rows: list[list[Cell]] = [[c, *(counts.get(c) for counts in having.values())] for c in classes]
    return Table(columns=["class", *having], rows=rows, caption=f"Number of {what}")


def _box_sizes(found: Findings, size_hw: tuple[int, int]) -> Section:
    edges = [0, *BOX_EDGES]
    labels = [f"{low} to {high} px" for low, high in zip(edges, BOX_EDGES, strict=False)] + [f"from {BOX_EDGES[-1]} px"]
    charts: list[Block] = []
    for name, facts in found.splits.items():
        total = sum(facts.box_px)
        if total:
            bars = [
                Bar(label=label, value=100 * n / total, highlight=i == 0)
                for i, (label, n) in enumerate(zip(labels, facts.box_px, strict=True))
            ]
            charts.append(BarChart(title=f"{name}: share of {_plain(total)} boxes", unit="%", bars=bars, numbers=False))
    lead = (
        f"Square root of the area, in pixels of a network input of {size_hw[1]}x{size_hw[0]}; the smallest in colour."
    )
    return Section("Box sizes", charts, lead)


def _examples(datasets: Mapping[str, Dataset]) -> Section:
    blocks: list[Block] = []
    for name, dataset in datasets.items():
        pictures = []
        for index in typical(dataset, EXAMPLES):
            sample = dataset.samples[index]
            text = f"{sample.image.name}, {len(sample.labels)} boxes" if dataset.classes else sample.image.name
            pictures.append(_picture(draw_sample(sample, dataset), text))
        blocks.append(Gallery(pictures=pictures, caption=name))
    return Section("Examples", blocks, "Typical images with their labels drawn: look whether they are right.")


def typical(dataset: Dataset, count: int) -> list[int]:
    """Samples from the middle and the upper half by number of boxes; spread over the classes, or over the split."""
    if len(dataset) <= count:
        return list(range(len(dataset)))
    key = np.array([(len(s.labels), s.category) for s in dataset.samples])
    order = np.lexsort((key[:, 1], key[:, 0]))  # stable: where nothing differs the split's own order
    low = 0.4 if key[:, 0].any() else 0.0
    places = np.linspace(low, 0.95, count) * (len(order) - 1)
    return list(dict.fromkeys(order[places.round().astype(int)].tolist()))


def _picture(image: U8, caption: str) -> Picture:
    import cv2

    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok
    return Picture(image=data.tobytes(), caption=caption)


def _plain(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
