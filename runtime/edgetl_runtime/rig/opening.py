"""A rig from paths and sources."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras import open_camera
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import InputError
from edgetl_runtime.geometry.calibration import Calibration, check_names, check_size, read_calibration
from edgetl_runtime.golden import load_proven
from edgetl_runtime.health import Health
from edgetl_runtime.repair import Patience
from edgetl_runtime.rig.network import Network, has_boxes
from edgetl_runtime.rig.rig import Rig
from edgetl_runtime.rig.sharing import Letterboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport, Replay
    from edgetl_runtime.rig.round import RigEvent

    _Load = Callable[[], tuple[Engine, GoldenReport | None]]

FOR_EVER = 0.0
"""As give_up_s of one camera among others: it is opened again while they work; Rig ends where none does."""


@contextmanager
def open_rig(
    bundles: Mapping[str, str | os.PathLike[str]],
    *,
    cameras: Mapping[str, str | int | os.PathLike[str] | Camera],
    gather_ms: float | None = None,
    variant: str | None = None,
    engine: str | None = None,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    track: bool = False,
    calibrations: Mapping[str, str | os.PathLike[str] | Calibration] | None = None,
    require_signature: bool | str | os.PathLike[str] | None = None,
    golden: Replay = "replay",
    patience: Patience | None = None,
    on_event: Callable[[RigEvent], None] | None = None,
) -> Iterator[Rig]:
    """Open verified bundles on several cameras; iterate it for Rounds, each with the results by camera and bundle.

    bundles, cameras: by the names that results are found under. A camera is a source as of `open`, or an open Camera,
    which the rig closes. gather_ms: how long a round waits for other cameras after its first frame, by default half the
    shortest frame interval. Everything else is as of `open`, the same for every bundle; Rig says what happens when a
    camera or a bundle fails. track: in every bundle that gives boxes; a camera's objects have numbers of their own in
    each bundle. calibrations: by camera, for those that have one. Raises InputError without a bundle or a camera, for a
    gather_ms outside 0 to 1000, or where there are no boxes to track or to place; BundleError, EngineError, CameraError
    or MissingPackage, each one clear line.

        with edgetl_runtime.open_rig({"road": "road.bundle"}, cameras={"left": 0, "right": 2}) as rounds:
            for round in rounds:
                for camera, results in round.results.items():
                    print(camera, results["road"].age_ms, round.skew_ms, round.absent)
    """
    check_rig(bundles, cameras, gather_ms)
    patience = patience or Patience()
    with ExitStack() as undo:
        opened: dict[str, Camera] = {}
        health = {name: Health() for name in cameras}
        for source in cameras.values():
            if not isinstance(source, str | int | os.PathLike):
                undo.callback(source.close)
        for name, source in cameras.items():
            if isinstance(source, str | int | os.PathLike):
                named = source if isinstance(source, int) else os.fspath(source)
                opened[name] = open_camera(named, give_up_s=FOR_EVER, health=health[name])
                undo.callback(opened[name].close)
            else:
                opened[name] = source
        known = _calibrations(calibrations or {}, opened)
        letterboxes = {name: Letterboxes() for name in cameras}
        networks = {}
        for name, path in bundles.items():
            bundle = open_bundle(path, require_signature=require_signature)
            load = _loader(bundle, variant, engine, golden)
            loaded, proven = load()
            undo.callback(loaded.close)
            networks[name] = Network(
                name,
                bundle,
                loaded,
                letterboxes,
                patience=patience,
                threshold=threshold,
                deadline_ms=deadline_ms,
                track=track,
                calibrations=known,
                reload=_again(load),
                golden=proven,
            )
        check_boxes([network.bundle for network in networks.values()], track=track, place=bool(known))
        rig = Rig(
            opened, networks, letterboxes, gather_ms=gather_ms, patience=patience, health=health, on_event=on_event
        )
        undo.pop_all()  # from here on the rig closes everything
    with rig:
        yield rig


def check_rig(bundles: Mapping[str, object], cameras: Mapping[str, object], gather_ms: float | None) -> None:
    """Raises InputError for what can't be a rig."""
    if not bundles or not cameras:
        raise InputError(
            f"a rig needs at least one bundle and one camera, found {len(bundles)} and {len(cameras)}",
            remedy='like open_rig({"road": "road.bundle"}, cameras={"left": 0, "right": 2})',
        )
    if gather_ms is not None and not 0 <= gather_ms <= 1000:
        raise InputError(f"the time to gather a round must be from 0 to 1000 ms, found {gather_ms:g}")


def check_boxes(bundles: Iterable[Bundle], *, track: bool, place: bool) -> None:
    """Raises InputError where boxes are to be tracked or placed, and none of them gives any."""
    if (track or place) and not any(has_boxes(bundle) for bundle in bundles):
        raise InputError(f"none of these bundles gives boxes, there is nothing to {'track' if track else 'place'}")


def _calibrations(
    given: Mapping[str, str | os.PathLike[str] | Calibration], cameras: Mapping[str, Camera]
) -> dict[str, Calibration]:
    known = {}
    for name, calibration in given.items():
        if name not in cameras:
            raise InputError(f"there is a calibration for {name!r}, and cameras are called {', '.join(cameras)}")
        known[name] = calibration if isinstance(calibration, Calibration) else read_calibration(Path(calibration))
        check_size(known[name], cameras[name].size_hw)
    check_names(known, cameras)
    return known


def _loader(bundle: Bundle, variant: str | None, engine: str | None, golden: Replay) -> _Load:
    def load() -> Engine:
        return load_bundle_engine(bundle, variant=variant, engine=engine)

    return lambda: load_proven(bundle, load, golden, variant=variant or "")


def _again(load: _Load) -> Callable[[], Engine]:
    return lambda: load()[0]
