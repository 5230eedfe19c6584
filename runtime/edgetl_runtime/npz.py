"""Arrays from an .npz that may come from anyone: every size is checked before memory is taken for it, no pickle."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

MAX_ENTRIES = 256
_MAX_HEADER = 4096
_HEADER = re.compile(
    r"\{'descr': '([<>|](?:b1|[iu][1248]|f[248]))', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,16},)?|\d{1,16}(?:, \d{1,16})+)\), \}\s*"
)
_CHUNK_BYTES = 1024 * 1024


class BadArrays(ValueError):
    """What is wrong with the file, in one line without its name."""


def read_npz(
    path: str | os.PathLike[str], names: Iterable[str], *, max_bytes: int, rows: int | None = None
) -> dict[str, NDArray[np.generic]]:
    """The arrays called `names`; with `rows` only that many of the first along axis 0, and no more is unpacked.

    max_bytes: the most that one array may take. Raises BadArrays for a file that can't be read, lacks one of the
    names, claims more than that or another size than it holds, or holds anything but plain numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise BadArrays(f"{len(archive.infolist())} entries, at most {MAX_ENTRIES} make sense")
            return {name: _read_one(archive, name, max_bytes, rows) for name in names}
    except BadArrays:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error) as error:
        lines = str(error).splitlines()
        raise BadArrays(lines[0][:160] if lines else type(error).__name__) from error


def _read_one(archive: zipfile.ZipFile, name: str, max_bytes: int, rows: int | None) -> NDArray[np.generic]:
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BadArrays(f"there is no array {name!r}") from None
    with archive.open(entry) as stream:
        shape, by_columns, dtype = _header(stream, name)
        held = entry.file_size - stream.tell()
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > max_bytes:
            raise BadArrays(
                f"{name} claims {dtype}{list(shape)}, which is {claimed} bytes; at most {max_bytes} make sense"
            )
        if claimed != held:
            raise BadArrays(f"{name} claims {dtype}{list(shape)}, which is {claimed} bytes, and holds {held}")
        if rows is not None and shape and not by_columns:
            shape = (min(shape[0], rows), *shape[1:])
        array = np.empty(math.prod(shape), dtype)
        _fill(stream, array.view(np.uint8).data, name)
    shaped = array.reshape(shape, order="F" if by_columns else "C")
    return shaped if rows is None or not shape else shaped[:rows]


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether columns come first, dtype: exactly the text that numpy writes for plain numbers.

    numpy's own reader parses Python literals there, which takes time and memory that the text's author chooses.
    """
    begin = stream.read(8)
    if begin[:6] != b"\x93NUMPY" or begin[6:] not in (b"\x01\x00", b"\x02\x00"):
        raise BadArrays(f"{name} is no array in .npy format 1.0 or 2.0")
    size = int.from_bytes(stream.read(2 if begin[6] == 1 else 4), "little")
    if size > _MAX_HEADER:
        raise BadArrays(f"{name} has a header of {size} bytes, at most {_MAX_HEADER} make sense")
    text = stream.read(size).decode("ascii", "replace")
    match = _HEADER.fullmatch(text)
    if match is None:
        raise BadArrays(f"{name} is not described as plain numbers: {text[:80].strip()!r}")
    shape = tuple(int(n) for n in match[3].split(",") if n.strip())
    return shape, match[2] == "True", np.dtype(match[1])


def _fill(stream: IO[bytes], target: memoryview, name: str) -> None:
    """Read exactly as many bytes as `target` has room for. zipfile checks the CRC where the end is reached."""
    done = 0
    while done < len(target):
        chunk = stream.read(min(_CHUNK_BYTES, len(target) - done))
        if not chunk:
            raise BadArrays(f"{name} ends after {done} of {len(target)} bytes")
        target[done : done + len(chunk)] = chunk
        done += len(chunk)
