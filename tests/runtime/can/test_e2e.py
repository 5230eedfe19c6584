"""Check sum and counter against another implementation, and what they find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetl_runtime.can.e2e import COUNTS, check_sum, data_id_of, is_whole, protected

PAYLOADS = st.binary(min_size=8, max_size=8)
IDS = st.integers(0, 0xFFFF)


@pytest.mark.parametrize(
    ("data", "data_id", "expected"),
    [
        # By the package autosar-e2e 1.0.0: e2e_p01_protect(data, data_id, increment_counter=False)
        ("0000000000000000", 0x123, "cc00000000000000"),
        ("0001020304050607", 0x6A0, "5d01020304050607"),
        ("fffeffffffffffff", 0x12F, "29feffffffffffff"),
    ],
)
def test_the_check_sum_is_that_of_profile_1(data: str, data_id: int, expected: str) -> None:
    raw = bytes.fromhex(data)
    assert protected(raw, data_id, raw[1] & 0x0F).hex() == expected


@given(PAYLOADS, IDS, st.integers(0, COUNTS - 1), st.integers(0, 63))
def test_every_flipped_bit_is_found(data: bytes, data_id: int, counter: int, bit: int) -> None:
    frame = bytearray(protected(data, data_id, counter))
    assert is_whole(frame, data_id)
    assert frame[1] & 0x0F == counter and frame[1] & 0xF0 == data[1] & 0xF0 and frame[2:] == data[2:]
    frame[bit // 8] ^= 1 << bit % 8
    assert not is_whole(frame, data_id)


@given(PAYLOADS, IDS, IDS)
def test_a_frame_under_the_next_identifiers_is_found(data: bytes, data_id: int, other: int) -> None:
    frame = protected(data, data_id, 3)
    for near in range(1, 17):
        assert not is_whole(frame, (data_id + near) & 0xFFFF)
    assert is_whole(frame, other) == (check_sum(frame, other) == frame[0])


def test_what_can_not_be_a_frame() -> None:
    with pytest.raises(ValueError, match="0 to 14, found 15"):
        protected(bytes(8), 1, 15)
    counter_15 = bytearray(b"\0\x0f" + bytes(6))
    counter_15[0] = check_sum(counter_15, 1)
    assert not is_whole(counter_15, 1)
    assert not is_whole(protected(bytes(7), 1, 0), 1)
    assert data_id_of(0x18FF_1234) == 0x1234
