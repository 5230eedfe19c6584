"""edgetl.dbc as others read it, and values to bytes and back over all they can be."""

from __future__ import annotations

import math
from pathlib import Path

import cantools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetl_runtime.can.dbc import (
    DBC,
    FIRST_ID,
    STATUS,
    Signal,
    codec,
    dbc_text,
    frame_names,
    kind_name,
    place_name,
)
from edgetl_runtime.errors import InputError

CODEC = codec()
NAMES = frame_names(8)
COUNTED = [(name, signal) for name in NAMES[:3] for signal in CODEC.signals(name) if signal not in ("Crc", "Counter")]


def neutral(name: str) -> dict[str, float | int | None]:
    """A value for all signals that must have one."""
    return {n: 0 for n, s in CODEC.signals(name).items() if s.sna is None}


def test_others_read_the_file() -> None:
    database = cantools.database.load_file(DBC, strict=True)  # refuses signals that overlap or don't fit
    assert [m.name for m in database.messages] == list(NAMES)
    assert [m.frame_id for m in database.messages] == list(range(FIRST_ID, FIRST_ID + 17))
    assert {(m.length, m.cycle_time, m.is_extended_frame) for m in database.messages} == {(8, 50, False)}
    crc = [(s.start, s.length) for m in database.messages for s in m.signals if s.name == "Crc"]
    counter = [(s.start, s.length) for m in database.messages for s in m.signals if s.name == "Counter"]
    assert crc == [(0, 8)] * 17 and counter == [(8, 4)] * 17
    for message in database.messages[1:]:
        first = database.messages[1 if message.name.endswith("Place") else 2]
        layout = [(s.name, s.start, s.length, s.scale, s.is_signed, s.choices) for s in message.signals]
        assert layout == [(s.name, s.start, s.length, s.scale, s.is_signed, s.choices) for s in first.signals]


def test_another_reader_finds_the_values_that_were_written() -> None:
    database = cantools.database.load_file(DBC)
    place = {"Index": 2, "Validity": 1, "DistanceX": 41.3, "LateralY": -1.75, "ClosingSpeed": -3.2, "Deviation": 0.5}
    read = database.decode_message(FIRST_ID + 5, CODEC.encode(place_name(2), place))
    assert read["Validity"] == "Valid"
    assert {n: read[n] for n in place if n != "Validity"} == pytest.approx(
        {n: v for n, v in place.items() if n != "Validity"}
    )
    kind = {"Index": 2, "Validity": 1, "Class": 3, "Confidence": 87.5, "TrackId": 1234, "Age": 65}
    read = database.decode_message(FIRST_ID + 6, CODEC.encode(kind_name(2), kind))
    assert read["Validity"] == "Valid" and read["TrackId"] == 1234 and read["Confidence"] == 87.5
    read = database.decode_message(FIRST_ID + 1, CODEC.encode(place_name(0), {"Index": 0, "Validity": 0}))
    assert [read[n] for n in ("DistanceX", "LateralY", "ClosingSpeed", "Deviation")] == ["SNA"] * 4


@pytest.mark.parametrize(("name", "signal"), COUNTED)
@given(data=st.data())
def test_every_value_comes_back_within_half_a_step(name: str, signal: str, data: st.DataObject) -> None:
    about = CODEC.signals(name)[signal]
    value = data.draw(st.floats(about.low * about.scale, about.high * about.scale, allow_nan=False))
    back = CODEC.decode(name, CODEC.encode(name, neutral(name) | {signal: value}))[signal]
    assert back is not None and abs(back - value) <= about.scale / 2 * (1 + 1e-9)


@pytest.mark.parametrize(("name", "signal"), COUNTED)
@given(value=st.floats(allow_nan=False))
def test_what_is_too_large_is_held_at_the_limit_and_never_not_available(name: str, signal: str, value: float) -> None:
    about = CODEC.signals(name)[signal]
    back = CODEC.decode(name, CODEC.encode(name, neutral(name) | {signal: value}))[signal]
    assert back is not None
    assert about.low * about.scale <= back <= about.high * about.scale
    if value >= about.high * about.scale:
        assert back == about.high * about.scale
    if value <= about.low * about.scale:
        assert back == about.low * about.scale


@pytest.mark.parametrize(("name", "signal"), [c for c in COUNTED if CODEC.signals(c[0])[c[1]].sna is not None])
@pytest.mark.parametrize("value", [None, math.nan])
def test_what_is_not_known_is_not_available_and_touches_nothing_else(
    name: str, signal: str, value: float | None
) -> None:
    others = {n: s.high * s.scale for n, s in CODEC.signals(name).items() if n not in ("Crc", "Counter", signal)}
    back = CODEC.decode(name, CODEC.encode(name, others | {signal: value}))
    assert back[signal] is None
    assert {n: back[n] for n in others} == pytest.approx(others)


def test_a_signal_that_must_be_there() -> None:
    with pytest.raises(ValueError, match="must have a value"):
        Signal(1, 0, 7, None).raw_of(None)
    assert CODEC.decode(STATUS, bytes.fromhex("0090000000000000"))["State"] is None  # 9: reserved


@pytest.mark.parametrize(("base_id", "extended"), [(0, False), (0x7EF, False), (0x800, True), (0x18FF0000, True)])
def test_the_file_moves_to_other_identifiers(base_id: int, extended: bool) -> None:
    database = cantools.database.load_string(dbc_text(base_id, ("car", 'a "b"\\c')), "dbc")
    assert [m.frame_id for m in database.messages] == list(range(base_id, base_id + 17))
    assert {m.is_extended_frame for m in database.messages} == {extended}
    status, kind = database.messages[0], database.get_message_by_name(kind_name(7))
    assert status.comment and status.get_signal_by_name("State").choices[3] == "Fault"
    assert {k: str(v) for k, v in kind.get_signal_by_name("Class").choices.items()} == {
        0: "car",
        1: "a _b__c",
        63: "SNA",
    }


@pytest.mark.parametrize("base_id", [-1, 0x7F0, 0x7FF, 0x1FFFFFF0])
def test_identifiers_that_do_not_exist(base_id: int) -> None:
    with pytest.raises(InputError, match=r"must leave room for 16 more below 0x800.*use 0x6a0"):
        dbc_text(base_id)


def test_the_file_is_part_of_the_package() -> None:
    assert DBC.parent == Path(__file__).parents[3] / "runtime/edgetl_runtime/can"
    assert dbc_text() == DBC.read_text()
