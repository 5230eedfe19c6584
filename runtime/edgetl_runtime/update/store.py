"""A store: two slots, each a whole verified bundle, a keyring, and a pointer to the slot that runs.

    STORE/keyring            whose bundles are taken
    STORE/pointer.json       which slot runs; the only thing that says so
    STORE/slot-0123456789abcdef    a bundle's folder, called by the hash of its manifest and signature
    STORE/incoming           a bundle while it is copied

Every change is one rename after everything under it has been synced, so that a power cut leaves the state before it or
the state after it. What it leaves over is removed at the next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgetl_runtime.bundle import MANIFEST_NAME, MAX_MANIFEST_BYTES, open_bundle, read_manifest
from edgetl_runtime.errors import BundleError, EdgetlError, InputError
from edgetl_runtime.signature import SIGNATURE_NAME, public_key_of, read_signature
from edgetl_runtime.update.disk import Disk
from edgetl_runtime.update.holding import hold
from edgetl_runtime.update.keyring import Keyring, check_next, read_keyring
from edgetl_runtime.update.pointer import (
    KEPT_FAILURES,
    POINTER_NAME,
    Failure,
    Pointer,
    Trial,
    Version,
    read_pointer,
    version_of,
    write_pointer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.update.holding import Held

KEYRING_NAME = "keyring"
INCOMING = "incoming"
_UPDATE_LOCK, _POINTER_LOCK = ".update.lock", ".pointer.lock"
_LOCK_S = 10.0


@dataclass(frozen=True, slots=True)
class Start:
    """What `Store.start` gives a run: the slot's bundle, its pointer as it now is, and what a person should know.

    held: of a slot on probation, for as long as the run lives: this run is the one that counts. None where there is no
    probation, or where another run of the slot is under way, which is then the one that counts.
    """

    bundle: Bundle
    pointer: Pointer
    notes: tuple[str, ...] = ()
    held: Held | None = None


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether this folder is a store, rather than a bundle."""
    try:
        return (Path(path) / POINTER_NAME).is_file() or (Path(path) / KEYRING_NAME).is_file()
    except OSError:  # whoever opens it as a bundle says what is wrong with it
        return False


