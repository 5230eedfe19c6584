"""The calibration file: what is written is read, every mistake is one clear line, sizes are rescaled or refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from geometry_support import MODELS, calibration, mounting, seen

from edgetl_runtime.errors import InputError, MissingPackage
from edgetl_runtime.geometry.calibration import (
    MAX_BYTES,
    Calibration,
    calibration_yaml,
    check_size,
    read_calibration,
    rescaled,
)

ROS = """
image_width: 1280
image_height: 720
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [1000, 0, 639.5, 0, 1000.5, 359.5, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.3, 0.1, 0.001, 0, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [950, 0, 639.5, 0, 0, 950, 359.5, 0, 0, 0, 1, 0]
"""
MOUNTED = ROS + "edgetl:\n  position_m: [1.2, 0, 1.5]\n  pitch_deg: 2\n"


def written(folder: Path, text: str, name: str = "front.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("model", MODELS)
def test_what_is_written_is_read_to_the_last_bit(model: str, tmp_path: Path) -> None:
    camera = calibration(model, pitch_deg=1 / 3, yaw_deg=-0.1, heights_m={"lorry": (3.4, 0.3)}, off_ground=("lamp",))
    again = read_calibration(written(tmp_path, calibration_yaml(camera)))
    assert msgspec.structs.replace(again, projection=()) == camera
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(camera)), Calibration) == camera


def test_a_file_of_ros_with_its_mounting(tmp_path: Path) -> None:
    camera = read_calibration(written(tmp_path, MOUNTED))
    assert camera.size_hw == (720, 1280) and camera.matrix[4] == 1000.5 and camera.projection[0] == 950
    assert camera.mounting.position_m == (1.2, 0.0, 1.5) and camera.mounting.pitch_deg == 2


def test_the_mounting_may_lie_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path, ROS)
    with pytest.raises(InputError, match=r"does not say where the camera sits.*front\.mounting\.yaml"):
        read_calibration(path)
    written(tmp_path, "position_m: [0, 0, 2]\npitch_deg: 1\n", "front.mounting.yaml")
    assert read_calibration(path).mounting.position_m[2] == 2
    path.write_text(MOUNTED)
    with pytest.raises(InputError, match="beside it; remove one"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("image_width: 1280", "image_width: 0", "image_width"),
        ("image_width: 1280\n", "", "image_width"),
        ("image_width: 1280", "image_width: wide", "image_width"),
        ("camera_name: narrow_stereo", "camera_nme: x", "camera_nme"),
        ("model: plumb_bob", "model: fisheye", "fisheye"),
        ("model: plumb_bob", "model: equidistant", "4 distortion_coefficients, found 5"),
        ("model: plumb_bob", "model: rational_polynomial", "8 distortion_coefficients, found 5"),
        ("[-0.3, 0.1, 0.001, 0, 0]", "[-0.3, 0.1, 0.001, 0]", "1 x N, found 1 x 5 with 4 values"),
        ("[-0.3, 0.1, 0.001, 0, 0]", "[.nan, 0.1, 0.001, 0, 0]", "must be finite"),
        ("[1000, 0, 639.5, 0,", "[0, 0, 639.5, 0,", "fx and fy above zero"),
        ("[1000, 0, 639.5, 0,", "[1000, 2, 639.5, 0,", "fx 0 cx"),
        ("[1000, 0, 639.5, 0,", "[1000, 0, 1300, 0,", "principal point at .1300, 359.5., outside the 1280x720"),
        ("[1000, 0, 639.5, 0, 1000.5", "[1000, 0, 639.5, 0, .inf", "finite"),
        ("[1, 0, 0, 0, 1, 0, 0, 0, 1]", "[1, 0, 0, 0, 1, 0, 0, 0, -1]", "rotation"),
        ("[1, 0, 0, 0, 1, 0, 0, 0, 1]", "[1, 0.1, 0, 0, 1, 0, 0, 0, 1]", "rotation"),
        ("  rows: 3\n  cols: 3", "  rows: 3\n  cols: 4", "camera_matrix must be 3 x 3, found 3 x 4"),
        ("[1.2, 0, 1.5]", "[1.2, 0, 0]", "position_m"),
        ("[1.2, 0, 1.5]", "[1.2, 1.5]", "position_m"),
        ("pitch_deg: 2", "pitch_deg: 90", "pitch_deg"),
        ("pitch_deg: 2", "pitch: 2", "pitch"),
        ("pitch_deg: 2", "pitch_deg: .nan", "pitch_deg|finite"),
        ("pitch_deg: 2", "pitch_deg: 2\n  pitch_std_deg: -1", "pitch_std_deg"),
        (
            "pitch_deg: 2",
            "pitch_deg: 2\n  pitch_std_deg: 0\n  box_edge_std_px: 0\n  box_edge_std_share: 0",
            "one of pitch_std_deg, box_edge_std_px and box_edge_std_share",
        ),
        ("pitch_deg: 2", "pitch_deg: 2\n  heights_m: {car: [1.5, 0]}", "heights_m of 'car'"),
        ("image_width: 1280", "image_width: [1280", "not readable as YAML"),
        ("image_width: 1280", "\x01", "not readable as YAML"),
    ],
)
def test_every_mistake_is_one_line(before: str, after: str, said: str, tmp_path: Path) -> None:
    assert before in MOUNTED
    path = written(tmp_path, MOUNTED.replace(before, after, 1))
    with pytest.raises(InputError, match=said) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "a: &a [*a]", "x" * (MAX_BYTES + 1), "[" * 5000], ids=len)
def test_what_is_no_calibration(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not valid|more than|not readable as YAML"):
        read_calibration(written(tmp_path, text))


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"can't read the calibration"):
        read_calibration(tmp_path / "none.yaml")
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingPackage, match=r"edgetl\[vehicle\]"):
        read_calibration(written(tmp_path, MOUNTED))


@pytest.mark.parametrize("size_hw", [(360, 640), (1440, 2560), (1080, 1920), (90, 160)])
def test_a_rescaled_camera_sees_the_same_at_that_size(size_hw: tuple[int, int]) -> None:
    camera = calibration("plumb_bob")
    points = np.array([[20.0, 3, 0], [8, -2, 1], [50, 0, 2]])
    np.testing.assert_allclose(seen(rescaled(camera, size_hw), points, size_hw), seen(camera, points, size_hw))


def test_another_aspect_ratio_is_refused() -> None:
    camera = calibration()
    check_size(camera, (0, 0))
    check_size(camera, (361, 640))
    with pytest.raises(InputError, match=r"frames are 640x480, the calibration of 'front' is for 1280x720"):
        check_size(camera, (480, 640))
    with pytest.raises(InputError, match="aspect ratio"):
        rescaled(camera, (480, 640))


def test_rectified_frames_need_the_projection_matrix() -> None:
    camera = calibration("plumb_bob")
    with pytest.raises(ValueError, match="projection_matrix must have 3 x 4"):
        msgspec.structs.replace(camera, mounting=mounting(rectified=True))
