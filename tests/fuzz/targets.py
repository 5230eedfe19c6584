"""What reads bytes from outside, each as a function of bytes; the fuzzer and the corpus' tests call it by `check`.

To add a parser: a function that takes the bytes, hands them to the real parser and returns, and an entry in TARGETS.
What the parser documents as its errors stands in `allowed`; anything else that is raised is a finding. Start inputs
come from a function of the same name in `seeds.py`, and are written by `python tests/fuzz/seeds.py NAME`.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.web.pictures import Picture

CORPUS = Path(__file__).resolve().parent / "corpus"
SEPARATOR = b"\n==part==\n"
"""Between the files of an input that stands for several."""
MAX_MESSAGE = 2000
"""Characters of an error, which is one line for a person."""


Mutation = Callable[[bytes, random.Random], bytes]
"""Changes an input by its structure."""


class Finding(AssertionError):
    """A parser gave back what it must never give: nothing crashed, and yet it is a mistake."""


@dataclass(frozen=True, slots=True)
class Target:
    """parse: takes one input. allowed: beside EdgetlError, the errors that the parser documents.

    max_len: of inputs, in bytes. mutate: changes an input by its structure; the fuzzer takes turns with its own ways.
    peak_mb: what one input may make Python allocate, by tracemalloc. instrument: packages that the fuzzer watches.
    """

    parse: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = ()
    max_len: int = 1 << 16
    mutate: Mutation | None = None
    peak_mb: int = 64
    instrument: tuple[str, ...] = field(default=("edgetl_runtime",))


def check(target: Target, data: bytes) -> bool:
    """Whether the parser takes the input; False where it is refused as documented. Raises anything else."""
    from edgetl_runtime.errors import EdgetlError

    try:
        target.parse(data)
    except EdgetlError as error:
        line = str(error)
        if not line.isprintable() or len(line) > MAX_MESSAGE:
            raise Finding(f"the error is no printable line of {MAX_MESSAGE} characters: {line[:200]!r}") from error
        return False
    except target.allowed:
        return False
    return True


@lru_cache(maxsize=1)
def scratch() -> Path:
    """A folder in memory for parsers that read files; removed when the process ends."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = tempfile.TemporaryDirectory(prefix="edgetl-fuzz-", dir=base)
    _KEEP.append(made)
    return Path(made.name)


_KEEP: list[tempfile.TemporaryDirectory[str]] = []


def file(name: str, data: bytes) -> Path:
    """A file of this name in `scratch` with these bytes; `name` may have one folder."""
    path = scratch() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def parts(data: bytes, count: int) -> list[bytes]:
    """The `count` files that an input stands for; those that are not there are empty."""
    found = data.split(SEPARATOR, count - 1)
    return found + [b""] * (count - len(found))


# --- bundle -----------------------------------------------------------------------------------------------------------


def manifest(data: bytes) -> None:
    """manifest.json alone."""
    from edgetl_runtime.bundle import read_manifest

    read_manifest(file("manifest/manifest.json", data).parent)


def bundle(data: bytes) -> None:
    """A whole folder: manifest, golden samples, domain statistics, one more file; hashes are corrected first."""
    from edgetl_runtime.bundle import open_bundle
    from edgetl_runtime.domain import read_domain
    from edgetl_runtime.errors import BundleError
    from edgetl_runtime.golden import read_golden

    text, golden, domain, extra = parts(data, 4)
    contents = {"golden.npz": golden, "domain.npz": domain, "model.fp32.onnx": extra}
    for name, content in contents.items():
        file(f"bundle/{name}", content)
    folder = file("bundle/manifest.json", _with_hashes(text, contents)).parent
    opened = open_bundle(folder, verify=False)
    with suppress(BundleError):
        opened = open_bundle(folder, verify=True)
    for frames in (1, None):
        with suppress(BundleError):
            read_golden(opened, frames=frames)
    if opened.manifest.domain is not None:
        with suppress(BundleError):
            read_domain(opened.file(opened.manifest.domain.file))


def _with_hashes(text: bytes, contents: Mapping[str, bytes]) -> bytes:
    """The manifest with size and hash of what is there, so that the fuzzer gets past them."""
    try:
        document = json.loads(text)
        files = document["files"]
        for name, content in contents.items():
            if name in files:
                files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        return json.dumps(document).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return text


def npz(data: bytes) -> None:
    """A zip of arrays, byte by byte."""
    from edgetl_runtime.npz import BadArrays, read_npz

    path = file("arrays.npz", data)
    for rows in (None, 1):
        with suppress(BadArrays):
            read_npz(path, ("frames", "out_boxes"), max_bytes=1 << 20, rows=rows)


