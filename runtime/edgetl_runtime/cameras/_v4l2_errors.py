"""What the kernel's error numbers mean for whoever uses a camera.

After https://docs.kernel.org/userspace-api/media/gen-errors.html and the calls' own pages.
"""

from __future__ import annotations

import errno
from pathlib import Path

from edgetl_runtime.errors import CameraError

_GONE = ("is gone or failed", "check its cable and its power")
_NOT_ALLOWED = (
    "may not be opened by this user",
    "add the user to the group video (sudo usermod -aG video NAME) and log in again",
)
_NOT_SET_UP = ("can't stream, its media pipeline is not set up", "set it up with media-ctl")
_MEANINGS = {
    errno.EBUSY: ("is in use by another program", "end that; fuser -v shows it"),
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    errno.EIO: _GONE,
    errno.ESHUTDOWN: _GONE,
    errno.ENOSPC: (
        "gets too little of its bus for these frames",
        "ask for a smaller size, a lower rate or MJPG, or plug it into another USB controller",
    ),
    errno.EPIPE: _NOT_SET_UP,
    errno.ENOLINK: _NOT_SET_UP,
}


def explain(device: str, doing: str, error: OSError) -> CameraError:
    """The error for a call that failed while `doing`, like "a frame was taken"."""
    if error.errno == errno.ENOENT:
        return missing(device)
    what, remedy = _MEANINGS.get(error.errno or 0, ("failed", ""))
    return CameraError(f"{device} {what} ({error.strerror or error}, while {doing})", remedy=remedy)


def missing(device: str) -> CameraError:
    """The error for a device that isn't there."""
    present = sorted(str(p) for p in Path("/dev").glob("video*"))
    return CameraError(
        f"there is no camera {device}",
        remedy=f"present: {', '.join(present)}" if present else "no /dev/video* is present, plug a camera in",
    )
