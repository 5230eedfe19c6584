"""The flags of `edgetl run` that are about several cameras and bundles, and what they name."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_MAIN = "main"
_ONE_CAMERA = ("prove", "run_revoked")
"""Flags that are of one camera and one bundle."""


def add_rig_arguments(parser: argparse.ArgumentParser) -> None:
    """Further cameras and bundles."""
    group = parser.add_argument_group("several cameras and bundles")
    group.add_argument(
        "--also-camera",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="run this camera too, every bundle on it; may be given several times",
    )
    group.add_argument("--camera-name", metavar="NAME", help=f"SOURCE's name beside --also-camera (default: {_MAIN})")
    group.add_argument(
        "--also-bundle",
        action="append",
        default=[],
        metavar="[NAME=]BUNDLE",
        help="run this bundle too, on every camera; may be given several times (default name: its own)",
    )
    group.add_argument(
        "--gather-ms",
        type=float,
        metavar="MS",
        help="how long cameras wait for each other in a round (default: half the shortest frame interval)",
    )


def is_rig(args: argparse.Namespace) -> bool:
    """Whether several cameras or bundles are asked for. Raises InputError for flags that don't go with that."""
    if not (args.also_camera or args.also_bundle):
        for flag in ("camera_name", "gather_ms"):
            if getattr(args, flag) is not None:
                raise InputError(f"{_flag(flag)} is of several cameras", remedy="add --also-camera NAME=SOURCE")
        return False
    if refused := [
        _flag(name) for name in _ONE_CAMERA if not (getattr(args, name) is None or getattr(args, name) is False)
    ]:
        raise InputError(
            f"{', '.join(refused)} can't be used with several cameras or bundles",
            remedy="use --jsonl, or run one camera and one bundle",
        )
    _refuse_stores(args)
    return True


def _refuse_stores(args: argparse.Namespace) -> None:
    from edgetl_runtime.update.store import is_store

    for path in (args.bundle, *(named_bundle(text)[1] for text in args.also_bundle)):
        if is_store(path):
            raise InputError(
                f"{path} is a store of `edgetl update`, which runs one bundle on one camera",
                remedy="name the bundle's own folder beside --also-camera and --also-bundle",
            )


def sources_of(args: argparse.Namespace) -> dict[str, str]:
    """Every camera's source by its name."""
    sources = {_named(args.camera_name or _MAIN, "--camera-name"): args.source}
    for text in args.also_camera:
        name, sign, source = text.partition("=")
        if not sign or not source:
            raise InputError(f"--also-camera must be like left=/dev/video2, found {text}")
        if _named(name, "--also-camera") in sources:
            raise InputError(f"two cameras are called {name}", remedy="give each another name; see --camera-name")
        if args.jsonl is not None and args.jsonl.resolve() == Path(source).resolve():
            raise InputError(f"{args.jsonl} is a source itself", remedy="write to another file")
        sources[name] = source
    return sources


def bundles_of(args: argparse.Namespace) -> dict[str, Bundle]:
    """Every bundle by its name, opened and checked."""
    from edgetl_runtime.bundle import open_bundle

    bundles: dict[str, Bundle] = {}
    for text in (args.bundle, *args.also_bundle):
        name, path = ("", text) if text is args.bundle else named_bundle(text)
        bundle = open_bundle(path, require_signature=args.require_signature)
        name = name or bundle.manifest.name
        if name in bundles:
            raise InputError(f"two bundles are called {name}", remedy=f"name one: --also-bundle other={path}")
        bundles[name] = bundle
    return bundles


def named_bundle(text: str) -> tuple[str, str]:
    """The name, "" where it is the bundle's own, and the path of --also-bundle; a path may hold = too."""
    name, sign, path = text.partition("=")
    return (name, path) if sign and _NAME.fullmatch(name) else ("", text)


def _named(name: str, flag: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"a name of {flag} has letters, digits, - and _ and begins with a letter, found {name!r}")
    return name


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
