"""From the command that a service shall run to its unit: what is refused, what it needs, who may read it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edgetl.commands.geometry import calibration_files
from edgetl.commands.rig_arguments import is_rig, named_bundle
from edgetl.commands.run import check
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgetl_runtime.service.readable import Who
    from edgetl_runtime.service.unit import Unit

_REFUSED = {
    "view": "a service has no screen",
    "prove": "a service has no screen and nobody who looks",
    "max_frames": "a service goes on",
    "inject": "it is for tests",
    "skip_golden": "it is for development",
}
"""Flags of `run` that make no sense for a service, and why."""
_READ = ("ladder", "engine_dir", "require_signature", "config")
_WRITTEN = ("jsonl", "out", "record", "can_dbc", "foxglove_layout")
_VISIBLE_HOMES = ("/home", "/root", "/run/user")
_PRIVATE = ("/tmp", "/var/tmp")
"""A service has its own of these."""
_NETWORK = ("rtsp://", "rtsps://", "http://", "https://", "gst:")
_OPENCV, _ROS2, _GSTREAMER = "opencv:", "ros2:", "gst:"
_DEVICE = re.compile(r"/dev/[\w/.:-]+")
_OWN = re.compile(r"[a-z0-9]+/(localhost|127\.[0-9.]+|\[::1\]):[0-9]+")
"""A Zenoh address of this machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A unit, and what a person should know of it. secret: the command holds a password or a token."""

    unit: Unit
    notes: list[str] = field(default_factory=list)
    secret: bool = False


class _RunParser(argparse.ArgumentParser):
    """`edgetl run`'s arguments, refused with one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"after --: {message}", remedy="see edgetl run --help")


def run_arguments(words: Sequence[str]) -> argparse.Namespace:
    """What `run BUNDLE SOURCE …` says, its --config included. Raises InputError where it is another command or not a
    valid one."""
    from edgetl.cli import apply_config
    from edgetl.commands import run

    if list(words[:1]) != ["run"]:
        raise InputError(
            "after -- comes what the service runs, and that must be `run BUNDLE SOURCE …`",
            remedy="edgetl service install front -- run /opt/road.bundle /dev/video0 --deadline-ms 200",
        )
    parser = _RunParser(prog="edgetl run", add_help=False)
    run.add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--config", type=Path)
    apply_config(parser, list(words[1:]))
    return parser.parse_args(list(words[1:]))


def plan(args: argparse.Namespace, words: Sequence[str], *, version: int | None) -> Plan:
    """The unit for `edgetl service install`'s arguments and the command behind them. Raises InputError."""
    from edgetl_runtime.service.readable import who
    from edgetl_runtime.service.unit import Unit

    run = run_arguments(words)
    _refuse(run)
    user, program = who(args.user), _program()
    state = Path("/var/lib") / f"edgetl-{args.name}"
    read = [Path(program[0]), Path(_python()), *_paths_read(run)]
    _check_readable(read, user)
    engine, gpu = _engine(run), _may_use_gpu(run)
    devices = (*_cameras(run), *(_gpu_devices() if gpu else ()), *args.device)
    network = _network(run)
    unit = Unit(
        name=args.name,
        command=(*program, *words),
        user=args.user,
        groups=_groups(devices, gpu=gpu),
        devices=devices,
        writable=tuple(_writable(run, state, user)),
        network=network,
        families=("AF_CAN",) if _can_interface(run) == "socketcan" else (),
        homes=any(_below(path, _VISIBLE_HOMES) or _below(path.resolve(), _VISIBLE_HOMES) for path in read),
        compiles=engine != "onnxruntime",
        port=min((port for port in (run.web, run.foxglove) if port is not None), default=None),
        priority=run.priority,
        watchdog_s=args.watchdog_s,
        memory_max=args.memory_max,
        version=version,
        ready_url=_ready_url(run),
        extra=tuple(args.set),
    )
    return Plan(unit, list(_notes(run, args, engine)), secret=_secret(run))


def _refuse(run: argparse.Namespace) -> None:
    is_rig(run)
    for name, why in _REFUSED.items():
        if getattr(run, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} can't be used in a service: {why}")
    for name in ("web", "foxglove"):
        if getattr(run, name) == 0:
            raise InputError(
                f"--{name} 0 takes another port at each start", remedy="give a service a port, such as 8080"
            )
    for name in _WRITTEN:
        if getattr(run, name) is not None and not run.force:
            raise InputError(
                f"{_flag(name)} would be in the way at the next start, and the service could not start again",
                remedy="add --force, which replaces the file of the run before, or leave it out",
            )
    check(_without_files(run))
    if not run.ros2_connect and any(address.endswith(":0") for address in run.ros2_listen):
        raise InputError(
            "--ros2-listen takes another port at each start, where nobody finds it",
            remedy="give it a port, such as tcp/127.0.0.1:7447, or name a router with --ros2-connect",
        )
    for source in _sources(run):
        if not _live(source):
            raise InputError(f"{source} is a file, which ends, and a service goes on", remedy="give a live camera")


