"""Bundles: whatever is missing, altered, added or foreign is named in one line."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import msgspec
import pytest
from runtime_support import CLASSIFY, DETECT, HEADS, SEGMENT, make_manifest, write_test_bundle

from edgetl_runtime.bundle import MANIFEST_NAME, file_entry, open_bundle, read_manifest, write_manifest
from edgetl_runtime.errors import BundleError
from edgetl_runtime.spec import DomainStatistics, Head
from edgetl_runtime.update.store import is_store

FILES = ("golden.npz", "labels.txt", "model.fp32.onnx", "report.html")


def refused(path: Path) -> str:
    """The message of the BundleError that opening gives."""
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.remedy
    return text


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change keys of manifest.json as text, without validation."""
    document = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps(document | changes))


def test_a_valid_bundle_opens(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    assert bundle.manifest.heads == (DETECT,)
    assert bundle.manifest.head("detect").labels == DETECT.labels
    assert bundle.model_path(bundle.manifest.variant("fp32")).is_file()
    with pytest.raises(BundleError, match="lists no file"):
        bundle.file("../secret")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["one bit", "truncated", "emptied", "longer", "missing"])
def test_every_file_is_checked(bundle_dir: Path, name: str, how: str) -> None:
    target = bundle_dir / name
    data = bytearray(target.read_bytes())
    middle = len(data) // 2
    if how == "one bit":
        data[middle] ^= 1
    target.write_bytes({"truncated": data[:-1], "emptied": b"", "longer": data + b"x"}.get(how, bytes(data)))
    if how == "missing":
        target.unlink()
    assert name in refused(bundle_dir)
    open_bundle(bundle_dir, verify=False)


def test_unlisted_files_are_refused_in_subfolders_too(bundle_dir: Path) -> None:
    (bundle_dir / "plugins").mkdir()
    (bundle_dir / "plugins" / "extra.so").write_bytes(b"x")
    assert "plugins/extra.so" in refused(bundle_dir)


