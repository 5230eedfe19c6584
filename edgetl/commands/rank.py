"""Which pretrained network for this data on this target: frozen features, measured time, short trials of the best."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import (
    CATEGORY_HW,
    FRAME_HW,
    add_dataset_arguments,
    check_page,
    count,
    milliseconds,
    names,
    reading_of,
    say,
    share_cores,
    size_wxh,
)
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.features.objects import Task
    from edgetl.ranking.halving import Halving
    from edgetl.ranking.latency import Time
    from edgetl.ranking.rank import Ranked, Skipped

SIZES: dict[str, tuple[int, int]] = {"detect": FRAME_HW, "segment": (352, 480), "classify": CATEGORY_HW}
"""Network input by task where --size isn't given, (height, width)."""
MEASURED_TARGET = "cpu"
TRIAL_IMAGES = 60
"""Validation images that a short fine-tune is judged by."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl rank`."""
    add_dataset_arguments(parser)
    parser.add_argument("--task", choices=list(SIZES), help="default: the one that the data has labels for")
    parser.add_argument("--layer", metavar="NAME", help="layer of masks to segment (default: the first)")
    parser.add_argument("--train", default="train", metavar="SPLIT", help="split whose features are compared")
    parser.add_argument("--val", default="val", metavar="SPLIT", help="split that the trials are scored on")
    parser.add_argument("--allow-leaks", action="store_true", help="try though the splits share images or groups")
    parser.add_argument("--limit", type=count, default=300, metavar="N", help="compare N images spread over the split")
    parser.add_argument("--size", type=size_wxh, metavar="WxH", help="network input (default: by task)")
    parser.add_argument(
        "--candidates", type=names, metavar="NAME[:WEIGHTS],...",
        help="timm networks (default: those whose weights are on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", default="auto", help="for candidates that name none: `package`, `hub`, `none`; `auto` takes both"
    )
    parser.add_argument(
        "--use", choices=["commercial", "research"], default="commercial", help="what weights must allow"
    )
    parser.add_argument("--allow-license", action="store_true", help="take weights whose licence forbids --use")
    parser.add_argument("--target", default=MEASURED_TARGET, help="time is measured for cpu, this machine, only")
    parser.add_argument("--budget-ms", type=milliseconds, metavar="MS", help="choose among networks at most this slow")
    parser.add_argument("--time", action=argparse.BooleanOptionalAction, default=True, help="measure time")
    parser.add_argument("--tune", action=argparse.BooleanOptionalAction, default=True, help="short trials of the best")
    parser.add_argument("--top", type=count, default=3, metavar="K", help="how many are tried")
    parser.add_argument("--steps", type=count, default=60, metavar="N", help="training steps of the first trials")
    parser.add_argument("--page", type=Path, metavar="FILE.html", help="write the ranking as a page")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Rank, and print the table. Raises InputError for wrong input or where no candidate could be scored."""
    share_cores()
    from edgetl.data.leaks import refuse_leaks
    from edgetl.features.objects import pick
    from edgetl.ranking.candidates import here, parse_candidates
    from edgetl.ranking.rank import left_out, rank_networks

    check_page(args.page)
    started = time.monotonic()
    reading = reading_of(args)
    whole = reading.read(args.data, args.train)
    val = reading.read(args.data, args.val) if args.tune and args.top > 1 else None
    if val is not None:
        refuse_leaks(whole, val, allow=args.allow_leaks)
    dataset = whole.take(args.limit)
    task = _task(dataset, args.task)
    layer = _layer(dataset, args.layer) if task == "segment" else 0
    size_hw = args.size or SIZES[task]
    if size_hw[0] % 32 or size_hw[1] % 32:
        raise InputError(f"--size {size_hw[1]}x{size_hw[0]}: width and height must be multiples of 32")
    _check_target(args.target)
    texts = args.candidates if args.candidates else [c.name for c in here()]
    candidates = parse_candidates(texts, args.weights)
    if val is not None and len(candidates) > 1:
        _check_trials(whole, val, task, layer)
    picks = pick(dataset, task, layer=layer)
    say(f"rank         {len(candidates)} networks by {len(picks.labels)} vectors of {len(dataset)} images, {task}")
    if rare := left_out(picks):
        say(f"rank         too rare to count: {', '.join(rare)}")
    ranked, skipped = rank_networks(
        candidates, dataset, picks, task, size_hw, use=args.use, allow_license=args.allow_license
    )
    if not ranked:
        reasons = "; ".join(f"{s.candidate.name}: {s.why}" for s in skipped)
        raise InputError(f"no candidate could be scored ({reasons})", remedy="name others with --candidates")
    times, note = _times(args, ranked, dataset, task, layer, size_hw)
    able = [r for r in ranked if _affordable(r, times, args.budget_ms)]
    halving = None
    if val is not None and len(able) > 1:
        halving = _trials(args, able, dataset, val, task, layer, size_hw)
    first = halving.order[0] if halving else able[0].candidate.name if able else None
    chosen = next((r for r in able if r.candidate.name == first), None)
    _print(ranked, skipped, times, args.budget_ms, chosen, note)
    seconds = time.monotonic() - started
    if args.page:
        _write_page(args, ranked, skipped, times, halving, chosen, note, dataset, task)
    return {
        "task": task,
        "images": len(dataset),
        "vectors": len(picks.labels),
        "classes_left_out": left_out(picks),
        "ranking": [_row(r, times, args.budget_ms) for r in ranked],
        "skipped": [{"name": s.candidate.name, "why": s.why} for s in skipped],
        "trials": [{"steps": r.steps, "values": r.values} for r in halving.rungs] if halving else [],
        "chosen": chosen.candidate.name if chosen else None,
        "sure": chosen.placed.p_best if chosen else None,
        "note": note,
        "seconds": round(seconds, 1),
    }


def _task(dataset: Dataset, asked: str | None) -> Task:
    from edgetl.heads.build import tasks_of

    known: tuple[Task, ...] = tasks_of(dataset)  # type: ignore[assignment]
    if asked is None and len(known) == 1:
        return known[0]
    found = ", ".join(known) or "none"
    if asked is None:
        raise InputError(f"{dataset.name} has labels for the tasks: {found}", remedy="choose one with --task")
    if asked not in known:
        raise InputError(f"{dataset.name} has no labels for the task {asked!r}; it has labels for: {found}")
    return asked


def _layer(dataset: Dataset, asked: str | None) -> int:
    known = [layer.name for layer in dataset.layers]
    if asked is None:
        return 0
    if asked not in known:
        raise InputError(f"{dataset.name} has no layer of masks {asked!r}, it has {', '.join(known)}")
    return known.index(asked)


def _check_target(target: str) -> None:
    if target != MEASURED_TARGET:
        from edgetl_export.targets import get_target

        get_target(target)


def _check_trials(train: Dataset, val: Dataset, task: Task, layer: int) -> None:
    """Raise InputError where trials can't be scored on `val`, before the time that all else takes."""
    from edgetl.data import same_classes
    from edgetl.heads import heads_for, kinds_of
    from edgetl.metrics.predict import scored_kinds

    same_classes(train, val)
    layers = (train.layers[layer].name,) if task == "segment" else ()
    scored_kinds(kinds_of(heads_for(train, (task,), layers=layers)), val)