def arrays(data: bytes) -> None:
    """Domain statistics whose arrays are made of the input, in a zip that is whole."""
    from edgetl_runtime.domain import DomainMonitor

    names = ("format", "mean", "axes", "deviations", "residual", "distances", "probabilities", "images")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in zip(names, parts(data, len(names)), strict=True):
            archive.writestr(f"{name}.npy", content)
    monitor = DomainMonitor(file("domain.npz", buffer.getvalue()))
    _score(monitor)


def _score(monitor: Any) -> None:
    import numpy as np

    width = len(monitor.model.mean)
    for value in (0.0, 1e30, float("nan")):
        with np.errstate(all="ignore"):
            score = monitor.score(np.full((1, width), value, np.float32))
        if not 0 <= score.quantile < 1 or not score.distance >= 0:
            raise Finding(f"a score of {score}")


def signature(data: bytes) -> None:
    """signature.json beside a manifest, held against any key and against a file of keys."""
    from edgetl_runtime.errors import EdgetlError
    from edgetl_runtime.signature import check_signature

    text, keys = parts(data, 2)
    folder = file("signed/signature.json", text).parent
    trusted = file("trusted.pub", keys)
    signed = False
    with suppress(EdgetlError):
        check_signature(folder, b"{}", trusted)
        signed = True
    check_signature(folder, b"{}", True)
    with suppress(EdgetlError):
        check_signature(folder, b"{ }", True)
        raise Finding("a signature holds for another manifest")
    if signed and b"PUBLIC KEY" not in keys:
        raise Finding("a signature is trusted without a key")


def keys(data: bytes) -> None:
    """A file of public keys, read as private keys too."""
    from edgetl_runtime.errors import InputError
    from edgetl_runtime.keys import read_private_key, read_public_keys

    path = file("some.pub", data)
    with suppress(InputError):
        read_private_key(path)
    if any(len(key) != 32 for key in read_public_keys(path)):
        raise Finding("a public key that has not 32 bytes")


# --- files that people write ------------------------------------------------------------------------------------------


def spec(data: bytes) -> None:
    """The spec of a network that was trained elsewhere, with its files of labels and anchors."""
    from edgetl_export.foreign.spec_file import read_spec

    text, labels, anchors = parts(data, 3)
    file("spec/labels.txt", labels)
    file("spec/anchors.npy", anchors)
    read_spec(file("spec/net.yaml", text))


def ladder(data: bytes) -> None:
    """The file of a declared degradation."""
    from edgetl_runtime.ladder import read_policy

    for step in read_policy(file("ladder.yaml", data)).steps:
        str(step)


def faults(data: bytes) -> None:
    """--inject's text."""
    from edgetl_runtime.inject import parse_faults

    for fault in parse_faults(data.decode("utf-8", "replace")):
        if not (0 <= fault.amount <= 1e9 and fault.at >= 0 and fault.every >= 0):
            raise Finding(f"a fault of {fault}")


# --- recordings -------------------------------------------------------------------------------------------------------


def recording(data: bytes) -> None:
    """A file of `edgetl run --record`, read to its end."""
    from edgetl_runtime.recording.reader import Recording

    with Recording(file("drive.mcap", data)) as opened:
        for each in opened.results():
            if each.frame is not None and each.frame.image.shape != (*each.result.size_hw, 3):
                raise Finding(f"a frame of {each.frame.image.shape}")
        if not all(note.isprintable() for note in opened.notes):
            raise Finding("notes that are no lines")


def result(data: bytes) -> None:
    """One result of a recording. Its bytes may follow as a second part, packed here in place of the first array."""
    import base64
    import zlib

    from edgetl_runtime.recording.results import decode_result

    text, raw = parts(data, 2)
    if raw:
        text = text.replace(b"@DATA@", base64.b64encode(zlib.compress(raw)))
    read = decode_result(text)
    if read.result.embedding is not None and read.result.embedding.nbytes > 1 << 26:
        raise Finding("an embedding that is too large")


# --- engines ----------------------------------------------------------------------------------------------------------


def onnx(data: bytes) -> None:
    """The nodes of an ONNX file."""
    from edgetl_runtime.tensorrt.onnx_file import module_of, read_onnx

    found = read_onnx(file("model.onnx", data))
    for node in found.nodes[:50]:
        module_of(node.name, node.metadata)
    found.find("a", 0, "")
    found.named_in("no node of this name")


