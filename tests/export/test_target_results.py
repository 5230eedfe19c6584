"""What the kind of a check's answer says of a graph."""

from __future__ import annotations

from typing import get_args

import pytest

from edgetl_export.target_results import state_of
from edgetl_export.tensorrt.protocol import Kind


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("ok", "compiled"),
        ("parse", "refused"),
        ("build", "refused"),
        ("invalid-model", "refused"),
        ("cannot-tell", "cannot tell"),
        ("missing-package", "cannot tell"),
        ("timeout", "cannot tell"),
        ("crash", "cannot tell"),
    ],
)
def test_only_what_compiled_is_called_so(kind: Kind, state: str) -> None:
    assert state_of(kind) == state


def test_every_kind_has_a_state() -> None:
    assert {state_of(kind) for kind in get_args(Kind)} == {"compiled", "refused", "cannot tell"}
