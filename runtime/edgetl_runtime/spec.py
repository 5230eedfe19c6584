"""The contract: what a bundle's manifest states once, for training, export and the vehicle.

Everything here is data: frozen, validated at construction, read and written as JSON by msgspec.
Sizes are (height, width) in pixels; colour values are on the 0..255 scale of a uint8 image.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

SCHEMA_VERSION = 1

Positive = Annotated[int, msgspec.Meta(gt=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
RelativePath = Annotated[str, msgspec.Meta(pattern=r"^(?!/)(?!.*\.\.)[A-Za-z0-9_.\-/]+$")]
Task = Literal["detect"]
DType = Literal["uint8", "float32", "int64", "int32"]
Precision = Literal["fp32", "bf16", "int8"]
EngineName = Literal["onnxruntime", "openvino"]


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every part of the manifest: immutable, unknown keys refused."""


class Preprocess(Frozen, frozen=True, kw_only=True):
    """How a camera frame becomes the network's input; the compiled graph holds mean, std and colour order.

    The host only resizes (letterbox: scale to fit, centred, padded with `pad_value`) to `size_hw` in
    uint8 BGR. Inside the graph: x -> (x - mean) / std per channel, in `channel_order`.
    """

    size_hw: tuple[Positive, Positive]
    resize: Literal["letterbox"] = "letterbox"
    interpolation: Literal["linear"] = "linear"
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if min(self.std) <= 0:
            raise ValueError(f"Preprocess.std must be above zero, found {self.std}")


class TensorSpec(Frozen, frozen=True, kw_only=True):
    """Name, dtype and static shape of one graph input or output."""

    name: str
    dtype: DType
    shape: tuple[Positive, ...]


class Decode(Frozen, frozen=True, kw_only=True):
    """What the graph's outputs mean.

    `boxes_scores_classes`: boxes (1, K, 4) float32 as x1, y1, x2, y2 in pixels of the network input;
    scores (1, K) float32 in 0..1, falling; classes (1, K) int64 index into `labels`.
    """

    kind: Literal["boxes_scores_classes"] = "boxes_scores_classes"
    max_detections: Positive
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)]
    stride: Positive


class Hop(Frozen, frozen=True, kw_only=True):
    """One step of the chain, compared with the step before it, by tensor and by the task's metric.

    `max_rel_error` is the largest absolute difference over the largest absolute reference value, the
    worst tensor of all compared frames; `cosine` is the lowest cosine similarity.
    """

    hop: str
    metric: str
    value: float
    max_rel_error: float
    cosine: float
    passed: bool
    note: str = ""


class Latency(Frozen, frozen=True, kw_only=True):
    """Measured time of one engine and variant on the machine that exported, in milliseconds."""

    engine: EngineName
    variant: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    runs: int


class Variant(Frozen, frozen=True, kw_only=True):
    """One compiled form of the network: an ONNX file, and the precision an engine runs it in."""

    name: str
    file: RelativePath
    precision: Precision
    engines: tuple[EngineName, ...]


class Check(Frozen, frozen=True, kw_only=True):
    """One finding about one operator on one target."""

    code: str
    op: str = ""
    node: str = ""
    module: str = ""
    advice: str = ""


class TargetResult(Frozen, frozen=True, kw_only=True):
    """What would run on one target, and what the host could check of it."""

    variant: str
    engine: str
    deployable: bool
    checks: tuple[Check, ...] = ()
    note: str = ""


class Chosen(Frozen, frozen=True, kw_only=True):
    """The variant and engine that met the accuracy budget in the least measured time."""

    variant: str
    engine: EngineName
    reason: str


class FileEntry(Frozen, frozen=True, kw_only=True):
    """Size and hash of one file in the bundle."""

    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class Provenance(Frozen, frozen=True, kw_only=True):
    """Where the bundle comes from."""

    edgetl: str
    created: str
    architecture: str
    weights: str
    weights_sha256: str
    weights_licence: str
    dataset: str
    dataset_sha256: str
    machine: str
    packages: dict[str, str] = msgspec.field(default_factory=dict)


class Manifest(Frozen, frozen=True, kw_only=True):
    """A bundle's contract; `manifest.json` holds exactly this."""

    schema_version: Annotated[int, msgspec.Meta(ge=1)]
    name: str
    task: Task
    labels: tuple[str, ...]
    preprocess: Preprocess
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decode: Decode
    variants: tuple[Variant, ...]
    chosen: Chosen
    targets: dict[str, TargetResult]
    hops: tuple[Hop, ...]
    latencies: tuple[Latency, ...]
    golden: RelativePath
    files: dict[RelativePath, FileEntry]
    provenance: Provenance

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("Manifest.labels must name at least one class")
        names = [v.name for v in self.variants]
        if self.chosen.variant not in names:
            raise ValueError(f"chosen variant {self.chosen.variant!r} is not one of {names}")
        missing = [v.file for v in self.variants if v.file not in self.files]
        if self.golden not in self.files:
            missing.append(self.golden)
        if missing:
            raise ValueError(f"Manifest.files does not list {missing}")

    def variant(self, name: str) -> Variant:
        """The variant of this name. Raises KeyError that lists the names there are."""
        for v in self.variants:
            if v.name == name:
                return v
        raise KeyError(f"no variant {name!r}; there are {[v.name for v in self.variants]}")
