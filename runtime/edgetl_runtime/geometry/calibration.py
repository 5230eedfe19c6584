"""A camera's calibration: ROS' camera_info YAML, and beside it where the camera sits and how sure all that is.

The file is what camera_calibration writes (docs.ros.org, sensor_msgs/CameraInfo), with a section of our own:

    edgetl:
      position_m: [1.2, 0.0, 1.45]   # of the camera in base_link: x forward, y to the left, z above the ground
      pitch_deg: 2.0                 # by REP-103: roll about x, pitch about y (looking down is positive), yaw about z
      pitch_std_deg: 0.2             # how far the pitch may be off, driving included
      box_edge_std_px: 2.0           # only where it was measured: how far a box's edge is off, in pixels of the frame,
      box_edge_std_share: 0.03       # and in shares of the box's height

That section may also be a file of its own, front.mounting.yaml beside front.yaml.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from edgetl_runtime.errors import InputError
from edgetl_runtime.geometry.kinds import OFF_GROUND
from edgetl_runtime.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_BYTES = 65536
MOUNTING_SUFFIX = ".mounting.yaml"
Model = Literal["plumb_bob", "rational_polynomial", "equidistant"]
COEFFICIENTS: dict[str, tuple[int, ...]] = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
"""How many each model has: k1 k2 p1 p2 [k3]; k1 k2 p1 p2 k3 k4 k5 k6; k1 k2 k3 k4."""
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_ORTHONORMAL = 1e-3

_Side = Annotated[int, msgspec.Meta(ge=16, le=65536)]
_Angle = Annotated[float, msgspec.Meta(ge=-180, le=180)]
_Pitch = Annotated[float, msgspec.Meta(ge=-80, le=80)]
_AngleStd = Annotated[float, msgspec.Meta(ge=0, le=20)]
_Offset = Annotated[float, msgspec.Meta(ge=-30, le=30)]
_Label = Annotated[str, msgspec.Meta(max_length=200)]


class Mounting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the camera sits in base_link, and one standard deviation of everything that places depend on.

    position_m: x, y, z. roll_deg, pitch_deg, yaw_deg: by REP-103, applied as yaw, then pitch, then roll, to a camera
    that looks along x; a positive pitch looks down. pitch_std_deg, roll_std_deg, yaw_std_deg: how far those may be off
    while driving; of a camera that looks to the side, the vehicle's own roll is its pitch. height_std_m: of the camera
    above the ground. box_edge_std_px and box_edge_std_share: of each edge of a box, in pixels of the frame and in
    shares of the box's height, whatever its label and score; their variances add up, with that of where what is in the
    box touches the ground. None: as `edges` knows them.

    rectified: frames are rectified already, so the projection matrix holds and no distortion. off_ground: labels of
    what stands on no road. heights_m: mean and deviation of how tall objects of a label are, beside those of `kinds`.
    """

    position_m: tuple[_Offset, _Offset, Annotated[float, msgspec.Meta(ge=0.05, le=30)]]
    roll_deg: _Angle = 0.0
    pitch_deg: _Pitch
    yaw_deg: _Angle = 0.0
    pitch_std_deg: _AngleStd = 0.3
    roll_std_deg: _AngleStd = 0.0
    yaw_std_deg: _AngleStd = 0.0
    height_std_m: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.0
    box_edge_std_px: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    box_edge_std_share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    rectified: bool = False
    off_ground: Annotated[tuple[_Label, ...], msgspec.Meta(max_length=256)] = OFF_GROUND
    heights_m: dict[_Label, tuple[float, float]] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        values = [*self.position_m, self.roll_deg, self.pitch_deg, self.yaw_deg, self.pitch_std_deg, self.roll_std_deg]
        values += [self.yaw_std_deg, self.height_std_m]
        values += [v for v in (self.box_edge_std_px, self.box_edge_std_share) if v is not None]
        if not all(math.isfinite(v) for v in values):
            raise ValueError("the mounting's values must be finite")
        if not any(v is None or v for v in (self.pitch_std_deg, self.box_edge_std_px, self.box_edge_std_share)):
            raise ValueError("one of pitch_std_deg, box_edge_std_px and box_edge_std_share must be above zero")
        for label, (mean, deviation) in self.heights_m.items():
            if not (0 < mean < 50 and 0 < deviation < 50):
                raise ValueError(f"heights_m of {label!r} must be a mean and a deviation in metres, both above zero")


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A calibrated and mounted camera. Matrices are row by row, in pixels of pictures of `size_hw`.

    Pixels as of ROS and OpenCV: (0, 0) is the centre of the first one. matrix: K (3, 3). rectification: R (3, 3).
    projection: P (3, 4). coefficients: as many as COEFFICIENTS says. Raises ValueError for what is no camera.
    """

    camera_name: str
    size_hw: tuple[_Side, _Side]
    matrix: tuple[float, ...]
    model: Model
    coefficients: tuple[float, ...]
    rectification: tuple[float, ...] = _IDENTITY
    projection: tuple[float, ...] = ()
    mounting: Mounting

    def __post_init__(self) -> None:
        _check_matrix("camera_matrix", self.matrix, 3, self.size_hw)
        if self.projection or self.mounting.rectified:
            _check_matrix("projection_matrix", self.projection, 4, self.size_hw)
        wanted = COEFFICIENTS[self.model]
        if len(self.coefficients) not in wanted:
            counts = " or ".join(str(n) for n in wanted)
            raise ValueError(f"{self.model} has {counts} distortion_coefficients, found {len(self.coefficients)}")
        if not all(math.isfinite(v) for v in self.coefficients):
            raise ValueError("distortion_coefficients must be finite")
        if len(self.rectification) != 9 or not _is_rotation(self.rectification):
            raise ValueError("rectification_matrix must be a rotation of 3 x 3")


def _check_matrix(name: str, data: tuple[float, ...], columns: int, size_hw: tuple[int, int]) -> None:
    if len(data) != 3 * columns or not all(math.isfinite(v) for v in data):
        raise ValueError(f"{name} must have 3 x {columns} finite values, found {len(data)}")
    fx, skew, cx, zero, fy, cy = (data[i] for i in (0, 1, 2, columns, columns + 1, columns + 2))
    last = data[2 * columns : 2 * columns + 3]
    if not (fx > 0 and fy > 0) or skew or zero or list(last) != [0, 0, 1]:
        raise ValueError(f"{name} must be [fx 0 cx, 0 fy cy, 0 0 1] with fx and fy above zero")
    if not (-0.5 <= cx <= size_hw[1] - 0.5 and -0.5 <= cy <= size_hw[0] - 0.5):  # the picture's edges
        raise ValueError(
            f"{name} has its principal point at ({cx:g}, {cy:g}), outside the {size_text(size_hw)} picture"
        )


def _is_rotation(m: tuple[float, ...]) -> bool:
    rows = [m[i : i + 3] for i in (0, 3, 6)]
    products = [sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) for i in range(3) for j in range(3)]
    turned = m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6])
    turned += m[2] * (m[3] * m[7] - m[4] * m[6])
    wanted = zip(products, _IDENTITY, strict=True)
    return turned > 0 and all(abs(p - i) <= _ORTHONORMAL for p, i in wanted)


def size_text(size_hw: tuple[int, int]) -> str:
    """Width x height, as people write it."""
    return f"{size_hw[1]}x{size_hw[0]}"


def fits(size_hw: tuple[int, int], frame_hw: tuple[int, int]) -> bool:
    """Whether a frame has the aspect ratio of this size, to a pixel."""
    (h, w), (frame_h, frame_w) = size_hw, frame_hw
    return abs(frame_h - frame_w * h / w) <= 1 or abs(frame_w - frame_h * w / h) <= 1


def check_size(calibration: Calibration, size_hw: tuple[int, int]) -> None:
    """Raise InputError where frames of this size can't be those of the calibrated camera; (0, 0) is unknown."""
    if size_hw[0] and (why := misfit(calibration, size_hw)):
        raise InputError(
            why, remedy="calibrate in the camera mode that is used, or ask for the calibrated one with --camera-size"
        )


