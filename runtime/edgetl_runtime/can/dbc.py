"""edgetl.dbc: its messages by name, and values to bytes and back.

The file alone says where a signal lies, what a step of it is worth, and which value means "not available" (SNA).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import need

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DBC = Path(__file__).with_name("edgetl.dbc")
FIRST_ID = 0x6A0
"""The identifier of the status in the file as it is; the others follow it."""
MAX_SLOTS = 8
"""Objects that the file has frames for."""
STATUS = "EdgetlStatus"
_MOST_STANDARD, _MOST_EXTENDED = 0x7FF, 0x1FFFFFFF
_ID = re.compile(r"^((?:BO_|CM_ BO_|CM_ SG_|VAL_) )(\d+)\b", re.MULTILINE)

Value = float | int | None
"""Of one signal; None: not available."""


def place_name(slot: int) -> str:
    """The message that says where object `slot` is."""
    return f"Object{slot}Place"


def kind_name(slot: int) -> str:
    """The message that says what object `slot` is."""
    return f"Object{slot}Kind"


def frame_names(slots: int) -> tuple[str, ...]:
    """Every message of a cycle in the order of sending, the status first."""
    pairs = (name(slot) for slot in range(slots) for name in (place_name, kind_name))
    return (STATUS, *pairs)


def is_extended(base_id: int) -> bool:
    """Whether identifiers from `base_id` on have 29 bits."""
    return base_id > _MOST_STANDARD


def check_base(base_id: int, slots: int = MAX_SLOTS) -> None:
    """Raise InputError where no block of identifiers begins at `base_id`, or there are too many objects."""
    if not 1 <= slots <= MAX_SLOTS:
        raise InputError(f"there are frames for 1 to {MAX_SLOTS} objects, found {slots}")
    last = base_id + 2 * MAX_SLOTS
    if base_id < 0 or last > _MOST_EXTENDED or base_id <= _MOST_STANDARD < last:
        raise InputError(
            f"the first CAN identifier must leave room for {2 * MAX_SLOTS} more below 0x800 or 0x20000000, "
            f"found {base_id:#x}",
            remedy=f"use {FIRST_ID:#x}",
        )


def dbc_text(base_id: int = FIRST_ID, labels: Sequence[str] = ()) -> str:
    """The file for identifiers from `base_id` on, with the names of classes where labels are given."""
    check_base(base_id)
    flag = 1 << 31 if is_extended(base_id) else 0  # how a DBC marks identifiers of 29 bits

    def moved(match: re.Match[str]) -> str:
        return f"{match[1]}{int(match[2]) - FIRST_ID + base_id | flag}"

    text = _ID.sub(moved, DBC.read_text())
    if not labels:
        return text
    names = " ".join(f'{i} "{_quoted(label)}"' for i, label in enumerate(labels[:63]))
    return re.sub(r'^(VAL_ \d+ Class) (63 "SNA" ;)$', lambda m: f"{m[1]} {names} {m[2]}", text, flags=re.MULTILINE)


def _quoted(label: str) -> str:
    """A label as text of a DBC, which knows no escapes."""
    return "".join("_" if c in '"\\' or not c.isprintable() else c for c in label)


@dataclass(frozen=True, slots=True)
class Signal:
    """How a value becomes a whole number: value = raw * scale; low and high: of the raw number; sna: the raw number
    that means "not available", None where there is none."""

    scale: float
    low: int
    high: int
    sna: int | None

    def raw_of(self, value: Value) -> int:
        """Rounded, and held within the signal's range. Raises ValueError for what is not there and has to be."""
        if value is None or math.isnan(value):
            if self.sna is None:
                raise ValueError("this signal must have a value")
            return self.sna
        steps = value / self.scale
        if steps <= self.low:
            return self.low
        return self.high if steps >= self.high else round(steps)

    def value_of(self, raw: int) -> Value:
        """The value; None for SNA and for what lies outside the range, which is reserved."""
        if raw == self.sna or not self.low <= raw <= self.high:
            return None
        return raw * self.scale if self.scale != 1 else raw


class Codec:
    """Values to 8 bytes and back, by message. Raises MissingPackage without cantools."""

    def __init__(self) -> None:
        database: Any = need("cantools", extra="vehicle").database.load_file(DBC, encoding="utf-8")
        self._messages: dict[str, Any] = {m.name: m for m in database.messages}
        self._signals = {m.name: {s.name: _signal(s) for s in m.signals} for m in database.messages}

    def signals(self, name: str) -> Mapping[str, Signal]:
        """Of this message."""
        return self._signals[name]

    def encode(self, name: str, values: Mapping[str, Value]) -> bytes:
        """8 bytes without counter and check sum. values: of every other signal; without one it is None."""
        raw = {n: s.raw_of(0 if n in _E2E else values.get(n)) for n, s in self._signals[name].items()}
        data: bytes = self._messages[name].encode(raw, scaling=False, strict=False)
        return data

    def decode(self, name: str, data: bytes | bytearray) -> dict[str, Value]:
        """The values of 8 bytes, None for what is not available."""
        raw = self._messages[name].decode(data, decode_choices=False, scaling=False)
        return {n: s.value_of(raw[n]) for n, s in self._signals[name].items()}


@lru_cache(maxsize=1)
def codec() -> Codec:
    """The one that all share: reading the file takes a moment."""
    return Codec()


_E2E = frozenset({"Crc", "Counter"})


def _signal(signal: Any) -> Signal:
    """Of cantools' signal; the limits in the file are values, not steps."""
    sna = next((raw for raw, name in (signal.choices or {}).items() if str(name) == "SNA"), None)
    return Signal(
        float(signal.scale) if signal.scale != 1 else 1,
        round(signal.minimum / signal.scale),
        round(signal.maximum / signal.scale),
        sna,
    )
