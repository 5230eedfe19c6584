"""roadworld: labelled driving scenes, rendered from a seed: stills and clips, by day, by night, in fog and rain.

    render_still, render_clip      pictures with exact boxes, ids, distances and masks
    write_dataset, write_clip      the same as COCO JSON with masks, and as MP4 with JSON lines

cv2 is imported with the first call, not with this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl.roadworld.labels import MASK_NAMES, Rendered, RenderedObject
    from edgetl.roadworld.render import render_clip, render_still
    from edgetl.roadworld.scene import CLASSES, DOMAINS
    from edgetl.roadworld.write import write_clip, write_dataset

_HOME = {
    "CLASSES": "scene", "DOMAINS": "scene", "MASK_NAMES": "labels", "Rendered": "labels",
    "RenderedObject": "labels", "render_clip": "render", "render_still": "render", "write_clip": "write",
    "write_dataset": "write",
}  # fmt: skip

__all__ = [
    "CLASSES",
    "DOMAINS",
    "MASK_NAMES",
    "Rendered",
    "RenderedObject",
    "render_clip",
    "render_still",
    "write_clip",
    "write_dataset",
]


def __getattr__(name: str) -> object:
    """Import the module that holds `name` on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
