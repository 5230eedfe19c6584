"""The systemd unit of a run: notified readiness, a watchdog, restarts that slow down, and a tight sandbox.

Every line is data of systemd.service(5), systemd.exec(5) and systemd.resource-control(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.service.quoting import command_line, setting

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "edgetl-"
MARK = "[X-Edgetl]"
"""A section that systemd passes over: it says that the unit is this program's, and where it answers /readyz."""
RESTART = 75
"""EX_TEMPFAIL of sysexits.h: what a run ends with that wants to be started again, with another slot of its store."""
STOPPED = 130
"""What a run ends with that was told to stop while it started."""
STEPS_SINCE = 254
"""The first systemd with RestartSteps and RestartMaxDelaySec."""
GPU_DEVICES = ("char-nvidia*", "char-nvhost*", "char-nvgpu*", "char-nvmap*", "char-host1x*", "char-drm")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")

_ALWAYS = """\
NoNewPrivileges=yes
UMask=0027
ProtectSystem=strict
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit is made of.

    name: without prefix and ending. command: the words of the program, the first an absolute path. user: None for one
    that systemd makes up for each start. groups: further groups. devices: paths of device nodes or systemd's own
    patterns; none: no hardware at all is seen. writable: folders outside the state folder that are written to.
    network: "none", "loopback" or "any". families: further families of sockets, such as AF_CAN. compiles: the engine
    makes machine code while it runs. port: below 1024 it needs a capability. priority: of --priority. version: of the
    systemd that will read it, None: a new one. ready_url: where the run answers whether its results can be used. extra:
    lines that come last in [Service].
    """

    name: str
    command: tuple[str, ...]
    user: str | None = None
    groups: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    network: str = "none"
    families: tuple[str, ...] = ()
    homes: bool = False
    compiles: bool = True
    port: int | None = None
    priority: int | None = None
    watchdog_s: float = 10.0
    memory_max: str = "2G"
    version: int | None = None
    ready_url: str = ""
    extra: tuple[str, ...] = ()


def unit_name(name: str) -> str:
    """`front` to `edgetl-front.service`. Raises InputError for a name that can't be one."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a service's name has small letters, digits, - and _, 48 at most, found {name!r}",
            remedy="call it front, for example",
        )
    return f"{PREFIX}{name}.service"


def unit_text(unit: Unit) -> str:
    """The unit's file. Raises InputError for words that a unit can't hold."""
    full = unit_name(unit.name).removesuffix(".service")
    sections = [
        ["[Unit]", *_start(unit)],
        ["[Service]", *_process(unit), *_restarts(unit), *_owner(unit, full), *_sandbox(unit), *unit.extra],
        ["[Install]", "WantedBy=multi-user.target"],
        [MARK, *([f"Ready={unit.ready_url}"] if unit.ready_url else [])],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _start(unit: Unit) -> Iterator[str]:
    yield f"Description=edgetl perception: {unit.name}"
    if unit.network == "any":
        yield "Wants=network-online.target"
        yield "After=network-online.target"
    yield "StartLimitIntervalSec=300"
    yield "StartLimitBurst=20"


def _process(unit: Unit) -> Iterator[str]:
    yield "Type=notify"
    yield "NotifyAccess=main"
    yield f"ExecStart={command_line(unit.command)}"
    yield f"WatchdogSec={unit.watchdog_s:g}"
    yield "TimeoutStartSec=300"
    yield "TimeoutStopSec=30"
    yield f"MemoryMax={unit.memory_max}"
    yield "OOMPolicy=stop"
    yield "Environment=PYTHONFAULTHANDLER=1"  # the watchdog's SIGABRT leaves every thread's stack in the journal


def _restarts(unit: Unit) -> Iterator[str]:
    yield "Restart=on-failure"
    yield f"RestartForceExitStatus={RESTART}"
    yield f"SuccessExitStatus={STOPPED}"
    if unit.version is not None and unit.version < STEPS_SINCE:
        yield "RestartSec=5"
        return
    yield "RestartSec=1"
    yield "RestartSteps=6"
    yield "RestartMaxDelaySec=60"


def _owner(unit: Unit, full: str) -> Iterator[str]:
    yield "DynamicUser=yes" if unit.user is None else f"User={unit.user}"
    if unit.groups:
        yield f"SupplementaryGroups={' '.join(unit.groups)}"
    yield f"StateDirectory={full}"
    yield f"CacheDirectory={full}"
    yield f"WorkingDirectory=%S/{full}"
    yield f"Environment=EDGETL_CACHE=%C/{full} XDG_CACHE_HOME=%C/{full} CUDA_CACHE_PATH=%C/{full}/cuda"
    yield from (f"ReadWritePaths={setting(path)}" for path in unit.writable)


def _sandbox(unit: Unit) -> Iterator[str]:
    yield from _ALWAYS.split("\n")
    yield "ProtectHome=read-only" if unit.homes else "ProtectHome=yes"
    yield from _devices(unit)
    yield from _network(unit)
    if not unit.compiles:
        yield "MemoryDenyWriteExecute=yes"
    if unit.priority is None:
        yield "RestrictRealtime=yes"
    else:
        yield f"LimitRTPRIO={unit.priority}"
    low = unit.port is not None and 0 < unit.port < 1024
    yield f"CapabilityBoundingSet={'CAP_NET_BIND_SERVICE' if low else ''}"
    yield f"AmbientCapabilities={'CAP_NET_BIND_SERVICE' if low else ''}"


def _devices(unit: Unit) -> Iterator[str]:
    if not unit.devices:
        yield "PrivateDevices=yes"
        return
    yield "DevicePolicy=closed"
    yield from (f"DeviceAllow={setting(device)} rw" for device in unit.devices)


def _network(unit: Unit) -> Iterator[str]:
    internet = () if unit.network == "none" else ("AF_INET", "AF_INET6")
    yield f"RestrictAddressFamilies={' '.join(('AF_UNIX', *internet, *unit.families))}"
    if unit.network == "none":
        yield "IPAddressDeny=any"
    if unit.network == "loopback":
        yield "IPAddressDeny=any"
        yield "IPAddressAllow=localhost"
