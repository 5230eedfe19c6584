"""What transfer is worth: random, probe, full and probe-then-fine-tune over seeds, in the domain and beyond it.

usage: python tests/bench/bench_transfer.py OUT NAME=DATA:TRAIN:VAL:SHIFTED ... [--images 50,200,1000] [--seeds 0,1,2]

DATA is a dataset with boxes; VAL is in the training domain, SHIFTED in another one (DATA2@SPLIT names a split of
another dataset). Every run gets the same number of steps, so that only what is compared differs; the probe is the first
half of probe-finetune, so one run gives both rows. One line of JSON for each row goes to OUT/runs.jsonl, and finished
runs are not repeated; the table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from edgetl.commands.arguments import share_cores

RECIPES = {
    "random": {"weights": "none", "recipe": "full", "freeze_stride": 0},
    "full": {"recipe": "full", "freeze_stride": 0},
    "probe-finetune": {"recipe": "probe-finetune"},
}
ROWS = ("random", "probe", "full", "probe-finetune")
SCORING = {"merge": (("vehicle", ("car", "bus", "truck")),), "min_height_px": 16.0}
STEPS = {50: 100, 200: 200, 1000: 250}
"""Fine-tuning steps of four images by the number of training images."""


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", nargs="+", help="NAME=DATA:TRAIN:VAL:SHIFTED")
    parser.add_argument("--images", default="50,200,1000")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--size", default="320x192", help="network input, WxH")
    parser.add_argument("--score-images", type=int, default=120, help="images for the metric, of each split")
    args = parser.parse_args()
    share_cores()
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "runs.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(r["data"], r["images"], r["recipe"], r["seed"]) for r in rows}
    for seed in map(int, args.seeds.split(",")):
        for text in args.data:
            name, _, place = text.partition("=")
            for images in map(int, args.images.split(",")):
                for recipe in RECIPES:
                    if (name, images, recipe, seed) in done:
                        continue
                    for row in one(args, place, images, recipe, seed):
                        rows.append({"data": name, **row})
                        with log.open("a") as lines:
                            lines.write(json.dumps(rows[-1]) + "\n")
                        sys.stderr.write(json.dumps(rows[-1]) + "\n")
    sys.stdout.write(table(rows))


def one(args: argparse.Namespace, place: str, images: int, recipe: str, seed: int) -> list[dict[str, object]]:
    """Tune once and score what came of it, and the probe where it had one, in the domain and beyond it."""
    from edgetl.data import Dataset, read_dataset
    from edgetl.metrics.detection import Scoring
    from edgetl.metrics.predict import Frames, evaluate
    from edgetl.metrics.subject import open_subject
    from edgetl.training.config import TuneConfig
    from edgetl.training.tune import tune

    root, train_split, val_split, shifted_split = place.split(":")

    def read(split: str) -> Dataset:
        other, _, name = split.rpartition("@")
        return read_dataset(Path(other or root), name)

    width, height = map(int, args.size.split("x"))
    everything = read(train_split)
    order = np.random.default_rng(seed).permutation(len(everything))[:images]
    train = everything.only(sorted(order.tolist()))
    epochs = max(round(STEPS.get(images, 250) * 4 / images), 1)
    settings = {"epochs": epochs, "probe_epochs": max(epochs // 2, 2), "val_every": max(epochs // 3, 1)}
    config = TuneConfig(
        size_hw=(height, width), crop_hw=(height, width), zoom=(0.8, 1.4), head_lr=2e-3, backbone_lr=1e-3,
        val_images=60, seed=seed, **(settings | RECIPES[recipe]),
    )  # fmt: skip
    run = args.out / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    started = time.monotonic()
    tuned = tune(train, read(val_split), run, config)
    seconds = time.monotonic() - started
    rows: list[dict[str, object]] = []
    probed = run / "probe.pt"
    checkpoints = {recipe: tuned.best, **({"probe": probed} if probed.is_file() else {})}
    for name, checkpoint in checkpoints.items():
        found = {}
        with open_subject(checkpoint) as subject:
            for domain, split in (("inside", val_split), ("shifted", shifted_split)):
                data = subject.align(read(split).take(args.score_images))
                frames = Frames(data, subject.preprocess)
                scoring = Scoring(**SCORING)  # type: ignore[arg-type]
                found[domain] = evaluate(subject.infer, frames, subject.kinds(data), scoring=scoring).value
        rows.append({"images": images, "recipe": name, "seed": seed, **found})
    rows[0]["seconds"] = round(seconds, 1)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Mean and spread over seeds, in the domain / shifted: a line for each dataset and number of images."""
    lines = ["| data | images | seeds | " + " | ".join(ROWS) + " |", "|---|---|---|" + "---|" * len(ROWS)]
    for data, images in sorted({(str(r["data"]), int(str(r["images"]))) for r in rows}):
        found = [[r for r in rows if (r["data"], r["images"], r["recipe"]) == (data, images, name)] for name in ROWS]
        cells = [
            " / ".join(spread([float(str(r[domain])) for r in own]) for domain in ("inside", "shifted")) if own else "-"
            for own in found
        ]
        lines.append(f"| {data} | {images} | {min(map(len, found))} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """`0.512±0.010`: mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f}±{deviation:.3f}"


if __name__ == "__main__":
    main()
