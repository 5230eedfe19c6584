"""Write a systemd unit for a run: restarted when it fails or its results are no longer fresh, and sandboxed."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from edgetl.commands.arguments import say
from edgetl_runtime.errors import InputError

TAKES_COMMAND = True
UNITS = Path("/etc/systemd/system")
_SIZE = re.compile(r"[1-9]\d*[KMGT]?|[1-9]\d?%|100%|infinity")
_SETTING = re.compile(r"[A-Z][A-Za-z]+=[^\n]*(?<!\\)")
_DEVICE = re.compile(r"/dev/(?!.*\.\.).+|(char|block)-.+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl service install`."""
    parser.usage = "edgetl service install NAME [flags] -- run BUNDLE SOURCE [flags of run]"
    parser.add_argument("name", metavar="NAME", help="the unit is called edgetl-NAME.service")
    parser.add_argument("--dir", type=Path, default=UNITS, help="where units are")
    parser.add_argument("--user", help="an existing user that it runs as (default: one that systemd makes up)")
    parser.add_argument("--watchdog-s", type=_seconds, default=10.0, metavar="S", help="restart without fresh results")
    parser.add_argument("--memory-max", type=_size, default="2G", metavar="SIZE", help="ended and restarted above it")
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        type=_device,
        metavar="PATH",
        help="it may use this device too; several times",
    )
    parser.add_argument(
        "--set", action="append", default=[], type=_setting, metavar="KEY=VALUE", help="add this to [Service]"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the unit and write nothing")
    parser.add_argument("--force", action="store_true", help="replace the unit that is there")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Check the command, write the unit, and say what to type next."""
    from edgetl.commands.service_plan import plan
    from edgetl_runtime.files import staged_file
    from edgetl_runtime.service.unit import unit_name, unit_text

    unit, path = unit_name(args.name), args.dir / unit_name(args.name)
    version = systemd_version()
    made = plan(args, args.tail, version=version)
    text = unit_text(made.unit)
    document: dict[str, object] = {"unit": unit, "path": str(path), "text": text, "notes": made.notes}
    for note in made.notes:
        say(f"note         {note}")
    if args.dry_run:
        if not args.json:
            sys.stdout.write(text)
        return document | {"written": False}
    with staged_file(path, force=args.force) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o600 if made.secret else 0o644)
    say(f"wrote        {path}")
    say("now type     systemctl daemon-reload")
    say(f"             systemctl enable --now {unit}")
    return document | {"written": True}


def systemd_version() -> int | None:
    """The version of the systemd that is installed here; None without one."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    match = re.match(r"systemd (\d+)", told)
    return int(match[1]) if match else None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"expected 1 to 3600 seconds, found {text!r}")
    return value


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a size such as 2G or 50%, found {text!r}")
    return text


def _device(text: str) -> str:
    """systemd passes over what is neither, and says so in the journal only."""
    if not _DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a device such as /dev/ttyUSB0 or char-ttyUSB, found {text!r}")
    return text


def _setting(text: str) -> str:
    if not _SETTING.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a line such as Nice=-5, found {text!r}")
    return text


def installed(directory: Path, name: str) -> tuple[str, Path]:
    """The unit's name and file. Raises InputError where there is none, or one that is not this program's."""
    from edgetl_runtime.service.unit import MARK, unit_name

    unit = unit_name(name)
    path = directory / unit
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", remedy="install it with `edgetl service install`") from error
    if MARK not in text:
        raise InputError(f"{path} was not written by edgetl", remedy="see `systemctl cat`")
    return unit, path
