"""Ctrl-C while training: the first is noted, the second stops, and afterwards all is as it was."""

from __future__ import annotations

import signal
import threading

import pytest

from edgetl.training.interrupt import Interrupt


def test_the_first_is_a_flag_and_the_second_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert not interrupt.asked
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_an_error_inside_gives_ctrl_c_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), Interrupt():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) == before


def test_in_another_thread_ctrl_c_is_somebody_elses() -> None:
    before, asked = signal.getsignal(signal.SIGINT), []

    def train() -> None:
        with Interrupt() as interrupt:
            asked.append((interrupt.asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert asked == [(False, before)] and signal.getsignal(signal.SIGINT) == before
