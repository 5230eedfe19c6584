"""How a service is: what systemd says of it and, where it has --web, whether its results can be used."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from edgetl.commands.arguments import say
from edgetl.commands.service_install import UNITS, installed
from edgetl_runtime.errors import InputError

BOOTED = Path("/run/systemd/system")
"""sd_booted(3): the folder is there where systemd runs the machine."""
PATIENCE_S = 20
_ASKED = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "StatusText",
    "NRestarts",
    "MainPID",
    "MemoryCurrent",
    "ActiveEnterTimestamp",
    "ExecMainStatus",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl service status`."""
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--dir", type=Path, default=UNITS, help="where units are")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Ask both; the exit status is 1 where it does not run, or its results can't be used."""
    unit, path = installed(args.dir, args.name)
    shown = show(unit)
    url = ready_url(path.read_text(encoding="utf-8", errors="replace"))
    ready, why = probe(url) if url and shown["ActiveState"] == "active" else (None, "")
    say(f"{unit:<28} {shown['ActiveState']} ({shown['SubState']}) since {shown['ActiveEnterTimestamp'] or 'never'}")
    if shown["StatusText"]:
        say(f"it says      {shown['StatusText']}")
    if shown["Result"] != "success":
        say(f"last end     {shown['Result']}, status {shown['ExecMainStatus']}: see journalctl -u {unit}")
    say(f"restarts     {shown['NRestarts']}, memory {_megabytes(shown['MemoryCurrent'])}")
    if ready is None and why:
        say(f"results      not known: {why} ({url})")
    elif ready is not None:
        say(f"results      {'can be used' if ready else f'can NOT be used: {why}'} ({url})")
    ok = shown["ActiveState"] == "active" and ready is not False
    document: dict[str, object] = {"unit": unit, "systemd": shown, "ready": ready, "why": why, "ok": ok}
    return document | {"exit_status": 0 if ok else 1}


def show(unit: str) -> dict[str, str]:
    """What systemd says of the unit. Raises InputError as `ask` does, or where systemd doesn't know it yet."""
    found = ask(unit)
    if found["LoadState"] != "loaded":
        raise InputError(f"systemd does not know {unit} yet", remedy="type systemctl daemon-reload")
    return found


def ask(unit: str) -> dict[str, str]:
    """What systemd says of the unit, whether or not it could read its file.

    Raises InputError where systemd doesn't run, or says nothing.
    """
    program = shutil.which("systemctl")
    if program is None or not BOOTED.is_dir():
        raise InputError(
            f"systemd does not run this machine, so {unit} can't run here",
            remedy="look on the vehicle itself; in a container use its own restart policy",
        )
    asked = [program, "show", unit, f"--property={','.join(_ASKED)}"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"systemctl said nothing for {PATIENCE_S} s", remedy="look whether systemd hangs") from error
    if told.returncode:
        raise InputError(f"systemctl can't say: {told.stderr.strip() or told.returncode}")
    return parse_show(told.stdout)


def parse_show(text: str) -> dict[str, str]:
    """The properties of `systemctl show`, each of those that are asked for, empty where it said nothing."""
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name: said.get(name, "") for name in _ASKED}


def ready_url(text: str) -> str:
    """Where the unit's run answers /readyz; empty without --web."""
    lines = [line.removeprefix("Ready=") for line in text.splitlines() if line.startswith("Ready=")]
    return lines[0] if lines else ""


def probe(url: str) -> tuple[bool | None, str]:
    """Whether results can be used, and why not; None where the run asks for a token, which is nobody's to know here."""
    try:
        return _probed(url)
    except (OSError, HTTPException) as error:  # nobody answers, or what answers is no page
        return False, f"no answer ({' '.join(str(error).split())})"


def _probed(url: str) -> tuple[bool | None, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status == 200, ""
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED:
            return None, "the page asks for its token"
        return False, error.read(500).decode(errors="replace").strip() or f"status {error.code}"


def _megabytes(text: str) -> str:
    return f"{int(text) / 1e6:.0f} MB" if text.isdecimal() and int(text) < 2**62 else "not known"
