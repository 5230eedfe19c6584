"""Progress on stderr: one bar with a rate and an ETA, quiet where nobody looks."""

from __future__ import annotations

import sys
import time
from types import TracebackType


class Progress:
    """A bar that redraws itself on a terminal and prints a line every ten seconds elsewhere.

    total: number of steps, or None when it is not known. Use as a context manager; `step()` after each step.
    """

    def __init__(self, title: str, total: int | None, *, unit: str = "it", enabled: bool = True) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0
        self.note = ""
        self._tty = sys.stderr.isatty()
        self._every_s = 0.1 if self._tty else 10.0
        self._enabled = enabled
        self._start = self._last = time.monotonic()
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw(final=True)

    def step(self, n: int = 1, *, note: str = "") -> None:
        """Count n steps; `note` replaces the text at the end of the line."""
        self.done += n
        self.note = note or self.note
        if time.monotonic() - self._last >= self._every_s:
            self._draw()

    def line(self) -> str:
        """The text that would be shown now."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = self.done / elapsed
        parts = [f"{self.title:<12}"]
        if self.total:
            share = min(self.done / self.total, 1.0)
            filled = int(share * 24)
            parts.append(f"[{'#' * filled}{'.' * (24 - filled)}] {self.done}/{self.total}")
            if 0 < self.done < self.total:
                parts.append(f"ETA {clock((self.total - self.done) / rate)}")
        else:
            parts.append(f"{self.done} {self.unit}")
        parts.append(f"{clock(elapsed)}, {rate:.1f} {self.unit}/s")
        if self.note:
            parts.append(self.note)
        return "  ".join(parts)

    def _draw(self, *, final: bool = False) -> None:
        self._last = time.monotonic()
        if not self._enabled:
            return
        text = self.line()
        if self._tty:
            pad = " " * max(self._width - len(text), 0)
            sys.stderr.write("\r" + text + pad + ("\n" if final else ""))
            self._width = len(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def clock(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
