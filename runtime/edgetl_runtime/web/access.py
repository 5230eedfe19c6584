"""Who may look: addresses to listen on, names to be called by, tokens."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = "127.0.0.1"
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,128}", re.ASCII)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:]+)(:\d{1,5})?", re.ASCII)

Verdict = Literal["allowed", "first", "no token", "foreign name"]
"""first: the token stood in the address, so that the answer should bring a cookie."""


@dataclass(frozen=True, slots=True)
class Address:
    """A numeric address to listen on."""

    host: str
    family: socket.AddressFamily
    loopback: bool

    def url(self, port: int) -> str:
        """Where a browser finds it; an address that stands for all is replaced by the machine's name."""
        number = ipaddress.ip_address(self.host.partition("%")[0])
        name = socket.gethostname() if number.is_unspecified else self.host
        return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def resolve(bind: str) -> Address:
    """The address of a name or number. Raises InputError where there is none."""
    try:
        family, _, _, _, place = socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"there is no address {bind!r} to listen on", remedy="use 127.0.0.1 or 0.0.0.0") from error
    host = str(place[0])
    return Address(host, family, ipaddress.ip_address(host.partition("%")[0]).is_loopback)


class Gate:
    """Decides about one request by its token, or, where none is asked for, by the name that it calls this server.

    token: asked for where it is given and wherever the address is not the machine's own; one is made where none is
    given. Raises InputError for a token that is short or would not survive in an address.
    """

    def __init__(self, address: Address, token: str | None = None) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise InputError("a token is 16 to 128 letters, digits and . _ ~ -", remedy="leave --token out to get one")
        self.token = token if token or address.loopback else secrets.token_urlsafe(18)
        self._expected = (self.token or "").encode()

    def judge(self, headers: Mapping[str, str], in_query: str | None, cookie_name: str) -> Verdict:
        """headers: by name in any case, as http.server gives them."""
        if not self.token:
            # A page elsewhere can have its own name resolved to this address and then read it as its own site.
            return "allowed" if _own_name(headers.get("Host", "")) else "foreign name"
        if in_query is not None:
            return "first" if self._is_token(in_query) else "no token"
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return "allowed"
        # A cookie belongs to the name it was given under, so no other name brings it: Host needs no look.
        found = _cookies(headers.get("Cookie", ""), cookie_name)
        return "allowed" if any(self._is_token(value) for value in found) else "no token"

    def _is_token(self, found: str) -> bool:
        return hmac.compare_digest(found.encode("utf-8", "replace"), self._expected)


def _own_name(host: str) -> bool:
    """Whether a Host header names this machine as only itself can."""
    match = _HOST.fullmatch(host.strip().lower())
    if match is None:
        return False
    if match["name"] == "localhost":
        return True
    try:
        return ipaddress.ip_address(match["name"].strip("[]")).is_loopback
    except ValueError:
        return False


def _cookies(header: str, name: str) -> list[str]:
    """The values of this name, after RFC 6265, 5.4; tokens need no quotes, so none are taken off.

    http.cookies takes time that grows with the square of a quoted value before Python 3.11.10 and 3.12.6
    (CVE-2024-7592): 15 s for a header of 60 kB, from anyone.
    """
    pairs = (part.partition("=") for part in header.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]