class Store:
    """The store in `folder`. Any process may use it: what changes pointer or keyring holds a lock meanwhile."""

    def __init__(self, folder: str | os.PathLike[str], disk: Disk | None = None) -> None:
        self.folder, self.disk = Path(folder), disk or Disk()

    def slot(self, name: str) -> Path:
        """A slot's folder."""
        return self.folder / name

    def pointer(self) -> Pointer | None:
        """What runs; None in an empty store. Raises InputError."""
        return read_pointer(self.folder)

    def keyring(self) -> Keyring:
        """Whose bundles are taken. Raises InputError without one, or for one that can't be read."""
        if not (self.folder / KEYRING_NAME).exists():
            raise InputError(f"{self.folder} is no store", remedy="make one with `edgetl update … --keys KEYRING`")
        return read_keyring(self.folder / KEYRING_NAME)

    def accept(self, ring: Keyring) -> None:
        """Take a keyring: any in a new store, its successor otherwise. Raises InputError, see `check_next`."""
        path = self.folder / KEYRING_NAME
        if not path.exists():
            self.disk.make_folders(self.folder)
        with self.changing():
            if path.exists():
                check_next(self.keyring(), ring)
            self.disk.replace(path, ring.data)

    def open_slot(self, name: str, *, revoked: bool = False) -> Bundle:
        """A slot's bundle, its signature and every hash checked. revoked: a revoked key will do.

        Raises BundleError for one that is not whole, InputError for one whose signer was revoked.
        """
        ring, folder = self.keyring(), self.slot(name)
        signature = read_signature(folder) if folder.is_dir() else None
        trusted = ring.trusted
        if signature is not None and signature.key_id in ring.revoked:
            if not revoked:
                raise InputError(
                    f"the slot {name} is signed by the key {signature.key_id}, which was revoked",
                    remedy="update to a bundle by another key, go back with --rollback, or run it with --run-revoked",
                )
            trusted = (public_key_of(folder, signature),)
        return open_bundle(folder, require_signature=trusted)

    def start(self, *, run_revoked: bool = False) -> Start:
        """The slot to run now. A slot on probation is counted as started, or taken back where it failed; so is one that
        is no longer whole, where there is another. Beside another run of the slot nothing is counted: how that one ends
        is not known yet. Leftovers are removed.

        Raises InputError for a store that holds nothing, for a slot whose key was revoked, or where probation can't be
        counted, BundleError where no slot is whole.
        """
        pointer = self._pointer_there()
        if pointer.trial is None and not os.access(self.folder, os.W_OK):
            return Start(self.open_slot(pointer.current, revoked=run_revoked), pointer)
        with self.changing():
            pointer = self._pointer_there()
            held = hold(self.slot(pointer.current)) if pointer.trial is not None else None
            try:
                start = self._started(pointer, held, revoked=run_revoked)
            except BaseException:
                if held is not None:
                    held.release()
                raise
        self._clean_unless_updating()
        return start

    def _started(self, pointer: Pointer, held: Held | None, *, revoked: bool) -> Start:
        notes: list[str] = []
        if held is not None and pointer.trial is not None and (why := pointer.trial.failed_because):
            pointer = self._back_by_itself(pointer, why, notes, revoked=revoked)
        try:
            bundle = self.open_slot(pointer.current, revoked=revoked)
        except BundleError as error:
            if pointer.previous is None:
                raise
            pointer = self._back_by_itself(pointer, error.message, notes, revoked=revoked)
            bundle = self.open_slot(pointer.current, revoked=revoked)
        if held is None:
            return Start(bundle, pointer, tuple(notes))
        if pointer.trial is None:
            held.release()
            return Start(bundle, pointer, tuple(notes))
        trial = msgspec.structs.replace(pointer.trial, starts=pointer.trial.starts + 1)
        pointer = msgspec.structs.replace(pointer, trial=trial)
        write_pointer(self.folder, pointer, self.disk)
        return Start(bundle, pointer, tuple(notes), held)

    def judge(self, slot: str, trial: Trial) -> Pointer | None:
        """Write down how the slot's probation stands: committed once it ran well for long enough. Returns the pointer
        then; None where the slot is no longer on probation."""
        with self.changing():
            pointer = self._pointer_there()
            if pointer.current != slot or pointer.trial is None:
                return None
            done = trial.healthy_s >= trial.probation_s
            newest = self._newest(pointer) if done else pointer.newest
            pointer = msgspec.structs.replace(pointer, trial=None if done else trial, newest=newest)
            write_pointer(self.folder, pointer, self.disk)
            return pointer

    def commit(self) -> Pointer:
        """End a probation well, now. Raises InputError for an empty store."""
        with self.changing():
            pointer = self._pointer_there()
            if pointer.trial is not None:
                pointer = msgspec.structs.replace(pointer, trial=None, newest=self._newest(pointer))
                write_pointer(self.folder, pointer, self.disk)
            return pointer

    def roll_back(self, why: str, *, only: str | None = None) -> Pointer | None:
        """Go back to the slot before. only: where this one still runs; None is returned otherwise.

        Raises InputError where there is none to go back to, BundleError where it is not whole.
        """
        with self.changing():
            pointer = self._pointer_there()
            if only is not None and pointer.current != only:
                return None
            if pointer.previous is None:
                raise InputError(f"{self.folder} has no slot to go back to", remedy="update to another bundle")
            return self._taken_back(pointer, why, [], revoked=only is None)

    def switch(self, slot: str, *, before: Pointer | None, trial: Trial) -> Pointer:
        """Let the slot run from the next start on: on probation where there is one to go back to.

        before: the pointer that the slot was checked against. Raises InputError where it changed meanwhile.
        """
        with self.changing():
            pointer = self.pointer()
            if pointer != before:
                raise InputError(f"another slot became current in {self.folder} meanwhile", remedy="update again")
            version = version_of(self.open_slot(slot).manifest)
            if pointer is None:
                after = Pointer(current=slot, newest=version)
            else:
                after = msgspec.structs.replace(pointer, current=slot, previous=pointer.current, trial=trial)
            write_pointer(self.folder, after, self.disk)
            return after

    def free(self, pointer: Pointer) -> Pointer:
        """Give up the slot before the current one, so that its place can be taken."""
        with self.changing():
            if self.pointer() != pointer:
                raise InputError(f"another slot became current in {self.folder} meanwhile", remedy="update again")
            pointer = msgspec.structs.replace(pointer, previous=None)
            write_pointer(self.folder, pointer, self.disk)
        self.clean()
        return pointer

    def place(self, bundle: Bundle) -> str:
        """Copy a checked bundle to its slot and check the copy as a whole. Returns the slot's name.

        Raises InputError without room on the disk, BundleError where the copy is not what was checked.
        """
        name = slot_name(bundle.path)
        incoming, slot = self.folder / INCOMING, self.slot(name)
        self._check_room(bundle)
        try:
            for path in (incoming, slot):
                self.disk.remove(path)
            self._copy(bundle, incoming)
            open_bundle(incoming, require_signature=self.keyring().trusted)
            if slot_name(incoming) != name:
                raise BundleError(f"the bundle {bundle.path} changed while it was copied", remedy="update again")
            self.disk.share_folder(incoming)
            self.disk.rename(incoming, slot)
            self.disk.sync_folder(self.folder)
        except OSError as error:
            raise InputError(
                f"{bundle.path} can't be copied to {self.folder}: {error.strerror}", remedy="check space, owner, links"
            ) from error
        return name

    def clean(self) -> None:
        """Remove slots that the pointer doesn't name and what was left half-way. Nothing else is touched. No update but
        the caller's own may be under way."""
        with self.changing():  # what another process is about to put in place is not left over
            pointer = self.pointer()
            named = pointer.slots if pointer is not None else frozenset()
            for item in sorted(self.folder.iterdir()):
                slot = item.name.startswith("slot-") and item.name.removesuffix(".engines") not in named
                if slot or item.name == INCOMING or (item.name.startswith(".") and item.name.endswith(".new")):
                    self.disk.remove(item)

    @contextmanager
    def updating(self) -> Iterator[None]:
        """One update at a time. Raises InputError where another is under way."""
        with self._locked(_UPDATE_LOCK, wait_s=0.0, busy="another update is under way"):
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Pointer and keyring are this process's to change. Raises InputError where another takes too long."""
        with self._locked(_POINTER_LOCK, wait_s=_LOCK_S, busy="another process holds its pointer"):
            yield

    @contextmanager
    def _locked(self, name: str, *, wait_s: float, busy: str) -> Iterator[None]:
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(
                f"{self.folder} can't be written by this user: {error.strerror}",
                remedy="a store belongs to the user that the service runs as",
            ) from error
        try:
            until_s = time.monotonic() + wait_s
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until_s:
                        raise InputError(f"{self.folder}: {busy}", remedy="try again later") from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    def _pointer_there(self) -> Pointer:
        pointer = self.pointer()
        if pointer is None:
            raise InputError(f"{self.folder} holds no bundle yet", remedy="update it first: `edgetl update BUNDLE`")
        return pointer

    def _newest(self, pointer: Pointer) -> Version:
        version = version_of(read_manifest(self.slot(pointer.current)))  # checked when it was started
        return version if version.newer_than(pointer.newest) else pointer.newest

    def _back_by_itself(self, pointer: Pointer, why: str, notes: list[str], *, revoked: bool) -> Pointer:
        """The slot before runs again, where that may run: a slot that failed is better than one that is refused."""
        try:
            return self._taken_back(pointer, why, notes, revoked=revoked)
        except EdgetlError as error:
            notes.append(f"{pointer.current} failed ({why}), and the slot before can't run: {error.message}")
            return pointer

    def _taken_back(self, pointer: Pointer, why: str, notes: list[str], *, revoked: bool) -> Pointer:
        """The slot before runs again; it is opened first, revoked: even where its key was revoked. Without one the slot
        stays, and says so.
        """
        if pointer.previous is None:
            notes.append(f"{pointer.current} failed ({why}), and there is no slot to go back to")
            return pointer
        self.open_slot(pointer.previous, revoked=revoked)
        failure = Failure(slot=pointer.current, at=_now(), why=" ".join(why.split())[:500])
        notes.append(f"went back from {pointer.current} to {pointer.previous}: {why}")
        pointer = Pointer(
            current=pointer.previous,
            newest=pointer.newest,
            failures=(*pointer.failures, failure)[-KEPT_FAILURES:],
        )
        write_pointer(self.folder, pointer, self.disk)
        return pointer

    def _clean_unless_updating(self) -> None:
        with suppress(InputError, OSError), self.updating():
            self.clean()

    def _copy(self, bundle: Bundle, incoming: Path) -> None:
        self.disk.make_folder(incoming, private=True)  # until it is known to hold nothing but the bundle
        folders = {incoming}
        for name in sorted((*bundle.manifest.files, SIGNATURE_NAME, MANIFEST_NAME)):
            for parent in reversed(Path(name).parents[:-1]):
                if incoming / parent not in folders:
                    self.disk.make_folder(incoming / parent)
                    folders.add(incoming / parent)
            listed = bundle.manifest.files.get(name)
            most = MAX_MANIFEST_BYTES if listed is None else listed.bytes
            self.disk.copy(bundle.path / name, incoming / name, most=most)
        for folder in sorted(folders, reverse=True):
            self.disk.sync_folder(folder)

    def _check_room(self, bundle: Bundle) -> None:
        found = os.statvfs(self.folder)
        free, needed = found.f_bavail * found.f_frsize, sum(e.bytes for e in bundle.manifest.files.values())
        if free < needed * 1.05 + 1e6:
            raise InputError(
                f"{self.folder} has {free / 1e6:.0f} MB free, the bundle needs {needed / 1e6:.0f} MB",
                remedy="make room; the slot that runs is not touched",
            )


def slot_name(bundle: Path) -> str:
    """What a bundle's slot is called: by its manifest, which holds the hash of every file, and by who signed it."""
    digest = hashlib.sha256()
    for name in (MANIFEST_NAME, SIGNATURE_NAME):
        digest.update(hashlib.sha256((bundle / name).read_bytes()).digest())
    return f"slot-{digest.hexdigest()[:16]}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
