"""edgetl_runtime: a compiled bundle and a camera in, timed perception results out. No torch."""

from __future__ import annotations

__version__ = "0.1.0"