def store(data: bytes) -> None:
    """The records beside built engines, and a line of the building process."""
    from edgetl_runtime.tensorrt.protocol import decode
    from edgetl_runtime.tensorrt.store import EngineStore

    folder = file("engines/fp32.json", data).parent
    file("engines/chosen.json", data)
    file("engines/fp32.plan", b"plan")
    there = EngineStore(folder)
    there.record("fp32")
    there.fastest()
    decode(data)


# --- shared memory ----------------------------------------------------------------------------------------------------

_HEADS = 72 + 56
"""File header and number of the newest frame, then the slot's header; pixels follow."""


def shared(data: bytes) -> None:
    """A producer's file: its first 72 bytes, then every slot's header, then pixels; as long as it claims to be."""
    from edgetl_runtime.cameras._shared_layout import FILE_HEADER, PAGE, path_of
    from edgetl_runtime.cameras.shared import SharedCamera

    head, slot, pixels = data[:72], data[72:_HEADS], data[_HEADS:]
    name = f"fuzz{os.getpid()}"
    path = path_of(name)
    slots, slot_bytes, claimed = 0, 0, len(data)
    if len(head) >= FILE_HEADER.size:
        _, _, slots, slot_bytes, _, _ = FILE_HEADER.unpack_from(head)
        claimed = PAGE + slots * slot_bytes
    size = claimed if claimed <= 1 << 20 else len(data)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(fd, size)
        os.pwrite(fd, head[:size], 0)
        for start in range(PAGE, size, slot_bytes) if slot_bytes >= PAGE and slots <= 64 else ():
            os.pwrite(fd, slot[: size - start], start)
            os.pwrite(fd, pixels[: max(slot_bytes - PAGE, 0)], start + PAGE)
        fcntl.flock(fd, fcntl.LOCK_EX)
        camera = SharedCamera(name, stall_s=0.0)
        try:
            _read_shared(camera, fd)
        finally:
            camera.close()
    finally:
        os.close(fd)
        path.unlink(missing_ok=True)


def _read_shared(camera: Any, fd: int) -> None:
    """Read once as it is, and once with every frame taken as new, which is how a producer's next frame looks."""
    from edgetl_runtime.errors import CameraError

    with suppress(CameraError):
        camera.read()
    camera._number = -1
    frame = camera.read()
    if frame is not None and frame.image.nbytes > os.fstat(fd).st_size:
        raise Finding(f"a frame of {frame.image.shape} from a file of {os.fstat(fd).st_size} bytes")


def png(data: bytes) -> None:
    """A PNG, with OpenCV behind the check where its size is small."""
    import numpy as np

    from edgetl_runtime.cameras._opencv import quiet_cv2
    from edgetl_runtime.cameras._png import SIGNATURE, refuse_false_png

    cv2 = quiet_cv2()
    refuse_false_png(data)
    if data[:8] != SIGNATURE or len(data) < 24 or max(struct.unpack(">II", data[16:24])) > 4096:
        raise ValueError("no small PNG")
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise ValueError("OpenCV can't read it")


# --- the web ----------------------------------------------------------------------------------------------------------

TOKEN = "0123456789abcdefTOKEN"
_PRIVATE = (b"\xff\xd8picture", b'"started"', b"<!doctype html>", b"the loop has not begun")
"""What only those may see who may look: picture, status, page, probes."""


class Connection:
    """A client's socket that has sent `data` and ended; what it is answered is kept in `sent`."""

    def __init__(self, data: bytes) -> None:
        self._data, self.sent = data, bytearray()

    def makefile(self, mode: str, buffering: int = -1) -> io.BufferedReader:
        """What the client sent."""
        return io.BufferedReader(io.BytesIO(self._data))  # type: ignore[arg-type]

    def sendall(self, data: bytes) -> None:
        """Keep the answer."""
        self.sent += data

    def setsockopt(self, *_: object) -> None:
        """Nothing."""

    settimeout = shutdown = close = setsockopt


class _Pictures:
    """Three pictures, and then none."""

    def newer_than(self, names: Collection[LaneName], number: int, wait_s: float) -> dict[LaneName, Picture]:
        from edgetl_runtime.web.pictures import Picture

        return {name: Picture(number + 1, b"\xff\xd8picture", 0.0) for name in names} if 0 <= number < 3 else {}


