"""Every reason for which a bundle is not taken; the slot that runs is then as it was."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from runtime_support import DETECT, FakeCamera
from update_support import SKIP, Fleet, killed_start, quiet

from edgetl_runtime.bundle import MANIFEST_NAME, read_manifest, sign_bundle
from edgetl_runtime.errors import BundleError, EdgetlError, EngineError, GateFailed, InputError
from edgetl_runtime.keys import key_id
from edgetl_runtime.signature import SIGNATURE_NAME
from edgetl_runtime.update import compatible, installing
from edgetl_runtime.update.disk import Disk
from edgetl_runtime.update.installing import Allowed, Wanted, update
from edgetl_runtime.update.keyring import make_keyring, read_keyring
from edgetl_runtime.update.shadow import Gates, ShadowReport, Side, shadow
from edgetl_runtime.update.store import Store, slot_name


@pytest.fixture
def store(fleet: Fleet) -> Store:
    """Release 2 runs, and was committed."""
    store = fleet.store("store")
    update(store, fleet.release(2), SKIP, quiet)
    return store


def listing(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(store: Store, bundle: Path, kind: type[EdgetlError], said: str, wanted: Wanted = SKIP) -> None:
    store.start()
    before = listing(store.folder)
    with pytest.raises(kind, match=said) as caught:
        update(store, bundle, wanted, quiet)
    assert "\n" not in str(caught.value)
    assert {k: v for k, v in listing(store.folder).items() if not k.startswith(".")} == {
        k: v for k, v in before.items() if not k.startswith(".")
    }
    assert store.start().bundle.manifest.release == 2


def test_the_steps_of_a_good_update(store: Store, fleet: Fleet) -> None:
    said: list[str] = []
    made = update(store, fleet.release(3), SKIP, said.append)
    assert [line.split()[0] for line in said] == ["signature", "fits", "slot", "golden", "shadow", "switched"]
    assert made.done and made.golden is not None and made.golden.compared == 3 and made.shadow is None
    pointer = store.pointer()
    assert pointer is not None and pointer.current == made.slot == slot_name(fleet.release(3))
    assert pointer.trial is not None and pointer.previous == slot_name(fleet.release(2))
    assert pointer.newest.release == 2, "newest is what was committed"
    assert store.commit().newest.release == 3
    again = update(store, fleet.release(3), SKIP, said.append)
    assert not again.done and "already" in said[-1]


def test_a_slot_that_was_checked_against_another_pointer_is_not_switched_to(store: Store, fleet: Fleet) -> None:
    before = store.pointer()
    update(store, fleet.release(4), SKIP, quiet)
    with pytest.raises(InputError, match="another slot became current"):
        store.switch(slot_name(fleet.release(2)), before=before, trial=SKIP.trial)
    assert store.start().bundle.manifest.release == 4


def test_a_bundle_that_is_exchanged_while_it_is_copied_is_not_taken(fleet: Fleet) -> None:
    """By one that is signed as well, and older than what was checked."""
    offered, older = fleet.release(3), fleet.release(1)
    offered.rename(offered.with_name("checked"))
    shutil.copytree(offered.with_name("checked"), offered)

    def exchange(step: str) -> None:
        if step.startswith("copy"):
            shutil.copytree(older, offered, dirs_exist_ok=True)

    store = fleet.store("store")
    update(store, fleet.release(2), SKIP, quiet)
    exchanging = Store(store.folder, Disk(exchange))
    with pytest.raises(BundleError, match="changed while it was copied"):
        update(exchanging, offered, SKIP, quiet)
    assert store.start().bundle.manifest.release == 2


def test_a_new_store_commits_its_first_bundle_at_once(fleet: Fleet) -> None:
    store = fleet.store("new")
    with pytest.raises(InputError, match="holds no bundle yet"):
        store.start()
    assert update(store, fleet.release(1), SKIP, quiet).pointer.trial is None
    assert store.start().bundle.manifest.release == 1


def test_two_slots_are_kept_at_most(store: Store, fleet: Fleet) -> None:
    for number in (3, 4, 5):
        update(store, fleet.release(number), SKIP, quiet)
        store.commit()
    slots = {p.name for p in store.folder.iterdir() if p.name.startswith("slot-")}
    assert slots == {slot_name(fleet.release(n)) for n in (4, 5)}


def test_the_other_slot_is_used_as_it_is(store: Store, fleet: Fleet) -> None:
    update(store, fleet.release(3), SKIP, quiet)
    store.commit()
    said: list[str] = []
    back = Wanted(threads=1, allowed=Allowed(downgrade=True))
    made = update(store, fleet.release(2), back, said.append)
    assert any("has it already" in line for line in said)
    assert made.pointer.previous == slot_name(fleet.release(3)) and made.pointer.newest.release == 3
    assert store.start().bundle.manifest.release == 2
    (store.slot(made.slot) / "labels.txt").write_text("bits rot")
    assert store.start().bundle.manifest.release == 3


FILES = ["manifest.json", "signature.json", "model.fp32.onnx", "golden.npz", "labels.txt", "report.html"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "shorter", "longer", "missing", "link"])
def test_no_file_may_be_changed(store: Store, fleet: Fleet, name: str, how: str) -> None:
    bundle = fleet.release(3)
    path = bundle / name
    data = path.read_bytes()
    changed = {"flipped": bytes([data[0] ^ 1]) + data[1:], "shorter": data[:-5], "longer": data + b"x"}
    if how == "missing":
        path.unlink()
    elif how == "link":
        path.rename(fleet.folder / "elsewhere")
        path.symlink_to(fleet.folder / "elsewhere")
    else:
        path.write_bytes(changed[how])
    refused(store, bundle, BundleError, "bundle|signature")


def test_an_unlisted_file_is_refused(store: Store, fleet: Fleet) -> None:
    (fleet.release(3) / "extra.py").write_text("x")
    refused(store, fleet.release(3), BundleError, "does not list")


def test_nothing_is_parsed_before_the_signature(store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = fleet.bundle("by another", signer="other", release=3)
    (bundle / MANIFEST_NAME).write_text('{"schema_version": "evil"')
    refused(store, bundle, BundleError, "none of the trusted")
    (bundle / SIGNATURE_NAME).unlink()
    refused(store, bundle, BundleError, "is not signed")


def test_the_source_is_checked_again_after_it_was_copied(
    store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that changes after its check, as one on a network may."""
    bundle = fleet.release(3)
    check = installing.check_engine

    def change(*args: object, **kwargs: object) -> object:
        (bundle / "labels.txt").write_bytes(b"x" * (bundle / "labels.txt").stat().st_size)
        return check(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(installing, "check_engine", change)
    with pytest.raises(BundleError, match="altered"):
        update(store, bundle, SKIP, quiet)
    assert store.start().bundle.manifest.release == 2
    assert not (store.folder / "incoming").exists(), "a start removes it"


def test_no_older_and_no_equal_release(store: Store, fleet: Fleet) -> None:
    refused(store, fleet.release(1), InputError, "no newer than release 2")
    threshold = msgspec.structs.replace(DETECT, thresholds=(0.6, 0.6, 0.6))
    other = fleet.bundle("same number", release=2, heads=(threshold,))
    refused(store, other, InputError, "no newer than release 2")
    allowed = Wanted(threads=1, allowed=Allowed(downgrade=True))
    assert update(store, fleet.release(1), allowed, quiet).done
    assert store.start().bundle.manifest.release == 1


def test_a_later_bundle_of_the_same_number_is_newer(store: Store, fleet: Fleet) -> None:
    provenance = read_manifest(fleet.release(2)).provenance
    later = msgspec.structs.replace(provenance, created="2025-06-01T00:00:00Z")
    assert update(store, fleet.bundle("later", release=2, provenance=later), SKIP, quiet).done
    store.commit()
    unknown = msgspec.structs.replace(provenance, created="tomorrow")
    with pytest.raises(InputError, match="no newer"):
        update(store, fleet.bundle("when", release=2, provenance=unknown), SKIP, quiet)


def test_readers_of_results_are_not_surprised(store: Store, fleet: Fleet) -> None:
    labels = ("vehicle", "cyclist", "light")
    bundle = fleet.bundle("labels", release=3, heads=(msgspec.structs.replace(DETECT, labels=labels),))
    refused(store, bundle, InputError, "labels of detect were vehicle, pedestrian, light and are vehicle, cyclist")
    assert update(store, bundle, Wanted(threads=1, allowed=Allowed(change=True)), quiet).done


def test_an_engine_that_is_not_here(store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatible, "available_engines", lambda: ("openvino",))
    refused(store, fleet.release(3), InputError, "runs on onnxruntime, which this device lacks; it has openvino")
    refused(store, fleet.release(3), InputError, "no variant for TensorRT", Wanted(engine="tensorrt"))
    refused(store, fleet.release(3), EngineError, "has no variant 'int4'", Wanted(variant="int4"))


def test_a_schema_of_another_time(store: Store, fleet: Fleet) -> None:
    bundle = fleet.release(3)
    document = json.loads((bundle / MANIFEST_NAME).read_text())
    data = (json.dumps(document | {"schema_version": 99}) + "\n").encode()
    (bundle / MANIFEST_NAME).write_bytes(data)
    from edgetl_runtime.signature import sign_manifest

    sign_manifest(bundle, data, fleet.key("mine"))
    refused(store, bundle, BundleError, "schema version 99")


def test_golden_samples_that_differ_here(store: Store, fleet: Fleet) -> None:
    from runtime_support import make_manifest, tiny_model

    bundle = fleet.folder / "wrong"
    shutil.copytree(fleet.folder / "plain", bundle)
    tiny_model(bundle / "model.fp32.onnx", bias=0.5)
    from edgetl_runtime.bundle import write_manifest

    write_manifest(bundle, make_manifest(bundle, release=3))
    sign_bundle(bundle, fleet.key("mine"))
    refused(store, bundle, GateFailed, "does not give here what it recorded")
    assert len([p for p in store.folder.iterdir() if p.name.startswith("slot-")]) == 1


def test_a_bundle_on_probation_and_another_update(store: Store, fleet: Fleet) -> None:
    update(store, fleet.release(3), SKIP, quiet)
    with pytest.raises(InputError, match="is on probation"):
        update(store, fleet.release(4), SKIP, quiet)
    with store.updating(), pytest.raises(InputError, match="another update is under way"):
        update(store, fleet.release(4), SKIP, quiet)


def test_a_slot_that_was_taken_back_is_not_taken_again(store: Store, fleet: Fleet) -> None:
    update(store, fleet.release(3), SKIP, quiet)
    store.roll_back("it saw ghosts")
    refused(store, fleet.release(3), InputError, "was taken back on .*it saw ghosts")
    assert update(store, fleet.release(3), Wanted(threads=1, allowed=Allowed(failed=True)), quiet).done


def test_no_room(store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    from types import SimpleNamespace

    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1, f_frsize=4096))
    refused(store, fleet.release(3), InputError, "MB free")


