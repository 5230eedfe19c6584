"""`edgetl rank` on small data: the document, what is left out, and wrong input in one line."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.commands import rank
from edgetl.models import backbone
from edgetl.models.backbone import build_backbone
from edgetl.ranking import latency
from edgetl.ranking.latency import Time
from edgetl_runtime.errors import EdgetlError, InputError

RANDOM = "tf_efficientnet_lite0:none,mobilenetv3_small_100:none"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """Folders of two classes, ten pictures each: a disc and a bar on noise."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("bar", "disc"):
            folder = tmp_path / "signs" / split / name
            folder.mkdir(parents=True)
            for i in range(10):
                picture = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
                at = (int(rng.integers(10, 22)), int(rng.integers(10, 22)))
                if name == "disc":
                    cv2.circle(picture, at, 8, (40, 40, 230), -1)
                else:
                    cv2.line(picture, (at[0] - 8, at[1]), (at[0] + 8, at[1]), (230, 230, 40), 5)
                cv2.imwrite(str(folder / f"{i:03d}.png"), picture)
    return tmp_path / "signs"


def _run(*flags: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    rank.add_arguments(parser)
    return rank.run(parser.parse_args([str(f) for f in flags]))


def test_ranks_what_can_be_had_and_names_what_cannot(signs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = signs.parent / "rank.html"
    document = _run(
        str(signs), "--candidates", f"{RANDOM},resnet18:hub", "--size", "32x32", "--no-tune", "--no-time",
        "--page", str(page),
    )  # fmt: skip
    rows = document["ranking"]
    assert isinstance(rows, list)
    assert [r["place"] for r in rows] == [1, 2]
    assert document["task"] == "classify"
    assert document["vectors"] == 20
    assert document["chosen"] == rows[0]["name"]
    assert document["sure"] == rows[0]["p_best"]
    assert sum(r["p_best"] for r in rows) == pytest.approx(1)
    assert all(r["knn_interval"][0] <= r["knn"] <= r["knn_interval"][1] for r in rows)
    skipped = document["skipped"]
    assert isinstance(skipped, list)
    assert skipped[0]["name"] == "resnet18:hub"
    assert skipped[0]["why"]
    told = capsys.readouterr().err
    assert "left out" in told
    assert "take " + str(document["chosen"]) in told
    assert "resnet18:hub" in page.read_text()


def test_the_budget_decides_among_measured_times(signs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _run(str(signs), "--candidates", RANDOM, "--size", "32x32", "--no-tune", "--no-time")["chosen"]
    best = str(first).partition(":")[0]

    def times(backbones: list[str], *_: object, **__: object) -> dict[str, Time]:
        return {b: Time(9.0 if b == best else 2.0, "openvino/int8") for b in backbones}

    monkeypatch.setattr(latency, "measure_latency", times)
    document = _run(str(signs), "--candidates", RANDOM, "--size", "32x32", "--no-tune", "--budget-ms", "5")
    assert document["chosen"] != first
    nothing = _run(str(signs), "--candidates", RANDOM, "--size", "32x32", "--no-tune", "--budget-ms", "1")
    assert (nothing["chosen"], nothing["sure"]) == (None, None)


def test_time_of_another_target_is_unknown_and_said_so(signs: Path) -> None:
    document = _run(str(signs), "--candidates", RANDOM, "--size", "32x32", "--no-tune", "--target", "orin-nano")
    assert "only this machine" in str(document["note"])
    rows = document["ranking"]
    assert isinstance(rows, list)
    assert all(r["ms"] is None for r in rows)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--task", "detect"), "no labels for the task 'detect'"),
        (("--size", "33x32"), "multiples of 32"),
        (("--candidates", "no_such_network:none"), "no candidate could be scored"),
        (("--candidates", "resnet18:none,resnet18:none"), "twice"),
        (("--target", "abacus"), "abacus"),
        (("--train", "dusk"), "no split 'dusk'"),
        (("--limit", "2", "--candidates", RANDOM), "at least two are needed"),
        (("--group-pattern", "^0", "--candidates", RANDOM), "each class lies in a single group"),
    ],
)
def test_wrong_input_is_one_line(signs: Path, flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(EdgetlError) as caught:
        _run(str(signs), "--size", "32x32", "--no-tune", "--no-time", *flags)
    assert said in str(caught.value)
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)


def test_val_that_cannot_score_a_trial_is_refused_before_the_networks_are_built(
    signs: Path, coco_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "build_backbone", lambda *_, **__: pytest.fail("built"))
    shutil.rmtree(signs / "val" / "disc")
    labels = coco_dir / "annotations" / "val.json"
    labels.write_text(json.dumps(json.loads(labels.read_text()) | {"annotations": []}))
    for data, said in ((signs, "only signs/train has disc"), (coco_dir, "coco/val: no labelled object")):
        with pytest.raises(InputError, match=said):
            _run(str(data), "--candidates", RANDOM, "--size", "32x32", "--no-time", "--allow-leaks")


def test_a_broken_image_is_the_datas_fault_and_no_networks(signs: Path) -> None:
    (signs / "train" / "bar" / "003.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"003\.png: not an image") as caught:
        _run(str(signs), "--candidates", RANDOM, "--size", "32x32", "--no-tune", "--no-time")
    assert "candidates" not in str(caught.value)


def test_a_network_whose_features_are_no_numbers_is_left_out(signs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(name: str, weights: str, **options: object) -> object:
        built = build_backbone(name, weights)
        next(iter(built.module.parameters())).data.fill_(float("inf"))
        return built

    monkeypatch.setattr(backbone, "build_backbone", overflowing)
    flags = ("--candidates", "mobilenetv3_small_100:none", "--size", "32x32", "--no-tune", "--no-time")
    with pytest.raises(InputError, match="mobilenetv3_small_100:none: its features hold NaN or infinity"):
        _run(str(signs), *flags)


def test_trials_are_not_judged_by_images_that_were_trained_on(signs: Path) -> None:
    shutil.copy(signs / "train" / "bar" / "000.png", signs / "val" / "bar" / "000.png")
    flags = (str(signs), "--candidates", RANDOM, "--size", "32x32", "--no-time")
    with pytest.raises(InputError, match=r"1 of 20 images of signs/val leak.*") as caught:
        _run(*flags)
    assert "--allow-leaks" in caught.value.remedy
    assert _run(*flags, "--top", "1")["trials"] == []
