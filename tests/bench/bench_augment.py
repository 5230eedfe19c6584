"""Time of one augmented view: torchvision's v2 against OpenCV. `python tests/bench/bench_augment.py [--frame JPEG]`

One thread, medians of interleaved runs, decoding included. Prints one JSON line: for two crops the median and the
90th percentile in ms of the whole view by each way; then what the single steps cost by v2 and by OpenCV, by which
the choice between them was made; then a whole 32x32 sign at 64x64. The frame is 640x360 noise over shapes
unless a real one is given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as v2

from edgetl.data import Sample, read_image
from edgetl.training.augment import AugmentConfig, augmented_view, sided_classes, whole_view

SIZES = ((352, 640), (192, 320))


def opencv_view(sample: Sample, crop_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The least that OpenCV can do: one affine for zoom, shift and mirror, one table, now and then blur or noise."""
    image = read_image(sample.image)
    height, width = image.shape[:2]
    scale = min(352 / height, 640 / width) * float(np.exp(rng.uniform(np.log(0.75), np.log(1.6))))
    left = rng.uniform(*sorted((0, width * scale - crop_hw[1])))
    top = rng.uniform(*sorted((0, height * scale - crop_hw[0])))
    matrix = np.array([[scale, 0, -left], [0, scale, -top]])
    if rng.random() < 0.5:
        matrix[0] = [-scale, 0, crop_hw[1] - 1 + left]
    image = cv2.warpAffine(image, matrix, crop_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=(114, 114, 114))
    levels = np.arange(256, dtype=np.float32) * rng.uniform(0.7, 1.3) + rng.uniform(-24, 24)
    table = np.stack([levels * b for b in rng.uniform(0.92, 1.08, 3)], axis=1)
    image = cv2.LUT(image, table.clip(0, 255).astype(np.uint8).reshape(1, 256, 3))
    if rng.random() < 0.1:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2)))
    if rng.random() < 0.2:
        image = (image + rng.integers(-12, 13, size=image.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)
    return image


def interleaved(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, dict[str, float]]:
    """Median, mean and 90th percentile of each way in ms, the ways taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(runs + 5):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if k >= 5:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return {
        name: {
            "median_ms": round(statistics.median(t), 2),
            "mean_ms": round(statistics.fmean(t), 2),
            "p90_ms": round(float(np.percentile(t, 90)), 2),
        }
        for name, t in times.items()
    }


def steps(frame: np.ndarray, crop_hw: tuple[int, int], runs: int) -> dict[str, float]:
    """Medians in ms of single steps."""
    height, width = crop_hw
    planes = torch.from_numpy(frame).permute(2, 0, 1)
    cut = v2.resized_crop(planes, 10, 20, 320, 600, [height, width], antialias=False)
    packed = np.ascontiguousarray(cut.permute(1, 2, 0).numpy())
    affine, table = np.array([[1.1, 0, -3.0], [0, 1.1, -2.0]]), np.arange(768, dtype=np.uint8).reshape(1, 256, 3)
    lens = [1.0, 0.01, -3.0, 0.0, 1.0, -2.0, 1e-5, 1e-5]
    ways: dict[str, Callable[[], object]] = {
        "v2 resized_crop": lambda: v2.resized_crop(planes, 10, 20, 320, 600, [height, width], antialias=False),
        "v2 resized_crop antialias": lambda: v2.resized_crop(planes, 10, 20, 320, 600, [height, width], antialias=True),
        "cv2 warpAffine": lambda: cv2.warpAffine(frame, affine, (width, height)),
        "v2 affine": lambda: v2.affine(cut, 2.0, [3, 4], 1.1, [0.0, 0.0], interpolation=2),
        "v2 perspective": lambda: v2.perspective(cut, None, None, interpolation=2, coefficients=lens),
        "v2 gamma+brightness+contrast": lambda: v2.adjust_contrast(
            v2.adjust_brightness(v2.adjust_gamma(cut, 1.1), 1.1), 1.1
        ),
        "cv2 LUT": lambda: cv2.LUT(packed, table),
        "v2 gaussian_blur 5": lambda: v2.gaussian_blur(cut, [5, 5], [1.0, 1.0]),
        "cv2 GaussianBlur 5": lambda: cv2.GaussianBlur(packed, (5, 5), 1.0),
        "v2 jpeg": lambda: v2.jpeg(cut, 50),
        "cv2 jpeg": lambda: cv2.imdecode(cv2.imencode(".jpg", packed, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1),
    }
    return {name: row["median_ms"] for name, row in interleaved(ways, runs).items()}


def drawn_frame() -> np.ndarray:
    """640x360: a gradient, rectangles and grain, so that it compresses about as a photograph does."""
    rng = np.random.default_rng(0)
    frame = np.linspace(60, 200, 360)[:, None, None] + rng.normal(0, 6, (360, 640, 3))
    for _ in range(60):
        y, x = rng.integers(0, 330), rng.integers(0, 590)
        frame[y : y + rng.integers(8, 80), x : x + rng.integers(8, 80)] += rng.uniform(-60, 60, 3)
    return frame.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frame", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = args.frame or Path(folder) / "frame.jpg"
        if not args.frame:
            cv2.imwrite(str(path), drawn_frame())
        sign = Path(folder) / "sign.png"
        cv2.imwrite(str(sign), cv2.resize(read_image(path), (32, 32)))
        boxes = np.random.default_rng(0).uniform(0, 0.5, (12, 4)).astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        sample = Sample(path, boxes, np.arange(12) % 4, np.zeros(12, np.bool_), "g")
        small = Sample(sign, boxes[:0], np.zeros(0, np.int64), np.zeros(0, np.bool_), "g", category=3)
        sided, config = sided_classes(("car", "bus", "rider", "traffic sign")), AugmentConfig()
        rng = np.random.default_rng(1)
        document: dict[str, object] = {"bench": "augment", "threads": 1, "frame_hw": read_image(path).shape[:2]}
        for crop_hw in SIZES:

            def by_v2(crop_hw: tuple[int, int] = crop_hw) -> object:
                return augmented_view(
                    sample, crop_hw=crop_hw, network_hw=(352, 640), sided=sided, config=config, rng=rng
                )

            def by_opencv(crop_hw: tuple[int, int] = crop_hw) -> object:
                return opencv_view(sample, crop_hw, rng)

            name = f"{crop_hw[0]}x{crop_hw[1]}"
            document[name] = interleaved({"opencv": by_opencv, "v2": by_v2}, args.runs)
            document[f"{name} steps_ms"] = steps(read_image(path), crop_hw, max(args.runs // 8, 5))
        whole = interleaved({"v2": lambda: whole_view(small, network_hw=(64, 64), config=config, rng=rng)}, args.runs)
        document["whole 32x32 at 64x64"] = whole
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
