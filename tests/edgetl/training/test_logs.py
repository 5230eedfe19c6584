"""Training curves: rows that read back, runs that go on, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.training.logs import CurveLog, read_curve
from edgetl_runtime.errors import InputError


def written(directory: Path, *rows: tuple[int, dict[str, float | int | str]], resume: bool = False) -> None:
    log = CurveLog(directory, ("detect_heat",), resume=resume)
    for step, values in rows:
        log.write(step, values)
    log.close()


def test_rows_read_back_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    written(tmp_path, (1, {"phase": "probe", "loss": 0.123456789}), (2, {"phase": "fine-tune", "detect_heat": 3}))
    assert read_curve(tmp_path / "metrics.csv") == [
        {"phase": "probe", "step": 1, "loss": 0.123457},
        {"phase": "fine-tune", "step": 2, "detect_heat": 3},
    ]
    written(tmp_path, (3, {"phase": "fine-tune", "val": 1.0}), resume=True)
    assert [r["step"] for r in read_curve(tmp_path / "metrics.csv")] == [1, 2, 3]
    written(tmp_path, (1, {"phase": "probe"}))
    assert [r["step"] for r in read_curve(tmp_path / "metrics.csv")] == [1], "a new run begins a new curve"


def test_a_run_without_a_curve_begins_one(tmp_path: Path) -> None:
    written(tmp_path, (7, {"phase": "fine-tune"}), resume=True)
    assert read_curve(tmp_path / "metrics.csv") == [{"phase": "fine-tune", "step": 7}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    log = CurveLog(tmp_path, (), resume=False)
    for call in (lambda: log.write(1, {"loss": 1.0}), log.close):
        with pytest.raises(InputError, match=r"metrics\.csv: the curve can't be written \(No space left.*free some"):
            call()
