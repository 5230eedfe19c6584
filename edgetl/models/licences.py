"""What the licence of pretrained weights permits, asked before they are loaded or fetched."""

from __future__ import annotations

from typing import Literal, get_args

from edgetl_runtime.errors import InputError

Use = Literal["commercial", "research"]

NOT_STATED = "not stated"
"""The licence on record for a user's own file: edgetl can't know it, so the user answers for it."""

COMMERCIAL = frozenset(
    {
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "isc",
        "cc0-1.0",
        "cc-by-4.0",
        "unlicense",
        "none",
        NOT_STATED,
    }
)
"""Licences (SPDX, lower case) under which weights may go into a product."""

NON_COMMERCIAL = frozenset(
    {
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nc-nd-4.0",
        "fair-noncommercial-research-license",
        "seer-license",
        "apple-amlr",
        "nvidia-source-code-license-nc",
        "research-only",
    }
)
"""Licences that forbid it in their own words. Every other one is of unknown or special terms."""


def check_licence(what: str, licence: str, *, use: Use, allowed: bool) -> None:
    """Refuse weights whose licence is not known to permit `use`; `allowed` says that the user has read it.

    what: the weights, for the message. licence: SPDX or the name that the publisher gave.
    Raises InputError that names the licence.
    """
    if use not in get_args(Use):
        raise InputError(f"use {use!r} is not known", remedy=f"give one of {', '.join(get_args(Use))}")
    known = licence.strip().lower()
    if allowed or use == "research" or known in COMMERCIAL:
        return
    if known in NON_COMMERCIAL:
        reason = f"licence {licence} forbids commercial use"
    elif known in {"", "unknown", "other"}:
        reason = "licence is not known, so commercial use is not known to be permitted"
    else:
        reason = f"licence {licence} has terms of its own, which may forbid commercial use"
    raise InputError(
        f"{what}: the {reason}",
        remedy="take other weights, declare --use research, or read the licence and give --allow-license",
    )
