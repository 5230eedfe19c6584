"""Brakes for what edgetl sees in the vehicle's lane, and whenever it does not know: a subscriber to start from.

    python docs/example_brake.py --connect tcp/127.0.0.1:7447 --can socketcan:can0

It reads both ways out of `edgetl run`: ROS 2 topics over Zenoh (/edgetl/places, /edgetl/detections), as an
rmw_zenoh_cpp node would, and the frames on the CAN bus. It publishes /brake, std_msgs/Bool, after each result and at
least every 50 ms. Whoever acts on /brake has to brake on its silence, too.

It brakes, in this order, while
- no result has come by ROS 2, or the newest one was captured longer ago than MAX_AGE_MS: a loop that hangs, a link that
  is gone, a system clock that was set;
- no whole cycle has come by CAN for CAN_TIMEOUT_MS, or its status says stale, fault or ended;
- something stands in the lane nearer than the vehicle needs to stop, nearer in time than MIN_TTC_S, or so near that the
  picture cuts off where it stands.

So the brake is pulled at most 0.3 s after the last cycle on CAN, and 0.55 s after the capture of the last picture that
came out by ROS 2, whatever happened to the rest, as long as this process gets its time. Single messages that are lost
are counted, and matter only once too little comes. It is an example of how results are read with care, no brake for a
vehicle: nobody has assessed it, and what a camera does not see it does not brake for.
"""

# Without `from __future__ import annotations`: pycdr2 reads the annotations of messages.

import argparse
import logging
import math
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import can
from pycdr2 import IdlStruct

from edgetl_runtime.can import CanReceiver
from edgetl_runtime.can.receiver import CanView
from edgetl_runtime.ros import NodeName, Ros2Node, Ros2Options
from edgetl_runtime.ros.messages import Detection2DArray, Detection3DArray, Time
from edgetl_runtime.ros.names import RESULTS, read_attachment

SPEED_MPS = 12.0  # of the rendered vehicle; a real one asks its wheels
REACTION_S, BRAKING_MPS2 = 0.2, 8.0  # a machine that brakes as hard as a dry road allows
LANE_HALF_M = 1.5
MIN_TTC_S = 2.0
MAX_AGE_MS = 500.0
CAN_TIMEOUT_MS = 250.0  # five cycles; three are usual on a machine that does nothing else
HOLD_S = 1.0  # a brake that was pulled stays so for this long
EVERY_S = 0.05
IMAGE_HW = (360, 640)
STOPPING_M = SPEED_MPS * REACTION_S + SPEED_MPS**2 / (2 * BRAKING_MPS2)


@dataclass
class Bool(IdlStruct, typename="std_msgs/msg/Bool"):
    """The message of /brake."""

    data: bool


@dataclass(frozen=True)
class Thing:
    """Something in the lane: at least x_m ahead, and ttc_s away at the speed it comes nearer, as far as is known."""

    label: str
    x_m: float
    ttc_s: float = math.inf


@dataclass(frozen=True)
class Message:
    """The newest of one topic. stamp_ns: of capture, on the system clock; arrived_ns: here, on the monotonic clock."""

    stamp_ns: int
    arrived_ns: int
    things: tuple[Thing, ...]


class Topic:
    """Keeps the newest message of one topic; `take` is called by Zenoh's thread."""

    def __init__(self, read: Callable[[Any], tuple[Thing, ...]], kind: Any, wake: threading.Event) -> None:
        self._read, self._kind, self._wake = read, kind, wake
        self.newest: Message | None = None
        self.received = self.lost = self.unreadable = 0
        self._numbers: dict[bytes, int] = {}

    def take(self, sample: Any) -> None:
        """Decode one message; what is older than the newest or not readable is left out."""
        try:
            number, _, publisher = read_attachment(sample.attachment.to_bytes())
            message = self._kind.deserialize(sample.payload.to_bytes())
            found = Message(_ns(message.header.stamp), time.monotonic_ns(), self._read(message))
        except Exception:  # whatever was wrong with it: without messages the brake is pulled
            self.unreadable += 1
            return
        self.received += 1
        self.lost += max(number - self._numbers.get(publisher, number - 1) - 1, 0)
        self._numbers[publisher] = number
        if self.newest is None or found.stamp_ns > self.newest.stamp_ns:
            self.newest = found
            self._wake.set()


