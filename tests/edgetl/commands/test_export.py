"""What `edgetl export` hands on."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from edgetl.commands import export
from edgetl.export_cache import state_of


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


@pytest.mark.parametrize("form", ["{}", "{}:night", "{}/data.yaml"])
def test_a_kept_bundle_depends_on_the_data_however_they_are_named(tmp_path: Path, form: str) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "data.yaml").write_text("names: []")
    (folder,) = export._data_folders(parsed("--data", form.format(data)))
    before = state_of(folder)
    (data / "images" / "new.jpg").write_bytes(b"picture")
    assert state_of(folder) != before, f"a new image in {data} is not seen from {folder}"