def _times(
    args: argparse.Namespace, ranked: Sequence[Ranked], dataset: Dataset, task: Task, layer: int, size: tuple[int, int]
) -> tuple[dict[str, Time], str]:
    """Times by backbone, and a line that says what is not known."""
    if args.target != MEASURED_TARGET:
        return {}, f"time on {args.target} is unknown: only this machine's engines can be measured (--target cpu)"
    if not args.time:
        return {}, "time was not measured (--no-time)"
    from edgetl.heads import heads_for
    from edgetl.ranking.latency import measure_latency

    layers = (dataset.layers[layer].name,) if task == "segment" else ()
    heads = heads_for(dataset, (task,), layers=layers)
    times = measure_latency([r.candidate.backbone for r in ranked], dataset, heads, size)
    failed = [f"{name}: {t.why}" for name, t in times.items() if t.ms is None]
    return times, f"no time for {'; '.join(failed)}" if failed else ""


def _affordable(ranked: Ranked, times: Mapping[str, Time], budget_ms: float | None) -> bool:
    """Whether it may be chosen: within the budget, or nothing was measured to hold against it."""
    from edgetl.ranking.page import within

    return not times or budget_ms is None or within(times.get(ranked.candidate.backbone), budget_ms) is True


def _trials(
    args: argparse.Namespace,
    able: Sequence[Ranked],
    dataset: Dataset,
    val: Dataset,
    task: Task,
    layer: int,
    size: tuple[int, int],
) -> Halving:
    from edgetl.ranking.halving import halve
    from edgetl.ranking.trials import trials
    from edgetl.training.config import TuneConfig

    layers = (dataset.layers[layer].name,) if task == "segment" else ()
    config = TuneConfig(
        tasks=(task,), layers=layers, size_hw=size, crop_hw=size, use=args.use, allow_license=args.allow_license,
        average=False,
    )  # fmt: skip
    best = {r.candidate.name: r.candidate for r in able[: args.top]}
    say(f"rank         trying {', '.join(best)} by short fine-tunes (--no-tune leaves that out)")
    return halve(list(best), trials(best, dataset, val.take(TRIAL_IMAGES), config), steps=args.steps)