@pytest.mark.parametrize("name", ["labels.txt", MANIFEST_NAME])
def test_symlinks_are_refused_even_to_equal_content(bundle_dir: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (bundle_dir / name).rename(outside)
    (bundle_dir / name).symlink_to(outside)
    assert name in refused(bundle_dir)


def test_symlinked_folders_and_pipes_are_refused(bundle_dir: Path, tmp_path: Path) -> None:
    (bundle_dir / "more").symlink_to(tmp_path, target_is_directory=True)
    assert "more" in refused(bundle_dir)
    (bundle_dir / "more").unlink()
    os.mkfifo(bundle_dir / "pipe")
    assert "pipe" in refused(bundle_dir)


def test_a_folder_that_may_not_be_entered(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_symlink", closed)
    monkeypatch.setattr(Path, "is_file", closed)
    for opened in (open_bundle, read_manifest):
        with pytest.raises(BundleError, match=r"can't read .*manifest\.json: Permission denied"):
            opened(bundle_dir)
    assert not is_store(bundle_dir)


def test_a_missing_folder_a_file_and_an_empty_folder(tmp_path: Path) -> None:
    assert "no bundle at" in refused(tmp_path / "nothing")
    assert MANIFEST_NAME in refused(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(tmp_path / "file")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_manifest(bundle_dir: Path, share: float) -> None:
    data = (bundle_dir / MANIFEST_NAME).read_bytes()
    (bundle_dir / MANIFEST_NAME).write_bytes(data[: int(len(data) * share)])
    assert "not a valid manifest" in refused(bundle_dir)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[]", b"null", b'{"schema_version": ' + b"[" * 100_000])
def test_a_manifest_that_is_no_manifest(bundle_dir: Path, data: bytes) -> None:
    (bundle_dir / MANIFEST_NAME).write_bytes(data)
    assert "not a valid manifest" in refused(bundle_dir)


@pytest.mark.parametrize("heads", [(DETECT, SEGMENT), (CLASSIFY,)])
def test_a_head_without_its_outputs_is_refused(tmp_path: Path, heads: tuple[Head, ...]) -> None:
    boxes = make_manifest(write_test_bundle(tmp_path / "b")).outputs
    write_manifest(tmp_path / "b", make_manifest(tmp_path / "b", heads=heads, outputs=boxes))
    assert f"{heads[-1].name} needs the output '{heads[-1].outputs[0]}'" in refused(tmp_path / "b")


def test_two_heads_can_not_share_an_output(tmp_path: Path) -> None:
    folder = write_test_bundle(tmp_path / "b", heads=HEADS)
    twin = msgspec.structs.replace(CLASSIFY, name="weather")
    write_manifest(folder, make_manifest(folder, heads=(*HEADS, twin)))
    assert "'light' and 'weather' both want the output 'probabilities'" in refused(folder)


def test_domain_statistics_need_their_output(tmp_path: Path) -> None:
    folder = write_test_bundle(tmp_path / "b", heads=HEADS)
    (folder / "domain.npz").write_bytes(b"statistics")
    for output, ok in (("embedding", True), ("features", False)):
        domain = DomainStatistics(file="domain.npz", output=output, images=9)
        write_manifest(folder, make_manifest(folder, heads=HEADS, domain=domain))
        if ok:
            assert open_bundle(folder).manifest.domain == domain
        else:
            assert "needs the output 'features'" in refused(folder)


def test_another_schema_is_named_before_its_unknown_keys(bundle_dir: Path) -> None:
    for version in (1, 99):
        edit_manifest(bundle_dir, schema_version=version, novelty=True)
        assert f"schema version {version}" in refused(bundle_dir)


@pytest.mark.parametrize(
    "changes",
    [
        {"novelty": True},
        {"heads": []},
        {
            "heads": [
                {"task": "detect", "name": "detect", "labels": ["a"], "max_detections": 8, "thresholds": [0.5, 0.5]}
            ]
        },
        {"heads": [{"task": "dance", "name": "dance", "labels": ["a"]}]},
        {"heads": [{"task": "segment", "name": "Not a name", "labels": ["a"], "stride": 4}]},
        {"chosen": {"variant": "none", "engine": "onnxruntime", "reason": ""}},
        {"golden": "other.npz"},
        {"labels": ["a", "b"]},
    ],
)
def test_a_manifest_that_contradicts_itself(bundle_dir: Path, changes: dict[str, object]) -> None:
    edit_manifest(bundle_dir, **changes)
    assert "not a valid manifest" in refused(bundle_dir)


OUTSIDE = (
    *("../outside", "/etc/passwd", "a/../../b", "./labels.txt", "a//b", "labels.txt\n", "..", ".", "", "a/", "a/."),
    *(
        "//host/share",
        "..\\outside",
        "C:\\outside",
        "a\\..\\b",
        "C:outside",
        "~/outside",
        "$HOME",
        "%2e%2e/outside",
        "a b",
    ),
    *("\uff0e\uff0e/outside", "\u2024\u2024/outside", ".\u200b./outside", "a\u2215b", "a\uff0fb", "\u202etxt.slebal"),
    *("labels\u0301.txt", "l\u0430bels.txt", "labels.txt\0", "\ud7ff", "\ufeffa", "a\tb"),
    *(MANIFEST_NAME, "signature.json"),
)
"""Upwards, absolute, of other systems, by look-alikes of dots and slashes, turned around, composed, invisible."""


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("where", ["files", "golden", "variant", "domain"])
def test_paths_can_not_leave_the_bundle(bundle_dir: Path, name: str, where: str) -> None:
    document = json.loads((bundle_dir / MANIFEST_NAME).read_text())
    changes: dict[str, object] = {"files": document["files"] | {name: document["files"]["labels.txt"]}}
    if where == "golden":
        changes["golden"] = name
    elif where == "variant":
        changes["variants"] = [document["variants"][0] | {"file": name}]
    elif where == "domain":
        changes["domain"] = {"file": name, "output": "scores", "images": 1}
    edit_manifest(bundle_dir, **changes)
    assert MANIFEST_NAME in refused(bundle_dir)
    with pytest.raises(BundleError):
        open_bundle(bundle_dir, verify=False)


def test_a_link_inside_a_listed_folder_is_refused(tmp_path: Path) -> None:
    """The path is a plain one; only the disk makes it lead outside."""
    folder = write_test_bundle(tmp_path / "b")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "more.txt").write_text("x")
    (folder / "sub").mkdir()
    (folder / "sub" / "more.txt").write_text("x")
    write_manifest(folder, make_manifest(folder))
    open_bundle(folder)
    (folder / "sub" / "more.txt").unlink()
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(tmp_path / "outside")
    assert "sub in the bundle" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": [{"name": "frame", "dtype": "uint8", "shape": [1, 60_000, 60_000, 3]}]}, "frame uint8.* 10.8 GB"),
        ({"inputs": [{"name": "frame", "dtype": "uint8", "shape": [2**62, 2**62]}]}, "at most 1.1 GB make sense"),
        ({"preprocess": {"size_hw": [60_000, 60_000], "mean": [0, 0, 0], "std": [1, 1, 1]}}, "the frame .* 10.8 GB"),
    ],
)
def test_a_tensor_of_10_gb_is_refused(bundle_dir: Path, changes: dict[str, object], says: str) -> None:
    edit_manifest(bundle_dir, **changes)
    assert re.search(says, refused(bundle_dir))
    outputs = json.loads((bundle_dir / MANIFEST_NAME).read_text())["outputs"]
    edit_manifest(bundle_dir, outputs=[o | {"shape": [1, 2**31]} for o in outputs])
    assert "would take" in refused(bundle_dir)


def test_the_same_manifest_gives_the_same_bytes(bundle_dir: Path) -> None:
    first = (bundle_dir / MANIFEST_NAME).read_bytes()
    write_manifest(bundle_dir, read_manifest(bundle_dir))
    assert (bundle_dir / MANIFEST_NAME).read_bytes() == first
    assert sorted(p.name for p in bundle_dir.iterdir()) == sorted((*FILES, MANIFEST_NAME))
    keys = list(json.loads(first))
    assert keys == sorted(keys)


def test_nan_is_refused_and_leaves_the_old_manifest(bundle_dir: Path) -> None:
    before = (bundle_dir / MANIFEST_NAME).read_bytes()
    manifest = make_manifest(bundle_dir)
    broken = msgspec.structs.replace(manifest.hops[0], value=float("nan"))
    with pytest.raises(BundleError, match="JSON"):
        write_manifest(bundle_dir, msgspec.structs.replace(manifest, hops=(broken,)))
    assert (bundle_dir / MANIFEST_NAME).read_bytes() == before


def test_file_entry(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    entry = file_entry(tmp_path / "abc")
    assert entry.bytes == 3
    assert entry.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_link_to_the_whole_bundle_is_fine(bundle_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle_dir, target_is_directory=True)
    assert open_bundle(tmp_path / "current").manifest.name == "tiny"


def test_write_test_bundle_is_reproducible(tmp_path: Path) -> None:
    a, b = write_test_bundle(tmp_path / "a"), write_test_bundle(tmp_path / "b")
    assert (a / "model.fp32.onnx").read_bytes() == (b / "model.fp32.onnx").read_bytes()


@pytest.mark.parametrize("shape", [[2**62] * 16, [9] * 40, [2**62] * 400])
def test_a_shape_without_end_is_refused(bundle_dir: Path, shape: list[int]) -> None:
    """No float holds the product of the first; that of a whole manifest's worth of sides would take hours."""
    edit_manifest(bundle_dir, inputs=[{"name": "frame", "dtype": "uint8", "shape": shape}])
    assert re.search("GB make sense|length <= 16", refused(bundle_dir))


def test_all_tensors_together_are_bounded(bundle_dir: Path) -> None:
    outputs = json.loads((bundle_dir / MANIFEST_NAME).read_text())["outputs"]
    many = [{"name": f"more{i}", "dtype": "uint8", "shape": [1, 2**29]} for i in range(3)]
    edit_manifest(bundle_dir, outputs=[*outputs, *many])
    assert "GB make sense" in refused(bundle_dir)


@pytest.mark.parametrize("name", ["a" * 300, "/".join(["a" * 200] * 30), "manifest.json/x", "signature.json/x"])
def test_a_name_that_no_file_can_have_is_refused(bundle_dir: Path, name: str) -> None:
    files = json.loads((bundle_dir / MANIFEST_NAME).read_text())["files"]
    edit_manifest(bundle_dir, files=files | {name: {"sha256": "0" * 64, "bytes": 0}})
    assert "not a plain relative path" in refused(bundle_dir)
