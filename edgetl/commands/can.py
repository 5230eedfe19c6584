"""--can: its flags, what is refused before anything is loaded, and the sender that it makes."""

from __future__ import annotations

import argparse
import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from edgetl.commands.by_camera import by_camera
from edgetl.commands.descriptions import describe
from edgetl_runtime.errors import InputError, UnfitBundle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.can.link import Bus
    from edgetl_runtime.health import Health
    from edgetl_runtime.ladder import Ladder
    from edgetl_runtime.rig.sinks import RigSink
    from edgetl_runtime.sinks import Sink
    from edgetl_runtime.spec import DetectHead

_FRAME_BITS = {False: 135, True: 160}
"""Of a frame with 8 bytes at the most, by whether its identifier has 29 bits: with all stuff bits and the gap."""


def add_can_arguments(group: argparse._ActionsContainer) -> None:
    """--can and what goes with it."""
    group.add_argument(
        "--can", metavar="INTERFACE:CHANNEL", help="send objects and state on this CAN bus, like socketcan:can0"
    )
    group.add_argument("--can-cycle-ms", type=float, metavar="MS", help="a cycle of --can (default: 50)")
    group.add_argument("--can-base-id", type=_number, metavar="ID", help="first identifier of --can (default: 0x6a0)")
    group.add_argument("--can-objects", type=int, metavar="N", help="objects of --can, 1 to 8 (default: 8)")
    group.add_argument("--can-dbc", type=Path, metavar="DBC", help="write what --can sends as a DBC file")


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number like 0x6a0, found {text!r}") from None


def check_can(args: argparse.Namespace) -> None:
    """Raise InputError or MissingPackage where nothing could be sent."""
    from edgetl_runtime.can.dbc import FIRST_ID, MAX_SLOTS, check_base
    from edgetl_runtime.can.sink import CYCLE_MS, check_cycle
    from edgetl_runtime.files import refuse_file
    from edgetl_runtime.imports import need

    if args.can is None:
        if given := [
            name for name in ("cycle_ms", "base_id", "objects", "dbc") if getattr(args, f"can_{name}") is not None
        ]:
            flag = f"--can-{given[0].replace('_', '-')}"
            raise InputError(f"{flag} is of --can", remedy="add --can INTERFACE:CHANNEL")
        return
    parse_bus(args.can)
    if (args.also_camera or args.also_bundle) and not args.calibration:
        raise InputError(
            "--can of several cameras or bundles sends objects that have a place, and no camera is calibrated",
            remedy="add --calibration NAME=YAML",
        )
    check_base(_or(args.can_base_id, FIRST_ID), _or(args.can_objects, MAX_SLOTS))
    check_cycle(_or(args.can_cycle_ms, CYCLE_MS))
    if args.can_dbc is not None:
        refuse_file(args.can_dbc, force=args.force)
    for package in ("can", "cantools"):
        need(package, extra="vehicle")


def parse_bus(text: str) -> tuple[str, str]:
    """Interface and channel of INTERFACE:CHANNEL; a channel may hold colons itself. Raises InputError."""
    interface, colon, channel = text.partition(":")
    if not (interface and colon and channel):
        raise InputError(f"--can must be like socketcan:can0, found {text!r}")
    return interface, channel


def open_bus(interface: str, channel: str) -> Bus:
    """A bus of python-can. Raises InputError that says what python-can said."""
    from edgetl_runtime.imports import need

    can: Any = need("can", extra="vehicle")
    if interface not in can.VALID_INTERFACES:
        raise InputError(
            f"python-can has no interface {interface!r}", remedy=f"it has {', '.join(sorted(can.VALID_INTERFACES))}"
        )
    try:
        bus: Bus = can.Bus(interface=interface, channel=channel)
    except Exception as error:  # drivers raise all kinds
        remedy = f"ip link set {channel} up type can bitrate 500000" if interface == "socketcan" else ""
        raise InputError(f"can't open the CAN bus {interface}:{channel}: {error}", remedy=remedy) from error
    return bus


def open_can(args: argparse.Namespace, bundle: Bundle, health: Health, stack: ExitStack) -> list[Sink]:
    """The sender that the flags ask for, closed by `stack`, and on stderr what it sends."""
    if args.can is None:
        return []
    from edgetl_runtime.can.sink import CanSink
    from edgetl_runtime.recording.header import manifest_sha256

    head = _head(bundle)
    sink = CanSink(
        lambda: open_bus(*parse_bus(args.can)),
        head.name,
        health,
        bundle_sha256=manifest_sha256(bundle),
        say=_say,
        **_settings(args),
    )
    stack.callback(sink.close)
    _announce(args, head.labels, stack)
    return [sink]


