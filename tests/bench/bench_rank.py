"""Does `rank` find the network that a full fine-tune finds best? Weighted Kendall tau, and the time of both.

    python tests/bench/bench_rank.py --candidates a,b:none,c --epochs 6 DATA:TASK:WxH[:TRAIN[:VAL]] [...]

For each dataset: the order by `rank` (features only, no trials, no time), then a fine-tune of every candidate with the
same settings. Prints one JSON line a dataset as it is done, and a summary. Finished fine-tunes are kept in --out and
read again, so that a stopped run goes on. A fine-tune takes minutes to hours: choose --epochs and --images by the
machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from edgetl.data import Dataset, read_dataset
from edgetl.features.objects import Task, pick
from edgetl.ranking.candidates import Candidate, parse_candidates
from edgetl.ranking.kendall import weighted_tau
from edgetl.ranking.rank import rank_networks
from edgetl.training.config import TuneConfig
from edgetl.training.tune import tune


@dataclass(frozen=True)
class Case:
    """One dataset, task and size to rank and fine-tune on."""

    name: str
    task: Task
    size_hw: tuple[int, int]
    train: Dataset
    val: Dataset


def case_of(text: str, images: int, group_pattern: str | None) -> Case:
    """DATA:TASK:WxH[:TRAIN[:VAL]] as a case with at most `images` training images."""
    data, task, size, *splits = text.split(":")
    assert task in get_args(Task), task
    width, height = (int(v) for v in size.split("x"))
    train, val = (*splits, *("train", "val")[len(splits) :])
    return Case(
        f"{Path(data).name}-{task}-{size}",
        task,
        (height, width),
        read_dataset(Path(data), train, group_pattern).take(images),
        read_dataset(Path(data), val, group_pattern),
    )


def truth(case: Case, candidate: Candidate, out: Path, epochs: int) -> tuple[float, float]:
    """The metric of a whole fine-tune and its seconds; from `out` where it was done before."""
    kept = out / case.name / f"{candidate.name.replace('/', '_').replace(':', '_')}-{epochs}-{len(case.train)}.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        return found["value"], found["seconds"]
    run = kept.with_suffix("")
    run.mkdir(parents=True, exist_ok=True)
    layers = (case.train.layers[0].name,) if case.task == "segment" else ()
    config = TuneConfig(
        tasks=(case.task,), layers=layers, backbone=candidate.backbone, weights=candidate.weights, epochs=epochs,
        size_hw=case.size_hw, crop_hw=case.size_hw, val_images=len(case.val), val_every=max(epochs // 2, 1),
    )  # fmt: skip
    started = time.monotonic()
    value = tune(case.train, case.val, run, config).value
    found = {"value": value, "seconds": time.monotonic() - started}
    kept.write_text(json.dumps(found))
    return found["value"], found["seconds"]


def compare(case: Case, candidates: tuple[Candidate, ...], out: Path, epochs: int) -> dict[str, object]:
    """Rank, fine-tune all, and how well the orders agree."""
    started = time.monotonic()
    picks = pick(case.train, case.task)
    ranked, skipped = rank_networks(candidates, case.train, picks, case.task, case.size_hw)
    rank_seconds = time.monotonic() - started
    results = [(r, *truth(case, r.candidate, out, epochs)) for r in ranked]
    values = [value for _, value, _ in results]
    scores = {
        "combined": [-r.placed.rank for r, _, _ in results],
        "knn": [r.knn for r, _, _ in results],
        "logme": [r.logme for r, _, _ in results],
        "h_score": [r.h_score for r, _, _ in results],
    }
    return {
        "case": case.name,
        "images": len(case.train),
        "rows": [
            {"name": r.candidate.name, "place": r.placed.place, "p_best": r.placed.p_best, "knn": r.knn,
             "logme": r.logme, "h_score": r.h_score, "truth": value, "seconds": round(seconds, 1)}
            for r, value, seconds in results
        ],
        "weighted_tau": {name: weighted_tau(list(s), values) for name, s in scores.items()},
        "lost_by_first": max(values) - values[0],
        "rank_seconds": round(rank_seconds, 1),
        "tune_seconds": round(sum(seconds for _, _, seconds in results), 1),
        "skipped": {s.candidate.name: s.why for s in skipped},
    }  # fmt: skip


def main() -> None:
    """Compare on every case and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="DATA:TASK:WxH[:TRAIN[:VAL]]")
    parser.add_argument("--candidates", required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--group-pattern")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_rank"))
    args = parser.parse_args()
    candidates = parse_candidates(args.candidates.split(","), "auto")
    documents = []
    for text in args.cases:
        document = compare(case_of(text, args.images, args.group_pattern), candidates, args.out, args.epochs)
        documents.append(document)
        print(json.dumps(document), flush=True)
    taus = [d["weighted_tau"]["combined"] for d in documents]  # type: ignore[index]
    print(json.dumps({"bench": "rank", "cases": len(documents), "median_weighted_tau": statistics.median(taus)}))


if __name__ == "__main__":
    main()
