"""A camera's intrinsics, as a CameraInfo has them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgetl_runtime.errors import InputError
from edgetl_runtime.geometry.calibration import fits, scaled

Matrix = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Of pictures of size_hw pixels. k, r: 3x3, p: 3x4, row by row; d: of the distortion model, such as plumb_bob.

    Raises InputError for parts of another length or a size of zero.
    """

    size_hw: tuple[int, int]
    k: Matrix
    d: Matrix = ()
    model: str = "plumb_bob"
    r: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    p: Matrix = ()

    def __post_init__(self) -> None:
        if not self.p:
            rows = [(*self.k[i : i + 3], 0.0) for i in (0, 3, 6)]
            object.__setattr__(self, "p", tuple(v for row in rows for v in row))
        found = (len(self.k), len(self.r), len(self.p))
        if found != (9, 9, 12) or min(self.size_hw) < 1:
            raise InputError(
                "a camera's intrinsics need a size and k, r and p of 9, 9 and 12 numbers, found "
                f"{self.size_hw[1]}x{self.size_hw[0]} and {found}"
            )

    def scaled(self, size_hw: tuple[int, int]) -> Intrinsics:
        """The same camera with pictures of another size. Raises InputError for another shape: that is a crop."""
        if size_hw == self.size_hw:
            return self
        if not fits(self.size_hw, size_hw):
            raise InputError(
                f"the camera was calibrated at {self.size_hw[1]}x{self.size_hw[0]} and gives {size_hw[1]}x{size_hw[0]}",
                remedy="calibrate it at a size of the same shape",
            )
        k, p = (scaled(matrix, self.size_hw, size_hw) for matrix in (self.k, self.p))
        return replace(self, size_hw=size_hw, k=k, p=p)
