"""The garbage collector rests and is as before afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest

from edgetl_runtime.rest import CollectorRest


class Knot:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def test_nothing_is_collected_but_by_a_sweep() -> None:
    with CollectorRest() as rest:
        assert not gc.isenabled()
        knot = weakref.ref(Knot())
        for _ in range(2000):
            Knot()
        assert knot() is not None
        rest.sweep()
        assert knot() is None
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_what_was_off_stays_off() -> None:
    gc.disable()
    try:
        with pytest.raises(KeyError), CollectorRest():
            raise KeyError
        assert not gc.isenabled()
    finally:
        gc.enable()
