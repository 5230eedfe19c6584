"""edgetl run --web, --out, --view and --collect with several cameras and bundles."""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from runtime_support import HEADS, make_manifest, output_specs, write_clip, write_test_bundle

from edgetl.commands import run as run_command
from edgetl.commands.pictures import video_paths
from edgetl_runtime.bundle import write_manifest
from edgetl_runtime.collect import INDEX
from edgetl_runtime.domain import FORMAT
from edgetl_runtime.errors import InputError
from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.spec import DomainStatistics


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.run(parser.parse_args([str(a) for a in arguments]))


def frames_of(path: Path) -> tuple[int, tuple[int, int]]:
    film = cv2.VideoCapture(str(path))
    return int(film.get(cv2.CAP_PROP_FRAME_COUNT)), (int(film.get(3)), int(film.get(4)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("small") / "small.mp4", frames=5, height=90, width=160)


def test_each_camera_has_its_video(
    shared_bundle: Path, clip: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(shared_bundle, clip, "--camera-name", "left", "--also-camera", f"right={small}", "--out", tmp_path / "d.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.left.mp4", "d.right.mp4"]
    assert frames_of(tmp_path / "d.left.mp4") == (12, (320, 180))
    assert frames_of(tmp_path / "d.right.mp4") == (5, (160, 90))
    told = capsys.readouterr().err
    assert f"wrote {tmp_path / 'd.left.mp4'}\nwrote {tmp_path / 'd.right.mp4'}\n" in told


def test_each_lane_of_several_bundles_has_its_video_in_a_folder(
    shared_bundle: Path, shared_many: Path, small: Path, tmp_path: Path
) -> None:
    others = ("--also-camera", f"b={small}", "--also-bundle", f"many={shared_many}")
    call(shared_bundle, small, *others, "--out", tmp_path)
    names = ["b.many.mp4", "b.tiny.mp4", "main.many.mp4", "main.tiny.mp4"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert {frames_of(tmp_path / name) for name in names} == {(5, (160, 90))}
    before = (tmp_path / "main.many.mp4").read_bytes()
    (tmp_path / "b.many.mp4").unlink()
    with pytest.raises(InputError, match=r"main\.tiny\.mp4 exists and would be replaced"):
        call(shared_bundle, small, *others, "--out", tmp_path, "--jsonl", tmp_path / "o.jsonl")
    assert (tmp_path / "main.many.mp4").read_bytes() == before and len(list(tmp_path.iterdir())) == 3
    call(shared_bundle, small, *others, "--out", tmp_path, "--force")
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_a_video_that_is_a_source_is_refused(shared_bundle: Path, small: Path, tmp_path: Path) -> None:
    source = tmp_path / "d.left.mp4"
    source.write_bytes(small.read_bytes())
    options = ("--camera-name", "left", "--also-camera", f"right={source}", "--out", tmp_path / "d.mp4", "--force")
    with pytest.raises(InputError, match=r"d\.left\.mp4 is the source itself"):
        call(shared_bundle, small, *options)
    assert source.read_bytes() == small.read_bytes()


def test_names_of_videos_are_names_of_files(tmp_path: Path) -> None:
    found = video_paths(tmp_path / "d.mp4", ["left"], ["../up", "größe 2.bundle", "x" * 300])
    assert found[LaneName("left", "../up")] == tmp_path / "d.left..._up.mp4"
    assert found[LaneName("left", "größe 2.bundle")] == tmp_path / "d.left.gr__e_2.bundle.mp4"
    assert len(found[LaneName("left", "x" * 300)].name) < 100
    assert video_paths(tmp_path, ["left"], ["../up"]) == {LaneName("left", "../up"): tmp_path / "left.mp4"}
    with pytest.raises(InputError, match="'a b' and 'a/b' would have one name") as caught:
        video_paths(tmp_path, ["left"], ["a b", "c", "a/b"])
    assert "--also-bundle" in str(caught.value.remedy)


def test_a_window_that_can_not_be_costs_no_file(
    shared_bundle: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    lines = tmp_path / "o.jsonl"
    lines.write_text("precious")
    with pytest.raises(InputError, match="--view needs a display"):
        call(shared_bundle, small, "--also-camera", f"b={small}", "--view", "--jsonl", lines, "--force")
    assert lines.read_text() == "precious"


def test_a_live_page_of_a_rig(shared_bundle: Path, shared_many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[dict[str, Any]] = []
    seen = ""

    def look() -> None:
        nonlocal seen
        until_s = time.monotonic() + 120
        while time.monotonic() < until_s and not told:
            seen += capsys.readouterr().err
            if match := re.search(r"live page: (http://127\.0\.0\.1:\d+/)", seen):
                with urllib.request.urlopen(f"{match[1]}status.json", timeout=5) as answer:
                    document = json.load(answer)
                if document["started"] and all(row["processed"] for row in document["lanes"]):
                    told.append(document)
            time.sleep(0.05)

    looker = threading.Thread(target=look)
    looker.start()
    size = ("--camera-size", "128x72", "--camera-fps", 30, "--stall-s", 20)
    others = ("--also-camera", "b=roadworld:night:2", "--also-bundle", f"many={shared_many}")
    document = call(shared_bundle, "roadworld:day:1", *others, *size, "--web", 0, "--max-frames", 240)
    looker.join()
    assert document["processed"] >= 240 and told
    assert [(r["camera_id"], r["bundle"]) for r in told[0]["lanes"]] == [
        (camera, bundle) for camera in ("main", "b") for bundle in ("tiny", "many")
    ]


def with_domain(folder: Path) -> Path:
    """The bundle of several heads, with statistics of a domain that no frame is like."""
    write_test_bundle(folder, heads=HEADS)
    np.savez(
        folder / "domain.npz",
        format=np.array(FORMAT, np.int64),
        mean=np.full(3, 5, np.float32),
        axes=np.eye(3, 1, dtype=np.float32),
        deviations=np.full(1, 0.1, np.float32),
        residual=np.array(0.1),
        distances=np.linspace(0.5, 2, 120),
        probabilities=np.arange(1, 121) / 121,
        images=np.array(120, np.int64),
    )
    domain = DomainStatistics(file="domain.npz", output="embedding", images=120)
    write_manifest(folder, make_manifest(folder, heads=HEADS, domain=domain, outputs=output_specs(HEADS)))
    return folder


def test_frames_for_labelling_have_a_folder_for_each_camera(shared_bundle: Path, small: Path, tmp_path: Path) -> None:
    bundle, out = with_domain(tmp_path / "many.bundle"), tmp_path / "new"
    others = ("--also-camera", f"b={small}", "--also-bundle", f"many={bundle}")
    document = call(shared_bundle, small, *others, "--collect", out, "--collect-mb", 4)
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == ["b", f"b/{INDEX}", "main", f"main/{INDEX}"]
    assert document["processed"] == 10 and not any("kept" in note for note in document["notes"]), (
        "five frames: no shift"
    )


@pytest.mark.slow
def test_frames_of_a_shifted_camera_are_kept(shared_bundle: Path, tmp_path: Path) -> None:
    bundle, out = with_domain(tmp_path / "many.bundle"), tmp_path / "new"
    others = ("--also-camera", "b=roadworld:night:2", "--also-bundle", f"many={bundle}", "--stall-s", 20)
    size = ("--camera-size", "128x72", "--camera-fps", 10, "--max-frames", 200)
    document = call(shared_bundle, "roadworld:day:1", *others, *size, "--collect", out)
    assert sum("for labelling in" in note for note in document["notes"]) == 2
    for camera in ("main", "b"):
        rows = [json.loads(line) for line in (out / camera / INDEX).read_text().splitlines()]
        assert rows and {(row["camera_id"], row["bundle"]) for row in rows} == {(camera, "many")}
        assert all((out / camera / row["file"]).exists() for row in rows)