def _ns(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def placed_in_lane(message: Detection3DArray) -> tuple[Thing, ...]:
    """By /edgetl/places: as near as it is with one deviation's care."""
    found = []
    for each in message.detections:
        guess = each.results[0]
        at, spread_m = guess.pose.pose.position, math.sqrt(guess.pose.covariance[0])
        if at.x > 0 and abs(at.y) < LANE_HALF_M:
            found.append(Thing(guess.hypothesis.class_id, max(at.x - spread_m, 0.0)))
    return tuple(found)


def cut_off_in_lane(message: Detection2DArray) -> tuple[Thing, ...]:
    """By /edgetl/detections: what reaches out of the picture below is too near to have a place."""
    height, width = IMAGE_HW
    found = []
    for each in message.detections:
        middle, half_w, half_h = each.bbox.center.position, each.bbox.size_x / 2, each.bbox.size_y / 2
        left, right = (middle.x - half_w) / width, (middle.x + half_w) / width
        if middle.y + half_h > height - 2 and left < 0.7 and right > 0.3:
            found.append(Thing(each.results[0].hypothesis.class_id, 0.0))
    return tuple(found)


class CanBus:
    """Reads a CAN bus in a thread, and opens it again where it is gone or silent.

    status: the last cycle that had one; whole: the last one of which no frame is missing. One lost frame is no reason
    to brake: the cycle before counts for as long as it is not too old.
    """

    def __init__(self, name: str) -> None:
        self._interface, _, self._channel = name.partition(":")
        self.receiver = CanReceiver(timeout_ms=CAN_TIMEOUT_MS)
        self.status = self.whole = CanView("lost")
        self.cycles = 0
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                with can.Bus(interface=self._interface, channel=self._channel) as bus:
                    while (message := bus.recv(1.0)) is not None:
                        if not (message.is_error_frame or message.is_remote_frame):
                            self._keep(self.receiver.receive(message.arbitration_id, message.data))
            except Exception:  # drivers raise all kinds; while nothing comes the brake is pulled
                time.sleep(0.1)

    def _keep(self, view: CanView | None) -> None:
        if view is None:
            return
        self.cycles += 1
        if view.state != "lost":
            self.status = view
        if not view.missing:
            self.whole = view

    def things(self) -> tuple[Thing, ...]:
        """What the last whole cycle has in the lane."""
        found = []
        for each in self.whole.objects:
            if each.x_m is not None and each.y_m is not None and each.x_m > 0 and abs(each.y_m) < LANE_HALF_M:
                speed_mps = each.closing_speed_mps or 0.0
                ttc_s = each.x_m / speed_mps if speed_mps > 0.5 else math.inf
                found.append(Thing(each.label or "object", max(each.x_m - (each.deviation_m or 0.0), 0.0), ttc_s))
        return tuple(found)


Reason = tuple[str, str]
"""Its kind and its words; both are "" where nothing is known against driving."""
NONE: Reason = ("", "")


def reason_by_ros(topics: Iterable[Message | None], *, now_ns: int, epoch_ns: int) -> Reason:
    """Whether results come, and in time. now_ns, epoch_ns: the monotonic and the system clock."""
    for message in topics:
        if message is None:
            return "start", "no result by ROS 2 yet"
        age_ms = max(epoch_ns - message.stamp_ns, now_ns - message.arrived_ns) / 1e6
        if age_ms > MAX_AGE_MS:
            return "silence", f"the newest result by ROS 2 is {age_ms:.0f} ms old"
        if epoch_ns < message.stamp_ns:
            return "clock", "a result by ROS 2 is from the future: a clock was set"
    return NONE


def reason_by_can(status: CanView, whole: CanView, *, now_ns: int) -> Reason:
    """Whether cycles come, and what they say of the loop."""
    if not status.t_ns:
        return "start", "nothing by CAN yet"
    if now_ns - status.t_ns > CAN_TIMEOUT_MS * 1e6:
        return "silence", "nothing by CAN"
    if not status.current:
        return "state", f"CAN says {status.state}"
    if now_ns - whole.t_ns > CAN_TIMEOUT_MS * 1e6:
        return "silence", f"frames are missing on CAN: {', '.join(status.missing[:3])}"
    return NONE


def reason_ahead(things: Iterable[Thing]) -> Reason:
    """Whether something in the lane is too near, or soon will be."""
    for thing in things:
        if thing.x_m < STOPPING_M:
            return "object", f"{described(thing)} ahead, stopping takes {STOPPING_M:.0f} m"
        if thing.ttc_s < MIN_TTC_S:
            return "object", f"{described(thing)} comes nearer too fast"
    return NONE


def in_order(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """The most urgent first."""
    return tuple(sorted(things, key=lambda thing: min(thing.x_m, thing.ttc_s * SPEED_MPS)))


def described(thing: Thing) -> str:
    """For people."""
    where = f"{thing.label} {thing.x_m:.0f} m" if thing.x_m else f"{thing.label} too near to place"
    return where + (f" {thing.ttc_s:.1f} s" if math.isfinite(thing.ttc_s) else "")


@dataclass
class Brake:
    """The brake, which stays pulled for HOLD_S after its last reason. pulled: how often, by kind of reason."""

    kind: str = ""
    words: str = ""
    pulled: Counter[str] = field(default_factory=Counter)
    _until_ns: int = 0

    def update(self, reason: Reason, now_ns: int) -> bool:
        """Whether the brake was pulled or let go now."""
        before, (kind, words) = bool(self.kind), reason
        if kind:
            self.pulled[kind] += kind != self.kind
            self.kind, self.words, self._until_ns = kind, words, now_ns + round(HOLD_S * 1e9)
        elif now_ns >= self._until_ns:
            self.kind = self.words = ""
        return before != bool(self.kind)


class Driver:
    """Decides after each result and at least every EVERY_S, says so once a second, and publishes it."""

    def __init__(self, connect: str, bus_name: str | None) -> None:
        self.ended = False
        self._wake = threading.Event()
        self._places = Topic(placed_in_lane, Detection3DArray, self._wake)
        self._boxes = Topic(cut_off_in_lane, Detection2DArray, self._wake)
        self._bus = CanBus(bus_name) if bus_name else None
        # open_s=0: the other side may come later, go, and come back
        self._node = Ros2Node(Ros2Options(node=NodeName(name="brake"), connect=(connect,), open_s=0))
        self._node.subscribe("/edgetl/places", Detection3DArray, RESULTS, self._places.take)
        self._node.subscribe("/edgetl/detections", Detection2DArray, RESULTS, self._boxes.take)
        self._out = self._node.publisher("/brake", Bool, RESULTS)
        self._brake = Brake()
        self._by_ros: tuple[Thing, ...] = ()
        self._by_can: tuple[Thing, ...] = ()
        self._latencies_ms: list[float] = []
        self._decided_ns = 0
        self._begun_s = time.monotonic()

    def run(self) -> None:
        """Until `ended` is set; the last word is to brake."""
        told_s = 0.0
        while not self.ended:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            changed = self._decide()
            self._out.put(Bool(bool(self._brake.kind)).serialize())
            if changed or time.monotonic() - told_s >= 1.0:
                told_s = time.monotonic()
                print(self._line(), flush=True)
        self._out.put(Bool(True).serialize())
        self._node.close()
        print(self._summary(), flush=True)

    def _decide(self) -> bool:
        """Whether the brake was pulled or let go."""
        topics = (self._boxes.newest, self._places.newest)  # the order in which both are published
        bus = self._bus
        self._by_ros = in_order(thing for message in topics if message for thing in message.things)
        self._by_can = in_order(bus.things() if bus and self._state() != "lost" else ())
        now_ns, epoch_ns = time.monotonic_ns(), time.time_ns()
        reasons = (
            reason_by_ros(topics, now_ns=now_ns, epoch_ns=epoch_ns),
            reason_by_can(bus.status, bus.whole, now_ns=now_ns) if bus else NONE,
            reason_ahead(in_order((*self._by_ros, *self._by_can))),
        )
        changed = self._brake.update(next((reason for reason in reasons if reason != NONE), NONE), now_ns)
        stamp_ns = min((message.stamp_ns if message else 0) for message in topics)  # both are there
        if stamp_ns > self._decided_ns:
            self._decided_ns = stamp_ns
            self._latencies_ms.append((epoch_ns - stamp_ns) / 1e6)
        return changed

    def _line(self) -> str:
        age = f"{(time.time_ns() - self._decided_ns) / 1e6:.0f}" if self._decided_ns else "-"
        ros, bus = (described(things[0]) if things else "-" for things in (self._by_ros, self._by_can))
        state = self._state()
        what = f"BRAKE: {self._brake.words}" if self._brake.kind else "drive"
        seconds = time.monotonic() - self._begun_s
        return f"{seconds:6.1f} s  age {age:>5} ms  ROS 2 {ros:<18}  CAN {state:<8} {bus:<18}  {what}"

    def _state(self) -> str:
        if self._bus is None:
            return "-"
        view = self._bus.status
        return view.state if time.monotonic_ns() - view.t_ns <= CAN_TIMEOUT_MS * 1e6 else "lost"

    def _summary(self) -> str:
        lines = [
            f"{t.received} {name} by ROS 2, {t.lost} lost, {t.unreadable} unreadable" for name, t in self._topics()
        ]
        if self._bus is not None:
            faults = ", ".join(f"{n} {kind}" for kind, n in sorted(self._bus.receiver.faults.items())) or "no faults"
            lines.append(f"{self._bus.cycles} cycles by CAN, {faults}")
        if len(self._latencies_ms) > 1:
            cuts = statistics.quantiles(self._latencies_ms, n=100, method="inclusive")
            lines.append(f"capture to decision: p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms")
        pulled = ", ".join(f"{n} for {kind}" for kind, n in self._brake.pulled.items()) or "never"
        lines.append(f"brakes: {self._brake.pulled.total()} ({pulled})")
        return "\n".join(lines)

    def _topics(self) -> tuple[tuple[str, Topic], ...]:
        return ("detections", self._boxes), ("places", self._places)


def main() -> None:
    """Until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Brakes for what edgetl sees in the lane, and whenever it is silent.")
    parser.add_argument(
        "--connect", default="tcp/127.0.0.1:7447", metavar="tcp/HOST:PORT", help="router, or edgetl run"
    )
    parser.add_argument("--can", metavar="INTERFACE:CHANNEL", help="the bus, like socketcan:can0; without: ROS 2 only")
    args = parser.parse_args()
    logging.getLogger("can").setLevel(logging.CRITICAL)  # it tells of every cut-off line of TCP
    driver = Driver(args.connect, args.can)

    def end(*_: object) -> None:
        driver.ended = True

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    driver.run()


if __name__ == "__main__":
    main()
