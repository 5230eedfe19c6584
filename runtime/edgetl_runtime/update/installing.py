"""The order of an update: who signed it, is it whole, does it fit, does it work here, is it as good; then the switch.

Nothing of a bundle is parsed before its signature is checked but the signature itself. Until the last step the slot
that runs is not touched; a power cut at any point leaves it, or the new one, whole and pointed to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgetl_runtime.bundle import open_bundle, read_manifest
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import BundleError, GateFailed, InputError
from edgetl_runtime.golden import replay_golden
from edgetl_runtime.signature import read_signature
from edgetl_runtime.update.compatible import check_engine, check_heads
from edgetl_runtime.update.pointer import Trial, version_of
from edgetl_runtime.update.shadow import ShadowReport, Side
from edgetl_runtime.update.store import slot_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport
    from edgetl_runtime.spec import Manifest
    from edgetl_runtime.update.pointer import Pointer
    from edgetl_runtime.update.store import Store


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an operator lets pass: another contract, an older bundle, one that was taken back before."""

    change: bool = False
    downgrade: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """engine, variant, threads: as `edgetl run` will be given them. compare: the shadow run, None to leave it out."""

    allowed: Allowed = Allowed()
    engine: str | None = None
    variant: str | None = None
    threads: int = 0
    trial: Trial = field(default_factory=Trial)
    compare: Callable[[Side, Side], ShadowReport] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """done: whether anything changed. golden, shadow: None where there was none."""

    done: bool
    slot: str
    pointer: Pointer
    golden: GoldenReport | None = None
    shadow: ShadowReport | None = None


def update(store: Store, source: Path, wanted: Wanted, say: Callable[[str], None]) -> Outcome:
    """Bring the bundle at `source` into the store and let it run from the next start on; each step is said.

    Raises BundleError, InputError or EngineError for a bundle that can't be taken, GateFailed where it does not give
    what it should here or does not agree with the old one. The slot that runs is then as it was.
    """
    with store.updating():
        pointer = store.pointer()
        if pointer is not None and pointer.trial is not None:
            raise InputError(
                f"{pointer.current} is on probation in {store.folder}",
                remedy="let it run until it is committed, or go back with `edgetl update --rollback`",
            )
        store.clean()
        bundle = _signed(store, source)
        name = slot_name(bundle.path)
        if pointer is not None and pointer.current == name:
            return _again(store, pointer, bundle, wanted, say)
        old = _check(store, pointer, bundle, name, wanted, say)
        if pointer is not None and pointer.previous is not None and pointer.previous != name:
            pointer = store.free(pointer)
        slot = _placed(store, pointer, bundle, name, say)
        try:
            if slot.manifest != bundle.manifest:
                raise BundleError(f"the bundle {source} changed while it was checked", remedy="update again")
            golden = _prove(slot, wanted, say)
            compared = _compare(old, slot, wanted, say)
        except BaseException:
            store.clean()
            raise
        after = store.switch(name, before=pointer, trial=wanted.trial)
        say(f"switched     {name} runs from the next start on" + (", on probation" if after.trial else ""))
        return Outcome(True, name, after, golden, compared)


def _again(store: Store, pointer: Pointer, bundle: Bundle, wanted: Wanted, say: Callable[[str], None]) -> Outcome:
    """The bundle that runs already: nothing to do where its slot is whole, otherwise it is put in place again."""
    if _whole(store, pointer.current, say) is not None:
        say(f"current      {pointer.current} is this bundle already")
        return Outcome(False, pointer.current, pointer)
    slot = _placed(store, None, bundle, pointer.current, say)
    return Outcome(True, pointer.current, pointer, _prove(slot, wanted, say))


def _whole(store: Store, name: str, say: Callable[[str], None]) -> Bundle | None:
    """The bundle in a slot; None, which is said, where it is not whole any more."""
    try:
        return store.open_slot(name, revoked=True)
    except BundleError as error:
        say(f"current      {name} is not whole: {error.message}")
        return None


def _heads_before(store: Store, name: str) -> Manifest:
    """The manifest of a slot that is not whole: it is the one that was checked where the slot's name still fits it.

    Raises InputError where it does not.
    """
    try:
        if slot_name(store.slot(name)) == name:
            return read_manifest(store.slot(name))
    except OSError:
        pass
    raise InputError(
        f"the manifest of {name} is damaged, so it can't be told whether the new bundle says what that one says",
        remedy="give --allow-change where everything that reads its results is ready for that",
    )


def _signed(store: Store, source: Path) -> Bundle:
    ring = store.keyring()
    signature = read_signature(source) if source.is_dir() else None
    if signature is not None and signature.key_id in ring.revoked:
        raise BundleError(
            f"the bundle {source} is signed by the key {signature.key_id}, which was revoked",
            remedy="get one that is signed by a key that counts",
        )
    return open_bundle(source, require_signature=ring.trusted)