def _without_files(run: argparse.Namespace) -> argparse.Namespace:
    """The same flags without files to write: systemd makes the state folder, and what is there is replaced."""
    video = {"out": run.out if run.also_camera or run.also_bundle else None}
    budget = {"record_budget_mb": run.record_budget_mb if run.record is None else 0.0}
    return argparse.Namespace(**vars(run) | dict.fromkeys(_WRITTEN) | video | budget)


def _sources(run: argparse.Namespace) -> list[str]:
    return [run.source, *(text.partition("=")[2] for text in run.also_camera)]


def _live(source: str) -> bool:
    device = source.isdecimal() or source.startswith("/dev/")
    return device or source.startswith((*_NETWORK, _OPENCV, _ROS2, "shm:", "roadworld:"))


def _paths_read(run: argparse.Namespace) -> Iterator[Path]:
    """What the run reads, each as an absolute path that is there."""
    from edgetl_runtime.tensorrt.device import default_engine_dir

    named = {name: getattr(run, name) for name in _READ if getattr(run, name) not in (None, True)}
    for name, value in [
        *(("BUNDLE", b) for b in _bundles(run)),
        *((_flag(n), v) for n, v in named.items()),
        *(("--calibration", path) for path in _calibrations(run)),
        *(("--ros2-camera-info", path) for path in _of_cameras(run, "--ros2-camera-info", run.ros2_camera_info)),
    ]:
        path = Path(value)
        if not path.is_absolute():
            raise InputError(f"{name} {path} must be an absolute path", remedy=f"write {path.absolute()}")
        if not path.exists():
            raise InputError(f"{name} {path} is not there")
        if _below(path, _PRIVATE):
            raise InputError(f"{name} {path} can't be seen: a service has a {path.parts[1]} of its own")
        yield path
    if run.engine_dir is None:
        yield from (folder for b in _bundles(run) if (folder := default_engine_dir(Path(b))).is_dir())


def _bundles(run: argparse.Namespace) -> list[str]:
    return [run.bundle, *(named_bundle(text)[1] for text in run.also_bundle)]


def _calibrations(run: argparse.Namespace) -> Iterator[Path]:
    """The files of --calibration, and those of mountings beside them."""
    from edgetl_runtime.geometry.calibration import MOUNTING_SUFFIX

    for path in calibration_files(run):
        yield path
        if (beside := path.with_name(path.stem + MOUNTING_SUFFIX)).exists():
            yield beside


def _of_cameras(run: argparse.Namespace, flag: str, texts: Sequence[str]) -> list[Path]:
    from edgetl.commands.by_camera import by_camera

    return [Path(path) for path in by_camera(run, flag, texts, like="front.yaml").values()]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _writable(run: argparse.Namespace, state: Path, user: Who) -> Iterator[str]:
    """Folders outside the state folder that the run writes into."""
    from edgetl_runtime.service.readable import may_write
    from edgetl_runtime.update.store import is_store

    if is_store(run.bundle):
        if not may_write(Path(run.bundle), user):
            raise InputError(
                f"{user.name} can't write into the store {run.bundle}, where a new slot's probation is counted",
                remedy="give --user, and let that user own the store",
            )
        yield run.bundle
    outputs = {name: getattr(run, name) for name in (*_WRITTEN, "collect") if getattr(run, name) is not None}
    for name, path in outputs.items():
        if not path.is_absolute():
            raise InputError(f"{_flag(name)} {path} must be an absolute path", remedy=f"put it into {state}")
        if _below(path, (str(state),)):
            continue
        folder = path if path.is_dir() else path.parent
        if not folder.is_dir():
            raise InputError(f"{_flag(name)}: there is no folder {folder}", remedy=f"make it, or put it into {state}")
        if not may_write(folder, user):
            raise InputError(f"{_flag(name)}: {user.name} can't write into {folder}", remedy=f"put it into {state}")
        if path.is_file() and not may_write(path, user):
            raise InputError(
                f"{_flag(name)}: {user.name} can't replace {path}", remedy="remove it, or change its owner"
            )
        yield str(folder)


