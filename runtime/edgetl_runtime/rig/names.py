"""Names of cameras and bundles as parts of topics: any text goes in, letters, digits and _ come out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.rig.sinks import LaneName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def safe_names(names: Iterable[str], what: str) -> dict[str, str]:
    """Each name with everything but ASCII letters, digits and _ as _, and an _ before a digit in front.

    what: camera or bundle. Raises InputError where two names become one.
    """
    safe: dict[str, str] = {}
    for name in names:
        part = re.sub(r"[^A-Za-z0-9_]", "_", name) or "_"
        part = f"_{part}" if part[0].isdigit() else part
        if (other := next((known for known, taken in safe.items() if taken == part), None)) is not None:
            flag = "--also-camera" if what == "camera" else "--also-bundle"
            raise InputError(
                f"the {what}s {other!r} and {name!r} are both {part} in topics",
                remedy=f"give one another name: {flag} NAME=...",
            )
        safe[name] = part
    return safe


def camera_prefixes(cameras: Sequence[str], prefix: str) -> dict[str, str]:
    """By camera: PREFIX/CAMERA, under which its pictures are. Raises InputError where two are one."""
    return {name: f"{prefix}/{part}" for name, part in safe_names(cameras, "camera").items()}


def lane_prefixes(cameras: Sequence[str], bundles: Sequence[str], prefix: str) -> dict[LaneName, str]:
    """By lane: PREFIX/CAMERA with one bundle, else PREFIX/CAMERA/BUNDLE. Raises InputError where two are one."""
    parts = safe_names(bundles, "bundle")
    return {
        LaneName(camera, bundle): above if len(parts) == 1 else f"{above}/{part}"
        for camera, above in camera_prefixes(cameras, prefix).items()
        for bundle, part in parts.items()
    }
