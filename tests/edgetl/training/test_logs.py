"""Training curves: rows that read back, runs that go on, and a disk that is full."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from edgetl.training.logs import CurveLog, read_curve
from edgetl_runtime.errors import InputError

COLUMNS = ("boxes_loss",)


def write(log: CurveLog, steps: list[int]) -> None:
    for step in steps:
        log.write(step, {"phase": "fine-tune", "loss": 1.0 / (step + 10), "boxes_loss": 0.5})
    log.close()


def steps_in(folder: Path) -> list[float | str]:
    return [row["step"] for row in read_curve(folder / "metrics.csv")]


def test_rows_read_back(tmp_path: Path) -> None:
    log = CurveLog(tmp_path, COLUMNS, after=None)
    log.write(-1, {"phase": "probe", "loss": 0.123456789})
    log.write(2, {"phase": "fine-tune", "boxes_loss": 3})
    log.close()
    assert read_curve(tmp_path / "metrics.csv") == [
        {"phase": "probe", "step": -1, "loss": 0.123457},
        {"phase": "fine-tune", "step": 2, "boxes_loss": 3},
    ]


def test_a_run_that_goes_on_without_a_curve_begins_one(tmp_path: Path) -> None:
    write(CurveLog(tmp_path, COLUMNS, after=6), [7])
    assert steps_in(tmp_path) == [7]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    log = CurveLog(tmp_path, COLUMNS, after=None)
    log._file.close()
    log._file = Path("/dev/full").open("w", newline="", encoding="utf-8")  # noqa: SIM115 the log closes it
    log._rows = csv.DictWriter(log._file, ("step", "loss"))
    for call in (lambda: log.write(1, {"loss": 1.0}), log.close):
        with pytest.raises(InputError, match=r"metrics\.csv: the curve can't be written \(No space left.*free some"):
            call()


@pytest.mark.parametrize(("after", "left"), [(-2, [-2]), (4, [-2, 2, 4]), (9, [-2, 2, 4, 6]), (-9, [])])
def test_rows_that_come_again_are_dropped(tmp_path: Path, after: int, left: list[int]) -> None:
    write(CurveLog(tmp_path, COLUMNS, after=None), [-2, 2, 4, 6])
    write(CurveLog(tmp_path, COLUMNS, after=after), [7, 8])
    assert steps_in(tmp_path) == [*left, 7, 8]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_run_that_begins_has_a_curve_of_its_own(tmp_path: Path) -> None:
    write(CurveLog(tmp_path, COLUMNS, after=None), [1, 2])
    write(CurveLog(tmp_path, (*COLUMNS, "masks_loss"), after=None), [1])
    assert steps_in(tmp_path) == [1]
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header == "phase,epoch,step,seconds,loss,lr,val,boxes_loss,masks_loss"


@pytest.mark.parametrize("torn", ["fine-tune,,4,,0.0", "fine-tune,,4,,0.07,,,0.5", "\0\0\0\0\0\0\n", "fine-tune,,4\n"])
def test_a_row_that_a_power_cut_left_half_written_is_none(tmp_path: Path, torn: str) -> None:
    write(CurveLog(tmp_path, COLUMNS, after=None), [2])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(torn)
    write(CurveLog(tmp_path, COLUMNS, after=4), [6])
    assert steps_in(tmp_path) == [2, 6]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"something else\n1\n"])
def test_a_file_that_is_no_curve_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    write(CurveLog(tmp_path, COLUMNS, after=4), [6])
    assert steps_in(tmp_path) == [6]


def test_tensorboard_shows_what_came_again_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(CurveLog(tmp_path, COLUMNS, after=None), [2, 4, 6])
    write(CurveLog(tmp_path, COLUMNS, after=4), [6, 8])
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6, 8]
