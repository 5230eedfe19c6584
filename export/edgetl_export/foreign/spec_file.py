"""The spec file of a network trained elsewhere: what it takes in, and how what it gives out is to be read."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np

from edgetl_export.foreign.decoders import DECODERS, AnyDecoder, Decoder
from edgetl_export.foreign.decoders.boxes import BoxDecoder
from edgetl_export.foreign.decoders.decoder import Labelled
from edgetl_export.foreign.decoders.ssd import Ssd
from edgetl_runtime.errors import InputError
from edgetl_runtime.npz import read_npy
from edgetl_runtime.spec import Frozen, Positive, Preprocess
from edgetl_runtime.yaml_file import read_yaml

T = TypeVar("T")
MAX_LABEL_BYTES = 1 << 20
MAX_ANCHOR_BYTES = 1 << 24
Colour = tuple[float, float, float]


class InputSide(Frozen, frozen=True, kw_only=True):
    """What the network takes in.

    name: needed where it has several inputs. size_hw: height and width. channel_order, mean, std: x -> (x - mean) / std
    for each channel in this order, of bytes 0 to 255: (0, 0, 0) and (255, 255, 255) for a network that takes 0 to 1.
    """

    name: str = ""
    size_hw: tuple[Positive, Positive]
    layout: Literal["nchw", "nhwc"] = "nchw"
    channel_order: Literal["rgb", "bgr"]
    mean: Colour
    std: Colour
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    resize: Literal["letterbox"] = "letterbox"

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"mean and std must be finite numbers, found {self.mean} and {self.std}")
        if max(map(abs, self.mean)) <= 1 and max(self.std) < 1:
            raise ValueError("mean and std must be of bytes 0 to 255, these seem to be of 0 to 1; multiply them by 255")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above zero, found {self.std}")

    @property
    def preprocess(self) -> Preprocess:
        """The same as the manifest states it."""
        return Preprocess(
            size_hw=self.size_hw,
            resize=self.resize,
            pad_value=self.pad_value,
            channel_order=self.channel_order,
            mean=self.mean,
            std=self.std,
        )


class WeightsNote(Frozen, frozen=True, kw_only=True):
    """Where the weights come from, and under which licence (SPDX, or the name that their publisher gave)."""

    source: str
    licence: str


class SpecFile(Frozen, frozen=True, kw_only=True):
    """All of a spec file.

    outputs: names for what a torch module returns, in order. heads: decoders.
    """

    name: str
    input: InputSide
    heads: Annotated[tuple[AnyDecoder, ...], msgspec.Meta(min_length=1)]
    weights: WeightsNote
    outputs: tuple[str, ...] = ()


def read_spec(path: Path) -> SpecFile:
    """A spec file (YAML) with labels and anchors read from the files that it names.

    Raises InputError for a file that can't be read, an unknown key, a wrong value, a label that is not there.
    """
    document = _document(path)
    _check_keys(path, "the spec", document, SpecFile)
    for key, kind in (("input", InputSide), ("weights", WeightsNote)):
        part = document.get(key)
        if isinstance(part, dict):
            _check_keys(path, key, part, kind)
    heads = document.get("heads")
    for i, head in enumerate(heads if isinstance(heads, list) else ()):
        _check_head(path, i, head)
    try:
        spec = msgspec.convert(document, SpecFile)
        return msgspec.structs.replace(spec, heads=tuple(_complete(h, path) for h in spec.heads))
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}", remedy="correct the spec file") from error


def _document(path: Path) -> dict[str, object]:
    document = read_yaml(path, what="--spec", extra="train")
    if not isinstance(document, dict):
        raise InputError(f"--spec {path}: expected `key: value` lines with {', '.join(_fields(SpecFile))}")
    return document


def _fields(kind: type) -> tuple[str, ...]:
    names = tuple(f.encode_name for f in msgspec.structs.fields(kind))
    return ("decoder", *names) if issubclass(kind, Decoder) else names


def _check_keys(path: Path, where: str, found: Mapping[str, object], kind: type) -> None:
    """Raise InputError for a key that is unknown, or one that is missing."""
    known = _fields(kind)
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            meant = f", perhaps {near[0]!r} is meant" if near else ""
            raise InputError(f"{path}: {where} has the unknown key {key!r}{meant}", remedy=f"keys: {', '.join(known)}")
    for field in msgspec.structs.fields(kind):
        if field.required and field.encode_name not in found:
            raise InputError(f"{path}: {where} lacks {field.encode_name!r}", remedy=f"keys: {', '.join(known)}")


def _check_head(path: Path, index: int, head: object) -> None:
    where = f"head {index + 1}"
    known = ", ".join(DECODERS)
    if not isinstance(head, dict) or "decoder" not in head:
        raise InputError(f"{path}: {where} must name its decoder", remedy=f"decoders: {known}")
    kind = DECODERS.get(head["decoder"]) if isinstance(head["decoder"], str) else None
    if kind is None:
        raise InputError(f"{path}: {where} has the unknown decoder {head['decoder']!r}", remedy=f"decoders: {known}")
    _check_keys(path, f"{where} ({head['decoder']})", head, kind)


def _complete(head: AnyDecoder, path: Path) -> AnyDecoder:
    """The decoder with labels and anchors from their files; labels that it speaks of are checked."""
    if isinstance(head, Labelled):
        if isinstance(head.labels, str):
            head = msgspec.structs.replace(head, labels=_label_file(path.parent / head.labels))
        if not head.names or len(set(head.names)) != len(head.names) or "" in head.names:
            twice = next((n for n in head.names if head.names.count(n) > 1), "")
            raise ValueError(f"labels must be different names, found {twice!r} twice" if twice else "labels are empty")
        if cut := next((n for n in head.names if len(n.splitlines()) > 1), ""):
            raise ValueError(f"a label must be one line, found {cut!r}")
    if isinstance(head, Ssd) and isinstance(head.anchors, str):
        head = msgspec.structs.replace(head, anchors=_anchor_file(path.parent / head.anchors))
    spoken = [*head.dataset_classes, *(head.thresholds if isinstance(head, BoxDecoder) else ())]
    unknown = [n for n in spoken if n not in head.known_labels]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a label; labels are {_shortened(head.known_labels)}")
    theirs = [name for names in head.dataset_classes.values() for name in names]
    if several := next((n for n in theirs if theirs.count(n) > 1), ""):
        raise ValueError(f"dataset_classes: {several!r} can stand for one label only")
    return head


def _shortened(names: tuple[str, ...], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _label_file(path: Path) -> tuple[str, ...]:
    try:
        lines = _bytes(path, MAX_LABEL_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"labels: {path} is not readable as text ({error})") from error
    return tuple(line.strip() for line in lines if line.strip())


def _anchor_file(path: Path) -> tuple[tuple[float, float, float, float], ...]:
    try:
        array = read_npy(_bytes(path, MAX_ANCHOR_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"anchors: {path} is not readable as .npy ({error})") from error
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise InputError(f"anchors: {path} holds {array.dtype}{list(array.shape)}, expected numbers of shape (N, 4)")
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in array)


def _bytes(path: Path, most: int) -> bytes:
    """What a file holds. Raises ValueError for more than `most` bytes, which a device file would give for ever."""
    with path.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data
