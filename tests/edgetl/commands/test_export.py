"""What `edgetl export` hands on."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from edgetl.commands import export


def parsed(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return parser.parse_args(["run", "--out", "b", *map(str, arguments)])


def test_calibration_data_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgetl.exporting

    seen: dict[str, object] = {}

    def fake(checkpoint: Path, out: Path, options: edgetl.exporting.ExportOptions, *, name: str) -> None:
        seen.update(dataclasses.asdict(options))

    monkeypatch.setattr(edgetl.exporting, "export_checkpoint", fake)
    export._export(parsed("--calibration-data", "night:val", "--calibration-data", tmp_path), ("cpu",))
    assert seen["calibration_data"] == ["night:val", str(tmp_path)]
    export._export(parsed(), ("cpu",))
    assert seen["calibration_data"] == []


def test_a_kept_bundle_depends_on_all_calibration_data(tmp_path: Path) -> None:
    args = parsed("--data", tmp_path / "a", "--calibration-data", f"{tmp_path}/b:val", "--calibration-data", tmp_path)
    assert export._data_folders(args) == [tmp_path / "a", tmp_path / "b", tmp_path]
