"""Which slot runs, which one was before it, and whether the new one is still on probation: one small file."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from edgetl_runtime.spec import Manifest
    from edgetl_runtime.update.disk import Disk

POINTER_NAME = "pointer.json"
KEPT_FAILURES = 16
SlotName = Annotated[str, msgspec.Meta(pattern="^slot-[0-9a-f]{16}$")]
_MAX_BYTES = 65536
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, unknown keys refused."""


class Version(_Part, frozen=True, kw_only=True):
    """A bundle's place in time: its manifest's release and, where that is the same, when it was made."""

    release: _Count = 0
    created: str = ""

    def newer_than(self, other: Version) -> bool:
        """Whether this comes after the other."""
        if self.release != other.release:
            return self.release > other.release
        mine, theirs = _moment(self.created), _moment(other.created)
        return mine is not None and theirs is not None and mine > theirs

    def __str__(self) -> str:
        """For people."""
        return f"release {self.release} of {self.created}"


def version_of(manifest: Manifest) -> Version:
    """A bundle's."""
    return Version(release=manifest.release, created=manifest.provenance.created)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


class Trial(_Part, frozen=True, kw_only=True):
    """A slot on probation. It is committed once it ran healthily for probation_s, over several starts where need be.

    starts: those that did not end cleanly, the one that runs included; with max_starts of them the next one goes back.
    within_s: nor may it run longer than this without getting there. fault: what is wrong while it is wrong, and why a
    start that ends like that goes back. max_faults: so many in one run take it back at once.
    """

    starts: _Count = 0
    healthy_s: _Seconds = 0.0
    running_s: _Seconds = 0.0
    fault: str = ""
    probation_s: _Seconds = 300.0
    within_s: _Seconds = 1800.0
    max_starts: Annotated[int, msgspec.Meta(ge=1)] = 3
    max_faults: Annotated[int, msgspec.Meta(ge=1)] = 3

    @property
    def failed_because(self) -> str:
        """Why the next start goes back; empty where it may try."""
        if self.fault:
            return f"it ended with a fault: {self.fault}"
        if self.starts >= self.max_starts:
            return f"it was started {self.starts} times without {self.probation_s:g} s of healthy results"
        if self.running_s >= self.within_s:
            return f"it ran for {self.running_s:.0f} s without {self.probation_s:g} s of healthy results"
        return ""


class Failure(_Part, frozen=True, kw_only=True):
    """A slot that was taken back, when, and why."""

    slot: SlotName
    at: str
    why: str


class Pointer(_Part, frozen=True, kw_only=True):
    """previous: the whole slot to go back to, None where there is none. newest: of all that were committed; nothing
    older is taken. failures: the last ones, oldest first.
    """

    format: Literal[1] = 1
    current: SlotName
    previous: SlotName | None = None
    newest: Version
    trial: Trial | None = None
    failures: tuple[Failure, ...] = ()

    @property
    def state(self) -> str:
        """`trial` or `committed`."""
        return "committed" if self.trial is None else "trial"

    @property
    def slots(self) -> frozenset[str]:
        """Those that it names."""
        return frozenset(name for name in (self.current, self.previous) if name)


def read_pointer(folder: Path) -> Pointer | None:
    """The pointer of a store, None in an empty one. Raises InputError for one that can't be read."""
    path = folder / POINTER_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
        return msgspec.json.decode(data, type=Pointer)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}", remedy="check its permissions") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged: {error}",
            remedy=f"remove it and update again; the slots in {folder} are kept until then",
        ) from error


def write_pointer(folder: Path, pointer: Pointer, disk: Disk) -> None:
    """Put it in place of the one before, in one step that a power cut can't divide."""
    text = json.dumps(msgspec.to_builtins(pointer), indent=2)
    disk.replace(folder / POINTER_NAME, (text + "\n").encode())