def open_can_rounds(
    args: argparse.Namespace,
    cameras: Collection[str],
    bundles: Mapping[str, Bundle],
    ladder: Ladder | None,
    stack: ExitStack,
) -> list[RigSink]:
    """The same for several cameras and bundles: objects of those cameras that are calibrated, by bundles with boxes."""
    if args.can is None:
        return []
    from edgetl_runtime.can.rounds import CanRounds, RigLanes
    from edgetl_runtime.can.sink import CanSender

    calibrated = by_camera(args, "--calibration", args.calibration, like="front.yaml")
    placed = [name for name in cameras if name in calibrated]
    heads = {name: head for name, bundle in bundles.items() if (head := _first_head(bundle)) is not None}
    lanes = RigLanes(placed, heads, ladder)
    sha256 = _sha256([bundles[name] for name in heads])
    sink = CanRounds(
        lanes,
        lambda each: CanSender(
            lambda: open_bus(*parse_bus(args.can)), each, bundle_sha256=sha256, say=_say, **_settings(args)
        ),
    )
    stack.callback(sink.close)
    _announce(args, lanes.labels, stack)
    others = [name for name in cameras if name not in placed]
    left_out = f"; nothing of {', '.join(others)}: not calibrated" if others else ""
    _tell(f"CAN: objects that {', '.join(placed)} see by {', '.join(heads)}{left_out}")
    return [sink]


def _sha256(bundles: Sequence[Bundle]) -> str:
    """Of a bundle's manifest; of several one of all of theirs, in their order."""
    from edgetl_runtime.recording.header import manifest_sha256

    each = [manifest_sha256(bundle) for bundle in bundles]
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


class _Settings(TypedDict):
    cycle_ms: float
    base_id: int
    slots: int
    max_age_ms: float


def _settings(args: argparse.Namespace) -> _Settings:
    """What a sender is told, with the defaults of flags that are not given."""
    from edgetl_runtime.can.dbc import FIRST_ID, MAX_SLOTS
    from edgetl_runtime.can.sink import CYCLE_MS, MAX_AGE_MS

    return {
        "cycle_ms": _or(args.can_cycle_ms, CYCLE_MS),
        "base_id": _or(args.can_base_id, FIRST_ID),
        "slots": _or(args.can_objects, MAX_SLOTS),
        "max_age_ms": args.deadline_ms or MAX_AGE_MS,
    }


def _announce(args: argparse.Namespace, labels: Sequence[str], stack: ExitStack) -> None:
    """Tell what is sent and where it is described; the file of signals, where one is asked for, is put there later."""
    from edgetl_runtime.can.dbc import DBC, FIRST_ID, dbc_text, is_extended

    settings = _settings(args)
    base_id, cycle_ms = settings["base_id"], settings["cycle_ms"]
    described = str(DBC) if base_id == FIRST_ID else f"{DBC}, moved (--can-dbc FILE writes it so)"
    if args.can_dbc is not None:
        describe(args, args.can_dbc, dbc_text(base_id, labels).encode(), stack)
        described = str(args.can_dbc)
    count = 1 + 2 * settings["slots"]
    load = count * _FRAME_BITS[is_extended(base_id)] / cycle_ms
    _tell(
        f"CAN: {count} frames every {cycle_ms:g} ms on {args.can} from {base_id:#x} on, {load:.0f} kbit/s at the most; "
        f"signals: {described}; classes: {', '.join(f'{i} {label}' for i, label in enumerate(labels))}"
    )


def _head(bundle: Bundle) -> DetectHead:
    head = _first_head(bundle)
    if head is None:
        raise UnfitBundle("--can sends boxes, and no head of this bundle gives any")
    return head


def _first_head(bundle: Bundle) -> DetectHead | None:
    from edgetl_runtime.spec import DetectHead

    return next((head for head in bundle.manifest.heads if isinstance(head, DetectHead)), None)


def _or(value: float | None, default: float) -> Any:
    return default if value is None else value


def _say(text: str) -> None:
    _tell(f"\nCAN: {text}")


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
