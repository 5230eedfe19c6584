"""Who takes part, and one run of one of them: its script in its own environment, its figures back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from compilers.processes import PeerFailed, run
from compilers.yolo_case import MOST, NMS_IOU
from stream.prepare import Prepared

HERE = Path(__file__).parent
Mode = Literal["file", "live"]
Environment = Literal["project", "ultralytics", "roboflow"]
LIMIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One row. runs: the engine and precision. job: what its script is told beside the source."""

    name: str
    runs: str
    script: str
    environment: Environment
    job: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name with what it runs on."""
        return f"{self.name}, {self.runs}"


@dataclass(frozen=True, slots=True)
class Round:
    """The figures of one run: by name; and what its process said beside them."""

    figures: dict[str, float]
    said: dict[str, Any]


ULTRALYTICS, PLAIN, ROBOFLOW, EDGETL = "Ultralytics stream=True", "plain script", "Roboflow pipeline", "edgetl"
BASELINE, SAME, CHOSEN = "ultralytics", "same", "chosen"


def contestants(made: Prepared) -> dict[str, Contestant]:
    """All, by a short name that also stands for them on the command line; the first is what others are held against."""
    common = {"size": made.size, "threshold": made.threshold, "nms_iou": NMS_IOU, "most": MOST}
    onnx = common | {"model": str(made.onnx)}
    bundle = {"bundle": str(made.bundle)}
    fp32 = "ONNX Runtime fp32"
    rows = {
        BASELINE: Contestant(
            name=ULTRALYTICS, runs=fp32, script="ultralytics_stream.py", environment="ultralytics", job=onnx
        ),
        "plain": Contestant(name=PLAIN, runs=fp32, script="plain_peer.py", environment="project", job=onnx),
        "roboflow": Contestant(name=ROBOFLOW, runs=fp32, script="roboflow_peer.py", environment="roboflow", job=onnx),
        SAME: Contestant(
            name=EDGETL,
            runs=fp32,
            script="edgetl_peer.py",
            environment="project",
            job=bundle | {"engine": "onnxruntime", "variant": made.fp32, "golden": "skip"},
        ),
        CHOSEN: Contestant(
            name=EDGETL,
            runs=f"its choice: {made.chosen}",
            script="edgetl_peer.py",
            environment="project",
            job=bundle | {"engine": None, "variant": None, "golden": "replay"},
        ),
    }
    if made.openvino is not None:
        rows["ultralytics-openvino"] = Contestant(
            name=ULTRALYTICS,
            runs="its OpenVINO",
            script="ultralytics_stream.py",
            environment="ultralytics",
            job=common | {"model": str(made.openvino)},
        )
    return rows


def one_round(
    one: Contestant, mode: Mode, made: Prepared, python: Path | None, folder: Path, *, fps: float, seconds: float
) -> Round:
    """Run it once on the clip, or on the live source for `seconds`. Raises PeerFailed with the reason."""
    if python is None:
        raise PeerFailed("no environment was given for it")
    if not python.is_file():
        raise PeerFailed(f"no Python at {python}")
    folder.mkdir(parents=True, exist_ok=True)
    job = {**one.job, "mode": mode, "warmup": 20, "seconds": seconds, "scratch": str(folder)}
    if mode == "file":
        said = _said(one, python, job | {"source": str(made.clip)}, folder)
        return Round(figures_of(said), said)
    with camera(made.pictures, fps) as (url, due):
        said = _said(one, python, job | {"source": url}, folder)
    ages = ages_ms(said["seen"], due["due_ns"], len(list(made.pictures.glob("*.jpg"))))
    return Round(figures_of(said) | age_figures(ages) | {"camera_lost": float(due["lost"])}, said)


def _said(one: Contestant, python: Path, job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    environment = dict(os.environ)
    if one.environment != "project":
        environment.pop("PYTHONPATH", None)
    done = run([str(python), str(HERE / one.script), str(file)], folder / "log.txt", environment, limit_s=LIMIT_S)
    if not done.documents:
        raise PeerFailed("it ended well and said nothing")
    return done.documents[-1]


@contextmanager
def camera(pictures: Path, fps: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """The live source in a process of its own: its address, and a mapping that holds what it sent after the context."""
    command = [sys.executable, str(HERE / "sender.py"), str(pictures), str(fps)]
    sent: dict[str, Any] = {"due_ns": [], "lost": 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = json.loads(process.stdout.readline())["port"]
            yield f"http://127.0.0.1:{port}/front", sent
            line = process.stdout.readline()
            sent |= json.loads(line) if line else {}
        finally:
            process.kill()


def ages_ms(seen: Sequence[Sequence[int | None]], due_ns: Sequence[Sequence[int]], count: int) -> list[float]:
    """How old each result was when it was there.

    seen: the number read from each result's frame, and when it was there. due_ns: the numbers sent, in order, with
    their times of capture; numbers begin again after `count`. Raises PeerFailed where most can't be read.
    """
    sent: dict[int, list[int]] = {}
    for number, when in due_ns:
        sent.setdefault(number, []).append(when)
    ages = []
    for number, when_ns in seen:
        before = [t for t in sent.get(number, []) if when_ns is not None and t <= when_ns] if number is not None else []
        if before and when_ns is not None:
            ages.append((when_ns - before[-1]) / 1e6)
    if len(ages) < 0.9 * len(seen) or not ages:
        raise PeerFailed(f"the number in the picture could be read in {len(ages)} of {len(seen)} results only")
    return ages


def figures_of(said: Mapping[str, Any]) -> dict[str, float]:
    """What every run gives: times in ms between asking and having, outside the engine, in it, and all the rest."""
    times, outside, engine = (np.asarray(said[k], float) for k in ("times_ms", "outside_ms", "engine_ms"))
    return {
        "p50_ms": float(np.median(times)),
        "p99_ms": float(np.percentile(times, 99)),
        "outside_ms": float(np.median(outside)),
        "engine_ms": float(np.median(engine)),
        "work_p99_ms": float(np.percentile(outside + engine, 99)),
        "rest_ms": float(np.median(times - engine)),
        "cpu_ms": 1e3 * float(said["cpu_s"]),
        "peak_mb": float(said["peak_mb"]),
        "boxes": float(said["boxes"]),
        "results": float(len(times)),
    }


def age_figures(ages: Sequence[float]) -> dict[str, float]:
    """Percentiles, and the medians of both halves: an age that grows shows there."""
    half = max(len(ages) // 2, 1)
    return {
        "age_p50_ms": float(np.median(ages)),
        "age_p99_ms": float(np.percentile(ages, 99)),
        "age_first_ms": float(np.median(ages[:half])),
        "age_second_ms": float(np.median(ages[-half:])),
    }
