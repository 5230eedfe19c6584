"""Health events as lines of a log, as Foxglove's own schema reads them."""

from __future__ import annotations

import pytest
from test_foxglove import T_NS, decode

from edgetl_runtime.health import Event, State
from edgetl_runtime.recording.log import log_message, log_schema


@pytest.mark.parametrize(
    ("state", "began", "level", "text"),
    [
        ("degraded", True, 3, "dark: covered"),
        ("stale", True, 4, "dark: covered"),
        ("fault", True, 4, "dark: covered"),
        ("ok", False, 2, "dark: over, ok now"),
        ("fault", False, 2, "dark: over, fault now"),
    ],
)
def test_an_event_is_a_line(state: State, began: bool, level: int, text: str) -> None:
    schemas = pytest.importorskip("foxglove_schemas_protobuf.Log_pb2", reason="Foxglove's own schemas")
    data = log_message(Event(7, "cam", "dark", began=began, state=state, detail="covered"), T_NS)
    theirs = schemas.Log.FromString(data)
    assert (theirs.level, theirs.message, theirs.name) == (level, text, "cam")
    assert theirs.timestamp.ToNanoseconds() == T_NS
    assert str(theirs) == str(decode(log_schema(), "foxglove.Log", data))
