"""Arrays from files of strangers: what is claimed is checked before memory is taken."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl_runtime.npz import BadArrays, read_npy, read_npz

MIB = 1024 * 1024
A = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
FLAG = np.array([True, False])
SMALL: dict[str, NDArray[np.generic]] = {
    "a": A,
    "columns": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(4, 3)),
    "scalar": np.array(7, np.int32),
    "none": np.zeros((0, 5), np.uint8),
    "flag": FLAG,
}


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy with this header as text."""
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def archive_of(path: Path, entry: bytes, *, name: str = "a.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, entry)
    return path


def header(descr: str, shape: str, order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, save: object) -> None:
    save(tmp_path / "x.npz", **SMALL)  # type: ignore[operator]
    found = read_npz(tmp_path / "x.npz", SMALL, max_bytes=MIB)
    assert list(found) == list(SMALL)
    for name, array in SMALL.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name


@pytest.mark.parametrize(("rows", "count"), [(0, 0), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_the_first_rows_only(tmp_path: Path, rows: int, count: int) -> None:
    np.savez_compressed(tmp_path / "x.npz", **SMALL)  # type: ignore[arg-type]
    found = read_npz(tmp_path / "x.npz", ("a", "columns", "scalar"), max_bytes=MIB, rows=rows)
    np.testing.assert_array_equal(found["a"], A[:count])
    np.testing.assert_array_equal(found["columns"], SMALL["columns"][:count])
    assert found["scalar"] == 7


def test_the_first_rows_take_no_memory_for_the_others(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((64, MIB), np.uint8))
    tracemalloc.start()
    found = read_npz(tmp_path / "x.npz", ("a",), max_bytes=64 * MIB, rows=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["a"].shape == (1, MIB) and peak < 8 * MIB


HUGE = [
    (npy(header("'|u1'", "(10000000000,)")), "claims uint8.* 10000000000 bytes; at most"),
    (npy(header("'<f4'", "(50000, 50000)"), version=(2, 0)), "claims float32.* 10000000000 bytes"),
    (npy(header("'<f8'", f"({2**40}, {2**40})")), "claims float64"),
    (npy(header("'|u1'", "(1000,)"), b"x"), "1000 bytes, and holds 1"),
    (npy(header("'|u1'", "(1,)"), b"xx"), "1 bytes, and holds 2"),
    *(
        (npy(text, b"xxxxxxxx"), "is not described as plain numbers")
        for text in (
            header("'|u1'", "(-1,)"),
            header("'|u1'", "(-1, -1)"),
            header("'|O'", "(1,)"),
            header("'<U9999999'", "(1,)"),
            header("'|V9999999999'", "(1,)"),
            header("[('a', '<f4')]", "(1,)"),
            header("'<f4'", "(1.5,)"),
            header("'<f4'", "'x'"),
            header("'<f4'", "(2)"),
            header("'<f4'", f"({'9' * 300},)"),
            header("'<f3'", "(2,)"),
            "__import__('os').abort()",
            "[" * 3000,
            "",
            "\xff",
        )
    ),
    (npy(header("'|u1'", "(1,)") + " " * 60_000, b"x"), "a header of 600.. bytes, at most 4096"),
    (npy(header("'|u1'", "(1,)") + " " * 9_000_000, b"x", version=(2, 0)), "a header of 90000.. bytes, at most 4096"),
    *((entry, "no array in .npy") for entry in (npy("", version=(9, 9)), b"\x93NUMPY", b"no array", b"")),
]


@pytest.mark.parametrize(("entry", "says"), HUGE)
def test_a_claim_that_does_not_hold(tmp_path: Path, entry: bytes, says: str) -> None:
    tracemalloc.start()
    with pytest.raises(BadArrays, match=says) as caught:
        read_npz(archive_of(tmp_path / "x.npz", entry), ("a",), max_bytes=MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB and "\n" not in str(caught.value) and str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """1 GiB of zeros in 1 MB: the header is honest, and says too much."""
    size = 1024 * MIB
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("a.npy", "w") as out,
    ):
        out.write(npy(header("'|u1'", f"({size},)")))
        for _ in range(64):
            out.write(bytes(16 * MIB))
    assert path.stat().st_size < 2 * MIB
    tracemalloc.start()
    with pytest.raises(BadArrays, match="1073741824 bytes; at most"):
        read_npz(path, ("a",), max_bytes=256 * MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB


def lie_about_size(data: bytearray, claimed: int) -> bytearray:
    """The archive with another uncompressed size in its directory."""
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, claimed)
    return data


def test_a_bomb_behind_a_small_size_in_the_directory(tmp_path: Path) -> None:
    """The entry unpacks to 16 MiB, the directory says 1,000 bytes: no more than that is ever taken."""
    head = npy(header("'|u1'", f"({1000},)"))
    path = archive_of(tmp_path / "x.npz", head + bytes(16 * MIB))
    path.write_bytes(lie_about_size(bytearray(path.read_bytes()), len(head) + 1000))
    tracemalloc.start()
    with pytest.raises(BadArrays, match="CRC"):
        read_npz(path, ("a",), max_bytes=MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB


def test_a_large_size_in_the_directory_with_nothing_behind(tmp_path: Path) -> None:
    head = npy(header("'|u1'", f"({MIB},)"))
    path = archive_of(tmp_path / "x.npz", head + b"x")
    path.write_bytes(lie_about_size(bytearray(path.read_bytes()), len(head) + MIB))
    with pytest.raises(BadArrays):
        read_npz(path, ("a",), max_bytes=MIB)


def test_an_altered_byte_is_noticed(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", a=np.random.default_rng(0).integers(0, 256, 5000, np.uint8))
        data = bytearray((tmp_path / "x.npz").read_bytes())
        data[len(data) // 2] ^= 0xFF
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(BadArrays):
            read_npz(tmp_path / "x.npz", ("a",), max_bytes=MIB)


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, A)
    (tmp_path / "npy").write_bytes(stream.getvalue())
    (tmp_path / "empty").write_bytes(b"")
    np.savez(tmp_path / "x.npz", a=A)
    (tmp_path / "cut").write_bytes((tmp_path / "x.npz").read_bytes()[:-40])
    for name in ("npy", "empty", "cut", "gone", "."):
        with pytest.raises(BadArrays):
            read_npz(tmp_path / name, ("a",), max_bytes=MIB)
    with pytest.raises(BadArrays, match="there is no array 'b'"):
        read_npz(tmp_path / "x.npz", ("a", "b"), max_bytes=MIB)


def test_encrypted_or_strangely_packed_entries(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=A)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    for offset, value in ((8, 1), (10, 99)):  # flags: encrypted; method: none that exists
        changed = bytearray(data)
        struct.pack_into("<H", changed, changed.rindex(b"PK\x01\x02") + offset, value)
        struct.pack_into("<H", changed, offset - 2, value)
        (tmp_path / "y.npz").write_bytes(changed)
        with pytest.raises(BadArrays):
            read_npz(tmp_path / "y.npz", ("a",), max_bytes=MIB)


def test_thousands_of_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for i in range(300):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(BadArrays, match="300 entries, at most 256"):
        read_npz(tmp_path / "x.npz", ("a",), max_bytes=MIB)


LIMITED = """
import resource, sys
from edgetl_runtime.npz import BadArrays, read_npz
import numpy
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 1024 * 1024,) * 2)
try:
    read_npz(sys.argv[1], ("a",), max_bytes=256 * 1024 * 1024)
except BadArrays as error:
    print(error)
"""


def test_10_gb_are_refused_where_there_is_no_memory_for_them(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.npz", npy(header("'<f4'", "(50000, 50000)")))
    assert resource.getrlimit(resource.RLIMIT_AS)[0] in (resource.RLIM_INFINITY, -1)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert "10000000000 bytes; at most 268435456 make sense" in done.stdout, done.stderr


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packed_in_another_way(tmp_path: Path, method: int) -> None:
    """LZMA's dictionary takes as much memory as the file says, and its errors are of their own kind."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("a.npy", b"x" * 100)
    with pytest.raises(BadArrays, match=f"packed by method {method}"):
        read_npz(tmp_path / "x.npz", ("a",), max_bytes=MIB)


def test_a_directory_that_is_larger_than_it_says(tmp_path: Path) -> None:
    """One entry is stated and 40,000 are there: zipfile would make an object for each."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(40_000):
            archive.writestr(f"{i}", b"")
    data = bytearray(path.read_bytes())
    data[-14:-10] = struct.pack("<HH", 1, 1)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(BadArrays, match="a directory of"):
            read_npz(path, ("a",), max_bytes=MIB)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("tail", [b"", b"PK", b"comment"])
def test_a_zip_whose_end_is_not_where_numpy_puts_it(tmp_path: Path, tail: bytes) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data + tail if tail else data[:-3])
    with pytest.raises(BadArrays, match="no zip"):
        read_npz(tmp_path / "x.npz", ("a",), max_bytes=MIB)


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3, 2)), np.array(1.5)])
def test_a_single_array_comes_back(array: NDArray[np.generic]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    np.testing.assert_array_equal(read_npy(buffer.getvalue()), array)
    with pytest.raises(BadArrays, match="holds"):
        read_npy(buffer.getvalue() + b"x")


def test_a_single_array_of_objects_is_refused() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([None]), allow_pickle=True)
    with pytest.raises(BadArrays, match="plain numbers"):
        read_npy(buffer.getvalue())