@lru_cache(maxsize=2)
def _site(token: str | None) -> tuple[Any, Any]:
    """A server on loopback that never starts to listen for clients, and the errors of its site."""
    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.spec import ClassifyHead
    from edgetl_runtime.web.access import Gate, resolve
    from edgetl_runtime.web.server import Server
    from edgetl_runtime.web.site import LiveSite

    address = resolve("127.0.0.1")
    heads = (ClassifyHead(labels=("a",), thresholds=(0.5,)),)
    lanes = [LaneName(camera, bundle) for camera in ("left", "right") for bundle in ("road", "signs")]
    site = LiveSite(
        lanes,
        dict.fromkeys(("road", "signs"), heads),
        _Pictures(),  # type: ignore[arg-type]
        Gate(address, token),
        ready_s=1,
        alive_s=1,
    )
    return Server(address, 0, site, max_clients=4), site


def web(data: bytes) -> None:
    """What a client sends, to a server with a token and to one that looks at the name it is called by."""
    for token in (TOKEN, None):
        server, _ = _site(token)
        connection = Connection(data)
        try:
            server.RequestHandlerClass(connection, ("127.0.0.1", 1), server)
        except OSError:
            continue
        sent = bytes(connection.sent)
        if b"HTTP/1.1 500" in sent:
            raise Finding(f"a mistake in a page: {sent[:200]!r}")
        if token and token.encode() not in data and any(mark in sent for mark in _PRIVATE):
            raise Finding(f"a page without the token: {sent[:200]!r}")


# --- peers, geometry and updates --------------------------------------------------------------------------------------


def calibration(data: bytes) -> None:
    """A camera's calibration, with its mounting beside it where there is a second part."""
    from edgetl_runtime.geometry.calibration import MOUNTING_SUFFIX, read_calibration, rescaled

    text, mounting = parts(data, 2)
    path = file("calibration/front.yaml", text)
    beside = path.with_name(path.stem + MOUNTING_SUFFIX)
    beside.unlink(missing_ok=True)
    if mounting:
        beside.write_bytes(mounting)
    found = read_calibration(path)
    rescaled(found, (found.size_hw[0] * 2, found.size_hw[1] * 2))


def can(data: bytes) -> None:
    """Frames on a bus, 10 bytes each: milliseconds that pass, identifier, data; every other check sum is made right."""
    from edgetl_runtime.can.dbc import FIRST_ID
    from edgetl_runtime.can.e2e import check_sum, data_id_of
    from edgetl_runtime.can.receiver import CanReceiver

    now_ns = 0
    receiver = CanReceiver(labels=("car", "person"), clock_ns=lambda: now_ns)
    for at in range(0, len(data), 10):
        frame = bytearray(data[at + 2 : at + 10])
        now_ns += (data[at] & 0x7F) * 1_000_000
        can_id = FIRST_ID + data[at + 1] % 32 if at + 1 < len(data) else FIRST_ID
        if len(frame) == 8 and not data[at] & 0x80:
            frame[0] = check_sum(frame, data_id_of(can_id))
        receiver.receive(can_id, frame)
        view = receiver.view()
        if view.objects and not view.current:
            raise Finding(f"objects while the state is {view.state}")


def ros_image(data: bytes) -> None:
    """A sensor_msgs/Image, and the same bytes as a CompressedImage."""
    from edgetl_runtime.pool import FramePool
    from edgetl_runtime.ros.pixels import read_compressed, read_image, to_bgr

    read, compressed = data[:1] == b"i", data[1:]
    image = read_image(compressed) if read else read_compressed(compressed)
    if image.height * image.width <= 1 << 20:
        to_bgr(image, FramePool())


def keyring(data: bytes) -> None:
    """A store's keyring and the one that is to follow it."""
    from edgetl_runtime.errors import InputError
    from edgetl_runtime.update.keyring import check_next, read_keyring

    old, new = parts(data, 2)
    first = read_keyring(file("keyring.old", old))
    with suppress(InputError):
        following = read_keyring(file("keyring.new", new))
        check_next(first, following)
        if following.signer not in first.roots or following.version <= first.version:
            raise Finding("a keyring follows that no root has signed")


def pointer(data: bytes) -> None:
    """A store's pointer."""
    from edgetl_runtime.update.pointer import read_pointer

    found = read_pointer(file("store/pointer.json", data).parent)
    if found is None:
        raise Finding("a pointer that is there is not seen")
    if found.trial is not None:
        str(found.trial.failed_because)
    found.newest.newer_than(found.newest)


# --- structure-aware changes ------------------------------------------------------------------------------------------

