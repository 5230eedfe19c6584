"""edgetl: fine-tune a pretrained network on driving data, compile it for the vehicle, run it there."""

from __future__ import annotations

from edgetl_runtime import __version__

__all__ = ["__version__"]
