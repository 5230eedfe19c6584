"""The results that are sent: of one camera and one bundle, or of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import State


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class CanLane:
    """One bundle's results for one camera. head: the name of the one whose boxes are sent.

    state: the worst of all that these results depend on, asked in every cycle, from any thread. kept: whether they are
    wanted now. camera: tells results of one camera apart from those of others. classes: (C,) int64, what is sent for
    each label of the head; None: its own number.
    """

    head: str
    state: Callable[[], State]
    kept: Callable[[], bool] = _always
    camera: str = ""
    classes: NDArray[np.int64] | None = None
