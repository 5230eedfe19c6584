"""The calibration of a rendered picture's camera, as the runtime reads it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgetl_runtime.geometry.calibration import Calibration, Mounting

if TYPE_CHECKING:
    from edgetl.roadworld.labels import Rendered


def calibration_of(
    picture: Rendered,
    *,
    pitch_std_deg: float = 0.3,
    box_edge_std_px: float = 2.0,
    box_edge_std_share: float = 0.03,
) -> Calibration:
    """The camera over the origin of base_link; what is not certain is as of Mounting.

    roadworld's principal point counts from the corner of the first pixel, ROS' from its centre.
    """
    (fx, _, cx), (_, fy, cy), _ = picture.matrix.tolist()
    return Calibration(
        camera_name="roadworld",
        size_hw=(picture.image.shape[0], picture.image.shape[1]),
        matrix=(fx, 0.0, cx - 0.5, 0.0, fy, cy - 0.5, 0.0, 0.0, 1.0),
        model="plumb_bob",
        coefficients=(0.0,) * 5,
        mounting=Mounting(
            position_m=(0.0, 0.0, picture.height_m),
            pitch_deg=math.degrees(picture.pitch_rad),
            pitch_std_deg=pitch_std_deg,
            box_edge_std_px=box_edge_std_px,
            box_edge_std_share=box_edge_std_share,
        ),
    )
