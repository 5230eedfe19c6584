"""One process or several: who trains on which batches, and two real processes that end with one network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgetl.training.checkpoint import load_checkpoint
from edgetl.training.team import Team


def test_alone_it_keeps_everything_to_itself() -> None:
    team, model = Team(), torch.nn.Linear(2, 2)
    assert (team.first, team.rank, team.size) == (True, 0, 1)
    assert team.wrapped(model) is model
    assert team.share(range(5)) == range(5)
    assert team.agreed("x") == "x"
    team.close()


@pytest.mark.parametrize(("size", "count"), [(2, 7), (3, 9), (4, 3)])
def test_shares_are_equal_and_disjoint(size: int, count: int) -> None:
    shares = []
    for rank in range(size):
        team = Team()
        team.rank, team.size = rank, size
        shares.append(list(team.share(range(count))))
    assert {len(s) for s in shares} == {count // size}
    flat = [i for s in shares for i in s]
    assert len(set(flat)) == len(flat) == count // size * size


@pytest.mark.slow
def test_two_processes_train_one_network(coco_dir: Path, tmp_path: Path) -> None:
    """Gradients are averaged, half the steps are needed, and only the first process writes and talks."""
    flags = ["--size", "96x64", "--epochs", "2", "--probe-epochs", "1", "--batch", "1", "--val-images", "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    run = tmp_path / "run"
    done = subprocess.run(
        [*launch, "-m", "edgetl.cli", "tune", str(coco_dir), "--out", str(run), *flags, "--allow-leaks", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    assert document["steps"] == 4, "two epochs of four images, one each for two processes"
    assert done.stderr.count("best ap50") == 1
    assert load_checkpoint(run).card.metric == "ap50"
