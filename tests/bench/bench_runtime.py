"""What the runtime adds to an engine, measured side by side with the usual way of writing it.

    python tests/bench/bench_runtime.py [--runs 300] [--json]

Prints medians and 99th percentiles: letterbox and decode on a 1280x720 frame against the usual script
(resize, copyMakeBorder, float planes; a loop over rows), the import of edgetl_runtime, and the age of results
when the engine is three times slower than the camera.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

from runtime_support import FakeCamera, scene, write_test_bundle

from edgetl_runtime.bench import measure, percentiles
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.decode import decode
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.letterbox import Letterbox, geometry
from edgetl_runtime.loop import run
from edgetl_runtime.spec import DetectHead, Preprocess

SOURCE_HW, SIZE_HW, K = (720, 1280), (384, 640), 100


def usual_letterbox(image: np.ndarray) -> np.ndarray:
    """What most scripts do before a network that wants float planes."""
    h, w = image.shape[:2]
    scale = min(SIZE_HW[0] / h, SIZE_HW[1] / w)
    new_w, new_h = round(w * scale), round(h * scale)
    top, left = (SIZE_HW[0] - new_h) // 2, (SIZE_HW[1] - new_w) // 2
    small = cv2.resize(image, (new_w, new_h))
    bottom, right = SIZE_HW[0] - new_h - top, SIZE_HW[1] - new_w - left
    padded = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114,) * 3)
    return np.ascontiguousarray(padded[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255


def usual_decode(outputs: dict[str, np.ndarray], threshold: float) -> list[dict[str, object]]:
    """What most scripts do after it: one row at a time."""
    place = geometry(SOURCE_HW, SIZE_HW)
    found = []
    for box, score, index in zip(outputs["boxes"][0], outputs["scores"][0], outputs["classes"][0], strict=True):
        if score >= threshold:
            pad = np.array([place.pad_left, place.pad_top] * 2)
            corners = np.clip((box - pad) / place.scale, 0, [1280, 720, 1280, 720])
            found.append({"box": corners.tolist(), "score": float(score), "class": int(index)})
    return found


def overhead(runs: int) -> dict[str, dict[str, float]]:
    """Letterbox, decode and both, beside the usual way."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SOURCE_HW, 3), np.uint8)
    outputs = {
        "boxes": np.sort(rng.uniform(0, 640, (1, K, 4)).astype(np.float32), axis=2),
        "scores": -np.sort(-rng.random((1, K))).astype(np.float32),
        "classes": rng.integers(0, 5, (1, K)),
    }
    letterbox = Letterbox(Preprocess(size_hw=SIZE_HW, mean=(0.0,) * 3, std=(1.0,) * 3))
    labels = tuple("abcde")
    spec = DetectHead(labels=labels, max_detections=K, thresholds=(0.3,) * len(labels), stride=8)
    place = geometry(SOURCE_HW, SIZE_HW)
    calls = {
        "letterbox": lambda: letterbox(image),
        "decode": lambda: decode(outputs, spec, place),
        "both": lambda: (letterbox(image), decode(outputs, spec, place)),
        "usual letterbox": lambda: usual_letterbox(image),
        "usual decode": lambda: usual_decode(outputs, 0.3),
        "usual both": lambda: (usual_letterbox(image), usual_decode(outputs, 0.3)),
    }
    return {name: percentiles(times) for name, times in measure(calls, runs=runs).items()}


def import_seconds(times: int = 5) -> float:
    """The median time of `import edgetl_runtime` in a fresh interpreter, without the interpreter's own start."""
    code = "import time; t = time.perf_counter(); import edgetl_runtime; print(time.perf_counter() - t)"
    found = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(times)
    ]
    return float(np.median(found))


def freshness(frames: int = 300, interval_s: float = 0.01) -> dict[str, object]:
    """Age of results when the engine takes three frame intervals."""
    import time

    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(write_test_bundle(Path(folder) / "bench.bundle"))
        engine = load_bundle_engine(bundle)
        inner = engine.infer
        engine.infer = lambda inputs: (time.sleep(3 * interval_s), inner(inputs))[1]  # type: ignore[method-assign]
        camera = FakeCamera([scene(*SOURCE_HW)] * frames, delay_s=interval_s)
        ages: list[float] = []
        summary = run(bundle, camera, engine=engine, on_result=lambda r: ages.append(r.age_ms))
    half = len(ages) // 2
    return {
        "bound_ms": 4 * interval_s * 1e3,
        "age_ms": summary.age_ms,
        "first_half_ms": round(float(np.median(ages[:half])), 2),
        "second_half_ms": round(float(np.median(ages[half:])), 2),
        "processed": summary.processed,
        "dropped": summary.dropped,
        "rss_mb": summary.rss_mb,
    }


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = {"overhead": overhead(args.runs), "import_s": import_seconds(), "freshness": freshness()}
    if args.json:
        print(json.dumps(report))
        return
    for name, row in report["overhead"].items():
        print(f"{name:<16} p50 {row['p50_ms']:7.3f}  p99 {row['p99_ms']:7.3f} ms")
    print(f"import edgetl_runtime {report['import_s'] * 1e3:.1f} ms")
    print(f"freshness {report['freshness']}")


if __name__ == "__main__":
    main()
