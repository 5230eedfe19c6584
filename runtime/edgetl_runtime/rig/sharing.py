"""A camera's letterboxed picture, made once for all bundles that want the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.letterbox import Letterbox

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.letterbox import Geometry
    from edgetl_runtime.spec import Preprocess


class SharedLetterbox(Letterbox):
    """A letterbox that does nothing for the image that it holds already, until `forget`. made: how often it did."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__(preprocess)
        self.made = 0
        self._of: NDArray[np.uint8] | None = None

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Geometry]:
        """As Letterbox; the same array object is taken to hold the same picture."""
        if image is self._of and self.geometry is not None:
            return self.tensor, self.geometry
        self._of = None
        made = super().__call__(image)
        self._of, self.made = image, self.made + 1
        return made

    def forget(self) -> None:
        """Let go of the image: its buffer may hold another picture the next time."""
        self._of = None


class Letterboxes:
    """One camera's letterboxes: bundles share one where the host does the same for them; colours are the graph's."""

    def __init__(self) -> None:
        self.all: dict[tuple[object, ...], SharedLetterbox] = {}

    def of(self, preprocess: Preprocess) -> SharedLetterbox:
        """The one for this preprocessing."""
        p = preprocess
        key = (p.size_hw, p.resize, p.interpolation, p.pad_value)
        if key not in self.all:
            self.all[key] = SharedLetterbox(preprocess)
        return self.all[key]

    def forget(self) -> None:
        """The frame is done with."""
        for letterbox in self.all.values():
            letterbox.forget()
