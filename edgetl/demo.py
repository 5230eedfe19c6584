"""The whole way on the embedded default: render, tune, export, verify, run a clip, report."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgetl.data import Dataset, read_dataset, read_image
from edgetl.exporting import ExportOptions, export_checkpoint
from edgetl.heads import HeadMetric
from edgetl.metrics.predict import Frames, evaluate
from edgetl.metrics.subject import Subject, open_subject
from edgetl.roadworld import write_clip, write_dataset
from edgetl.training.config import TuneConfig
from edgetl.training.logs import read_curve
from edgetl.training.tune import tune
from edgetl_export.publish import publish_directory
from edgetl_export.report.blocks import Gallery, KeyFigure, KeyFigures, LineChart, Note, Picture, Series, Table
from edgetl_export.report.bundle import bundle_report
from edgetl_export.report.page import Section
from edgetl_export.summary import speedup, summary_text
from edgetl_runtime.annotate import Annotator
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras import open_camera
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.golden import replay_golden
from edgetl_runtime.ledger import table
from edgetl_runtime.loop import run
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.progress import Progress
from edgetl_runtime.result import Frame
from edgetl_runtime.session import Summary
from edgetl_runtime.sinks import JsonLinesSink, Sink, VideoSink
from edgetl_runtime.spec import Manifest


class DemoConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything: images, (height, width) of the network's input, epochs, seconds of clip."""

    domain: str = "day"
    train_images: int = 640
    val_images: int = 64
    held_out_images: int = 120
    size_hw: tuple[int, int] = (192, 320)
    source_hw: tuple[int, int] = (360, 640)
    epochs: int = 4
    probe_epochs: int = 3
    clip_seconds: float = 8.0
    seed: int = 0
    targets: tuple[str, ...] = ("cpu", "rtx", "orin-nano", "orin-nx", "agx-orin", "thor", "drive-orin", "drive-thor")


@dataclass(frozen=True, slots=True)
class Learned:
    """One tuned network: its run directory, curve, and metric on held-out images."""

    run: Path
    curve: list[dict[str, float | str]]
    metric: HeadMetric


def demo(out: Path, config: DemoConfig, *, compare: bool, force: bool) -> dict[str, object]:
    """Do all of it into `out`; returns the JSON document. Nothing is left in `out` when a part fails."""
    started = time.monotonic()
    with publish_directory(out, force=force) as work:
        train, val, held_out = _render(work, config)
        root = out.resolve() / "data"  # where the data will be
        learned = {"pretrained": _tune(work, train, val, held_out, config, root, weights="package")}
        if compare:
            learned["random"] = _tune(work, train, val, held_out, config, root, weights="none")
        exported = export_checkpoint(
            learned["pretrained"].run,
            work / "bundle",
            ExportOptions(data=work / "data", val_images=config.val_images, targets=config.targets),
            name="roadworld-detector",
        )
        sys.stderr.write(summary_text(exported.manifest) + "\n")
        compiled = _verify(work / "bundle", held_out)
        summary = _run_clip(work, config)
        seconds = time.monotonic() - started
        document = _document(
            learned, exported.manifest, compiled, summary, held_out_images=len(held_out), seconds=seconds
        )
        page = _report(work, exported.manifest, learned, compiled, held_out, summary, seconds=seconds)
        (work / "report.html").write_text(page, encoding="utf-8")
    places = {"bundle": out / "bundle", "report": out / "report.html", "clip": out / "annotated.mp4"}
    return document | {name: str(path) for name, path in places.items()}


def _render(work: Path, config: DemoConfig) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and held-out images; held-out ones come from another seed and choose nothing."""
    total = config.train_images + config.val_images + config.held_out_images
    with Progress("render", total, unit="images") as progress:
        seen = config.train_images + config.val_images
        for name, images, val_fraction, seed in (
            ("data", seen, config.val_images / seen, config.seed),
            ("held-out", config.held_out_images, 0.0, config.seed + 1000),
        ):
            write_dataset(
                work / name,
                images=images,
                domain=config.domain,
                size_hw=config.source_hw,
                seed=seed,
                val_fraction=val_fraction,
                on_image=progress.step,
            )
    data = work / "data"
    return read_dataset(data, "train"), read_dataset(data, "val"), read_dataset(work / "held-out", "train")


def _tune(
    work: Path, train: Dataset, val: Dataset, held_out: Dataset, config: DemoConfig, root: Path, *, weights: str
) -> Learned:
    """Tune with the same images and epochs; random weights spend the probe's epochs on training everything."""
    transfer = weights != "none"
    tuning = TuneConfig(
        weights=weights,
        size_hw=config.size_hw,
        crop_hw=config.size_hw,
        epochs=config.epochs if transfer else config.epochs + config.probe_epochs,
        probe_epochs=config.probe_epochs if transfer else 0,
        freeze_stride=4 if transfer else 0,
        head_lr=2e-3,
        backbone_lr=1e-3,
        zoom=(0.8, 1.4),
        val_images=config.val_images,
        seed=config.seed,
    )
    run_directory = work / ("tune" if transfer else "tune-random")
    run_directory.mkdir()
    result = tune(train, val, run_directory, tuning, data_root=str(root))
    with open_subject(result.best) as subject:
        metric = _metric(subject, held_out)
    return Learned(run_directory, read_curve(run_directory / "metrics.csv"), metric)


def _metric(subject: Subject, held_out: Dataset) -> HeadMetric:
    """Average precision of the boxes."""
    frames = Frames(held_out, subject.preprocess)
    return evaluate(subject.infer, frames, subject.kinds(held_out)).heads["detect"]


