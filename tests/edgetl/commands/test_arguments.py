"""Argument types: what they take, and that anything else is one line and no traceback."""

from __future__ import annotations

import pytest

from edgetl.cli import main
from edgetl.commands.arguments import MOST_SEED

WITH_SEED = {
    "tune": ["DATA"], "adapt": ["RUN", "DATA"], "shift": ["A", "B"], "data split": ["DATA", "OUT"], "demo": []
}  # fmt: skip


@pytest.mark.parametrize("command", WITH_SEED)
@pytest.mark.parametrize("text", ["-1", "1.5", str(MOST_SEED + 1), "\u00b2"])
def test_a_seed_that_no_generator_takes_is_refused(command: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), *WITH_SEED[command], f"--seed={text}"]) == 2
    assert f"--seed: expected a whole number from 0 to {MOST_SEED}, found '{text}'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0.5,inf", "nan,nan", "2,1", "0,1", "1"])
def test_a_zoom_without_end_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "DATA", "--zoom", text]) == 2
    assert f"--zoom: expected LOW,HIGH such as 0.75,1.6, found '{text}'" in capsys.readouterr().err
