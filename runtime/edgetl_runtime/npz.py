"""Arrays from an .npz that may come from anyone: every size is checked before memory is taken for it, no pickle."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MAX_ENTRIES = 256
_MAX_HEADER = 4096
_HEADER = re.compile(
    r"\{'descr': '([<>|](?:b1|[iu][1248]|f[248]))', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,16},)?|\d{1,16}(?:, \d{1,16})+)\), \}\s*"
)
_CHUNK_BYTES = 1024 * 1024
_END = struct.Struct("<4s4H2LH")
_LOCATOR_BYTES = 20
_MAX_ENTRY_BYTES = 512
_MALFORMED = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


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
        with Path(path).open("rb") as stream:
            _check_directory(stream)
            with zipfile.ZipFile(stream) as archive:
                return {name: _read_one(archive, name, max_bytes, rows) for name in names}
    except BadArrays:
        raise
    except _MALFORMED as error:
        lines = str(error).splitlines()
        raise BadArrays(lines[0][:160] if lines else type(error).__name__) from error


def read_npy(data: bytes) -> NDArray[np.generic]:
    """The array that a .npy file of plain numbers holds. Raises BadArrays for anything else."""
    stream = io.BytesIO(data)
    shape, by_columns, dtype = _header(stream, "it")
    held = data[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(held):
        raise BadArrays(f"it claims {dtype}{list(shape)} and holds {len(held)} bytes")
    return np.frombuffer(held, dtype).reshape(shape, order="F" if by_columns else "C")


def _check_directory(stream: IO[bytes]) -> None:
    """Refuse a zip whose directory is larger than makes sense, before zipfile makes an object for each entry of it.

    Its end stands in the last 22 bytes where there is no comment, and numpy writes none; APPNOTE.TXT, 4.3.16.
    """
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(max(size - _END.size - _LOCATOR_BYTES, 0))
    tail = stream.read()
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\x05\x06":
        raise BadArrays("it is no zip, or not a whole one")
    _, _, _, _, entries, directory, _, comment = _END.unpack(tail[-_END.size :])
    if comment or tail[:4] == b"PK\x06\x07":
        raise BadArrays("it is no zip as numpy writes it")
    if entries > MAX_ENTRIES:
        raise BadArrays(f"{entries} entries, at most {MAX_ENTRIES} make sense")
    if directory > MAX_ENTRIES * _MAX_ENTRY_BYTES:
        raise BadArrays(f"a directory of {directory} bytes, at most {MAX_ENTRIES * _MAX_ENTRY_BYTES} make sense")


def _read_one(archive: zipfile.ZipFile, name: str, max_bytes: int, rows: int | None) -> NDArray[np.generic]:
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BadArrays(f"there is no array {name!r}") from None
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArrays(f"{name} is packed by method {entry.compress_type}, expected deflate or none")
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