def rotate(store: Store, fleet: Fleet, *, revoke: str) -> None:
    """`mine` hands on to `other`."""
    keys = fleet.public("mine") + fleet.public("other")
    gone = frozenset({key_id(fleet.public(revoke)[0])})
    data = make_keyring(fleet.key("mine"), version=1, keys=keys, roots=keys, revoked=gone)
    (fleet.folder / "next").write_bytes(data)
    store.accept(read_keyring(fleet.folder / "next"))


def test_a_revoked_key_signs_no_update_and_its_slot_runs_with_a_flag_only(store: Store, fleet: Fleet) -> None:
    rotate(store, fleet, revoke="mine")
    with pytest.raises(BundleError, match="which was revoked"):
        update(store, fleet.release(3), SKIP, quiet)
    with pytest.raises(InputError, match=r"signed by the key \w+, which was revoked.*--run-revoked"):
        store.start()
    assert store.start(run_revoked=True).bundle.manifest.release == 2
    assert update(store, fleet.bundle("new key", signer="other", release=3), SKIP, quiet).done
    assert store.start().bundle.manifest.release == 3, "its successor runs without"
    (store.slot(slot_name(fleet.release(2))) / "labels.txt").write_text("altered")
    with pytest.raises(BundleError, match=r"labels\.txt"):
        store.roll_back("there is no way to a slot that is not whole")


