"""Is it this picture that the engine answers? One that hangs may give an old answer for ever, and never fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.watch import sample_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

STUCK_NS = 2_000_000_000
"""As long as a picture must stay the same to count as frozen."""
OTHER_LEVELS = 4.0
"""Pictures whose grey levels differ by more, on average, can't give the same answer to the bit."""

_GRID = 16


class Answers:
    """Watches one pipeline's answers beside its pictures. Costs some 0.01 ms a frame. One thread only.

    names: the outputs that change with any picture, such as scores and boxes; masks and categories may rightly rest.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._answer = b""
        self._first: NDArray[np.int16] | None = None
        self._since_ns, self._other = 0, False

    def stuck(self, picture: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.generic]], now_ns: int) -> bool:
        """Whether the answer has been the same to the bit for STUCK_NS, although another picture was shown meanwhile.

        picture: (1, H, W, 3) uint8, the network's input. now_ns: on CLOCK. An answer that is all zero says nothing.
        """
        told = [outputs[name] for name in self._names if name in outputs]
        answer = b"".join(values.tobytes() for values in told)
        if answer != self._answer or not any(answer):
            self._answer, self._first, self._since_ns, self._other = answer, None, now_ns, False
            return False
        sample = sample_of(picture[0], _GRID).astype(
            np.int16
        )  # not before an answer repeats, which it hardly ever does
        self._first = sample if self._first is None else self._first
        self._other = self._other or float(np.abs(sample - self._first).mean()) > OTHER_LEVELS
        return self._other and now_ns - self._since_ns >= STUCK_NS