def _row(r: Ranked, times: Mapping[str, Time], budget_ms: float | None) -> dict[str, object]:
    from edgetl.ranking.page import within

    taken = times.get(r.candidate.backbone)
    spans = {
        f"{name}_interval": [r.placed.low[i], r.placed.high[i]] for i, name in enumerate(("knn", "logme", "h_score"))
    }
    return {
        "name": r.candidate.name,
        "backbone": r.candidate.backbone,
        "weights": r.candidate.weights,
        "place": r.placed.place,
        "rank": r.placed.rank,
        "knn": r.knn,
        "logme": r.logme,
        "h_score": r.h_score,
        **spans,
        "prior": r.prior.top1 if r.prior else None,
        "p_best": r.placed.p_best,
        "p_above_next": r.placed.p_above_next,
        "ms": taken.ms if taken else None,
        "engine": taken.pair if taken else None,
        "within_budget": within(taken, budget_ms),
        "licence": r.licence,
        "source": r.source,
    }


def _print(
    ranked: Sequence[Ranked], skipped: Sequence[Skipped], times: Mapping[str, Time], budget_ms: float | None,
    chosen: Ranked | None, note: str,
) -> None:  # fmt: skip
    from edgetl.ranking.page import within

    width = max([len(r.candidate.name) for r in ranked] + [len(s.candidate.name) for s in skipped])
    head = f"{'network':<{width}}  {'kNN':>5} {'95 % interval':>14}  {'LogME':>7}  {'H':>6}  {'prior':>5}  {'rank':>5}"
    say(f"   {head}  {'P(best)':>7}  {'>next':>5}  {'ms':>6}  budget  licence")
    for r in ranked:
        taken = times.get(r.candidate.backbone)
        inside = {True: "yes", False: "no", None: "-"}[within(taken, budget_ms)]
        prior = f"{r.prior.top1:.1f}" if r.prior else "-"
        above = "-" if r.placed.p_above_next is None else f"{r.placed.p_above_next:.0%}"
        ms = f"{taken.ms:.2f}" if taken and taken.ms else "-"
        say(
            f" {'*' if r is chosen else ' '} {r.candidate.name:<{width}}  {r.knn:5.3f} "
            f"{f'{r.placed.low[0]:.3f}..{r.placed.high[0]:.3f}':>14}  {r.logme:7.3f}  {r.h_score:6.2f}  {prior:>5}  "
            f"{r.placed.rank:5.2f}  {r.placed.p_best:7.0%}  {above:>5}  {ms:>6}  {inside:<6}  {r.licence}"
        )
    for s in skipped:
        say(f"   {s.candidate.name:<{width}}  left out: {s.why}")
    if note:
        say(f"rank         {note}")
    if chosen is None:
        say(f"rank         none is within {budget_ms:g} ms: raise --budget-ms, or lower --size")
    else:
        say(f"rank         take {chosen.candidate.name}: the best in {chosen.placed.p_best:.0%} of resamples")


def _write_page(
    args: argparse.Namespace, ranked: Sequence[Ranked], skipped: Sequence[Skipped], times: Mapping[str, Time],
    halving: Halving | None, chosen: Ranked | None, note: str, dataset: Dataset, task: Task,
) -> None:  # fmt: skip
    from edgetl.ranking.page import rank_page
    from edgetl_export.report.page import write_report

    page = rank_page(
        ranked, skipped, times, halving, chosen=chosen, budget_ms=args.budget_ms, note=note,
        title=f"Which network for {dataset.name}",
        subtitle=f"{len(ranked)} networks, task {task}, {len(dataset)} images, target {args.target}",
    )  # fmt: skip
    write_report(args.page, page)
    say(f"rank         page: {args.page}")