def misfit(calibration: Calibration, size_hw: tuple[int, int]) -> str:
    """Why frames of this size can't be those of the calibrated camera, in one line; "" where they can."""
    if fits(calibration.size_hw, size_hw):
        return ""
    return (
        f"frames are {size_text(size_hw)}, the calibration of {calibration.camera_name!r} is for "
        f"{size_text(calibration.size_hw)}, which has another aspect ratio"
    )


def check_names(calibrations: Mapping[str, Calibration], cameras: Collection[str]) -> None:
    """Raise InputError where a camera's calibration says that it is of another one of these cameras."""
    for name, calibration in calibrations.items():
        if calibration.camera_name != name and calibration.camera_name in cameras:
            raise InputError(
                f"the calibration given for camera {name!r} says that it is of {calibration.camera_name!r}",
                remedy="give each camera its own, or mend camera_name in the file",
            )


def rescaled(calibration: Calibration, size_hw: tuple[int, int]) -> Calibration:
    """The same camera for pictures of another size. Raises InputError for another aspect ratio.

    Pixel centres are kept: a point u lies at (u + 0.5) * ratio - 0.5 in the other picture.
    """
    check_size(calibration, size_hw)
    return msgspec.structs.replace(
        calibration,
        size_hw=size_hw,
        matrix=scaled(calibration.matrix, calibration.size_hw, size_hw),
        projection=scaled(calibration.projection, calibration.size_hw, size_hw),
    )


