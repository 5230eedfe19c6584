"""Files are what the MCAP specification says, by the mcap package's readers, which check what they read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import NonSeekingReader, make_reader
from mcap.records import Chunk, McapRecord
from mcap.stream_reader import StreamReader
from mcap.summary import Summary

from edgetl_runtime.recording.mcap import MAGIC, McapWriter
from edgetl_runtime.recording.part import PartFile


def write(path: Path, chunks: list[int]) -> None:
    """A file with so many messages in each chunk: message i of the file is at time 1000 + i, on channel i % 2 + 1."""
    output = PartFile(path)
    writer = McapWriter(output, library="test")
    writer.add_metadata("about", {"clé": "é" * 3, "empty": ""})
    for topic in ("/a", "/b"):
        writer.add_channel(topic, encoding="json", schema=topic[1:], schema_encoding="jsonschema", schema_data=b"{}")
    number = 0
    for count in chunks:
        for _ in range(count):
            pixels = np.full(300_000, number, np.uint8).data
            parts = (f"{number}:".encode(), pixels)
            writer.add_message(number % 2 + 1, parts, log_ns=1000 + number, publish_ns=number, sequence=number)
            number += 1
        writer.close_chunk()
    assert writer.chunks == sum(c > 0 for c in chunks) and writer.pending == 0
    writer.finish()
    output.finish()


def records(path: Path, *, emit_chunks: bool = False) -> Iterator[McapRecord]:
    with path.open("rb") as stream:
        yield from StreamReader(stream, emit_chunks=emit_chunks, validate_crcs=True).records


def summary_of(path: Path) -> Summary:
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    return summary


@pytest.mark.parametrize("chunks", [[], [1], [3, 2], [1, 0, 4, 1]], ids=str)
def test_every_message_is_read(tmp_path: Path, chunks: list[int]) -> None:
    path, total = tmp_path / "d.mcap", sum(chunks)
    write(path, chunks)
    for validate in (False, True):
        with path.open("rb") as stream:
            rows = list(NonSeekingReader(stream, validate_crcs=validate).iter_messages())
        assert [m.sequence for _, _, m in rows] == list(range(total))
        for schema, channel, message in rows:
            i = message.sequence
            assert message.data == f"{i}:".encode() + bytes([i]) * 300_000
            assert (message.log_time, message.publish_time) == (1000 + i, i)
            assert channel.topic == "/" + "ab"[i % 2] and schema is not None and schema.name == channel.topic[1:]


@pytest.mark.parametrize("chunks", [[1], [3, 2], [1, 0, 4, 1]], ids=str)
def test_the_index_leads_to_messages(tmp_path: Path, chunks: list[int]) -> None:
    path, total = tmp_path / "d.mcap", sum(chunks)
    write(path, chunks)
    with path.open("rb") as stream:
        found = make_reader(stream, validate_crcs=True).iter_messages(topics="/b", starting_at=1000, ending_before=1004)
        assert [m.sequence for _, _, m in found] == [i for i in range(min(total, 4)) if i % 2]
    with path.open("rb") as stream:
        backwards = make_reader(stream).iter_messages(reverse=True)
        assert [m.sequence for _, _, m in backwards] == list(range(total))[::-1]


def test_what_the_summary_says(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    write(path, [3, 2])
    summary = summary_of(path)
    statistics = summary.statistics
    assert statistics is not None
    assert (statistics.message_count, statistics.chunk_count, statistics.channel_count) == (5, 2, 2)
    assert (statistics.schema_count, statistics.metadata_count, statistics.attachment_count) == (2, 1, 0)
    assert (statistics.message_start_time, statistics.message_end_time) == (1000, 1004)
    assert statistics.channel_message_counts == {1: 3, 2: 2}
    data = path.read_bytes()
    chunks = [r for r in records(path, emit_chunks=True) if isinstance(r, Chunk)]
    for index, chunk in zip(summary.chunk_indexes, chunks, strict=True):
        assert (index.message_start_time, index.message_end_time) == (chunk.message_start_time, chunk.message_end_time)
        assert (index.compressed_size, index.uncompressed_size) == (len(chunk.data), chunk.uncompressed_size)
        start = index.chunk_start_offset
        assert data[start] == 6 and struct.unpack("<Q", data[start + 1 : start + 9])[0] + 9 == index.chunk_length
        for offset in index.message_index_offsets.values():
            assert data[offset] == 7
    with path.open("rb") as stream:
        (metadata,) = make_reader(stream).iter_metadata()
    assert metadata.metadata == {"clé": "é" * 3, "empty": ""}


def test_the_summarys_checksum(tmp_path: Path) -> None:
    path = tmp_path / "d.mcap"
    write(path, [2])
    data = path.read_bytes()
    assert data.startswith(MAGIC) and data.endswith(MAGIC)
    start, offsets, crc = struct.unpack("<QQI", data[-28:-8])
    assert zlib.crc32(data[start:-12]) == crc
    assert data[start] == 3 and data[offsets] == 14, "schemas come first, then offsets of groups"
    group, place, length = struct.unpack("<BQQ", data[offsets + 9 : offsets + 26])
    assert (group, place) == (3, start) and data[place + length] == 4


def test_nothing_is_kept_of_what_was_packed(tmp_path: Path) -> None:
    output = PartFile(tmp_path / "d.mcap")
    writer = McapWriter(output, library="test")
    channel = writer.add_channel("/a", encoding="json", schema="a", schema_encoding="jsonschema", schema_data=b"{}")
    pixels = np.zeros(1_000_000, np.uint8)
    writer.add_message(channel, (pixels.data,), log_ns=1, publish_ns=1, sequence=0)
    pixels[:] = 7  # the camera's next frame
    writer.finish()
    output.finish()
    with (tmp_path / "d.mcap").open("rb") as stream:
        ((_, _, message),) = make_reader(stream, validate_crcs=True).iter_messages()
    assert message.data == bytes(1_000_000)
