"""Remove the unit of a service that has been stopped."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from edgetl.commands.arguments import say
from edgetl.commands.service_install import UNITS, installed
from edgetl.commands.service_status import BOOTED, ask
from edgetl_runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl service remove`."""
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--dir", type=Path, default=UNITS, help="where units are")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Remove it; what the service has kept stays."""
    unit, path = installed(args.dir, args.name)
    if args.dir == UNITS and shutil.which("systemctl") and BOOTED.is_dir() and _runs(unit):
        raise InputError(f"{unit} is running", remedy=f"type systemctl disable --now {unit} first")
    try:
        path.unlink()
    except OSError as error:
        raise InputError(f"{path} can't be removed: {error.strerror}") from error
    kept = f"/var/lib/{unit.removesuffix('.service')}"
    say(f"removed      {path}")
    say("now type     systemctl daemon-reload")
    say(f"kept         {kept} and /var/cache/{unit.removesuffix('.service')}, where they exist")
    return {"unit": unit, "removed": str(path)}


def _runs(unit: str) -> bool:
    """Also where systemd can't read the unit's file any more."""
    return ask(unit)["ActiveState"] in {"active", "activating", "reloading", "deactivating"}
