"""The demo: small but whole, and in full with the figures it must reach (slow)."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from edgetl.cli import main
from edgetl.data import read_dataset
from edgetl.demo import DemoConfig, demo
from edgetl.training.checkpoint import load_checkpoint
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import InputError

SMALL = DemoConfig(
    train_images=16,
    val_images=8,
    held_out_images=8,
    size_hw=(96, 160),
    epochs=1,
    probe_epochs=1,
    clip_seconds=0.5,
    targets=("cpu", "orin-nano"),
)


@pytest.mark.usefixtures("one_thread")
def test_a_small_demo_leaves_everything(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    document = demo(out, SMALL, compare=True, force=False)
    json.dumps(document)
    transfer, ledger, hops = document["transfer"], document["ledger"], document["hops"]
    assert isinstance(transfer, dict)
    assert isinstance(ledger, dict)
    assert isinstance(hops, list)
    assert set(transfer) == {"pretrained", "random"}
    assert [h["hop"] for h in hops][:12] == [
        "torch",
        "onnx",
        "flush-tiny",
        "fold-constants",
        "select-early",
        "fold-batch-norm",
        "join-branches",
        "join-pool",
        "fold-input",
        "drop-dead",
        "shuffle-late",
        "split-early",
    ]
    assert ledger["processed"] == ledger["captured"] == 15
    assert open_bundle(out / "bundle").manifest.heads[0].labels[0] == "car"
    root = Path(load_checkpoint(out / "tune").card.data_root)
    assert len(read_dataset(root, "val")) == 8, "adapt and export look for the data there"
    video = cv2.VideoCapture(str(out / "annotated.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 15
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "random weights" in page
    assert "What was learned" in page
    assert "http://" not in page
    assert "https://" not in page
    assert len((out / "results.jsonl").read_text().splitlines()) == 15
    with pytest.raises(InputError, match="--force"):
        demo(out, SMALL, compare=False, force=False)
    assert (out / "report.html").read_text(encoding="utf-8") == page
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


@pytest.mark.slow
def test_the_demo_reaches_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the machine of the README's table it reaches 0.81; the bound leaves room for other processors."""
    assert main(["demo", "--out", str(tmp_path / "demo"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["held_out"]["compiled_ap50"] >= 0.75
    assert document["transfer"]["pretrained"] >= 0.75
    assert document["ledger"]["dropped"] == document["ledger"]["failed"] == 0
