"""Signed releases of the tiny bundle, and a disk whose power fails."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from runtime_support import write_test_bundle

from edgetl_runtime.bundle import read_manifest, sign_bundle, write_manifest
from edgetl_runtime.keys import PrivateKey, read_private_key, read_public_keys, write_key_pair
from edgetl_runtime.update.disk import Disk
from edgetl_runtime.update.installing import Wanted
from edgetl_runtime.update.keyring import read_keyring
from edgetl_runtime.update.store import Start, Store


def quiet(text: str) -> None:
    """Says nothing."""


@dataclass
class Fleet:
    """A folder with keys (root, mine, other) and releases of a bundle that `mine` signed."""

    folder: Path
    made: dict[int, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("root", "mine", "other"):
            if not (self.folder / f"{name}.key").exists():
                write_key_pair(self.folder / name)
        if not (self.folder / "plain").exists():
            write_test_bundle(self.folder / "plain")

    def key(self, name: str) -> PrivateKey:
        """A private key."""
        return read_private_key(self.folder / f"{name}.key")

    def public(self, name: str) -> tuple[bytes, ...]:
        """A public key, raw."""
        return read_public_keys(self.folder / f"{name}.pub")

    def release(self, number: int) -> Path:
        """A signed bundle with this number; made once."""
        if number not in self.made:
            self.made[number] = self.bundle(f"release {number}", release=number)
        return self.made[number]

    def bundle(self, name: str, *, signer: str = "mine", **changes: object) -> Path:
        """A new signed bundle with a changed manifest."""
        target = self.folder / name
        shutil.copytree(self.folder / "plain", target)
        import msgspec

        write_manifest(target, msgspec.structs.replace(read_manifest(target), **changes))
        sign_bundle(target, self.key(signer))
        return target

    def store(self, name: str, disk: Disk | None = None) -> Store:
        """A new store that trusts `mine`."""
        store = Store(self.folder / name, disk)
        store.accept(read_keyring(self.folder / "mine.pub"))
        return store


SKIP = Wanted(threads=1)
"""An update without a shadow run."""


def killed_start(store: Store) -> Start:
    """A start whose run is gone at once, without an end."""
    start = store.start()
    if start.held is not None:
        start.held.release()
    return start


class PowerCut(BaseException):
    """The power is gone; nobody handles that."""


@dataclass
class _Renamed:
    source: Path
    target: Path
    before: bytes | None


def _moved(path: Path, source: Path, target: Path) -> Path:
    """Where a path is after its folder, or itself, was renamed."""
    return target / path.relative_to(source) if path == source or source in path.parents else path


class Lossy(Disk):
    """A disk that loses what was not synced when its power is cut before step number `cut`.

    A file that was not synced is cut in half. keeps: renames and new names whose folder was not synced are there after
    the cut; otherwise they are undone. steps: those that were told, in order.
    """

    def __init__(self, cut: int | None = None, *, keeps: bool = True) -> None:
        super().__init__(self.step)
        self.cut, self.keeps = cut, keeps
        self.steps: list[str] = []
        self.dead = False
        self._unsynced: set[Path] = set()
        self._names: list[_Renamed | Path] = []

    def step(self, name: str) -> None:
        """One point where power may go."""
        if self.dead:
            raise PowerCut
        if self.cut is not None and len(self.steps) == self.cut:
            self._lose()
            raise PowerCut(name)
        self.steps.append(name)

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        """Remember that its name is not synced."""
        super().make_folder(path, private=private)
        self._names.append(path)

    def write(self, path: Path, data: bytes) -> None:
        """Remember that it is new until it is synced."""
        self._begin(path)
        super().write(path, data)

    def copy(self, source: Path, target: Path, *, most: int) -> None:
        """Remember that it is new until it is synced."""
        self._begin(target)
        super().copy(source, target, most=most)

    def rename(self, source: Path, target: Path) -> None:
        """Remember what was there before."""
        before = target.read_bytes() if target.is_file() else None
        super().rename(source, target)
        self._unsynced = {_moved(path, source, target) for path in self._unsynced}
        self._names.append(_Renamed(source, target, before))

    def sync(self, descriptor: int, path: Path) -> None:
        """What it holds is safe; of a folder, the names in it."""
        super().sync(descriptor, path)
        self._unsynced.discard(path)
        if path.is_dir():
            self._names = [n for n in self._names if (n.target if isinstance(n, _Renamed) else n).parent != path]

    def _begin(self, path: Path) -> None:
        if not path.exists():
            self._names.append(path)
        self._unsynced.add(path)

    def _lose(self) -> None:
        self.dead = True
        for path in self._unsynced:
            if path.is_file():
                data = path.read_bytes()
                path.write_bytes(data[: len(data) // 2])
        if self.keeps:
            return
        for name in reversed(self._names):
            if isinstance(name, _Renamed):
                if name.target.exists():
                    name.target.rename(name.source)
                if name.before is not None:
                    name.target.write_bytes(name.before)
            elif name.is_dir():
                shutil.rmtree(name)
            else:
                name.unlink(missing_ok=True)
