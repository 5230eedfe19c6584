"""Bring a bundle into a store: verified, proven on this device, tried beside the old one, switched in one step.

A store holds two slots, a keyring and a pointer to the slot that runs: `edgetl run STORE SOURCE` runs it. A new slot is
on probation first, and taken back by itself where it fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import count, say
from edgetl.commands.ros2 import add_graph_arguments, check_ros2_source
from edgetl.commands.source import add_source_arguments
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from edgetl_runtime.update.installing import Wanted
    from edgetl_runtime.update.pointer import Trial
    from edgetl_runtime.update.shadow import Gates, ShadowReport, Side
    from edgetl_runtime.update.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl update`."""
    parser.add_argument("bundle", nargs="?", type=Path, metavar="BUNDLE", help="the signed bundle to bring in")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="made where it is not there")
    parser.add_argument("--keys", type=Path, help="keyring: the first one of a new store, or the next one")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--status", action="store_true", help="only say what the store holds")
    one.add_argument("--rollback", action="store_true", help="go back to the slot before")
    one.add_argument("--commit", action="store_true", help="end the probation of the current slot well, now")
    parser.add_argument("--engine", help="as `edgetl run` will be given it")
    parser.add_argument("--variant", help="as `edgetl run` will be given it")
    _add_shadow_arguments(parser)
    _add_probation_arguments(parser)
    group = parser.add_argument_group("what an operator lets pass")
    group.add_argument("--allow-change", action="store_true", help="heads or labels may be others")
    group.add_argument("--allow-failed", action="store_true", help="try a bundle again that was taken back")
    group.add_argument(
        "--allow-downgrade", action="store_true", help="an older bundle; only for a person at a terminal, who is asked"
    )
    add_source_arguments(parser)
    add_graph_arguments(parser.add_argument_group("a ROS 2 camera"))


def _add_shadow_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("shadow run")
    group.add_argument("--source", help="live camera to compare both bundles on, as of `edgetl run`")
    group.add_argument("--skip-shadow", action="store_true", help="switch without comparing")
    group.add_argument("--shadow-s", type=float, default=60.0, metavar="S", help="how long")
    group.add_argument("--shadow-share", type=float, default=0.25, metavar="SHARE", help="of one core at the most")
    group.add_argument("--min-frames", type=count, default=20, metavar="N", help="compared at least")
    group.add_argument("--min-boxes", type=float, default=0.5, metavar="SHARE", help="of boxes that both find")
    group.add_argument("--min-masks", type=float, default=0.8, metavar="SHARE", help="of pixels that agree")
    group.add_argument("--min-labels", type=float, default=0.8, metavar="SHARE", help="of categories that agree")
    group.add_argument(
        "--max-slower", type=float, default=1.5, metavar="TIMES", help="of the old p50; of p99 twice that"
    )
    group.add_argument("--max-odd", type=float, default=0.2, metavar="SHARE", help="more untypical frames than the old")


