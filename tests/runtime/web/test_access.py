"""Who may look: tokens where others reach the address, own names where they do not."""

from __future__ import annotations

import socket
import time

import pytest

from edgetl_runtime.errors import InputError
from edgetl_runtime.web.access import Gate, resolve

TOKEN = "a-token-of-enough-characters"
HERE = resolve("127.0.0.1")


@pytest.mark.parametrize(
    ("bind", "loopback", "url"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:80/"),
        ("localhost", True, None),
        ("::1", True, "http://[::1]:80/"),
        ("0.0.0.0", False, f"http://{socket.gethostname()}:80/"),
        ("192.0.2.7", False, "http://192.0.2.7:80/"),
    ],
)
def test_addresses(bind: str, loopback: bool, url: str | None) -> None:
    address = resolve(bind)
    assert address.loopback is loopback
    assert url is None or address.url(80) == url


@pytest.mark.parametrize("bind", ["no.such.name.invalid", "999.1.1.1", "a b", "x" * 300])
def test_an_address_that_is_none(bind: str) -> None:
    with pytest.raises(InputError, match="there is no address"):
        resolve(bind)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "127.3.2.1", "[::1]", "[::1]:8080"]
)
def test_own_names(host: str) -> None:
    assert Gate(HERE).judge({"Host": host}, None, "c") == "allowed"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.9",
        "localhost:80:80",
        "localhost:abc",
        "[::1",
        "[fe80::1]",
        "::1",
        "user@localhost",
    ],
)
def test_foreign_names(host: str) -> None:
    assert Gate(HERE).judge({"Host": host}, None, "c") == "foreign name"


def test_an_open_address_makes_a_token() -> None:
    gates = [Gate(resolve("0.0.0.0")) for _ in range(2)]
    assert gates[0].token and gates[1].token and gates[0].token != gates[1].token
    assert len(gates[0].token) >= 20
    assert Gate(HERE).token is None
    assert gates[0].judge({"Host": "localhost"}, None, "c") == "no token"


@pytest.mark.parametrize("token", ["", "short", "x" * 129, "sixteen letters and", "semicolon;semicolon", "ü" * 20])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(InputError, match="a token is 16 to 128"):
        Gate(HERE, token)


@pytest.mark.parametrize(
    ("headers", "query", "verdict"),
    [
        ({}, None, "no token"),
        ({"Host": "localhost"}, None, "no token"),
        ({}, TOKEN, "first"),
        ({}, "", "no token"),
        ({}, TOKEN + "x", "no token"),
        ({"Authorization": f"Bearer {TOKEN}"}, None, "allowed"),
        ({"Authorization": f"bearer  {TOKEN} "}, None, "allowed"),
        ({"Authorization": f"Basic {TOKEN}"}, None, "no token"),
        ({"Authorization": "Bearer"}, None, "no token"),
        ({"Authorization": "Bearer \udcff"}, None, "no token"),
        ({"Cookie": f"other=1; c={TOKEN}"}, None, "allowed"),
        ({"Cookie": f"d={TOKEN}"}, None, "no token"),
        ({"Cookie": "c="}, None, "no token"),
        ({"Cookie": "\x00;=;;c"}, None, "no token"),
        ({"Cookie": f"c={TOKEN}", "Host": "camera7.fleet"}, None, "allowed"),
        ({"Cookie": f"c=theirs;c={TOKEN}; c=others"}, None, "allowed"),
        ({"Cookie": f'c="{TOKEN}"'}, None, "no token"),
    ],
)
def test_a_token_is_asked_for(headers: dict[str, str], query: str | None, verdict: str) -> None:
    assert Gate(HERE, TOKEN).judge(headers, query, "c") == verdict


@pytest.mark.parametrize("value", ["\\" * 60_000, '\\"' * 30_000, "c=" * 30_000, ";" * 60_000, "c=;" * 20_000])
def test_a_long_cookie_takes_no_time(value: str) -> None:
    """Quoted ones took http.cookies 15 s."""
    start_s = time.process_time()
    assert Gate(HERE, TOKEN).judge({"Cookie": f'c="{value}"'}, None, "c") == "no token"
    assert time.process_time() - start_s < 2
