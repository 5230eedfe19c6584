"""Units: systemd itself reads back what was written, and finds nothing wrong with it."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetl_runtime.errors import InputError
from edgetl_runtime.service.quoting import command_line
from edgetl_runtime.service.unit import MARK, Unit, unit_name, unit_text

HARD = [
    "a b", "100%", "%i", "$HOME", "${HOME}", 'say "hi"', "back\\slash", "'single'", ";", "", "new\nline", "tab\there",
    "ünï", "--threshold=0.5", "#no comment", "~", "!", "gst:v4l2src ! videoconvert ! appsink", "a\\x20b", "end\\",
]  # fmt: skip
SYSTEMD = Path("/lib/systemd/systemd")
ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here")


def unquoted(line: str) -> list[str]:
    """What systemd makes of a command line of ours: quotes, escapes, specifiers, then $$."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    escapes = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"'}
    plain = [bare or re.sub(r"\\(.)", lambda m: escapes[m[1]], quoted) for quoted, bare in words]
    assert not any(re.search(r"(?<!%)%(?:%%)*(?!%)", w) or re.search(r"(?<!\$)\$(?:\$\$)*(?!\$)", w) for w in plain)
    return [w.replace("%%", "%").replace("$$", "$") for w in plain]


@given(st.lists(st.one_of(st.sampled_from(HARD), st.text(st.characters(codec="utf-8"), max_size=12))))
def test_words_come_back_or_are_refused(words: list[str]) -> None:
    if any(not c.isprintable() and c not in "\n\t\r" for word in words for c in word):
        with pytest.raises(InputError, match="can't hold the character"):
            command_line(["/bin/x", *words])
    else:
        assert unquoted(command_line(["/bin/x", *words])) == ["/bin/x", *words]


@pytest.mark.parametrize("program", ["", "relative", "/opt/$x"])
def test_a_program_that_systemd_would_not_find_is_refused(program: str) -> None:
    with pytest.raises(InputError, match="absolute path"):
        command_line([program])


def version_line() -> str:
    """Of this systemd; how it prints a command line differs between versions."""
    return subprocess.run([str(SYSTEMD), "--version"], capture_output=True, text=True, check=True).stdout


def nobody() -> tuple[int, int] | None:
    """A user that a manager can be tried as: systemd refuses that to root."""
    import pwd

    if os.getuid():
        return os.getuid(), os.getgid()
    try:
        found = pwd.getpwnam("nobody")
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


