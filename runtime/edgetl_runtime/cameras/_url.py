"""Addresses of network cameras: checked, and named without what must stay secret."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from edgetl_runtime.errors import CameraError

SCHEMES = ("rtsp", "rtsps", "http", "https")
# Many cameras take their login as path or query: /user=admin&password=x or ?token=x.
_SECRET = re.compile(r"([\w-]*(?:pass|pwd|pw|user|login|token|secret|auth|key|sign?)[\w-]*=)[^&;/?#]*", re.IGNORECASE)


def scheme_of(source: str) -> str:
    """`rtsp` of `RTSP://…`, or nothing where the source is no address."""
    match = re.match(r"([a-z][a-z0-9+.-]*)://", source, re.IGNORECASE)
    return match[1].lower() if match else ""


def public_url(url: str) -> str:
    """The address without login, and with the values of what looks like one replaced by ***.

    Raises CameraError, which never repeats the address, where it can't be told which part is the login.
    """
    scheme = scheme_of(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    # An unescaped / or # in a password ends the authority early and leaves the rest of it, up to @, in the path.
    if not host or _at_after_authority(url):
        raise CameraError(
            f"the {scheme} address is not like {scheme}://user:password@host:port/path",
            remedy="write @, /, # and ? inside of user, password or path as %40, %2F, %23 and %3F",
        )
    shown = f"[{host}]" if ":" in host else host
    place = f"{shown}:{port}" if port else shown
    path = _SECRET.sub(r"\1***", parts.path + (f"?{parts.query}" if parts.query else ""))
    return f"{scheme}://{place}{path}"


def _at_after_authority(url: str) -> bool:
    rest = url.split("://", 1)[1]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return "@" in rest[len(authority) :]
