"""Training curves as CSV, for people and programs, and as TensorBoard events."""

from __future__ import annotations

import csv
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl_runtime.errors import InputError
from edgetl_runtime.files import staged_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COLUMNS = ("phase", "epoch", "step", "seconds", "loss", "lr", "val")
"""Of every run; the losses and metrics of its heads follow."""


class CurveLog:
    """Appends rows to metrics.csv and, where tensorboard is installed, to an events file.

    columns: names beside COLUMNS that rows of this run may have. after: the step from which a run goes on, whose later
    rows are dropped since they come again; None for one that begins. Raises InputError where the disk refuses.
    """

    def __init__(self, directory: Path, columns: Sequence[str], *, after: int | None) -> None:
        self.path = directory / "metrics.csv"
        kept = [] if after is None or not self.path.is_file() else _rows_until(self.path, after)
        names = (*COLUMNS, *columns)
        with staged_file(self.path, force=True) as new, new.open("w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, names, extrasaction="ignore")
            rows.writeheader()
            rows.writerows(kept)
        self._file = self.path.open("a", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, names)
        self._board = _open_board(directory, None if after is None else after + 1)

    def write(self, step: int, values: Mapping[str, float | int | str]) -> None:
        """One row; numbers go to TensorBoard too."""
        rounded = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()}
        with self._full_told():
            self._rows.writerow({"step": step, **rounded})
            self._file.flush()
            if self._board is not None:
                for key, value in values.items():
                    if not isinstance(value, str):
                        self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Close both files."""
        with self._full_told():
            self._file.close()
            if self._board is not None:
                self._board.close()

    @contextmanager
    def _full_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.path}: the curve can't be written ({error.strerror or error})", remedy="free some space"
            ) from error


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """The rows up to this step; one that a power cut left half-written is none."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        whole = (line for line in file if line.endswith("\n") and "\0" not in line)
        rows = [row for row in csv.DictReader(whole) if None not in row and None not in row.values()]
    return [row for row in rows if re.fullmatch(r"-?\d+", row.get("step", "")) and int(row["step"]) <= step]


def _open_board(directory: Path, purge_step: int | None) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(directory / "tensorboard"), purge_step=purge_step)


def read_curve(path: Path) -> list[dict[str, float | str]]:
    """Rows of a metrics.csv; numbers as float, empty cells left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: (v if k == "phase" else float(v)) for k, v in row.items() if v not in {"", None}}
            for row in csv.DictReader(file)
        ]