def test_a_slot_that_is_no_longer_whole_is_left_for_the_one_before(store: Store, fleet: Fleet) -> None:
    update(store, fleet.release(3), SKIP, quiet)
    store.commit()
    (store.slot(slot_name(fleet.release(3))) / "labels.txt").write_text("bits rot")
    start = store.start()
    assert start.bundle.manifest.release == 2 and "labels.txt" in start.notes[0]
    (store.slot(slot_name(fleet.release(2))) / "labels.txt").unlink()
    with pytest.raises(BundleError, match=r"labels\.txt is missing"):
        store.start()


@pytest.fixture
def rotten(fleet: Fleet) -> Store:
    """A store whose only slot, release 1, is no longer whole."""
    store = fleet.store("rotten")
    made = update(store, fleet.release(1), SKIP, quiet)
    (store.slot(made.slot) / "labels.txt").write_text("bits rot")
    with pytest.raises(BundleError, match=r"labels\.txt"):
        store.start()
    return store


def test_a_slot_that_is_not_whole_is_mended_by_its_own_bundle(rotten: Store, fleet: Fleet) -> None:
    said: list[str] = []
    made = update(rotten, fleet.release(1), SKIP, said.append)
    assert made.done and made.pointer == rotten.pointer() and "is not whole: labels.txt" in "".join(said)
    assert rotten.start().bundle.manifest.release == 1
    assert not update(rotten, fleet.release(1), SKIP, quiet).done


