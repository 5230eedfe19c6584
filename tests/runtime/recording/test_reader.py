"""Reading what is cut off, damaged or made to harm: never a crash, never more memory than makes sense."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zstandard
from mcap.writer import CompressionType, Writer
from recording_support import frame_of, header, noise, read_all, result
from runtime_support import HEADS

from edgetl_runtime.errors import InputError
from edgetl_runtime.recording import recorder as recorder_module
from edgetl_runtime.recording.format import HEADER, MAX_RECORD_BYTES, RESULT_TOPIC
from edgetl_runtime.recording.mcap import MAGIC
from edgetl_runtime.recording.reader import Recording
from edgetl_runtime.recording.records import RecordReader
from edgetl_runtime.recording.results import encode_result
from edgetl_runtime.recording.sink import RecordSink

CHUNK = 0x06


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording of 12 results in several chunks."""
    path = tmp_path_factory.mktemp("recording") / "d.mcap"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder_module, "FLUSH_S", 0)
        sink = RecordSink(path, header())
        for i in range(12):
            of = result(i, size_hw=(18, 32))
            sink.write(of, frame_of(of), None)
        sink.close()
    return path.read_bytes()


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def texts(*values: str) -> bytes:
    return b"".join(struct.pack("<I", len(v.encode())) + v.encode() for v in values)


def metadata(values: dict[str, str], name: str = HEADER) -> bytes:
    inner = b"".join(texts(k, v) for k, v in values.items())
    return record(0x0C, texts(name) + struct.pack("<I", len(inner)) + inner)


def chunk(packing: str, packed: bytes, size: int, crc: int = 0) -> bytes:
    head = struct.pack("<QQQI", 0, 0, size, crc) + texts(packing)
    return record(CHUNK, head + struct.pack("<Q", len(packed)) + packed)


def file(tmp_path: Path, *records: bytes, texts: dict[str, str] | None = None) -> Path:
    path = tmp_path / "made.mcap"
    head = metadata(header().as_texts() if texts is None else texts)
    path.write_bytes(MAGIC + record(1, bytes(8)) + head + b"".join(records) + record(2, bytes(20)) + MAGIC)
    return path


def readable(path: Path) -> tuple[int, list[str]] | None:
    """How many results there are and what is said of the file, or None where it is refused."""
    try:
        found, recording = read_all(path)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return None
    for each in found:
        if each.frame is not None:  # else the description of the pictures' channel is damaged
            np.testing.assert_array_equal(each.frame.image, noise((18, 32), each.result.frame_id))
    missing = sum(each.frame is None for each in found)
    return len(found), recording.notes + [f"{missing} frames are missing"] * bool(missing)