def scaled(matrix: tuple[float, ...], size_hw: tuple[int, int], to_hw: tuple[int, int]) -> tuple[float, ...]:
    """K (3, 3) or P (3, 4), row by row, for pictures of another size; an empty one stays empty."""
    columns, values = len(matrix) // 3, list(matrix)
    for row, ratio in enumerate((to_hw[1] / size_hw[1], to_hw[0] / size_hw[0]) if matrix else ()):
        for column in range(columns):
            values[row * columns + column] *= ratio
        values[row * columns + 2] += 0.5 * ratio - 0.5
    return tuple(values)


class _Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: int
    cols: int
    data: Annotated[tuple[float, ...], msgspec.Meta(max_length=16)]


class CameraInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """ROS' camera_info YAML, key by key, as `camera_calibration` writes it, with our section where it has one."""

    image_width: _Side
    image_height: _Side
    camera_name: Annotated[str, msgspec.Meta(max_length=200)]
    camera_matrix: _Matrix
    distortion_model: Model
    distortion_coefficients: _Matrix
    rectification_matrix: _Matrix | None = None
    projection_matrix: _Matrix | None = None
    edgetl: Mounting | None = None


def read_calibration(path: Path) -> Calibration:
    """The calibration in `path`. Raises InputError that says what is wrong in it, MissingPackage without PyYAML."""
    found = read_camera_info(path)
    beside = path.with_name(path.stem + MOUNTING_SUFFIX)
    if found.edgetl is not None and beside.exists():
        raise InputError(f"{path} has a section edgetl and {beside.name} beside it", remedy="remove one of them")
    if found.edgetl is None and not beside.exists():
        raise InputError(
            f"{path} does not say where the camera sits",
            remedy=f"add a section edgetl with position_m and pitch_deg, or write those into {beside.name}",
        )
    mounting = found.edgetl or _decode(beside, Mounting)
    try:
        return Calibration(
            camera_name=found.camera_name,
            size_hw=(found.image_height, found.image_width),
            matrix=_data("camera_matrix", found.camera_matrix, 3, 3),
            model=found.distortion_model,
            coefficients=_data("distortion_coefficients", found.distortion_coefficients, 1, None),
            rectification=_data("rectification_matrix", found.rectification_matrix, 3, 3) or _IDENTITY,
            projection=_data("projection_matrix", found.projection_matrix, 3, 4),
            mounting=mounting,
        )
    except ValueError as error:
        raise _invalid(path, error) from error


def read_camera_info(path: Path) -> CameraInfo:
    """The file's own keys and shapes; how the camera sits may be missing. Raises InputError, MissingPackage."""
    found: CameraInfo = _decode(path, CameraInfo)
    return found


def _decode(path: Path, kind: type[Any]) -> Any:
    document = read_yaml(path, what="the calibration", max_bytes=MAX_BYTES)
    try:
        return msgspec.convert(document, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _invalid(path, error) from error


def _invalid(path: Path, error: Exception) -> InputError:
    return InputError(f"the calibration {path} is not valid: {error}", remedy="see edgetl_runtime/geometry/calibration")


def _data(name: str, matrix: _Matrix | None, rows: int, cols: int | None) -> tuple[float, ...]:
    if matrix is None:
        return ()
    wanted = (rows, matrix.cols if cols is None else cols)
    if (matrix.rows, matrix.cols) != wanted or len(matrix.data) != matrix.rows * matrix.cols:
        shape = f"{wanted[0]} x {'N' if cols is None else cols}"
        raise ValueError(f"{name} must be {shape}, found {matrix.rows} x {matrix.cols} with {len(matrix.data)} values")
    return matrix.data


def calibration_yaml(calibration: Calibration) -> str:
    """The file that `read_calibration` reads, with every value to the last bit."""
    c, m = calibration, calibration.mounting
    projection = c.projection or tuple(v for i in (0, 3, 6) for v in (*c.matrix[i : i + 3], 0.0))
    lines = [f"image_width: {c.size_hw[1]}", f"image_height: {c.size_hw[0]}", f"camera_name: {_text(c.camera_name)}"]
    lines += _matrix_lines("camera_matrix", c.matrix, 3)
    lines.append(f"distortion_model: {c.model}")
    lines += _matrix_lines("distortion_coefficients", c.coefficients, len(c.coefficients))
    lines += _matrix_lines("rectification_matrix", c.rectification, 3)
    lines += _matrix_lines("projection_matrix", projection, 4)
    lines.append("edgetl:")
    values = {name: getattr(m, name) for name in m.__struct_fields__}
    lines += [f"  {name}: {msgspec.json.encode(v).decode()}" for name, v in values.items() if v is not None]
    return "\n".join(lines) + "\n"


def _matrix_lines(name: str, data: tuple[float, ...], cols: int) -> list[str]:
    return [
        f"{name}:",
        f"  rows: {len(data) // cols}",
        f"  cols: {cols}",
        f"  data: {msgspec.json.encode(data).decode()}",
    ]


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()
