"""Places in the pipeline, the run, recordings and pictures; wrong calibrations are one clear line before anything."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from geometry_support import MODELS, SIZE_HW, boxes_of, calibration, found
from recording_support import read_all
from runtime_support import CLASSIFY, DETECT, HEADS, FakeCamera, scene, write_clip, write_test_bundle

import edgetl_runtime
from edgetl.cli import main
from edgetl.commands import replay as replay_command
from edgetl.commands import run as run_command
from edgetl.roadworld.live import calibration_of_source
from edgetl_runtime.annotate import drawn_boxes
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import InputError
from edgetl_runtime.geometry.calibration import Calibration, calibration_yaml
from edgetl_runtime.geometry.ground import Ground
from edgetl_runtime.geometry.horizon import Tilt
from edgetl_runtime.geometry.placing import HeadPlacing, Placing, nowhere
from edgetl_runtime.health import MEANS, Condition, Health
from edgetl_runtime.judge import Judge
from edgetl_runtime.loop import run
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.recording.reader import Recording
from edgetl_runtime.recording.replay import replay
from edgetl_runtime.result import Detections, Frame, Places, Result

LABELS = ("vehicle", "pedestrian", "light")
CLIP_HW = (180, 320)


def clip_camera() -> Calibration:
    """Of the pictures in `clip`, looking down so that its square stands on the road."""
    return with_changes(
        calibration(pitch_deg=12.0), size_hw=CLIP_HW, matrix=(250.0, 0.0, 160.0, 0.0, 250.0, 90.0, 0.0, 0.0, 1.0)
    )


def with_changes(camera: Calibration, **changes: Any) -> Calibration:
    return msgspec.structs.replace(camera, **changes)


@pytest.fixture
def camera_file(tmp_path: Path) -> Path:
    path = tmp_path / "front.yaml"
    path.write_text(calibration_yaml(clip_camera()))
    return path


def call(command: object, *arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    return command.run(parser.parse_args([str(a) for a in arguments]))  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("ids", [None, [3, 4, 5]], ids=["untracked", "tracked"])
def test_boxes_have_places_in_their_order(ids: list[int] | None) -> None:
    camera = calibration(pitch_std_deg=0.1)
    places = np.array([[10.0, 1], [25, -4], [16, 3]])
    head = HeadPlacing(Ground(camera), LABELS)
    got = head.places(found(boxes_of(camera, places, 1.6), ids, [0, 1, 2]), SIZE_HW, t_ns=0)
    np.testing.assert_allclose(got.positions_m[:2], places[:2], atol=0.06)
    assert np.isnan(got.positions_m[2]).all() and np.isnan(got.covariances_m2[2]).all(), "a light hangs"
    assert np.isnan(got.closing_speeds_mps).all() and got.positions_m.dtype == np.float32
    assert (np.linalg.eigvalsh(got.covariances_m2[:2]) > 0).all()


@pytest.mark.parametrize("ids", [None, []])
def test_no_boxes_have_no_places(ids: list[int] | None) -> None:
    head = HeadPlacing(Ground(calibration()), LABELS)
    assert len(head.places(found(np.zeros((0, 4), np.float32), ids), SIZE_HW, t_ns=0)) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", MODELS)
def test_any_boxes_give_places_or_nan(model: str) -> None:
    """Points, lines, whole pictures, boxes far outside: no warning, and a covariance wherever a place is."""
    rng, head = np.random.default_rng(0), HeadPlacing(Ground(calibration(model, roll_std_deg=0.1)), LABELS)
    for k in range(60):
        corners = rng.choice([0, 0, 1, 350, 351, 640, 719, 720, 1280, 5000], (12, 4)).astype(np.float32)
        boxes = np.concatenate(
            [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1
        )
        ids, classes = rng.permutation(20)[:12] - 3, rng.integers(0, 3, 12)
        places = head.places(found(boxes, ids.tolist(), classes.tolist()), SIZE_HW, t_ns=k * 10**8)
        known = np.isfinite(places.positions_m).all(axis=1)
        assert (np.isfinite(places.covariances_m2).all(axis=(1, 2)) == known).all()
        assert (np.linalg.eigvalsh(places.covariances_m2[known].astype(float)) > -1e-3).all()
        assert not (places.times_to_collision_s <= 0).any()


def test_labels_of_the_users_own_are_off_the_ground() -> None:
    camera = calibration(off_ground=("vehicle",))
    head = HeadPlacing(Ground(camera), LABELS)
    got = head.places(found(boxes_of(camera, np.array([[10.0, 0], [10, 3]]), 1.6), None, [0, 2]), SIZE_HW, t_ns=0)
    assert np.isfinite(got.positions_m).all(axis=1).tolist() == [False, True]


def outputs(camera: Calibration) -> dict[str, Detections]:
    return {DETECT.name: found(boxes_of(camera, np.array([[10.0, 0]]), 1.6))}


def frame(size_hw: tuple[int, int]) -> Frame:
    return Frame(np.zeros((*size_hw, 3), np.uint8), 0, "cam", 0)


def test_frames_of_another_shape_have_no_places() -> None:
    camera = calibration()
    placing = Placing(camera, (DETECT,))
    for size_hw, known in (((480, 640), False), (SIZE_HW, True), ((480, 640), False), (SIZE_HW, True)):
        got = placing.update(outputs(camera), frame(size_hw))[DETECT.name]
        assert isinstance(got, Detections) and got.places is not None
        assert np.isfinite(got.places.positions_m).all() == known


def test_a_bundle_without_boxes_has_nothing_to_place() -> None:
    with pytest.raises(InputError, match=r"no head of this bundle gives boxes to place"):
        Placing(calibration(), (CLASSIFY,))


def test_a_camera_that_moved_is_a_condition_that_says_by_how_much() -> None:
    placing, health = Placing(calibration(), (DETECT,)), Health("cam")
    judge = Judge(health, None, deadline_ms=0, placing=placing)
    result = Result(0, "cam", 0, 1, {}, SIZE_HW)
    assert judge.judged(result).health == "ok"
    horizon = placing._heads[DETECT.name].horizon
    horizon.tilt, horizon.moved = Tilt(-2.13, 0.2, 17), True
    assert judge.judged(result).health == "degraded" == MEANS["moved"]
    said = health.status().conditions["moved"]
    assert "2.1 degrees further up" in said and "17 objects" in said
    horizon.moved = False
    assert judge.judged(result).health == "ok"
    assert [(e.condition, e.began) for e in health.recent()] == [("moved", True), ("moved", False)]


def test_every_condition_has_a_meaning() -> None:
    assert set(MEANS) == set(Condition.__args__)  # type: ignore[attr-defined]


def test_a_run_gives_places_and_lines_of_json(shared_many: Path, clip: Path, camera_file: Path, tmp_path: Path) -> None:
    lines, path = tmp_path / "d.jsonl", tmp_path / "d.mcap"
    flags = ("--calibration", camera_file, "--track", "--threshold", 0.3)
    document = call(run_command, shared_many, clip, *flags, "--jsonl", lines, "--record", path)
    assert document["stages"]["place"]["count"] == document["processed"] == 12
    rows = [box for line in lines.read_text().splitlines() for box in json.loads(line)["detections"]]
    assert any(box["position_m"] is not None and box["position_std_m"] is not None for box in rows)
    recording = read_all(path)[1]
    recorded = recording.header.cameras["clip.mp4"].calibration
    assert recorded is not None and with_changes(recorded, projection=()) == clip_camera()
    again = call(replay_command, path, shared_many)
    assert (again["compared"], again["equal"]) == (12, 12) and again["stages"]["place"]["count"] == 12


def test_a_bundle_without_boxes_replays_beside_one_that_places_its_own(
    shared_many: Path, clip: Path, camera_file: Path, tmp_path: Path
) -> None:
    masks, path = write_test_bundle(tmp_path / "masks.bundle", heads=HEADS[1:], name="masks"), tmp_path / "d.mcap"
    flags = ("--also-bundle", masks, "--calibration", camera_file, "--threshold", 0.3)
    call(run_command, shared_many, clip, *flags, "--record", path)
    again = call(replay_command, path, shared_many, masks)
    assert (again["compared"], again["equal"]) == (24, 24) and again["stages"]["place"]["count"] == 12


def test_a_replay_without_them_or_with_others_differs(
    shared_many: Path, clip: Path, camera_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "d.mcap"
    call(run_command, shared_many, clip, "--calibration", camera_file, "--threshold", 0.3, "--record", path)
    bundle = open_bundle(shared_many)
    higher = clip_camera()
    higher = with_changes(higher, mounting=msgspec.structs.replace(higher.mounting, position_m=(1.2, 0.1, 1.6)))
    for other, said in ((None, "places are in the recording only"), (higher, "places moved by up to")):
        with Recording(path) as recording:
            report = replay(recording, bundle, load_bundle_engine(bundle), threshold=0.3, calibration=other)
        assert report.equal < 12 and said in report.differing[0].lines()[0]


def test_without_a_calibration_no_key_speaks_of_it(shared_many: Path, clip: Path, tmp_path: Path) -> None:
    lines = tmp_path / "d.jsonl"
    call(run_command, shared_many, clip, "--threshold", 0.3, "--jsonl", lines)
    boxes = json.loads(lines.read_text().splitlines()[0])["detections"]
    assert boxes and all("position_m" not in box for box in boxes)


@pytest.mark.parametrize("as_path", [True, False])
def test_open_takes_a_calibration(shared_many: Path, clip: Path, camera_file: Path, as_path: bool) -> None:
    with edgetl_runtime.open(
        shared_many, str(clip), threshold=0.3, calibration=camera_file if as_path else clip_camera()
    ) as results:
        first = next(iter(results))
    assert first.detections.places is not None


def test_a_rig_has_a_calibration_by_camera(shared_many: Path, clip: Path, camera_file: Path) -> None:
    cameras = {"left": str(clip), "right": str(clip)}
    with edgetl_runtime.open_rig(
        {"many": shared_many}, cameras=cameras, threshold=0.3, calibrations={"right": camera_file}
    ) as rounds:
        first = next(iter(rounds))
    places = {name: results["many"].detections.places for name, results in first.results.items()}
    assert places["left"] is None and places["right"] is not None
    with (
        pytest.raises(InputError, match="cameras are called left, right"),
        edgetl_runtime.open_rig({"many": shared_many}, cameras=cameras, calibrations={"rear": camera_file}),
    ):
        pass


def test_the_flag_is_by_camera_in_a_rig(
    shared_many: Path, clip: Path, camera_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "d.jsonl"
    also = ["--also-camera", f"right={clip}", "--threshold", "0.3", "--jsonl", str(lines)]
    given = [str(shared_many), str(clip), *also]
    assert main(["run", *given, "--calibration", f"right={camera_file}"]) == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    placed = {(row["camera_id"], "position_m" in box) for row in rows for box in row.get("detections", [])}
    assert placed == {("main", False), ("right", True)}
    capsys.readouterr()
    assert main(["run", *given, "--force", "--calibration", str(camera_file)]) == 2
    assert "--calibration must be like main=front.yaml" in capsys.readouterr().err


def test_one_camera_with_several_bundles_needs_no_name(
    shared_many: Path, shared_bundle: Path, clip: Path, camera_file: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "d.jsonl"
    also = ["--also-bundle", f"other={shared_bundle}", "--threshold", "0.3", "--jsonl", str(lines)]
    assert main(["run", str(shared_many), str(clip), *also, "--calibration", str(camera_file)]) == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    placed = {(row["bundle"], "position_m" in box) for row in rows for box in row.get("detections", [])}
    assert placed == {("tiny", True), ("other", True)}


def test_a_rendered_camera_in_a_rig_knows_its_own(shared_many: Path, tmp_path: Path) -> None:
    lines = tmp_path / "d.jsonl"
    given = [str(shared_many), "roadworld:day:1", "--also-camera", "ahead=roadworld:day:3", "--camera-size", "320x180"]
    given += ["--threshold", "0", "--max-frames", "16", "--jsonl", str(lines)]
    assert main(["run", *given, "--calibration", "ahead=own"]) == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    boxes = {(row["camera_id"], "position_m" in box) for row in rows for box in row.get("detections", [])}
    assert boxes == {("main", False), ("ahead", True)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size_hw": (240, 320)}, "frames are 320x180, the calibration of 'front' is for 320x240"),
        (None, "can't read the calibration"),
    ],
)
def test_a_wrong_calibration_is_one_line_and_nothing_is_lost(
    change: dict[str, Any] | None, said: str, shared_many: Path, clip: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, kept = tmp_path / "c.yaml", tmp_path / "kept.jsonl"
    kept.write_text("precious")
    if change is not None:
        path.write_text(calibration_yaml(with_changes(clip_camera(), **change)))
    status = main(["run", str(shared_many), str(clip), "--calibration", str(path), "--jsonl", str(kept), "--force"])
    error = capsys.readouterr().err
    assert status == 2 and said in error and "Traceback" not in error and kept.read_text() == "precious"


def test_the_loop_refuses_a_camera_of_another_size(shared_bundle: Path) -> None:
    camera = FakeCamera([scene(120, 160)], live=False)
    with pytest.raises(InputError, match="aspect ratio"):
        run(open_bundle(shared_bundle), camera, calibration=clip_camera())
    assert camera.closed


def test_a_folder_whose_first_picture_does_not_fit_is_refused(
    shared_bundle: Path, camera_file: Path, tmp_path: Path
) -> None:
    """Its size is not known before; a later one of another shape has no places."""
    for name, size_hw in (("a.png", CLIP_HW), ("b.png", (120, 160))):
        cv2.imwrite(str(tmp_path / name), scene(*size_hw))
    with edgetl_runtime.open(shared_bundle, str(tmp_path), calibration=camera_file, threshold=0.0) as results:
        places = [result.detections.places for result in results]
    assert [p is not None and np.isfinite(p.positions_m).any() for p in places] == [True, False]
    (tmp_path / "a.png").unlink()
    with (
        pytest.raises(InputError, match="frames are 160x120, the calibration of 'front' is for 320x180"),
        edgetl_runtime.open(shared_bundle, str(tmp_path), calibration=camera_file) as results,
    ):
        next(iter(results))


def test_a_live_camera_that_changes_its_shape_is_a_fault_and_runs_on(shared_bundle: Path) -> None:
    camera = FakeCamera([scene(*CLIP_HW, i) for i in range(5)] + [scene(120, 160, i) for i in range(5)], delay_s=0.02)
    found: list[Result] = []
    summary = run(open_bundle(shared_bundle), camera, calibration=clip_camera(), on_result=found.append)
    assert found[-1].health == "fault" and found[-1].size_hw == (120, 160)
    assert summary.health["counts"] == {"resized": 1, "uncalibrated": 1}


def test_places_belong_to_tracks_with_and_without_a_number(shared_many: Path) -> None:
    bundle = open_bundle(shared_many)
    pipeline = Pipeline(bundle, load_bundle_engine(bundle), threshold=0.3, track=True, calibration=clip_camera())
    for k in range(4):
        result = pipeline.process(Frame(scene(*CLIP_HW, k), k, "cam", k * 50_000_000))
        detections = result.detections
        assert detections.places is not None and len(detections.places) == len(detections) > 0
        assert set(result.stages_ms) >= {"track", "place"}


def test_distances_are_written_on_pictures() -> None:
    boxes = found(np.array([[0, 0, 9, 9], [1, 1, 8, 8], [2, 2, 7, 7]], np.float32))
    some = nowhere(3)
    positions = np.array([[3, 4], [np.nan, np.nan], [30, 40]], np.float32)
    places = Places(positions, some.covariances_m2, some.closing_speeds_mps, some.times_to_collision_s)
    texts = [text for _, text, _ in drawn_boxes(dataclasses.replace(boxes, places=places), LABELS)]
    assert texts == ["vehicle 1.00 5.0 m", "vehicle 1.00", "vehicle 1.00 50 m"]


def test_heads_of_every_kind_pass_through(shared_many: Path, tmp_path: Path) -> None:
    """A clip of another size than the calibrated one, with its ratio: masks and categories stay as they are."""
    clip = write_clip(tmp_path / "big.mp4", frames=2, height=360, width=640)
    with edgetl_runtime.open(shared_many, str(clip), calibration=clip_camera()) as results:
        assert set(next(iter(results)).outputs) == {head.name for head in HEADS}


def test_a_rendered_camera_knows_its_own_calibration(shared_many: Path, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "rendered.mcap"
    flags = ("--calibration", "own", "--record", path, "--max-frames", 2)
    call(run_command, shared_many, "roadworld:night:5", "--camera-size", "128x72", *flags)
    with Recording(path) as recording:
        (camera,) = recording.header.cameras.values()
        assert camera.calibration == calibration_of_source("roadworld:night:5", (72, 128))
    with pytest.raises(InputError, match="only a rendered camera knows its own calibration, not "):
        call(run_command, shared_many, clip, "--calibration", "own")