def _verify(bundle_path: Path, held_out: Dataset) -> HeadMetric:
    """Golden samples replayed, and the metric of the compiled network on held-out images."""
    bundle = open_bundle(bundle_path)
    engine = load_bundle_engine(bundle)
    try:
        golden = replay_golden(bundle, engine)
    finally:
        engine.close()
    if not golden.ok:
        raise GateFailed(f"golden samples differ by {golden.worst_rel_error:.2g}, allowed {golden.tolerance:.0e}")
    with open_subject(bundle_path) as subject:
        return _metric(subject, held_out)


def _run_clip(work: Path, config: DemoConfig) -> Summary:
    """Render a drive and run the bundle on it."""
    clip = work / "clip.mp4"
    frames = round(config.clip_seconds * 30)
    with Progress("clip", frames, unit="frames") as progress:
        write_clip(
            clip,
            seconds=config.clip_seconds,
            fps=30,
            size_hw=config.source_hw,
            domain=config.domain,
            seed=config.seed + 2000,
            on_frame=progress.step,
        )
    bundle = open_bundle(work / "bundle")
    camera = open_camera(str(clip))
    sinks: list[Sink] = [
        VideoSink(work / "annotated.mp4", fps=camera.fps),
        JsonLinesSink(work / "results.jsonl", bundle.manifest.heads),
    ]
    with Progress("run", frames, unit="frames") as progress:
        summary = run(bundle, camera, sinks=sinks, on_result=lambda _: progress.step())
    sys.stderr.write(table(summary.stages) + "\n")
    return summary


def _document(
    learned: dict[str, Learned],
    manifest: Manifest,
    compiled: HeadMetric,
    summary: Summary,
    *,
    held_out_images: int,
    seconds: float,
) -> dict[str, object]:
    return {
        "seconds": round(seconds, 1),
        "transfer": {name: one.metric.value for name, one in learned.items()},
        "held_out": {"images": held_out_images, "compiled_ap50": compiled.value, "per_class": compiled.per_class},
        "hops": [
            {"hop": h.hop, "metric": h.metric, "value": h.value, "max_rel_error": h.max_rel_error}
            for h in manifest.hops
        ],
        "chosen": {"variant": manifest.chosen.variant, "engine": manifest.chosen.engine},
        "speedup": speedup(manifest),
        "ledger": summary.as_json(),
    }


def _report(
    work: Path,
    manifest: Manifest,
    learned: dict[str, Learned],
    compiled: HeadMetric,
    held_out: Dataset,
    summary: Summary,
    *,
    seconds: float,
) -> str:
    """The bundle's page with what was learned and how the clip ran before it."""
    best = learned["pretrained"].metric
    figures = [
        KeyFigure(f"{100 * compiled.value:.1f}", "AP50 of the compiled network", f"{len(held_out)} held-out images"),
        KeyFigure(f"{100 * best.value:.1f}", "AP50 in torch", "before compiling"),
        KeyFigure(f"{seconds:.0f} s", "from nothing to here", "render, tune, export, verify, run"),
    ]
    if "random" in learned:
        gain = 100 * (best.value - learned["random"].metric.value)
        figures.append(KeyFigure(f"{gain:+.1f}", "points by transfer", "against random weights, same budget"))
    curves = [
        Series(
            "ImageNet weights" if name == "pretrained" else "random weights",
            [float(r["seconds"]) for r in one.curve if "val" in r],
            [100 * float(r["val"]) for r in one.curve if "val" in r],
        )
        for name, one in learned.items()
    ]
    classes = Table(
        columns=("class", "AP50 torch", "AP50 compiled"),
        rows=[[name, best.per_class[name], value] for name, value in compiled.per_class.items()],
        caption="By class, on the held-out images",
    )
    what = Section(
        "What was learned",
        [
            KeyFigures(figures),
            LineChart(title="Learning", x_label="seconds of training", y_label="AP50 on validation", series=curves),
            Gallery(pictures=_pictures(work / "bundle", held_out), caption="Held-out images, the compiled network"),
            classes,
        ],
    )
    return bundle_report(manifest, before=[what, _clip_section(summary)])


def _clip_section(summary: Summary) -> Section:
    document = summary.as_json()
    stages = document["stages"]
    assert isinstance(stages, dict)
    rows = [[name, s["p50_ms"], s["p95_ms"], s["p99_ms"], s["max_ms"]] for name, s in stages.items()]
    counts = ", ".join(f"{document[k]} {k}" for k in ("captured", "processed", "dropped", "failed"))
    return Section(
        "The clip, frame by frame",
        [
            Note(f"A rendered drive through the whole runtime: {counts}. See annotated.mp4 beside this page."),
            Table(columns=("stage", "p50 ms", "p95 ms", "p99 ms", "max ms"), rows=rows, caption="Latency ledger"),
        ],
    )


def _pictures(bundle_path: Path, held_out: Dataset, number: int = 6) -> list[Picture]:
    """Held-out images with what the compiled network finds in them."""
    import cv2

    pictures = []
    bundle = open_bundle(bundle_path)
    engine = load_bundle_engine(bundle)
    try:
        pipeline, annotate = Pipeline(bundle, engine), Annotator(bundle.manifest.heads)
        for i, sample in enumerate(held_out.take(number).samples):
            frame = Frame(read_image(sample.image), i, "held-out", time.monotonic_ns(), name=sample.image.name)
            _, data = cv2.imencode(".jpg", annotate(frame, pipeline.process(frame)), [cv2.IMWRITE_JPEG_QUALITY, 85])
            text = f"{sample.image.name}: {len(sample.labels)} objects"
            pictures.append(Picture(image=data.tobytes(), caption=text, alt=f"Annotated road scene {i + 1}"))
    finally:
        engine.close()
    return pictures
