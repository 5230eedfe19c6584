"""The calibration of a rendered picture's camera, as the runtime reads it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgetl.roadworld.camera import Camera
from edgetl_runtime.geometry.calibration import Calibration, Mounting

if TYPE_CHECKING:
    from edgetl.roadworld.labels import Rendered


def calibration_of(
    picture: Rendered,
    *,
    pitch_std_deg: float = 0.3,
    box_edge_std_px: float | None = None,
    box_edge_std_share: float | None = None,
) -> Calibration:
    """Of the camera that saw this picture, see camera_calibration."""
    size_hw = (picture.image.shape[0], picture.image.shape[1])
    return camera_calibration(
        Camera(size_hw, float(picture.matrix[0, 0]), picture.height_m, picture.pitch_rad),
        pitch_std_deg=pitch_std_deg,
        box_edge_std_px=box_edge_std_px,
        box_edge_std_share=box_edge_std_share,
    )


def camera_calibration(
    camera: Camera,
    *,
    pitch_std_deg: float = 0.3,
    box_edge_std_px: float | None = None,
    box_edge_std_share: float | None = None,
) -> Calibration:
    """The camera over the origin of base_link; what is not certain is as of Mounting.

    roadworld's principal point counts from the corner of the first pixel, ROS' from its centre.
    """
    f = camera.focal_px
    return Calibration(
        camera_name="roadworld",
        size_hw=camera.size_hw,
        matrix=(f, 0.0, camera.cx - 0.5, 0.0, f, camera.cy - 0.5, 0.0, 0.0, 1.0),
        model="plumb_bob",
        coefficients=(0.0,) * 5,
        mounting=Mounting(
            position_m=(0.0, 0.0, camera.height_m),
            pitch_deg=math.degrees(camera.pitch_rad),
            pitch_std_deg=pitch_std_deg,
            box_edge_std_px=box_edge_std_px,
            box_edge_std_share=box_edge_std_share,
        ),
    )