def _check(
    store: Store, pointer: Pointer | None, bundle: Bundle, name: str, wanted: Wanted, say: Callable[[str], None]
) -> Bundle | None:
    """All that can be refused before anything is copied. Returns the bundle that runs now, None without a whole one."""
    manifest, allowed = bundle.manifest, wanted.allowed
    say(f"signature    valid, by the key {bundle.signed_by}; {len(manifest.files)} files match their SHA-256")
    engine = check_engine(bundle, variant=wanted.variant, engine=wanted.engine)
    old = None
    if pointer is not None:
        failure = next((f for f in pointer.failures if f.slot == name), None)
        if failure is not None and not allowed.failed:
            raise InputError(
                f"this bundle was taken back on {failure.at}: {failure.why}", remedy="give --allow-failed to try again"
            )
        version = version_of(manifest)
        if not version.newer_than(pointer.newest) and not allowed.downgrade:
            raise InputError(
                f"the bundle is {version}, no newer than {pointer.newest}, which was committed here",
                remedy="sign it with a higher --release; a person at the vehicle can give --allow-downgrade",
            )
        old = _whole(store, pointer.current, say)
        if old is None and pointer.previous is not None:
            raise InputError(
                f"{pointer.current} is not whole, and {pointer.previous} is all that may be",
                remedy="go back to that one first, with `edgetl update --rollback`",
            )
        if not allowed.change:
            check_heads(old.manifest if old is not None else _heads_before(store, pointer.current), manifest)
    say(f"fits         {manifest.name}, {version_of(manifest)}, on {engine}")
    return old


def _placed(store: Store, pointer: Pointer | None, bundle: Bundle, name: str, say: Callable[[str], None]) -> Bundle:
    """The bundle in its slot; one that is there and whole is used as it is."""
    if pointer is not None and pointer.previous == name:
        slot = store.open_slot(name)
        say(f"slot         {name} has it already")
        return slot
    store.place(bundle)
    say(f"slot         {name}: copied, synced and checked")
    return store.open_slot(name)


def _prove(slot: Bundle, wanted: Wanted, say: Callable[[str], None]) -> GoldenReport:
    """Every golden sample on this device. TensorRT's engines are built first."""
    if (wanted.engine or slot.manifest.chosen.engine) == "tensorrt":
        _build(slot, wanted, say)
    engine = _load(slot, wanted)
    try:
        report = replay_golden(slot, engine, variant=wanted.variant or "")
    finally:
        engine.close()
    if not report.ok:
        raise GateFailed(
            f"the bundle does not give here what it recorded: its worst error is {report.worst_rel_error:.2g}, allowed "
            f"{report.tolerance:.0e}",
            remedy="see `edgetl verify`; the current bundle runs on",
        )
    say(f"golden       {report.compared} frames, worst relative error {report.worst_rel_error:.1e}: ok")
    return report


def _build(slot: Bundle, wanted: Wanted, say: Callable[[str], None]) -> None:
    from edgetl_runtime.build import build_bundle
    from edgetl_runtime.tensorrt.jobs import Options
    from edgetl_runtime.tensorrt.worker import WORKER

    build_bundle(slot, Options(worker=WORKER, variant=wanted.variant), say=say)


def _load(bundle: Bundle, wanted: Wanted) -> Engine:
    return load_bundle_engine(bundle, variant=wanted.variant, engine=wanted.engine, threads=wanted.threads)


def _compare(old: Bundle | None, slot: Bundle, wanted: Wanted, say: Callable[[str], None]) -> ShadowReport | None:
    """The shadow run. Raises GateFailed with all that does not hold."""
    if old is None or wanted.compare is None:
        say(
            "shadow       left out: "
            + ("there is no whole bundle to compare with" if old is None else "as was asked for")
        )
        return None
    engines = [_load(bundle, wanted) for bundle in (old, slot)]
    try:
        report = wanted.compare(Side(old, engines[0]), Side(slot, engines[1]))
    finally:
        for engine in engines:
            engine.close()
    agreed = ", ".join(f"{head} {share:.0%}" for head, share in report.agreement.items()) or "nothing to compare"
    say(
        f"shadow       {report.compared} frames in {report.seconds:.0f} s, {report.share:.0%} of a core: {agreed}; "
        f"p50 {report.new['p50_ms']} ms against {report.old['p50_ms']} ms"
    )
    if report.problems:
        raise GateFailed(
            f"the shadow run does not hold: {'; '.join(report.problems)}",
            remedy="the current bundle runs on; see --min-boxes and the other gates of `edgetl update --help`",
        )
    return report
