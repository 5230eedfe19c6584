"""Argument types: what they take, and that anything else is one line and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.cli import main
from edgetl.commands.arguments import MOST_SEED, prepare_run_directory
from edgetl_runtime.errors import InputError

WITH_SEED = {
    "tune": ["DATA"], "adapt": ["RUN", "DATA"], "shift": ["A", "B"], "data split": ["DATA", "OUT"], "demo": []
}  # fmt: skip


@pytest.mark.parametrize("command", WITH_SEED)
@pytest.mark.parametrize("text", ["-1", "1.5", str(MOST_SEED + 1), "\u00b2"])
def test_a_seed_that_no_generator_takes_is_refused(command: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), *WITH_SEED[command], f"--seed={text}"]) == 2
    assert f"--seed: expected a whole number from 0 to {MOST_SEED}, found '{text}'" in capsys.readouterr().err


@pytest.mark.parametrize("inner", ["", "best.pt", "data/images/0.jpg"])
def test_what_a_run_reads_is_not_moved_aside(tmp_path: Path, inner: str) -> None:
    out, other = tmp_path / "runs" / "mine", tmp_path / "runs" / "mine2" / "best.pt"
    out.mkdir(parents=True)
    with pytest.raises(InputError, match=r"mine: holds .*, which this run reads.*another --out"):
        prepare_run_directory(out, resume=False, force=True, needed=[other, out / ".." / "mine" / inner])
    assert out.is_dir()
    prepare_run_directory(out, resume=False, force=True, needed=[other])
    assert sorted(p.name for p in out.parent.iterdir()) == ["mine", "mine.old1"]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("command", ["tune", "adapt"])
def test_a_run_does_not_move_what_it_starts_from(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    assert main(["data", "render", str(data), "--images", "4", "--size", "160x96", "--val", "0.5"]) == 0
    small = ["--size", "64x64", "--epochs", "1", "--batch", "2"]
    assert main(["tune", str(data), "--out", str(run), "--weights", "none", *small]) == 0
    words = {"tune": ["tune", str(data), "--start", str(run), *small], "adapt": ["adapt", str(run), f"{data}:val"]}
    assert main([*words[command], "--out", str(run), "--force"]) == 2
    assert "which this run reads" in capsys.readouterr().err
    assert (run / "best.pt").is_file() and not (tmp_path / "run.old1").exists()


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-3", "soon"])
def test_a_budget_that_nothing_can_meet_or_miss_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "DATA", f"--budget-ms={text}"]) == 2
    assert f"--budget-ms: expected milliseconds above 0, found '{text}'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["rank", "DATA"], ["shift", "A", "B"]])
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--page", str(tmp_path / "none" / "x.html")]) == 2
    assert "no directory" in capsys.readouterr().err
    assert main([*command, "--page", str(tmp_path)]) == 2
    assert f"{tmp_path} is a directory, a page is a file" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0.5,inf", "nan,nan", "2,1", "0,1", "1"])
def test_a_zoom_without_end_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "DATA", "--zoom", text]) == 2
    assert f"--zoom: expected LOW,HIGH such as 0.75,1.6, found '{text}'" in capsys.readouterr().err
