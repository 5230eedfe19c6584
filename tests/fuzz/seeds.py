"""Start inputs for the fuzzer, of real objects: `python tests/fuzz/seeds.py [NAME ...]` writes corpus/NAME/seed-*."""

from __future__ import annotations

import base64
import dataclasses
import io
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("tests/fuzz", "tests/runtime", "tests/runtime/recording", "", "export", "runtime")
if __name__ == "__main__":
    sys.path[:0] = [str(REPOSITORY / folder) for folder in FOLDERS]

import msgspec  # noqa: E402
import numpy as np  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x25519  # noqa: E402
from cryptography.hazmat.primitives.serialization import (  # noqa: E402
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from recording_support import frame_of, header, result, rig_header  # noqa: E402
from runtime_support import CLASSIFY, DETECT, HEADS, manifest_of, write_test_bundle  # noqa: E402
from targets import CORPUS, SEPARATOR, TARGETS, TOKEN  # noqa: E402

from edgetl_runtime.spec import DomainStatistics, FileEntry, TensorSpec  # noqa: E402

Seeds = Iterator[bytes]


def _domain(folder: Path) -> bytes:
    """Of an embedding of three values, two of them along axes."""
    path = folder / "domain.npz"
    np.savez_compressed(
        path, format=np.int64(1), mean=np.zeros(3, np.float32), axes=np.eye(3, dtype=np.float32)[:, :2],
        deviations=np.ones(2, np.float32), residual=np.float64(0.5), distances=np.array([0.5, 1.0, 2.0]),
        probabilities=np.array([0.25, 0.5, 0.75]), images=np.int64(9),
    )  # fmt: skip
    return path.read_bytes()


def _small_manifest(**changes: object) -> bytes:
    """A bundle's manifest for frames of 4x6 pixels and two boxes, with its statistics."""
    outputs = (
        TensorSpec(name="boxes", dtype="float32", shape=(1, 2, 4)),
        TensorSpec(name="scores", dtype="float32", shape=(1, 2)),
        TensorSpec(name="classes", dtype="int64", shape=(1, 2)),
        TensorSpec(name="embedding", dtype="float32", shape=(1, 3)),
    )
    base = manifest_of()
    values = {
        "heads": (msgspec.structs.replace(DETECT, max_detections=2),),
        "preprocess": msgspec.structs.replace(base.preprocess, size_hw=(4, 6)),
        "inputs": (TensorSpec(name="frame", dtype="uint8", shape=(1, 4, 6, 3)),),
        "outputs": outputs,
        "files": {n: FileEntry(sha256="0" * 64, bytes=0) for n in ("golden.npz", "domain.npz", "model.fp32.onnx")},
        "domain": DomainStatistics(file="domain.npz", output="embedding", images=9),
    }
    return msgspec.json.encode(msgspec.structs.replace(base, **(values | changes)))


def _golden(compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    arrays = {
        "frames": np.zeros((2, 4, 6, 3), np.uint8),
        "out_boxes": np.ones((2, 2, 4), np.float32),
        "out_scores": np.ones((2, 2), np.float32),
        "out_classes": np.zeros((2, 2), np.int64),
    }
    return _zip({name: _npy(array) for name, array in arrays.items()}, compression)


def _npy(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _zip(contents: dict[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def manifest(folder: Path) -> Seeds:
    """Of the detector and of several heads."""
    yield (write_test_bundle(folder / "one") / "manifest.json").read_bytes()
    yield msgspec.json.encode(manifest_of(heads=HEADS))
    yield _small_manifest()


def bundle(folder: Path) -> Seeds:
    """One that is whole, and one that lacks its files."""
    yield SEPARATOR.join([_small_manifest(), _golden(), _domain(folder), b"onnx"])
    yield _small_manifest(domain=None)


def npz(folder: Path) -> Seeds:
    """Packed in every way that zipfile knows, and stored."""
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield _golden(compression)
    yield _zip({"frames": _npy(np.asfortranarray(np.eye(3))), "out_boxes": _npy(np.array(1.0))}, zipfile.ZIP_STORED)


def arrays(folder: Path) -> Seeds:
    """The statistics' arrays one after the other."""
    with zipfile.ZipFile(io.BytesIO(_domain(folder))) as archive:
        names = ("format", "mean", "axes", "deviations", "residual", "distances", "probabilities", "images")
        yield SEPARATOR.join(archive.read(f"{name}.npy") for name in names)


def _pair(folder: Path) -> tuple[Path, bytes]:
    """A private key that is worth nothing, all zeros, and its public one."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "zero.key").write_bytes(private)
    return folder / "zero.key", _public(key)


def _public(key: Any) -> bytes:
    data: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def signature(folder: Path) -> Seeds:
    """A good one of the manifest `{}`, with its key."""
    from edgetl_runtime.keys import read_private_key
    from edgetl_runtime.signature import sign_manifest

    private, public = _pair(folder)
    sign_manifest(folder, b"{}", read_private_key(private))
    yield (folder / "signature.json").read_bytes() + SEPARATOR + public
    yield (folder / "signature.json").read_bytes()


def keys(folder: Path) -> Seeds:
    """Ours, two in one file, and others' kinds."""
    private, public = _pair(folder)
    yield public
    yield public * 2
    yield private.read_bytes()
    others = (
        ec.derive_private_key(1, ec.SECP256R1()),
        ed448.Ed448PrivateKey.from_private_bytes(bytes(57)),
        x25519.X25519PrivateKey.from_private_bytes(bytes(32)),
    )
    yield from map(_public, others)


def spec(folder: Path) -> Seeds:
    """Boxes with labels in a file, SSD with anchors in a file, and things that YAML reads in its own way."""
    side = "input: {size_hw: [64, 96], channel_order: rgb, mean: [0, 0, 0], std: [255, 255, 255]}\n"
    rest = side + "weights: {source: here, licence: MIT}\n"
    labels = SEPARATOR + b"car\nbus\n" + SEPARATOR
    yield ("name: a\n" + rest + "heads:\n- {decoder: yolo, labels: labels.txt, threshold: 0.3}\n").encode() + labels
    anchors = _npy(np.ones((4, 4), np.float32))
    ssd = "name: b\n" + rest + "heads:\n- {decoder: ssd, labels: [x], boxes: b, scores: s, anchors: anchors.npy}\n"
    yield ssd.encode() + labels + anchors
    yield (
        "name: c\n" + rest + "heads:\n- {decoder: classification, labels: [a, b], dataset_classes: {a: [x]}}\n"
    ).encode()
    yield b"name: 2024-01-01\ninput: 0x1f\nheads: &a [1_0, 1:30, .inf, ~, yes, !!binary aGk=]\nweights: {<<: {b: *a}}\n"


def ladder(folder: Path) -> Seeds:
    """The one of the module's docstring, and things that YAML reads in its own way."""
    yield b"deadline_ms: 100\ndown_after_s: 1\nup_after_s: 10\nsteps:\n- {skip: 2}\n- {variant: int8}\n- {stop: true}\n"
    yield b"deadline_ms: 0x10\nsteps: [&a {skip: 1_0}, *a, {<<: *a}, {engine: !!str 1}]\nup_after_s: 1e1\n"
    yield b"a: 2024-01-01\nb: 2001-12-14t21:59:43.10-05:00\nc: [!!binary aGk=, .nan, 0o17, 1:30, !!set {a}]\n"


def faults(folder: Path) -> Seeds:
    """Every form."""
    yield b"stall=2@100"
    yield b"nan@50/400, freeze=90@3,clock=5.5@7/9"


def _mcap(folder: Path) -> bytes:
    """A recording of two results with their pictures of 2x4 pixels."""
    from edgetl_runtime.recording.sink import RecordSink

    path = folder / "drive.mcap"
    sink = RecordSink(path, header(), force=True)
    for i in range(2):
        of = dataclasses.replace(result(i, count=1, size_hw=(2, 4)), embedding=None)
        sink.write(of, frame_of(of), None)
    sink.close()
    return path.read_bytes()


def _rig_mcap(folder: Path) -> bytes:
    """The same of one round of two cameras and a bundle that gives no boxes: their topics take much room."""
    from edgetl_runtime.recording.sink import RecordRounds
    from edgetl_runtime.rig.round import Round

    path = folder / "rig.mcap"
    sink = RecordRounds(path, rig_header(bundles=("a",), heads=(CLASSIFY,)), force=True)
    of = result(0, size_hw=(2, 4), outputs={CLASSIFY.name: result().outputs[CLASSIFY.name]}, embedding=None)
    cameras = ("left", "right")
    sink.write(Round(0, dict.fromkeys(cameras, frame_of(of)), {c: {"a": of} for c in cameras}, {}, {}, 0.0))
    sink.close()
    return path.read_bytes()


def _unpacked(data: bytes) -> bytes:
    """A recording without packing, and so without check sums that would be in the way; nothing stands in it twice."""
    from edgetl_runtime.recording.mcap import CHUNK, MAGIC
    from edgetl_runtime.recording.records import RecordReader, _unpack_chunk

    reader, plain = RecordReader(io.BytesIO(data), len(data)), bytearray(MAGIC)
    reader.stream.seek(len(MAGIC))
    seen: set[bytes] = set()
    while (record := reader._next()) is not None:
        opcode, body = record
        if bytes(body) in seen:  # the summary describes every channel again
            continue
        seen.add(bytes(body))
        plain += bytes(_unpack_chunk(body)) if opcode == CHUNK else struct.pack("<BQ", opcode, len(body)) + bytes(body)
        if opcode == 2:
            break
    return bytes(plain)


def recording(folder: Path) -> Seeds:
    """As it is written, cut off, and without packing; and one of a rig without packing."""
    data = _mcap(folder)
    yield data
    yield data[: len(data) * 2 // 3]
    yield _unpacked(data)
    yield _unpacked(_rig_mcap(folder))


def result_(folder: Path) -> Seeds:
    """One with every kind of head, and one whose embedding's bytes stand beside it."""
    from edgetl_runtime.recording.results import encode_result

    of = dataclasses.replace(result(1, count=2), embedding=np.arange(4, dtype=np.float32))
    text = encode_result(of, HEADS, sequence=1, frame_recorded=True)
    yield text
    packed = base64.b64encode(zlib.compress(np.arange(4, dtype=np.float32).tobytes(), 1))
    assert packed in text
    yield text.replace(packed, b"@DATA@") + SEPARATOR + np.arange(4, dtype=np.float32).tobytes()


def onnx(folder: Path) -> Seeds:
    """The tiny detector."""
    from runtime_support import tiny_model

    yield tiny_model(folder / "m.onnx").read_bytes()


def store(folder: Path) -> Seeds:
    """A record, a choice, and a line of the building process."""
    from edgetl_runtime.spec import Check
    from edgetl_runtime.tensorrt.device import Fingerprint
    from edgetl_runtime.tensorrt.protocol import Finding, Proof, Result, encode
    from edgetl_runtime.tensorrt.store import Fastest, Percentiles, Record

    fingerprint = Fingerprint(
        gpu="Orin", compute_capability="8.7", driver="540", library="tensorrt", version="10.3", onnx_sha256="0" * 64,
        workspace_mb=1024, strongly_typed=True, edgetl="0.1.0",
    )  # fmt: skip
    times = Percentiles(p50_ms=1, p95_ms=2, p99_ms=3, runs=9)
    yield msgspec.json.encode(
        Record(
            variant="fp32", precision="fp32", fingerprint=fingerprint, plan_sha256="0" * 64, plan_bytes=4,
            build_seconds=1.5, workspace_mb_used=9, weights_bytes=1, activation_bytes=None,
            proof=Proof(asked={"fp32": 1}, found={"fp32": 1}, unknown=0), layers={"a": "fp32"}, golden_error=0.0,
            latency=times,
        )
    )  # fmt: skip
    yield msgspec.json.encode(Fastest(variant="fp32", reason="only one", latencies={"fp32": times}))
    yield encode(Finding(Check(code="op", op="Conv"), fatal=True))
    yield encode(Result(kind="ok", library="tensorrt", layer_precisions={"fp32": 1}))


def shared(folder: Path) -> Seeds:
    """A producer's file with a frame of 2x4 pixels, as `shared` in targets.py lays it out."""
    from edgetl_runtime.cameras._shared_layout import FILE_HEADER, MAGIC, PAGE, SLOT_HEADER, VERSION, checksum

    pixels = np.arange(24, dtype=np.uint8)
    for number, stamp in ((1, 5), (2, 1 << 62)):
        fields = (number, 7, stamp, 2, 4, 1, 0)
        slot = SLOT_HEADER.pack(2 * number, *fields, checksum(pixels, *fields))
        head = FILE_HEADER.pack(MAGIC, VERSION, 2, 2 * PAGE, 9, 1).ljust(64, b"\0") + struct.pack("<Q", number)
        yield head + slot + pixels.tobytes()


def png(folder: Path) -> Seeds:
    """Colour, grey, and 16 bits with transparency."""
    import cv2

    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for image in (pixels, pixels[..., 0], np.zeros((3, 3, 4), np.uint16)):
        yield cv2.imencode(".png", image)[1].tobytes()


CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [500, 0, 320, 0, 500, 240, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
"""
MOUNTING = "position_m: [1.2, 0, 1.45]\npitch_deg: 2\nheights_m: {car: [1.5, 0.2]}\n"


def calibration(folder: Path) -> Seeds:
    """Mounting beside it, and in it; things that YAML reads in its own way."""
    yield CALIBRATION.encode() + SEPARATOR + MOUNTING.encode()
    yield (CALIBRATION + "edgetl: {position_m: [0, 0, 1.0], pitch_deg: -1.0, rectified: false}\n").encode()
    yield b"camera_matrix: &a {data: [0x1f, 1_0, .nan, 2024-01-01, 1:30, !!binary aGk=, ~]}\nedgetl: {<<: *a}\n"


def can(folder: Path) -> Seeds:
    """Silence, and two cycles whose frames are all there."""
    for counters in ((0,), (1, 2)):
        frames = [bytes([5, i]) + bytes([0, counter, 1, 2, 3, 4, 5, 6]) for counter in counters for i in range(17)]
        yield b"".join(frames)


def ros_image(folder: Path) -> Seeds:
    """Both kinds, as pycdr2 writes them."""
    import cv2

    from edgetl_runtime.ros.messages import CompressedImage, Image
    from edgetl_runtime.ros.payload import Encoder

    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for encoding in ("bgr8", "rgb8"):
        message = Image(height=4, width=6, encoding=encoding, step=18)
        yield b"i" + Encoder().with_octets(message, pixels.tobytes())
    yield b"i" + Encoder().with_octets(Image(height=4, width=6, encoding="yuv422_yuy2", step=12), bytes(48))
    for name in ("jpg", "png"):
        packed = cv2.imencode(f".{name}", pixels)[1].tobytes()
        yield b"c" + Encoder().with_octets(CompressedImage(format=name), packed)


def keyring(folder: Path) -> Seeds:
    """A ring and its successor, and plain keys with a ring that may not follow."""
    from edgetl_runtime.keys import read_private_key
    from edgetl_runtime.update.keyring import make_keyring

    private, public = _pair(folder)
    key = read_private_key(private)
    rings = [make_keyring(version=v, keys=(key.public,), roots=(key.public,), revoked=(), key=key) for v in (1, 2)]
    yield SEPARATOR.join(rings)
    yield SEPARATOR.join([public, rings[0]])


def pointer(folder: Path) -> Seeds:
    """Committed, and on trial after a failure."""
    from edgetl_runtime.update.pointer import Failure, Pointer, Trial, Version

    slots = ["slot-" + digit * 16 for digit in "ab"]
    newest = Version(release=3, created="2025-01-01T00:00:00Z")
    yield msgspec.json.encode(Pointer(current=slots[0], newest=newest))
    failures = (Failure(slot=slots[1], at="2025-01-01T00:00:00Z", why="it stood still"),)
    trial = Trial(starts=1, healthy_s=2.5)
    yield msgspec.json.encode(
        Pointer(current=slots[0], previous=slots[1], newest=newest, trial=trial, failures=failures)
    )


def web(folder: Path) -> Seeds:
    """What browsers and probes send, and some that they don't."""
    paths = ("/", "/page.js", "/frame.jpg?after=1", "/stream.mjpg", "/status.json", "/metrics", "/healthz", "/readyz")
    yield "".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths if "stream" not in path).encode()
    yield b"GET /stream.mjpg HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"
    yield f"GET /?token={TOKEN} HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\nCookie: edgetl={TOKEN}\r\n\r\n".encode()
    yield f"HEAD /status.json HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
    yield b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\nabc"
    yield b"GET /%ff?a=1;b=2&token=x&token=y HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    yield b'GET //[ HTTP/9.9\r\nCookie: a=b; edgetl="\\041"\r\nHost: evil\r\nX: \xff\r\n y\r\n\r\n'
    yield b"GET /\r\n"


SEEDS: dict[str, Callable[[Path], Seeds]] = {
    "manifest": manifest, "bundle": bundle, "npz": npz, "arrays": arrays, "signature": signature, "keys": keys,
    "spec": spec, "ladder": ladder, "faults": faults, "recording": recording, "result": result_, "onnx": onnx,
    "store": store, "shared": shared, "png": png, "calibration": calibration, "can": can,
    "ros_image": ros_image, "keyring": keyring, "pointer": pointer, "web": web,
}  # fmt: skip


def made(name: str, scratch: Path) -> list[bytes]:
    """A target's start inputs; `scratch` is an empty folder."""
    return list(SEEDS[name](scratch))


def write(name: str) -> int:
    """Write a target's start inputs in place of those that were there. Returns how many."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("seed-*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        inputs = made(name, Path(scratch))
    for i, data in enumerate(inputs):
        assert len(data) <= TARGETS[name].max_len, f"{name}: a start input of {len(data)} bytes"
        (folder / f"seed-{i}").write_bytes(data)
    return len(inputs)


if __name__ == "__main__":
    for each in sys.argv[1:] or SEEDS:
        sys.stdout.write(f"{each}: {write(each)}\n")
