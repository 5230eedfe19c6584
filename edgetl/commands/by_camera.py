"""Flags whose value is of one camera: plain with one camera, NAME=VALUE with several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.commands.rig_arguments import sources_of
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def by_camera(args: argparse.Namespace, flag: str, texts: Sequence[str], *, like: str) -> dict[str, str]:
    """What the flag says of each camera, by its name, for those that it is given for. like: a value, for people.

    A plain value is enough while there is one camera. Raises InputError for a plain value beside several cameras, for a
    name that no camera has, and for a camera that has two values.
    """
    cameras = list(sources_of(args))
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (sign and name in cameras) or not (args.also_camera or args.also_bundle):
            name, value = cameras[0], text
            if len(cameras) > 1:
                raise InputError(
                    f"{flag} must be like {name}={like} with several cameras, found {text}",
                    remedy=f"cameras are called {', '.join(cameras)}",
                )
        if name in found:
            raise InputError(f"{flag} is given twice for camera {name}", remedy="give it once for each camera")
        found[name] = value
    return found
