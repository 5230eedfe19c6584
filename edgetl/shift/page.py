"""The page of `edgetl shift`: key figures, levels, distances, pictures, advice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset, read_image
from edgetl.shift.accuracy import AccuracyEstimate
from edgetl.shift.advice import Amount, in_nulls
from edgetl.shift.measure import SHOWN, Shift
from edgetl_export.report.blocks import (
    Badge,
    Bar,
    BarChart,
    Block,
    Cell,
    Code,
    Gallery,
    KeyFigure,
    KeyFigures,
    LineChart,
    Note,
    Num,
    Picture,
    Series,
    Table,
    Tone,
    significant,
)
from edgetl_export.report.page import Report, Section
from edgetl_runtime import __version__

TONES: dict[Amount, Tone] = {"none": "good", "slight": "neutral", "clear": "warn", "large": "bad"}
WORDS: dict[Amount, str] = {
    "none": "no shift",
    "slight": "slight shift",
    "clear": "clear shift",
    "large": "large shift",
}
PICTURE_WIDTH = 400
BINS = 24
LISTED = 20
"""More names are in the JSON document."""


def shift_page(shift: Shift, reference: Dataset, data: Dataset, *, eye: str, notes: Sequence[str] = ()) -> Report:
    """The whole page. eye: what looked at the images. notes: what could not be estimated, and why."""
    sections = [_glance(shift), _levels(shift), _images(shift, data)]
    if shift.estimates or notes:
        sections.append(_accuracy(shift.estimates, notes))
    return Report(
        title=f"{data.name} against {reference.name}",
        subtitle=f"{len(data)} images against {len(reference)}, seen by {eye}",
        sections=sections,
        status=Badge(WORDS[shift.amount], TONES[shift.amount]),
        footer=f"edgetl {__version__}",
    )


def _glance(shift: Shift) -> Section:
    kernel, neighbours, images = shift.overall.kernel, shift.overall.neighbours, shift.images
    tone = TONES[shift.amount]
    figures = [
        KeyFigure(
            f"{in_nulls(shift.overall):.1f}×",
            "kernel distance over chance",
            f"KID {significant(kernel.value.value)}, chance reaches {significant(kernel.null)} in 1 of 20",
            tone,
        ),
        KeyFigure(
            f"{neighbours.value:.2f}×",
            "distance to the nearest neighbours",
            f"{neighbours.low:.2f} to {neighbours.high:.2f}; 1 is at home",
            tone,
        ),
        KeyFigure(
            f"{100 * images.untypical:.0f} %",
            "images that the vehicle would call untypical",
            "about 1 % of the reference's own",
        ),
    ]
    figures += [_accuracy_figure(e) for e in shift.estimates]
    advice = [Note(a.text, "good" if a.kind == "none" else "warn") for a in shift.advice]
    return Section("At a glance", [KeyFigures(figures), *advice])


def _accuracy_figure(e: AccuracyEstimate) -> KeyFigure:
    known = f", truly {100 * e.true:.0f} %" if e.true is not None else ""
    low, high = 100 * e.estimate.low, 100 * e.estimate.high
    detail = f"{low:.0f} to {high:.0f}{known}; {100 * e.on_reference:.0f} % on labelled images"
    return KeyFigure(f"{100 * e.estimate.value:.0f} %", f"{e.measure} of {e.head}, estimated", detail)


def _levels(shift: Shift) -> Section:
    rows: list[list[Cell]] = []
    for level in (*shift.levels, shift.overall):
        k, n = level.kernel, level.neighbours
        rows.append(
            [
                level.name,
                Num(significant(k.value.value)),
                Num(f"{significant(k.value.low)} to {significant(k.value.high)}"),
                Num(significant(k.null)),
                Num(f"{k.p_value:.3f}"),
                Num(f"{n.value:.2f}"),
                Num(f"{n.low:.2f} to {n.high:.2f}"),
            ]
        )
    columns = ("features", "KID", "95 % interval", "chance, 1 of 20", "p", "neighbours", "95 % interval")
    table = Table(columns=columns, rows=rows)
    if not shift.levels:
        return Section("How far", [table], "A bundle gives only its embedding; a checkpoint shows every level.")
    chart = BarChart(
        title="Where the shift is",
        unit="× chance",
        bars=[Bar(label=level.name, value=in_nulls(level)) for level in shift.levels],
        caption="kernel distance at each level of features, in units of what chance reaches in 1 of 20 draws",
        value_name="distance",
        numbers=False,
    )
    lead = (
        "Fine levels see light, noise and texture, coarse ones objects and scenes. A shift that is there from the "
        "first level on lies in how things look; one that grows lies in what is shown."
    )
    return Section("Where", [chart, table], lead)


def _images(shift: Shift, data: Dataset) -> Section:
    images = shift.images
    chart = LineChart(
        title="Distance of every image",
        x_label="distance to the reference's mean, 1 is usual",
        y_label="% of images",
        series=histogram_series(images.reference, images.distances),
        caption="reference images by a fit that left them out",
    )
    blocks: list[Block] = [chart]
    if shift.shifted:
        first = images.label_first
        blocks.append(Gallery(pictures=_pictures(shift, data, first[:SHOWN]), caption=f"Label first, of {len(first)}"))
        rows: list[list[Cell]] = [[i + 1, Code(str(data.samples[k].image))] for i, k in enumerate(first)]
        blocks.append(Table(columns=("label_first", "image"), rows=rows[:LISTED]))
    least = Gallery(pictures=_pictures(shift, data, images.least), caption="The least typical")
    most = Gallery(pictures=_pictures(shift, data, images.most[: SHOWN // 2]), caption="The most typical")
    return Section("Which images", [*blocks, least, most], "By what the network sees, as the vehicle would score them.")


def histogram_series(reference: NDArray[np.float64], data: NDArray[np.float64]) -> list[Series]:
    """Both sides over common bins, in per cent of each side's images; xs are the bins' middles."""
    low, high = min(reference.min(), data.min()), max(reference.max(), data.max())
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    middles = ((edges[1:] + edges[:-1]) / 2).round(3).tolist()
    series = []
    for name, values in (("reference", reference), ("data", data)):
        shares = 100 * np.histogram(values, edges)[0] / len(values)
        series.append(Series(name, middles, shares.round(2).tolist()))
    return series


def _pictures(shift: Shift, data: Dataset, indices: NDArray[np.intp]) -> list[Picture]:
    import cv2

    pictures = []
    for i in indices:
        path = data.samples[i].image
        image = read_image(path)
        height = max(round(image.shape[0] * PICTURE_WIDTH / image.shape[1]), 1)
        small = cv2.resize(image, (PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
        distance, quantile = shift.images.distances[i], shift.images.quantiles[i]
        share = "all" if distance > shift.images.reference[-1] else f"{100 * quantile:.0f} %"
        text = f"{path.name}: distance {distance:.2f}, further than {share} of the reference"
        pictures.append(Picture(image=encoded.tobytes(), caption=text, alt=path.name))
    return pictures


def _accuracy(estimates: Sequence[AccuracyEstimate], notes: Sequence[str]) -> Section:
    rows: list[list[Cell]] = [
        [
            e.head,
            e.measure,
            Num(f"{100 * e.on_reference:.1f}"),
            Num(f"{100 * e.estimate.value:.1f}"),
            Num(f"{100 * e.estimate.low:.1f} to {100 * e.estimate.high:.1f}"),
            Num(f"{100 * e.by_mean:.1f}"),
            Num(f"{100 * e.true:.1f}") if e.true is not None else None,
            Num(f"{e.right_per_image:.2f}") if e.right_per_image is not None else None,
            Num(f"{e.reference_right_per_image:.2f}") if e.reference_right_per_image is not None else None,
        ]
        for e in estimates
    ]
    columns = (
        "head",
        "measure",
        "on labelled images %",
        "estimate %",
        "interval",
        "by mean confidence %",
        "true %",
        "right boxes an image",
        "on labelled images",
    )
    lead = (
        "Average thresholded confidence: the threshold that gives the measured accuracy on labelled images, applied to "
        "the data. Recall can't be estimated: what was missed leaves no confidence."
    )
    return Section(
        "Accuracy without labels", [*([Table(columns=columns, rows=rows)] if rows else []), *map(Note, notes)], lead
    )