def test_a_slot_that_is_not_whole_is_followed_by_another_bundle(rotten: Store, fleet: Fleet) -> None:
    other = fleet.bundle("other labels", release=2, heads=(msgspec.structs.replace(DETECT, labels=("a", "b", "c")),))
    with pytest.raises(InputError, match="the labels of detect were"):
        update(rotten, other, SKIP, quiet)
    assert update(rotten, fleet.release(2), SKIP, quiet).done
    assert rotten.start().bundle.manifest.release == 2


def test_what_a_slot_without_its_manifest_said_is_not_known(rotten: Store, fleet: Fleet) -> None:
    pointer = rotten.pointer()
    assert pointer is not None
    (rotten.slot(pointer.current) / "manifest.json").unlink()
    with pytest.raises(InputError, match="can't be told whether the new bundle says what that one says"):
        update(rotten, fleet.release(2), SKIP, quiet)
    allowed = Wanted(threads=1, allowed=Allowed(change=True))
    assert update(rotten, fleet.release(2), allowed, quiet).done
    assert rotten.start().bundle.manifest.release == 2


def test_the_only_whole_slot_is_not_given_up(store: Store, fleet: Fleet) -> None:
    update(store, fleet.release(3), SKIP, quiet)
    before = store.commit()
    (store.slot(before.current) / "labels.txt").write_text("bits rot")
    with pytest.raises(InputError, match="--rollback"):
        update(store, fleet.release(4), SKIP, quiet)
    assert store.pointer() == before and store.start().bundle.manifest.release == 2
    assert update(store, fleet.release(4), SKIP, quiet).done


def test_a_damaged_pointer_is_one_line(store: Store) -> None:
    (store.folder / "pointer.json").write_text('{"current": "../../etc"')
    with pytest.raises(InputError, match="is damaged"):
        store.start()
    (store.folder / "pointer.json").write_text('{"current": "../../etc", "newest": {}}')
    with pytest.raises(InputError, match="is damaged"):
        store.start()


def pictures(count: int) -> FakeCamera:
    rng = np.random.default_rng(1)
    return FakeCamera([rng.integers(0, 256, (90, 160, 3), np.uint8) for _ in range(count)], live=False)


def wanted_shadow(count: int, **gates: float) -> Wanted:
    def compare(old: Side, new: Side) -> ShadowReport:
        return shadow(old, new, pictures(count), seconds=60, share=1.0, gates=Gates(**gates))  # type: ignore[arg-type]

    return Wanted(threads=1, compare=compare)


def test_a_shadow_run_lets_pass_what_agrees(store: Store, fleet: Fleet) -> None:
    made = update(store, fleet.release(3), wanted_shadow(30, slower=1000.0), quiet)
    assert made.shadow is not None and made.shadow.compared == 30 and made.shadow.problems == ()
    assert made.shadow.agreement == {"detect": 1.0}


def test_a_shadow_run_holds_back_what_does_not(store: Store, fleet: Fleet) -> None:
    refused(store, fleet.release(3), GateFailed, "5 frames were compared", wanted_shadow(5, slower=1000.0))
    shifted = tuple(msgspec.structs.replace(h, thresholds=(0.999,) * 3) for h in read_manifest(fleet.release(2)).heads)
    bundle = fleet.bundle("blind", release=3, heads=shifted)
    refused(store, bundle, GateFailed, "detect agrees in 0%", wanted_shadow(30, slower=1000.0))


def test_whoever_runs_may_read_what_another_user_brought_in(fleet: Fleet) -> None:
    import os
    import stat

    before = os.umask(0o077)
    try:
        store = fleet.store("store")
        update(store, fleet.release(2), SKIP, quiet)
    finally:
        os.umask(before)
    shown = [p for p in store.folder.rglob("*") if not p.name.startswith(".")]
    assert len(shown) == 9
    assert {stat.S_IMODE(p.stat().st_mode) for p in shown} == {0o644, 0o755}