def test_a_file_cut_anywhere_reads_up_to_there(recorded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.mcap"
    rng = np.random.default_rng(0)
    counts = []
    for length in sorted({0, 1, 7, 8, 9, len(recorded), *rng.integers(0, len(recorded), 150).tolist()}):
        path.write_bytes(recorded[:length])
        got = readable(path)
        if got is not None:
            counts.append(got[0])
            data_is_whole = length == len(recorded)
            assert any("was not finished" in n for n in got[1]) is not data_is_whole or got[0] == 12
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 12
    assert len(set(counts)) > 4, "the cuts must fall between different chunks"


def test_bytes_changed_anywhere_never_crash_the_reader(recorded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.mcap"
    rng = np.random.default_rng(1)
    noticed = 0
    for _ in range(400):
        data = bytearray(recorded)
        for at in rng.integers(0, len(data), rng.integers(1, 4)).tolist():
            data[at] = int(rng.integers(0, 256))
        path.write_bytes(data)
        got = readable(path)
        noticed += got is None or bool(got[1])
    assert noticed > 200


def test_rubbish_after_the_magic_never_crashes_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "rubbish.mcap"
    rng = np.random.default_rng(2)
    for _ in range(300):
        body = rng.integers(0, 256, rng.integers(0, 200), np.uint8).tobytes()
        inner = b"".join(record(int(rng.integers(0, 16)), body[i : i + 30]) for i in range(0, len(body), 30))
        path.write_bytes(MAGIC + metadata(header().as_texts()) + inner + chunk("", inner, len(inner)) + body)
        readable(path)


@pytest.mark.parametrize("content", [b"", b"MCAP", b"\x00" * 64, b"\x89PNG\r\n\x1a\n" + bytes(99)], ids=repr)
def test_what_is_no_mcap_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mcap").write_bytes(content)
    with pytest.raises(InputError, match="is no MCAP file"):
        Recording(tmp_path / "x.mcap")


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mcap", tmp_path):
        with pytest.raises(InputError, match="there is no recording"):
            Recording(path)


def test_mcap_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.mcap"
    writer = Writer(str(path))
    writer.start()
    channel = writer.register_channel("/a", "json", writer.register_schema("a", "jsonschema", b"{}"))
    writer.add_message(channel, 1, b"{}", 1)
    writer.finish()
    with pytest.raises(InputError, match="no recording of `edgetl run --record`"):
        Recording(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "3"}, "version 3, this edgetl reads versions 1 and 2"),
        ({"version": "x"}, "not readable"),
        ({"heads": "[]x"}, "not readable"),
        ({"heads": "[{}]"}, "not readable"),
        ({"offset_ns": "1e999"}, "not readable"),
        ({"heads": "[" * 5000}, "not readable"),
    ],
    ids=str,
)
def test_headers_of_other_versions_and_wrong_ones(tmp_path: Path, change: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Recording(file(tmp_path, texts=header().as_texts() | change))


def test_a_header_with_more_than_is_known_reads(tmp_path: Path) -> None:
    with Recording(file(tmp_path, texts=header().as_texts() | {"later": '"x"'})) as recording:
        assert recording.header == header() and list(recording.results()) == []
        assert recording.whole


BOMB = zstandard.compress(bytes(1 << 28), 19)
LIES = {
    "a bomb": chunk("zstd", BOMB, 1000),
    "a bomb that says so": chunk("zstd", BOMB, 1 << 40),
    "more than there is": chunk("zstd", zstandard.compress(b"x" * 50), 1 << 27),
    "an unknown packing": chunk("brotli", b"x", 1),
    "no zstd": chunk("zstd", b"nothing", 7),
    "a wrong checksum": chunk("", b"x" * 9, 9, crc=1),
    "a length beyond the record": record(CHUNK, bytes(28) + texts("") + struct.pack("<Q", 1 << 60)),
    "a chunk of nothing": record(CHUNK, b""),
    "a message too short": chunk("", record(5, b"xx"), 11),
    "a message on no channel": chunk("", record(5, bytes(22)), 31),
    "an inner length beyond the chunk": chunk("", struct.pack("<BQ", 5, 1 << 62), 9),
    "a text beyond the record": record(3, struct.pack("<HI", 1, 0xFFFFFFFF)),
    "metadata that ends too early": record(0x0C, texts("x") + struct.pack("<I", 6) + b"123456"),
}


@pytest.mark.parametrize("case", LIES, ids=str)
def test_lies_about_lengths_cost_no_memory(tmp_path: Path, case: str) -> None:
    path = file(tmp_path, LIES[case])
    tracemalloc.start()
    found, recording = read_all(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [] and not recording.whole and "damaged" in recording.notes[0]
    assert peak < (1 << 28 if case == "more than there is" else 1 << 25)


def test_a_record_longer_than_the_file_is_a_cut(tmp_path: Path) -> None:
    path = file(tmp_path, struct.pack("<BQ", CHUNK, 1 << 62))
    assert "was not finished" in read_all(path)[1].notes[0]


def test_a_chunk_above_the_limit_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "large.mcap"
    path.write_bytes(MAGIC + metadata(header().as_texts()))
    with path.open("r+b") as stream:
        stream.seek(0, io.SEEK_END)
        stream.write(struct.pack("<BQ", CHUNK, MAX_RECORD_BYTES + 1))
        stream.seek(MAX_RECORD_BYTES + 1, io.SEEK_CUR)  # a hole: it takes no room on the disk
        stream.write(record(2, bytes(20)))
    recording = read_all(path)[1]
    assert "a chunk claims" in recording.notes[0]


def with_messages(path: Path, *documents: bytes, compression: CompressionType = CompressionType.ZSTD) -> Path:
    """A recording that the mcap package wrote, with these results."""
    writer = Writer(str(path), compression=compression)
    writer.start()
    writer.add_metadata(HEADER, header().as_texts())
    schema = writer.register_schema("edgetl.Result", "jsonschema", b"{}")
    channel = writer.register_channel(RESULT_TOPIC, "json", schema)
    for i, data in enumerate(documents):
        writer.add_message(channel, i, data, i, i)
    writer.finish()
    return path


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.ZSTD])
def test_files_that_another_tool_packed_read(tmp_path: Path, compression: CompressionType) -> None:
    documents = [encode_result(result(i), HEADS, sequence=i, frame_recorded=False) for i in range(3)]
    found, recording = read_all(with_messages(tmp_path / "d.mcap", *documents, compression=compression))
    assert [r.result.frame_id for r in found] == [0, 1, 2] and recording.whole


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 10_000], ids=repr)
def test_a_result_that_is_none_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="is not readable"):
        read_all(with_messages(tmp_path / "d.mcap", data))


def test_a_picture_of_another_result_is_not_taken(tmp_path: Path, recorded: bytes) -> None:
    documents = [encode_result(result(0), HEADS, sequence=5, frame_recorded=True)]
    (found,) = read_all(with_messages(tmp_path / "d.mcap", *documents))[0]
    assert found.frame is None


def test_a_whole_file_has_no_damage(recorded: bytes) -> None:
    reader = RecordReader(io.BytesIO(recorded), len(recorded))
    kinds = [m.topic for m in reader.messages()]
    assert kinds.count(RESULT_TOPIC) == 12 and not reader.cut and not reader.damaged


def test_a_chunk_that_only_claims_to_be_large_takes_no_room(tmp_path: Path) -> None:
    """Room is made as data comes, not as the file claims."""
    packed = zstandard.ZstdCompressor().compress(b"x" * 1000)
    path = file(tmp_path, chunk("zstd", packed, MAX_RECORD_BYTES - 1))
    read_all(path)
    tracemalloc.start()
    try:
        found, recording = read_all(path)
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert not found
    assert "unpacks to 1000 bytes" in recording.notes[0]
