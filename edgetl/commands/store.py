"""A run out of a store of `edgetl update` instead of a bundle's folder."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgetl.commands.arguments import say
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.update.probation import StoreSink


@dataclass(frozen=True, slots=True)
class Opened:
    """What `edgetl run` runs. required: as --require-signature. sinks: what judges a slot, none for a plain folder."""

    bundle: Bundle
    required: bool | str | None
    sinks: tuple[StoreSink, ...] = ()

    def ended(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """The run is over; for ExitStack.push."""
        for sink in self.sinks:
            sink.ended(kind, value, trace)

    def document(self) -> dict[str, object]:
        """What the run's document says of it."""
        if not self.sinks:
            return {}
        return {"slot": self.sinks[0].slot, "exit_status": self.sinks[0].exit_status}


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags for a store."""
    parser.add_argument(
        "--run-revoked", action="store_true", help="of a store: run its slot although its key was revoked"
    )


def open_stored(args: argparse.Namespace) -> Opened:
    """The bundle at args.bundle, or the slot of a store that is to run now, counted where it is on probation.

    Raises BundleError, InputError.
    """
    from edgetl_runtime.bundle import open_bundle
    from edgetl_runtime.update.store import Store, is_store

    required = args.require_signature
    if not is_store(args.bundle):
        if args.run_revoked:
            raise InputError("--run-revoked is of a store", remedy="give the store's folder instead of a bundle's")
        return Opened(open_bundle(args.bundle, require_signature=required), required)
    if required is not None:
        raise InputError("a store has its own keyring", remedy="leave --require-signature out")
    from edgetl_runtime.update.probation import StoreSink

    store = Store(args.bundle)
    start = store.start(run_revoked=args.run_revoked)
    for note in start.notes:
        say(f"store: {note}")
    trial = start.pointer.trial
    counted = f", start {trial.starts}" if trial and start.held else ", beside the run that counts"
    say(f"store: {start.pointer.current}" + (f", on probation{counted}" if trial else ""))
    sink = StoreSink(store, start, say=lambda text: say(f"\nstore: {text}"))
    return Opened(start.bundle, str(store.folder / "keyring"), (sink,))
