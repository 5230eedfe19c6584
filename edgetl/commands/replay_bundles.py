"""The bundles of a replay: which of a recording's names each of them stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl.commands.arguments import plain
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.recording.format import RecordedBundle, RecordingHeader


def bundles_of(
    header: RecordingHeader, given: Sequence[str], *, partial: bool, require_signature: str | None
) -> dict[str, Bundle]:
    """The opened bundles by their recorded names. given: NAME=BUNDLE or BUNDLE each.

    A bundle without a name is the one with the same manifest, else the one with its manifest's name; where the
    recording has one bundle only, any will do. Raises InputError for names that are not there, and where a bundle of
    the recording is missing, unless `partial`.
    """
    from edgetl_runtime.bundle import open_bundle

    found: dict[str, Bundle] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not (sign and name in header.bundles):  # a path may hold the sign too
            name, path = "", text
        bundle = open_bundle(path, require_signature=require_signature)
        name = name or _name_of(bundle, path, header.bundles)
        if name in found:
            raise InputError(f"two bundles are given for {plain(name)}", remedy=f"like {_example(header.bundles)}")
        found[name] = bundle
    missing = [name for name in header.bundles if name not in found]
    if missing and not partial:
        raise InputError(
            f"the recording has results of {_listed(header.bundles)}, and no bundle was given for {_listed(missing)}",
            remedy=f"add {plain(missing[0])}=BUNDLE, or --partial to replay without",
        )
    return found


def _name_of(bundle: Bundle, path: str, recorded: Mapping[str, RecordedBundle]) -> str:
    from edgetl_runtime.recording.header import manifest_sha256

    sha256 = manifest_sha256(bundle)
    same = [name for name, run in recorded.items() if run.manifest_sha256 == sha256]
    named = [name for name, run in recorded.items() if bundle.manifest.name in (name, run.bundle)]
    for names in (same, named, list(recorded)):
        if len(names) == 1:
            return names[0]
    raise InputError(
        f"the recording has the bundles {_listed(recorded)}, and {path} may be any of them",
        remedy=f"name it, like {_example(recorded)}",
    )


def _listed(names: Iterable[str]) -> str:
    return plain(", ".join(names))


def _example(names: Iterable[str]) -> str:
    return plain(" ".join(f"{name}=BUNDLE" for name in names))
