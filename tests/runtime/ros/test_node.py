"""The session: what it says where nobody answers, what it listens at, and a router that goes and comes back."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from ros_support import PATIENCE_S, Listener, boxes, free_port, options, result_of, router
from runtime_support import DETECT

from edgetl_runtime.errors import InputError
from edgetl_runtime.ros import Ros2Node, Ros2Options, Ros2Sink
from edgetl_runtime.ros.messages import DiagnosticArray
from edgetl_runtime.ros.names import DIAGNOSTICS
from edgetl_runtime.ros.node import Ros2Context

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def listening() -> set[str]:
    """ADDRESS:PORT, in /proc's hexadecimal, of this process' sockets that others can reach."""
    own = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            own.add(os.readlink(link))  # noqa: PTH115  (a socket is no path)
        except OSError:
            continue
    found = set()
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for row in Path(f"/proc/self/net/{kind}").read_text().splitlines()[1:]:
            cells = row.split()
            if cells[3] == state and f"socket:[{cells[9]}]" in own:
                found.add(cells[1])
    return found


def test_without_a_router_one_line_says_what_to_do_and_soon() -> None:
    begun_s = time.monotonic()
    with pytest.raises(InputError, match=r"no Zenoh router or node answers at tcp/127.*--ros2-listen") as told:
        Ros2Node(Ros2Options(connect=(f"tcp/127.0.0.1:{free_port()}",), open_s=0.5))
    assert time.monotonic() - begun_s < 30
    assert "\n" not in str(told.value)


def test_a_node_that_fails_leaves_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    address, context = f"tcp/127.0.0.1:{free_port()}", Ros2Context()
    with monkeypatch.context() as patched:
        patched.setattr(Ros2Node, "_declare", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Ros2Node(Ros2Options(connect=(), listen=(address,)), context=context)
    Ros2Node(Ros2Options(connect=(), listen=(address,))).close()


def test_who_does_not_wait_meets_the_other_side_when_it_comes_and_comes_back() -> None:
    address = f"tcp/127.0.0.1:{free_port()}"
    arrived = threading.Event()
    with Ros2Node(Ros2Options(connect=(address,), open_s=0)) as early:
        early.subscribe("/late", DiagnosticArray, DIAGNOSTICS, lambda sample: arrived.set())
        for _ in range(2):
            with Ros2Node(Ros2Options(connect=(), listen=(address,))) as late:
                publisher = late.publisher("/late", DiagnosticArray, DIAGNOSTICS)
                end_s = time.monotonic() + PATIENCE_S
                while not arrived.wait(0.05):
                    assert time.monotonic() < end_s
                    publisher.put(b"")
            arrived.clear()


def test_an_address_that_is_taken_or_none_is_refused() -> None:
    with router() as address, pytest.raises(InputError, match=f"can't listen at {address}"):
        Ros2Node(Ros2Options(connect=(), listen=(address,)))
    with pytest.raises(InputError, match="a Zenoh address is like"):
        Ros2Options(connect=("localhost:7447",))


def test_it_listens_on_loopback_only() -> None:
    before = listening()
    with Ros2Node(Ros2Options(connect=())):
        new = listening() - before
    assert new and {address.split(":")[0] for address in new} <= LOOPBACK
    assert not listening() & new


def test_it_tells_the_port_that_it_got() -> None:
    told: list[tuple[str, ...]] = []
    options = Ros2Options(connect=(), listen=("tcp/127.0.0.1:0", "tcp/127.0.0.1:0"), opened=told.append)
    before = listening()
    with Ros2Node(options) as node:
        ports = {int(address.split(":")[1], 16) for address in listening() - before}
        assert told == [node.addresses]
        assert {int(address.removeprefix("tcp/127.0.0.1:")) for address in told[0]} == ports and len(ports) == 2


def test_it_does_without_a_router_where_others_connect_to_it() -> None:
    address = f"tcp/127.0.0.1:{free_port()}"
    with Ros2Node(Ros2Options(connect=(), listen=(address,))) as node, Listener(address) as listener:
        publisher = node.publisher("/diagnostics", DiagnosticArray, DIAGNOSTICS)
        listener.wait(lambda line: "%diagnostics/" in line.get("token", ""))
        end_s = time.monotonic() + 10
        while not publisher.matched and time.monotonic() < end_s:
            time.sleep(0.01)
        publisher.put(DiagnosticArray().serialize())
        assert listener.messages("diagnostics")[0]["number"] == 1
        node.close()
        node.close()
        listener.wait(lambda line: line.get("alive") is False and "/NN/" in line["token"])


def test_a_router_that_comes_back_is_found_again() -> None:
    port = free_port()
    with router(port) as address:
        sink = Ros2Sink((DETECT,), camera_id="cam", options=options(address))
    with router(port) as address, Listener(address) as listener:
        end_s = time.monotonic() + 20
        while not listener.found(lambda line: "key" in line) and time.monotonic() < end_s:
            sink.write(*result_of(boxes(1)), None)
            time.sleep(0.05)
        assert listener.messages("edgetl/detections")
        sink.close()
    assert not any("could not" in note for note in sink.notes)


def test_domains_do_not_hear_each_other() -> None:
    with router() as address, Listener(address, domain=3) as listener:
        with Ros2Node(options(address, domain=4)) as other, Ros2Node(options(address, domain=3)) as same:
            for node, level in ((other, "other"), (same, "same")):
                publisher = node.publisher(level, DiagnosticArray, DIAGNOSTICS)
                end_s = time.monotonic() + (10 if node is same else 0.3)
                while not publisher.matched and time.monotonic() < end_s:
                    time.sleep(0.01)
                assert publisher.matched == (node is same)
                publisher.put(DiagnosticArray().serialize())
            assert listener.messages("same")
        assert not listener.found(lambda line: "other" in line.get("key", ""))
