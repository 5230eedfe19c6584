"""The page that is drawn from a recording."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import draw_recording
import numpy as np
import pytest
from runtime_support import write_test_bundle

from edgetl.cli import main


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    bundle = write_test_bundle(folder / "tiny.bundle")
    flags = ["--calibration", "own", "--track", "--threshold", "0.3", "--camera-size", "160x90", "--max-frames", "15"]
    assert main(["run", str(bundle), "roadworld:day:1", *flags, "--record", str(folder / "drive.mcap")]) == 0
    return folder / "drive.mcap"


def test_a_page_has_the_picture_of_its_moment(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    for at_s in ("0.2", "1.2"):
        out = tmp_path / f"{at_s}.jpg"
        monkeypatch.setattr(sys, "argv", ["draw_recording.py", str(recording), str(out), "--at", at_s])
        draw_recording.main()
        pages.append(cv2.imread(str(out)))
    assert pages[0].shape == pages[1].shape and pages[0].shape[1] > 1000
    found = draw_recording.read(recording, 1.2)
    assert len(found.results) == 15 and str(found.boxes.timestamp) == str(found.image.timestamp)
    drawn = draw_recording.camera_panel(found).astype(int)
    rows, columns = slice(draw_recording.TITLE, None), slice(draw_recording.GAP, None)
    difference = [np.abs(page[rows, columns][: len(drawn), : drawn.shape[1]] - drawn).mean() for page in pages]
    assert difference[1] < 4 < difference[0]  # JPEG changes a little, another moment much


def test_a_moment_before_the_first_picture_is_refused(recording: Path) -> None:
    with pytest.raises(SystemExit, match="has nothing of /camera/boxes"):
        draw_recording.read(recording, -1.0)