_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 255, 1 << 31, (1 << 63) - 1, 1 << 64, 10**30, 0.5, -0.0, 1e308, "", "a", "../a", "/",
    "\x1b[31m", "a" * 300, "a/b", "\ud83d\ude97", [], {}, [[]], [0] * 40, [1 << 62] * 40, "2024-01-01", "nan", "0" * 64,
)  # fmt: skip


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Change a value, or drop, double or rename an entry, somewhere in the JSON of the first part."""
    text, *rest = data.split(SEPARATOR)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        document = _changed(document, rng)
    return SEPARATOR.join([json.dumps(document, separators=(",", ":")).encode(), *rest])


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        change = rng.random()
        if change < 0.7:
            return value | {key: _changed(value[key], rng)}
        if change < 0.8:
            return {k: v for k, v in value.items() if k != key}
        return value | {rng.choice([str(o) for o in _ODD[8:]] + list(value)): value[key]}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        change = rng.random()
        if change < 0.7:
            return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
        return value[:at] + value[at + 1 :] if change < 0.8 else [*value[:at], *[value[at]] * 2, *value[at:]]
    return rng.choice(_ODD)


def mutate_parts(data: bytes, rng: random.Random) -> bytes:
    """Change one part of several: swap two, empty one, or cut, double or alter a stretch of one."""
    found = data.split(SEPARATOR)
    at = rng.randrange(len(found))
    part, change = bytearray(found[at]), rng.random()
    if change < 0.15:
        other = rng.randrange(len(found))
        found[at], found[other] = found[other], found[at]
        return SEPARATOR.join(found)
    if part and change < 0.9:
        start = rng.randrange(len(part))
        stretch = part[start : start + rng.choice((1, 2, 4, 8))]
        part[start : start + len(stretch)] = rng.choice(
            (rng.randbytes(len(stretch)), b"", stretch * 2, bytes(len(stretch)), b"\xff" * len(stretch))
        )
    else:
        part.clear()
    found[at] = bytes(part)
    return SEPARATOR.join(found)


def mutate_bundle(data: bytes, rng: random.Random) -> bytes:
    """The manifest by its structure, or one of the files."""
    return mutate_json(data, rng) if rng.random() < 0.6 else mutate_parts(data, rng)


def mutate_records(data: bytes, rng: random.Random) -> bytes:
    """Change one record of a recording, lengths kept right: drop, double or swap it, or change what is in it."""
    records = list(_records(data[8:]))
    if not records:
        return data
    at, change = rng.randrange(len(records)), rng.random()
    opcode, body = records[at]
    if change < 0.1:
        del records[at]
    elif change < 0.2:
        records.insert(rng.randrange(len(records)), records[at])
    elif change < 0.3:
        other = rng.randrange(len(records))
        records[at], records[other] = records[other], records[at]
    elif body[22:23] == b"{":  # a message in JSON
        records[at] = opcode, body[:22] + mutate_json(body[22:], rng)
    else:
        records[at] = opcode, mutate_parts(body, rng)
    return data[:8] + b"".join(struct.pack("<BQ", o, len(b)) + b for o, b in records)


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 9 <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        yield opcode, data[at + 9 : at + 9 + length]
        at += 9 + length


TARGETS: dict[str, Target] = {
    "manifest": Target(manifest, mutate=mutate_json),
    "bundle": Target(bundle, mutate=mutate_bundle),
    "npz": Target(npz),
    "arrays": Target(arrays, mutate=mutate_parts),
    "signature": Target(signature, mutate=mutate_bundle, max_len=8192),
    "keys": Target(keys, max_len=8192),
    "spec": Target(spec, mutate=mutate_parts, instrument=("edgetl_export", "edgetl_runtime")),
    "ladder": Target(ladder, max_len=8192),
    "faults": Target(faults, max_len=8192),
    "recording": Target(recording, mutate=mutate_records),
    "result": Target(result, allowed=(ValueError,), mutate=mutate_json),
    "onnx": Target(onnx),
    "store": Target(store, mutate=mutate_json),
    "shared": Target(shared, max_len=8192),
    "png": Target(png, allowed=(ValueError,), max_len=8192),
    "calibration": Target(calibration, max_len=8192),
    "can": Target(can, max_len=4096),
    "ros_image": Target(ros_image, allowed=(ValueError,)),
    "keyring": Target(keyring, mutate=mutate_bundle, max_len=8192),
    "pointer": Target(pointer, mutate=mutate_json, max_len=8192),
    "web": Target(web, max_len=1 << 17),
}
