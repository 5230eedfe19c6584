"""Cores and priority: read back, refused in one line, and not handed on to helpers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from edgetl_runtime.errors import InputError
from edgetl_runtime.schedule import parse_cpus, pin, raise_priority, run_lowly


@pytest.mark.parametrize(("text", "cpus"), [("0", {0}), ("0,2-3", {0, 2, 3}), (" 5 , 1", {1, 5}), ("4-4", {4})])
def test_cores_are_read(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1", "1-", "0-99999999999999999999", "4096", "1.5"])
def test_what_are_no_cores(text: str) -> None:
    with pytest.raises(InputError, match="expected cores like"):
        parse_cpus(text)


def test_lowly_work_is_of_the_lowest_priority_and_nothing_else_is() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    inner = threading.Thread(target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    found: list[int] = []

    def work() -> str:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        inner.start()
        inner.join()
        return "done"

    assert run_lowly(work) == "done" and found == [19, 19]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    with pytest.raises(ZeroDivisionError):
        run_lowly(lambda: 1 // 0)


def run(code: str) -> dict[str, object]:
    """What a process of its own prints as JSON: the tests' own must stay as it is."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_process_is_pinned_with_its_threads() -> None:
    cpu = min(os.sched_getaffinity(0))
    found = run(
        "import json, os, threading\n"
        "from edgetl_runtime.schedule import pin\n"
        f"pin(frozenset([{cpu}]))\n"
        "seen = []\n"
        "t = threading.Thread(target=lambda: seen.append(sorted(os.sched_getaffinity(0)))); t.start(); t.join()\n"
        "print(json.dumps({'own': sorted(os.sched_getaffinity(0)), 'thread': seen[0]}))"
    )
    assert found == {"own": [cpu], "thread": [cpu]}


def test_cores_that_are_not_there() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(InputError, match="can't run on the cores"):
        pin(frozenset([4000]))
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(("live", "threads"), [(True, 1), (False, 2)])
def test_opencv_works_in_the_thread_that_calls_it_beside_a_live_reader(live: bool, threads: int) -> None:
    found = run(
        "import json, cv2\n"
        "from edgetl_runtime.schedule import set_opencv_threads\n"
        "cv2.setNumThreads(3)\n"
        f"set_opencv_threads(live={live})\n"
        "print(json.dumps({'threads': cv2.getNumThreads()}))"
    )
    assert found == {"threads": threads}


@pytest.mark.parametrize("priority", [0, 100, -1])
def test_what_is_no_priority(priority: int) -> None:
    with pytest.raises(InputError, match="from 1 to 99"):
        raise_priority(priority)


def test_a_priority_is_the_loops_alone_or_refused_in_one_line() -> None:
    found = run(
        "import json, os, threading\n"
        "from edgetl_runtime.errors import InputError\n"
        "from edgetl_runtime.schedule import raise_priority\n"
        "try:\n"
        "    raise_priority(5)\n"
        "except InputError as error:\n"
        "    print(json.dumps({'refused': str(error)})); raise SystemExit\n"
        "seen = []\n"
        "t = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0))); t.start(); t.join()\n"
        "own = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK\n"
        "print(json.dumps({'own': own, 'thread': seen[0]}))"
    )
    if "refused" in found:
        assert "CAP_SYS_NICE" in str(found["refused"])
    else:
        assert found == {"own": os.SCHED_FIFO, "thread": os.SCHED_OTHER}
