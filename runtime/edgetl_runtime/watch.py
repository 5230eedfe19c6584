"""Looks at every frame before it is used: is it new, in order, stamped plausibly, and does it show anything?"""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.geometry.calibration import misfit
from edgetl_runtime.health import HOLD_NS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.health import Health
    from edgetl_runtime.result import Frame

FROZEN_S = 2.0
"""A picture that stays the same to the bit for so long is frozen: sensors have noise, coded streams rest for less."""
REPEATED = 8
"""So do pictures that came among so many before: drivers that hang may hand out a ring of old buffers for ever."""
DARK_S = 0.5
JUMP_NS = 1_000_000_000
"""Stamps that go back by less are frames out of order, by more another clock."""
AHEAD_NS = 5_000_000
"""A stamp may be so far ahead of its arrival, for clocks that are read apart."""

_GRID = 32
_FLAT, _NOT_FLAT = 4.0, 6.0  # grey levels; a night street's lamps alone give 10 and more


class FrameWatch:
    """The checks of one camera's frames; conditions go to `health`. Costs less than 0.1 ms a frame, whatever its size.

    frozen_s: 0 turns that check off, for a camera whose picture may rightly stand still. calibration: what frames have
    to fit, None where nothing depends on it. One thread only.
    """

    def __init__(
        self,
        health: Health,
        *,
        frozen_s: float = FROZEN_S,
        dark_s: float = DARK_S,
        calibration: Calibration | None = None,
    ) -> None:
        self._health, self._calibration = health, calibration
        self._frozen_ns, self._dark_ns = int(frozen_s * 1e9), int(dark_s * 1e9)
        self._last_id, self._last_ns = -1, -1
        self._least_delay_ns: int | None = None
        self._size_hw: tuple[int, int] | None = None
        self._misfit_ns = -HOLD_NS
        self._samples: deque[bytes] = deque(maxlen=REPEATED)
        self._same_since_ns = 0
        self._flat_since_ns: int | None = None

    def look(self, frame: Frame, arrived_ns: int) -> Frame | None:
        """The frame as it may be used, or None for one that must not be: it was there before, or is out of order.

        arrived_ns: when it was handed over, on CLOCK. A stamp from the future is replaced by that.
        """
        given_ns = frame.t_capture_ns
        frame = self._stamped(frame, arrived_ns)
        if self._last_ns >= 0 and not self._in_order(frame, told=frame.t_capture_ns == given_ns):
            return None
        self._last_id, self._last_ns = frame.frame_id, frame.t_capture_ns
        self._clock(frame, arrived_ns)
        self._size(frame, arrived_ns)
        self._picture(frame, arrived_ns)
        return frame

    def _stamped(self, frame: Frame, arrived_ns: int) -> Frame:
        ahead_ns = frame.t_capture_ns - arrived_ns
        if ahead_ns <= AHEAD_NS:
            return frame
        self._health.flash("clock", f"frame {frame.frame_id} is stamped {ahead_ns / 1e6:.0f} ms after it arrived")
        return dataclasses.replace(frame, t_capture_ns=arrived_ns)

    def _in_order(self, frame: Frame, *, told: bool) -> bool:
        """Whether it is newer than the last. told: by its own stamp; where that was replaced only its number tells."""
        forward_ns = frame.t_capture_ns - self._last_ns
        if forward_ns == 0 or (frame.frame_id == self._last_id and abs(forward_ns) < JUMP_NS):
            self._health.flash("duplicate", f"frame {frame.frame_id} came again")
            return False
        if -JUMP_NS < forward_ns < 0:
            late_ms = -forward_ns / 1e6
            self._health.flash("disordered", f"frame {frame.frame_id} is {late_ms:.0f} ms older than the last")
            return False
        if not told and frame.frame_id < self._last_id and forward_ns < JUMP_NS:
            self._health.flash("disordered", f"frame {frame.frame_id} came after frame {self._last_id}")
            return False
        if forward_ns < 0:
            self._health.flash("clock", f"stamps jumped by {forward_ns / 1e9:+.1f} s at frame {frame.frame_id}")
            self._least_delay_ns = None
        return True

    def _clock(self, frame: Frame, arrived_ns: int) -> None:
        """A frame that is much less late than any before: not the way became shorter, the clock went forward."""
        delay_ns = arrived_ns - frame.t_capture_ns
        if self._least_delay_ns is not None and self._least_delay_ns - delay_ns > JUMP_NS:
            skipped_s = (self._least_delay_ns - delay_ns) / 1e9
            self._health.flash("clock", f"stamps jumped by {skipped_s:+.1f} s at frame {frame.frame_id}")
        if self._least_delay_ns is None or delay_ns < self._least_delay_ns:
            self._least_delay_ns = delay_ns

    def _size(self, frame: Frame, arrived_ns: int) -> None:
        size_hw = (frame.image.shape[0], frame.image.shape[1])
        if self._size_hw is not None and size_hw != self._size_hw:
            (h, w), (before_h, before_w) = size_hw, self._size_hw
            self._health.flash("resized", f"frames were {before_w}x{before_h}, now {w}x{h}")
        self._size_hw = size_hw
        if self._calibration is None:
            return
        if why := misfit(self._calibration, size_hw):
            self._misfit_ns = arrived_ns
            self._health.set("uncalibrated", f"{why}: boxes have no places")
        elif arrived_ns - self._misfit_ns >= HOLD_NS:  # sizes that alternate are one fault, not one for each frame
            self._health.clear("uncalibrated")

    def _picture(self, frame: Frame, now_ns: int) -> None:
        """What it shows, by the time of its arrival: stamps may go back and forth."""
        sample = sample_of(frame.image, _GRID)
        pixels = sample.tobytes()
        if pixels not in self._samples:
            self._same_since_ns = now_ns
            self._health.clear("frozen")
        elif self._frozen_ns and now_ns - self._same_since_ns >= self._frozen_ns:
            since_s = (now_ns - self._same_since_ns) / 1e9
            what = "picture has not changed at all" if pixels == self._samples[-1] else "same pictures come over again"
            self._health.set("frozen", f"the {what} for {since_s:.1f} s")
        self._samples.append(pixels)
        spread = float(sample.std())
        if spread >= (_FLAT if self._flat_since_ns is None else _NOT_FLAT):
            self._flat_since_ns = None
            self._health.clear("dark")
            return
        self._flat_since_ns = now_ns if self._flat_since_ns is None else self._flat_since_ns
        if now_ns - self._flat_since_ns >= self._dark_ns:
            level = float(sample.mean())
            self._health.set("dark", f"nothing is to be seen, all is near grey level {level:.0f}: is the lens covered?")


def sample_of(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A copy of every so many pixels of (H, W, C), some side x side of them."""
    height, width = image.shape[:2]
    rows = slice(height // (2 * side), None, max(height // side, 1))
    columns = slice(width // (2 * side), None, max(width // side, 1))
    sample: NDArray[np.uint8] = image[rows, columns].copy()
    return sample