def _add_probation_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("probation")
    group.add_argument("--probation-s", type=float, default=300.0, metavar="S", help="healthy results until committed")
    group.add_argument("--max-starts", type=count, default=3, metavar="N", help="starts without a clean end")
    group.add_argument("--max-faults", type=count, default=3, metavar="N", help="faults in one run")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Update, or what else was asked for; the exit status is 1 where a gate did not hold."""
    from edgetl_runtime.update.store import Store

    store = Store(args.store)
    _check(args)
    if args.keys is not None:
        _take_keyring(store, args.keys)
    if args.rollback:
        pointer = store.roll_back("an operator went back")
        say(f"back         {pointer.current if pointer else ''} runs from the next start on")
    elif args.commit:
        say(f"committed    {store.commit().current}")
    if args.bundle is None:
        return _status(store)
    return _update(args, store)


def _check(args: argparse.Namespace) -> None:
    alone = args.status or args.rollback or args.commit
    if alone and args.bundle is not None:
        raise InputError("--status, --rollback and --commit are about the store alone", remedy="leave BUNDLE out")
    if args.bundle is None and not alone and args.keys is None:
        raise InputError("there is nothing to do", remedy="give BUNDLE, --keys, --status or --rollback")
    for name in ("shadow_s", "probation_s"):
        if not 0 < getattr(args, name) <= 86400:
            raise InputError(f"--{name.replace('_', '-')} must be above 0 and at most 86400 seconds")
    if not 0.01 <= args.shadow_share <= 1:
        raise InputError(f"--shadow-share must be from 0.01 to 1, found {args.shadow_share:g}")
    if args.bundle is not None:
        _gates(args)
    check_ros2_source(args)


def _take_keyring(store: Store, path: Path) -> None:
    from edgetl_runtime.update.keyring import read_keyring

    ring = read_keyring(path)
    there = store.keyring() if (store.folder / "keyring").exists() else None
    if there is not None and there.data == ring.data:
        return
    store.accept(ring)
    say(f"keyring      version {ring.version}, {len(ring.trusted)} keys, {len(ring.revoked)} revoked")


def _status(store: Store) -> dict[str, object]:
    """What the store holds, for a person and a program."""
    import msgspec

    from edgetl_runtime.errors import EdgetlError

    ring, pointer = store.keyring(), store.pointer()
    slots: dict[str, dict[str, object]] = {}
    for name in sorted(pointer.slots) if pointer is not None else ():
        try:
            manifest = store.open_slot(name).manifest
            slots[name] = {"whole": True, "name": manifest.name, "release": manifest.release, "problem": ""}
        except EdgetlError as error:
            slots[name] = {"whole": False, "name": "", "release": None, "problem": error.message}
    for name, row in slots.items():
        which = "current" if pointer is not None and name == pointer.current else "before"
        told = row["problem"] or f"{row['name']}, release {row['release']}, whole"
        say(f"{which:<12} {name} {told}")
    if pointer is None:
        say("current      none")
    elif pointer.trial is not None:
        trial = pointer.trial
        say(
            f"probation    {trial.healthy_s:.0f} of {trial.probation_s:g} s, "
            f"{trial.starts} starts of {trial.max_starts} did not end cleanly"
        )
    for failure in pointer.failures if pointer is not None else ():
        say(f"taken back   {failure.slot} on {failure.at}: {failure.why}")
    told = {"state": pointer.state, **msgspec.to_builtins(pointer)} if pointer is not None else None
    return {"store": str(store.folder), "pointer": told, "slots": slots, "keyring": ring.as_json()}


def _update(args: argparse.Namespace, store: Store) -> dict[str, object]:
    from edgetl_runtime.schedule import run_lowly
    from edgetl_runtime.update.installing import update

    store.keyring()
    there = store.pointer()
    if args.source is None and not args.skip_shadow and there is not None:
        raise InputError(
            "a shadow run needs a camera to compare on",
            remedy="give --source CAMERA, or --skip-shadow to switch without comparing",
        )
    if args.allow_downgrade:
        _ask(args)
    made = run_lowly(lambda: update(store, args.bundle, _wanted(args), say))
    if made.done and made.pointer.trial is not None:
        _say_next(made.pointer.trial)
    return {
        "done": made.done,
        "slot": made.slot,
        "state": made.pointer.state,
        "golden": made.golden.as_json() if made.golden else None,
        "shadow": made.shadow.as_json() if made.shadow else None,
    }


def _say_next(trial: Trial) -> None:
    say(f"probation    committed after {trial.probation_s:g} s of healthy results, else taken back")
    say("restart      a run out of this store ends within a second with status 75, to be started again")


def _ask(args: argparse.Namespace) -> None:
    """An older bundle may bring back what was mended: that is for a person at the vehicle, not for a program."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            "--allow-downgrade is for a person at a terminal", remedy="sign the bundle with a new --release"
        )
    sys.stderr.write(f"take {args.bundle} even if it is older than what ran here? Type downgrade: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "downgrade":
        raise InputError("nothing was done")


def _wanted(args: argparse.Namespace) -> Wanted:
    from edgetl_runtime.update.installing import Allowed, Wanted
    from edgetl_runtime.update.pointer import Trial

    trial = Trial(
        probation_s=args.probation_s,
        within_s=max(6 * args.probation_s, 60.0),
        max_starts=args.max_starts,
        max_faults=args.max_faults,
    )
    return Wanted(
        allowed=Allowed(change=args.allow_change, downgrade=args.allow_downgrade, failed=args.allow_failed),
        engine=args.engine,
        variant=args.variant,
        threads=1,
        trial=trial,
        compare=None if args.skip_shadow else lambda old, new: _shadow(args, old, new),
    )


def _shadow(args: argparse.Namespace, old: Side, new: Side) -> ShadowReport:
    from edgetl.commands.source import injector_of, open_source, patience_of
    from edgetl_runtime.health import Health
    from edgetl_runtime.schedule import set_opencv_threads
    from edgetl_runtime.update.shadow import shadow

    patience_of(args)
    camera = open_source(args, Health(), injector_of(args))
    set_opencv_threads(live=camera.live)
    say(f"shadow       both bundles on {camera.camera_id} for {args.shadow_s:g} s")
    return shadow(old, new, camera, seconds=args.shadow_s, share=args.shadow_share, gates=_gates(args))


def _gates(args: argparse.Namespace) -> Gates:
    from edgetl_runtime.update.shadow import Gates

    return Gates(
        frames=args.min_frames,
        boxes=args.min_boxes,
        masks=args.min_masks,
        labels=args.min_labels,
        slower=args.max_slower,
        odd=args.max_odd,
    )
