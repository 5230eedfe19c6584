"""The Python packages that had a hand in a bundle, each with its licence as its own metadata states it."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SPDX = {
    "apache software license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "mit license": "MIT",
    "mit": "MIT",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "freebsd": "BSD-2-Clause",
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "cc0-1.0": "CC0-1.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
}
"""What packages and publishers write, in lower case, to the SPDX identifier where it is beyond doubt: `BSD` is not."""
_EXPRESSION = re.compile(r"[A-Za-z0-9.+()-]+( (AND|OR|WITH) [A-Za-z0-9.+()-]+)+")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?[^;]*(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_NOTHING = {"", "unknown", "none", "other", "not stated"}
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Package:
    """A Python package. licences: SPDX identifiers, one SPDX expression, or its own words; empty: not stated."""

    name: str
    version: str
    licences: tuple[str, ...]


def packages_of(roots: Mapping[str, str]) -> list[Package]:
    """These packages (name to version) and all that they need and is installed, by name."""
    found: dict[str, Package] = {normalised(n): Package(normalised(n), v, ()) for n, v in roots.items()}
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in found]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = Package(name, distribution.version, licences_of(distribution.metadata))
        for step in _needed(distribution.requires or (), extras):
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return sorted(found.values(), key=lambda p: p.name)


def _needed(requires: Iterable[str], extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """Name and extras of every requirement, of an extra's only where it was asked for.

    Markers of system or version are not weighed: what is not for this machine is not installed on it.
    """
    steps = []
    for line in requires:
        match = _REQUIREMENT.fullmatch(line)
        if match is None:
            continue
        of_extras = set(_EXTRA.findall(match[3] or ""))
        if of_extras and not of_extras & extras:
            continue
        wanted = frozenset(e.strip() for e in (match[2] or "").split(",") if e.strip())
        steps.append((normalised(match[1]), wanted))
    return steps


def normalised(name: str) -> str:
    """A package's name as the index has it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licences_of(metadata: importlib.metadata.PackageMetadata) -> tuple[str, ...]:
    """What a package says of its licence: its SPDX expression, else its classifiers, else one line of its own."""
    expression = metadata["License-Expression"]
    if expression:
        return (str(expression).strip(),)
    classifiers = [str(c) for c in metadata.get_all("Classifier") or []]
    named = [c.split(" :: ")[-1].strip() for c in classifiers if c.startswith("License ::")]
    exact = [SPDX[n.lower()] for n in named if n.lower() in SPDX]
    own = one_licence(str(metadata["License"] or ""))
    if exact and len(exact) == len(named):
        return tuple(sorted(set(exact)))
    return own or tuple(sorted({n for n in named if n.lower() not in _NOTHING}))


def one_licence(text: str) -> tuple[str, ...]:
    """A licence's name as SPDX where it is known by that, else in its own words; empty where there is none."""
    line = text.strip().splitlines()[0].strip() if text.strip() else ""
    if line.lower() in _NOTHING or len(line) > _LONGEST or line.lower().startswith("copyright"):
        return ()
    return (SPDX.get(line.lower(), line),)


def is_spdx(licence: str) -> bool:
    """Whether it is one of the identifiers in SPDX."""
    return licence in SPDX.values()


def is_expression(licence: str) -> bool:
    """Whether it reads as an SPDX expression of several."""
    return _EXPRESSION.fullmatch(licence) is not None