@pytest.mark.skipif(not SYSTEMD.exists() or nobody() is None, reason="no systemd here to read it")
def test_systemd_itself_reads_the_words_back(tmp_path: Path) -> None:
    """`systemd --test --user` loads units as a manager does, and prints what it made of them."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # tmp_path's parents are closed to others
        folder = Path(name)
        (folder / "run").mkdir(mode=0o700)
        words = ["/bin/echo", *(w for w in HARD if "$" not in w)]  # $$ becomes $ when it is executed
        (folder / "front.service").write_text(f"[Service]\nType=notify\nExecStart={command_line(words)}\n")
        (folder / "default.target").write_text("[Unit]\nDescription=test\nWants=front.service\n")
        identity = nobody()
        assert identity is not None
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *identity)
        environment = {
            "HOME": name, "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": f"{name}/run", "SYSTEMD_UNIT_PATH": name,
        }  # fmt: skip
        found = subprocess.run(
            [str(SYSTEMD), "--test", "--user", "--unit=default.target"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            user=identity[0] if os.getuid() == 0 else None,
            group=identity[1] if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None,
        )
    section = found.stdout.partition("Unit front.service:")[2]
    line = re.search(r"Command Line: (.*)", section)
    if line is None or "systemd 252" not in version_line():
        pytest.skip(f"this systemd shows no command lines, or in another form: {found.stderr[:200]}")
    read = [w.replace("%", "%%") for w in words]
    shown = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line[1])
    escapes = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}
    made = [bare or re.sub(r"\\([nt\\\"])", lambda m: escapes[m[1]], q) for q, bare in shown]
    assert [w.replace("\\!", "!").replace("\\~", "~") for w in made] == [w.replace("%%", "%") for w in read]


UNITS = {
    "camera": Unit(
        "front", ("/bin/true", "run", "/opt/a b", "/dev/video0"), devices=("/dev/video0",), groups=("video",)
    ),
    "all": Unit(
        "all",
        ("/bin/true", "50%", "$x"),
        user="root",
        devices=("char-nvidia*", "char-drm"),
        writable=("/var/log/a b%",),
        network="any",
        homes=True,
        port=80,
        priority=50,
        ready_url="http://127.0.0.1:80/readyz",
        extra=("Nice=-5",),
    ),
    "tight": Unit("tight", ("/bin/true",), network="loopback", compiles=False, port=8080),
}


@needs_analyze
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    unit = dataclasses.replace(UNITS[name], version=249)  # no key that an older systemd passes over
    path = tmp_path / unit_name(unit.name)
    path.write_text(unit_text(unit))
    found = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    ours = [line for line in found.stderr.splitlines() if path.name in line]
    assert ours == [] and found.returncode == 0, found.stderr


@needs_analyze
def test_the_sandbox_is_as_tight_as_said(tmp_path: Path) -> None:
    path = tmp_path / "edgetl-front.service"
    path.write_text(unit_text(dataclasses.replace(UNITS["camera"], version=249)))
    asked = [str(ANALYZE), "security", "--offline=true", "--no-pager", "--threshold=25", str(path)]
    found = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    if "unrecognized option" in found.stderr:
        pytest.skip("this systemd-analyze has no --offline")
    assert found.returncode == 0, found.stdout[-400:]


def test_what_is_not_used_is_not_allowed() -> None:
    camera, tight, everything = (unit_text(UNITS[name]) for name in ("camera", "tight", "all"))
    assert "DeviceAllow=/dev/video0 rw" in camera and "nvidia" not in camera and "PrivateDevices" not in camera
    assert "RestrictAddressFamilies=AF_UNIX\n" in camera and "IPAddressDeny=any" in camera
    assert "PrivateDevices=yes" in tight and "DeviceAllow" not in tight
    assert "IPAddressAllow=localhost" in tight and "MemoryDenyWriteExecute=yes" in tight
    assert "MemoryDenyWriteExecute" not in camera
    assert "CapabilityBoundingSet=\n" in tight and "CapabilityBoundingSet=CAP_NET_BIND_SERVICE" in everything
    assert "LimitRTPRIO=50" in everything and "RestrictRealtime" not in everything
    assert "User=root" in everything and "DynamicUser=yes" in camera
    assert 'ReadWritePaths="/var/log/a b%%"' in everything
    assert everything.index("Nice=-5") > everything.index("AmbientCapabilities")
    assert everything.endswith(f"{MARK}\nReady=http://127.0.0.1:80/readyz\n")
    for text in (camera, tight, everything):
        assert "Type=notify\n" in text and "WatchdogSec=10\n" in text and "NotifyAccess=main" in text


def test_how_it_starts_ends_and_is_started_again() -> None:
    text = unit_text(dataclasses.replace(UNITS["camera"], memory_max="1G"))
    assert "TimeoutStartSec=300\nTimeoutStopSec=30\nMemoryMax=1G\n" in text
    assert "Restart=on-failure\nRestartForceExitStatus=75\nSuccessExitStatus=130\n" in text
    assert "Environment=PYTHONFAULTHANDLER=1\n" in text, "the watchdog's abort leaves every thread's stack"


def test_it_writes_into_its_own_folders_as_one_of_its_groups() -> None:
    text = unit_text(UNITS["camera"])
    own = "StateDirectory=edgetl-front\nCacheDirectory=edgetl-front\nWorkingDirectory=%S/edgetl-front\n"
    assert f"SupplementaryGroups=video\n{own}" in text and "EDGETL_CACHE=%C/edgetl-front " in text


@pytest.mark.parametrize(("homes", "line"), [(True, "ProtectHome=read-only\n"), (False, "ProtectHome=yes\n")])
def test_homes_are_seen_where_something_is_read_there(homes: bool, line: str) -> None:
    assert line in unit_text(dataclasses.replace(UNITS["tight"], homes=homes))


@pytest.mark.parametrize(("port", "low"), [(1023, True), (1024, False), (0, False)])
def test_only_low_ports_need_a_capability(port: int, low: bool) -> None:
    assert ("CAP_NET_BIND_SERVICE" in unit_text(dataclasses.replace(UNITS["tight"], port=port))) is low


def test_an_older_systemd_gets_no_keys_that_it_does_not_know() -> None:
    new, old = (unit_text(dataclasses.replace(UNITS["tight"], version=v)) for v in (254, 253))
    assert "RestartSteps=6" in new and "RestartMaxDelaySec=60" in new
    assert "RestartSteps" not in old and "RestartSec=5" in old


@pytest.mark.parametrize("name", ["", "Front", "a b", "../x", "-x", "x" * 49, "a@b"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="small letters"):
        unit_name(name)
