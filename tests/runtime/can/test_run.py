"""edgetl run --can: a bus with what it should carry, and flags that are refused early."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import can
import cantools
import msgspec
import pytest
from geometry_support import calibration
from runtime_support import HEADS, write_test_bundle

from edgetl.commands import run as run_command
from edgetl.commands.can import open_bus, parse_bus
from edgetl_runtime.can import CanReceiver
from edgetl_runtime.can.dbc import DBC
from edgetl_runtime.can.receiver import CanView
from edgetl_runtime.errors import EngineError, InputError, MissingPackage
from edgetl_runtime.geometry.calibration import calibration_yaml


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return run_command.run(parser.parse_args([str(a) for a in arguments]))


@contextmanager
def listening(channel: str, receiver: CanReceiver) -> Iterator[list[CanView]]:
    """Every view of what is sent on a virtual bus meanwhile."""
    views: list[CanView] = []
    with can.Bus(interface="virtual", channel=channel) as bus:
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set() or bus.queue.qsize():  # type: ignore[attr-defined]
                message = bus.recv(0.02)
                view = receiver.receive(message.arbitration_id, message.data) if message else None
                if view is not None:
                    views.append(view)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield views
        finally:
            ended.set()
            listener.join()


def test_run_sends_objects_and_says_what_and_how(
    shared_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    channel, dbc = f"edgetl-{time.monotonic_ns()}", tmp_path / "out.dbc"
    receiver = CanReceiver(base_id=0x500, slots=4, cycle_ms=10, labels=("vehicle", "pedestrian", "light"))
    flags = ("--can-cycle-ms", 10, "--can-base-id", "0x500", "--can-objects", 4, "--can-dbc", dbc)
    with listening(channel, receiver) as views:
        document = call(shared_bundle, clip, "--realtime", "--can", f"virtual:{channel}", *flags, "--threshold", 0)
    states, seen = [view.state for view in views], [o for view in views for o in view.objects]
    assert document["processed"] and not [n for n in document["notes"] if "CAN" in n]
    assert states[0] == "stale" and states[-1] == "ended" and "ok" in states
    assert {o.index for o in seen} == {0, 1, 2, 3} and {o.label for o in seen} <= {"vehicle", "pedestrian", "light"}
    assert {o.x_m for o in seen} == {None}
    told = capsys.readouterr().err
    assert f"CAN: 9 frames every 10 ms on virtual:{channel} from 0x500 on, 122 kbit/s at the most" in told
    assert "classes: 0 vehicle, 1 pedestrian, 2 light" in told and "no calibrated camera" in told
    kind = cantools.database.load_file(dbc).get_message_by_frame_id(0x502)
    assert str(kind.get_signal_by_name("Class").choices[1]) == "pedestrian"


def test_a_rig_sends_what_its_calibrated_cameras_see(
    shared_bundle: Path, shared_many: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = msgspec.structs.replace(
        calibration(pitch_deg=12.0), size_hw=(180, 320), matrix=(250.0, 0.0, 160.0, 0.0, 250.0, 90.0, 0.0, 0.0, 1.0)
    )
    front, dbc = tmp_path / "front.yaml", tmp_path / "out.dbc"
    front.write_text(calibration_yaml(camera))
    masks = write_test_bundle(tmp_path / "masks.bundle", heads=HEADS[1:], name="masks")
    channel = f"edgetl-{time.monotonic_ns()}"
    receiver = CanReceiver(cycle_ms=20, timeout_ms=200, labels=("vehicle", "pedestrian", "light"))
    rig = ("--camera-name", "front", "--also-camera", f"left={clip}", "--also-camera", f"rear={clip}")
    left = tmp_path / "left.yaml"
    left.write_text(calibration_yaml(msgspec.structs.replace(camera, camera_name="left")))
    calibrated = ("--calibration", f"front={front}", "--calibration", f"left={left}")
    flags = ("--track", "--threshold", 0.3, "--realtime", "--can-cycle-ms", 20, "--can-dbc", dbc)
    with listening(channel, receiver) as views:
        document = call(
            shared_many, clip, *rig, "--also-bundle", f"boxes={shared_bundle}", "--also-bundle", masks, *calibrated,
            *flags, "--can", f"virtual:{channel}",
        )  # fmt: skip
    assert document["processed"] and not [n for n in document["notes"] if "CAN" in n]
    states = [view.state for view in views]
    assert states[0] == "stale" and states[-1] == "ended" and "ok" in states
    seen = [view for view in views if view.objects]
    assert seen and all(view.placed for view in seen)
    assert any(o.x_m is not None and o.track_id is not None for view in seen for o in view.objects)
    told = capsys.readouterr().err
    assert "CAN: objects that front, left see by tiny, boxes; nothing of rear: not calibrated" in told
    assert "classes: 0 vehicle, 1 pedestrian, 2 light" in told and "pedestrian" in dbc.read_text()


def test_a_rig_without_boxes_or_names_is_refused(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    masks = write_test_bundle(tmp_path / "masks.bundle", heads=HEADS[1:])
    rig = ("--also-camera", f"left={clip}", "--can", "virtual:x")
    with pytest.raises(InputError, match="none of these bundles gives boxes, there is nothing to place"):
        call(masks, clip, *rig, "--calibration", "left=x.yaml")
    with pytest.raises(InputError, match=r"found rear=x\.yaml; cameras are called main, left"):
        call(shared_bundle, clip, *rig, "--calibration", "rear=x.yaml")


def test_one_camera_with_several_bundles_needs_no_name(
    shared_bundle: Path, shared_many: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = (250.0, 0.0, 160.0, 0.0, 250.0, 90.0, 0.0, 0.0, 1.0)
    camera = msgspec.structs.replace(calibration(pitch_deg=12.0), size_hw=(180, 320), matrix=matrix)
    front = tmp_path / "front.yaml"
    front.write_text(calibration_yaml(camera))
    flags = ("--also-bundle", f"many={shared_many}", "--calibration", front, "--can", "virtual:one")
    call(shared_bundle, clip, *flags)
    assert "CAN: objects that main see by tiny, many\n" in capsys.readouterr().err


def test_where_the_signals_are_is_told(shared_bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for flags in ((), ("--can-base-id", 0x500)):
        call(shared_bundle, clip, "--max-frames", 1, "--can", "virtual:told", *flags)
        told.append(capsys.readouterr().err)
    assert f"signals: {DBC};" in told[0]
    assert f"signals: {DBC}, moved (--can-dbc FILE writes it so);" in told[1]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--can", "can0"), "must be like socketcan:can0, found 'can0'"),
        (("--can", "socketcan:"), "must be like socketcan:can0"),
        (("--can-cycle-ms", 20), "--can-cycle-ms is of --can.*add --can INTERFACE:CHANNEL"),
        (("--can-base-id", 0), "--can-base-id is of --can"),
        (("--can", "virtual:x", "--can-base-id", 0x7FF), "must leave room"),
        (("--can", "virtual:x", "--can-objects", 0), "1 to 8 objects, found 0"),
        (("--can", "virtual:x", "--can-cycle-ms", 2), "from 5 to 1000 ms"),
        (("--can", "virtual:x", "--can-dbc", "/proc/x.dbc"), r"can't write /proc/x\.dbc: No such file"),
        (("--can", "nothing:x"), "python-can has no interface 'nothing'.*socketcan"),
        (("--can", "virtual:x", "--also-camera", "rear=1"), "no camera is calibrated.*add --calibration NAME=YAML"),
        (("--can", "virtual:x", "--also-bundle", "x=y"), "no camera is calibrated"),
    ],
)
def test_run_refuses(shared_bundle: Path, clip: Path, tmp_path: Path, flags: tuple[object, ...], text: str) -> None:
    lines = tmp_path / "o.jsonl"
    lines.write_text("kept")
    with pytest.raises(InputError, match=text):
        call(shared_bundle, clip, *flags, "--jsonl", lines, "--force")
    assert lines.read_text() == "kept"


def test_a_bundle_without_boxes_is_refused() -> None:
    from runtime_support import CLASSIFY, DETECT, HEADS

    from edgetl.commands.can import _head

    class Only:
        def __init__(self, *heads: object) -> None:
            self.manifest = argparse.Namespace(heads=heads)

    assert _head(Only(*HEADS)) is DETECT  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no head of this bundle gives any"):
        _head(Only(CLASSIFY))  # type: ignore[arg-type]


def test_a_file_of_signals_is_not_replaced_unasked(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    dbc = tmp_path / "kept.dbc"
    dbc.write_text("kept")
    with pytest.raises(EngineError, match="nope"):
        call(shared_bundle, clip, "--can", "virtual:x", "--can-dbc", dbc, "--force", "--variant", "nope")
    assert dbc.read_text() == "kept" and list(tmp_path.iterdir()) == [dbc]
    with pytest.raises(InputError, match=r"kept\.dbc"):
        call(shared_bundle, clip, "--can", "virtual:x", "--can-dbc", dbc)
    assert dbc.read_text() == "kept"


@pytest.mark.parametrize("package", ["can", "cantools"])
def test_a_missing_package_is_named_with_its_extra(
    shared_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r"edgetl\[vehicle\]"):
        call(shared_bundle, clip, "--can", "virtual:x")


def test_what_names_a_bus() -> None:
    assert parse_bus("socketcan:can0") == ("socketcan", "can0")
    assert parse_bus("udp_multicast:ff15:7079:7468::1") == ("udp_multicast", "ff15:7079:7468::1")


def test_a_bus_that_is_not_there_is_one_line() -> None:
    with pytest.raises(InputError, match=r"can't open the CAN bus socketcan:nocan9: .*ip link set nocan9 up"):
        open_bus("socketcan", "nocan9")
