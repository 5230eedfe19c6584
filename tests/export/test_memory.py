"""Networks that run side by side take no more memory than there is."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from edgetl_export.memory import ACTIVATIONS, OF_NETWORK, SHARE, Memory

WAIT_S = 30
SIZE = 1000


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(bytes(SIZE))
    return path


def free_for(workers: int) -> int:
    """Free memory that is enough for one network of SIZE with so many workers, and not for one more."""
    return round((OF_NETWORK * SIZE + workers * ACTIVATIONS) / SHARE) + 2


@pytest.mark.parametrize(("fitting", "wanted", "workers"), [(0, 2, 1), (1, 2, 1), (2, 2, 2), (9, 2, 2), (3, 8, 3)])
def test_as_many_workers_as_fit(net: Path, fitting: int, wanted: int, workers: int) -> None:
    with Memory(free=lambda: free_for(fitting)).room_for(net, wanted) as room:
        assert room.workers == workers
        assert bool(room.note) == (workers < wanted)
        if room.note:
            assert "net.onnx has 0 MB" in room.note and f"{workers} instead of {wanted} frames" in room.note


def test_a_larger_network_has_fewer_workers(net: Path) -> None:
    free = free_for(4)
    with Memory(free=lambda: free).room_for(net, 4) as room:
        assert room.workers == 4
    net.write_bytes(bytes(20_000_000))
    with Memory(free=lambda: free).room_for(net, 4) as room:
        assert room.workers < 4


def test_nothing_is_bounded_where_the_system_does_not_say(net: Path) -> None:
    with Memory(free=lambda: None).room_for(net, 8) as room:
        assert (room.workers, room.note) == (8, "")


def test_the_second_waits_for_the_first(net: Path) -> None:
    shared = Memory(free=lambda: free_for(1))
    waiting, notes = threading.Event(), []

    def second() -> None:
        with shared.room_for(net, 1, going_on=waiting.set) as room:
            notes.append(room.note)

    thread = threading.Thread(target=second)
    with shared.room_for(net, 1):
        thread.start()
        assert waiting.wait(WAIT_S)
        thread.join(0.5)
        assert thread.is_alive() and not notes, "it did not wait"
    thread.join(WAIT_S)
    assert len(notes) == 1 and "waited for another network" in notes[0]


def test_two_that_fit_run_together(net: Path) -> None:
    shared = Memory(free=lambda: 2 * free_for(2))
    with shared.room_for(net, 2), shared.room_for(net, 2) as room:
        assert (room.workers, room.note) == (2, "")


def test_who_waits_can_be_stopped(net: Path) -> None:
    shared = Memory(free=lambda: free_for(1))
    asked: list[int] = []

    def going_on() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise CancelledError

    with shared.room_for(net, 1), pytest.raises(CancelledError), shared.room_for(net, 1, going_on=going_on):
        pass
    with shared.room_for(net, 1) as room:
        assert not room.note, "what was stopped still counts"