def _check_readable(paths: Sequence[Path], user: Who) -> None:
    from edgetl_runtime.service.readable import unreadable

    for path in paths:
        if why := unreadable(path, user):
            raise InputError(why, remedy="change its permissions with chmod, move it to /opt or /srv, or give --user")


def _below(path: Path, folders: Sequence[str]) -> bool:
    return any(path == Path(folder) or Path(folder) in path.parents for folder in folders)


def _program() -> tuple[str, ...]:
    """The installed command beside this Python, else this Python with the module."""
    script = Path(sys.executable).with_name("edgetl")
    if script.is_file() and os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-m", "edgetl.cli")


def _python() -> str:
    """What runs that command; where it links to a Python in a home of its own, a service's user can't start it."""
    return sys.executable


def _engine(run: argparse.Namespace) -> str:
    """The engine that will run, "any" where that may change."""
    from edgetl_runtime.bundle import read_manifest
    from edgetl_runtime.update.store import is_store

    if run.ladder is not None or run.also_bundle or (is_store(run.bundle) and run.engine is None):
        return "any"
    chosen: str = run.engine or read_manifest(run.bundle).chosen.engine
    return chosen


def _may_use_gpu(run: argparse.Namespace) -> bool:
    """Whether TensorRT may run: where that may change, by what the bundles hold, those to come in a store included."""
    from edgetl_runtime.bundle import read_manifest
    from edgetl_runtime.update.store import is_store

    engine = _engine(run)
    if engine != "any" or is_store(run.bundle):
        return engine in ("tensorrt", "any")
    manifests = [read_manifest(path) for path in _bundles(run)]
    return any("tensorrt" in variant.engines for manifest in manifests for variant in manifest.variants)


def _cameras(run: argparse.Namespace) -> Iterator[str]:
    for source in (text.removeprefix(_OPENCV) for text in _sources(run)):
        if source.startswith(_GSTREAMER):
            yield from _DEVICE.findall(source)
        elif source.isdecimal():
            yield f"/dev/video{source}"
        elif source.startswith("/dev/"):
            yield source


def _gpu_devices() -> tuple[str, ...]:
    from edgetl_runtime.service.unit import GPU_DEVICES

    return GPU_DEVICES


def _groups(devices: Sequence[str], *, gpu: bool) -> tuple[str, ...]:
    """The groups that own cameras and GPUs, those that this machine has: systemd refuses to start with another."""
    import grp

    there = {group.gr_name for group in grp.getgrall()}
    wanted = ("video", "render") if gpu else ("video",) if devices else ()
    return tuple(name for name in wanted if name in there)


def _network(run: argparse.Namespace) -> str:
    others = not all(_OWN.fullmatch(address) for address in (*run.ros2_connect, *run.ros2_listen))
    if any(source.startswith(_NETWORK) for source in _sources(run)) or run.bind is not None or others:
        return "any"
    if _can_interface(run) == "udp_multicast":
        return "any"
    ros = run.ros2 is not None or any(source.startswith(_ROS2) for source in _sources(run))
    return "loopback" if ros or run.web is not None or run.foxglove is not None else "none"


def _can_interface(run: argparse.Namespace) -> str:
    return "" if run.can is None else str(run.can.partition(":")[0])


def _ready_url(run: argparse.Namespace) -> str:
    """Where this machine asks whether results can be used; empty without --web."""
    if run.web is None:
        return ""
    host = "127.0.0.1" if run.bind in (None, "0.0.0.0", "::", "localhost") else run.bind
    return f"http://{f'[{host}]' if ':' in host else host}:{run.web}/readyz"


def _secret(run: argparse.Namespace) -> bool:
    return run.token is not None or any("@" in source for source in _sources(run) if source.startswith(_NETWORK))


def _notes(run: argparse.Namespace, args: argparse.Namespace, engine: str) -> Iterator[str]:
    if not run.deadline_ms:
        yield f"without --deadline-ms a result feeds the watchdog until it is {args.watchdog_s:g} s old"
    if _secret(run):
        yield "the command holds a password or a token: the file is for root only, but `systemctl show` tells all users"
    if _can_interface(run) not in ("", "socketcan", "udp_multicast", "virtual"):
        yield "give the CAN adapter's device node with --device, where its driver has one"
    if any(source.removeprefix(_OPENCV).isdecimal() for source in _sources(run)):
        yield "a camera's number may change when another is plugged in: see /dev/v4l/by-id for names that stay"
    if engine != "onnxruntime":
        yield f"without MemoryDenyWriteExecute: {engine} engine{'s make' if engine == 'any' else ' makes'} machine code"