def test_a_bundle_that_is_swapped_after_its_release_was_read_is_no_way_back(
    store: Store, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offered, signed = tmp_path / "offered", installing._signed
    shutil.copytree(fleet.release(3), offered)
    fleet.release(1)

    def swapped(store: Store, source: Path) -> object:
        bundle = signed(store, source)
        shutil.rmtree(offered)
        shutil.copytree(fleet.release(1), offered)
        return bundle

    monkeypatch.setattr(installing, "_signed", swapped)
    refused(store, offered, BundleError, "changed while it was checked")


@pytest.mark.parametrize("what", ["link", "pipe", "longer"])
def test_what_is_put_in_a_files_place_while_it_is_copied_is_shown_to_nobody(
    store: Store, fleet: Fleet, tmp_path: Path, what: str
) -> None:
    import os
    import stat

    offered, secret = tmp_path / "offered", tmp_path / "secret"
    shutil.copytree(fleet.release(3), offered)
    secret.write_text("for root only")

    def swap(step: str) -> None:
        if step != "copy labels.txt":
            return
        labels = offered / "labels.txt"
        size = labels.stat().st_size
        labels.unlink()
        if what == "link":
            labels.symlink_to(secret)
        elif what == "pipe":
            os.mkfifo(labels)
        else:
            labels.write_bytes(b"x" * (size + 4096))

    full = read_manifest(offered).files["labels.txt"].bytes
    store.disk = Disk(swap)
    with pytest.raises(EdgetlError):
        update(store, offered, SKIP, quiet)
    incoming = store.folder / "incoming"
    assert stat.S_IMODE(incoming.stat().st_mode) == 0o700, "nobody sees what was copied before it was checked"
    copied = (incoming / "labels.txt").read_bytes() if (incoming / "labels.txt").exists() else b""
    assert b"root" not in copied and len(copied) <= full
    assert store.start().bundle.manifest.release == 2 and not incoming.exists()


def test_the_older_of_two_keyrings_at_once_takes_back_no_revocation(store: Store, fleet: Fleet) -> None:
    keys = fleet.public("mine") + fleet.public("other")
    gone = frozenset({key_id(fleet.public("other")[0])})
    rings = []
    for version, revoked in ((1, frozenset[str]()), (2, gone)):
        data = make_keyring(fleet.key("mine"), version=version, keys=keys, roots=keys[:1], revoked=revoked)
        (fleet.folder / f"ring {version}").write_bytes(data)
        rings.append(read_keyring(fleet.folder / f"ring {version}"))
    second = threading.Thread(target=lambda: Store(store.folder).accept(rings[1]))

    def meanwhile(step: str) -> None:
        if step.startswith("write .keyring"):
            second.start()
            second.join(0.3)

    store.disk = Disk(meanwhile)
    store.accept(rings[0])
    second.join()
    assert store.keyring().version == 2 and store.keyring().revoked == gone


def test_what_is_about_to_be_put_in_place_is_no_leftover(store: Store, fleet: Fleet) -> None:
    update(store, fleet.release(3), SKIP, quiet)
    other = Store(store.folder)
    cleaner = threading.Thread(target=other.clean)

    def meanwhile(step: str) -> None:
        if step.startswith("rename .pointer"):
            cleaner.start()
            cleaner.join(0.3)

    store.disk = Disk(meanwhile)
    store.commit()
    cleaner.join()
    pointer = store.pointer()
    assert pointer is not None and pointer.trial is None


def test_no_way_leads_back_by_itself_to_a_slot_whose_key_was_revoked(store: Store, fleet: Fleet) -> None:
    """A slot that failed is better than one that every start refuses."""
    rotate(store, fleet, revoke="mine")
    update(store, fleet.bundle("new key", signer="other", release=3), SKIP, quiet)
    notes: list[str] = []
    for _ in range(6):
        start = killed_start(store)
        assert start.bundle.manifest.release == 3
        notes += start.notes
    assert any("the slot before can't run" in note and "revoked" in note for note in notes)
    with pytest.raises(InputError, match="revoked"):
        store.roll_back("late results", only=start.pointer.current)
    assert store.start().bundle.manifest.release == 3
    assert store.roll_back("an operator knows better") is not None
    with pytest.raises(InputError, match="--run-revoked"):
        store.start()
