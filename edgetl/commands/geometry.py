"""--calibration: its flag, and the calibrated cameras that it names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.by_camera import by_camera
from edgetl.commands.rig_arguments import sources_of
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.geometry.calibration import Calibration

OWN = "own"
"""In place of a file: what a rendered camera knows of itself."""


def add_calibration_argument(parser: argparse.ArgumentParser) -> None:
    """The calibration of each camera."""
    parser.add_argument(
        "--calibration",
        action="append",
        default=[],
        metavar="[NAME=]YAML",
        help="say where boxes stand on the road, by this camera_info file with its mounting; with --track also how "
        "fast they come nearer, and when the camera has moved; with several cameras once for each, by its name; "
        "own: of a roadworld: source, which knows its camera",
    )


def calibration_files(args: argparse.Namespace) -> list[Path]:
    """The files that --calibration names; what a rendered camera knows of itself is none.

    Raises InputError where another camera is said to know its own.
    """
    named = by_camera(args, "--calibration", args.calibration, like="front.yaml")
    for camera, text in named.items():
        if text == OWN:
            _check_own(sources_of(args)[camera])
    return [Path(text) for text in named.values() if text != OWN]


def calibration_of(args: argparse.Namespace, camera: Camera) -> Calibration | None:
    """The camera's calibration, None without the flag. Raises InputError for a file or a frame size that is wrong."""
    if not args.calibration:
        return None
    if len(args.calibration) > 1:
        raise InputError(f"one camera has one calibration, found {len(args.calibration)}", remedy="give it once")
    return _read(args.calibration[0], args.source, camera)


def _read(text: str, source: str, camera: Camera) -> Calibration:
    from edgetl_runtime.geometry.calibration import check_size, read_calibration

    if text == OWN:
        return _own(source, camera)
    calibration = read_calibration(Path(text))
    check_size(calibration, camera.size_hw)
    return calibration


def _own(source: str, camera: Camera) -> Calibration:
    from edgetl.roadworld.live import calibration_of_source

    _check_own(source)
    return calibration_of_source(source, camera.size_hw)


def _check_own(source: str) -> None:
    from edgetl.roadworld.live import PREFIX

    if not source.startswith(PREFIX):
        raise InputError(
            f"only a rendered camera knows its own calibration, not {source}",
            remedy=f"name its file, or ./{OWN} for a file of this name",
        )


def calibrations_of(args: argparse.Namespace, cameras: Mapping[str, Camera]) -> dict[str, Calibration]:
    """By camera, for those that have one. Raises InputError likewise, for names that no camera has, and for a
    calibration that says it is of another one of them."""
    from edgetl_runtime.geometry.calibration import check_names

    sources = sources_of(args)
    given = by_camera(args, "--calibration", args.calibration, like="front.yaml")
    found = {name: _read(text, sources[name], cameras[name]) for name, text in given.items()}
    check_names(found, cameras)
    return found
