"""The contract: what a bundle's manifest states once, for training, export and the vehicle.

Everything here is data: frozen, validated at construction, read and written as JSON by msgspec.
Sizes are (height, width) in pixels; colour values are on the 0..255 scale of a uint8 image.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

SCHEMA_VERSION = 3

Positive = Annotated[int, msgspec.Meta(gt=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
RelativePath = Annotated[str, msgspec.Meta(pattern=r"^(?!/)(?!.*\.\.)[A-Za-z0-9_.\-/]+$")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Above0 = Annotated[float, msgspec.Meta(gt=0)]
Labels = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
HeadName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$")]
DType = Literal["uint8", "float32", "int64", "int32"]
Precision = Literal["fp32", "bf16", "fp16", "int8", "int8-bf16"]
"""What a graph runs in. int8-bf16: quantised layers in INT8, all others in bf16."""
EngineName = Literal["onnxruntime", "openvino", "tensorrt"]


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
    shape: Annotated[tuple[Positive, ...], msgspec.Meta(max_length=16)]


class DetectHead(Frozen, frozen=True, kw_only=True, tag_field="task", tag="detect"):
    """Boxes. Outputs: boxes (1, K, 4) float32 as x1, y1, x2, y2 in pixels of the network input; scores (1, K)
    float32 in 0..1, falling; classes (1, K) int64 index into `labels`.

    thresholds: the lowest score that counts, one for each label. temperature: what the logits were divided by
    in the graph, so that a score says how often such a box is right; 1 where nothing was fitted.
    """

    name: HeadName = "detect"
    labels: Labels
    max_detections: Positive
    thresholds: tuple[Share, ...]
    stride: Positive
    temperature: Above0 = 1.0

    def __post_init__(self) -> None:
        _one_each("DetectHead.thresholds", self.thresholds, self.labels)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return ("boxes", "scores", "classes")


class SegmentHead(Frozen, frozen=True, kw_only=True, tag_field="task", tag="segment"):
    """A class for every pixel. Output: mask_NAME (1, H / stride, W / stride) uint8 index into `labels`."""

    name: HeadName
    labels: Labels
    stride: Positive

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return (f"mask_{self.name}",)


class ClassifyHead(Frozen, frozen=True, kw_only=True, tag_field="task", tag="classify"):
    """One class for the whole frame. Output: probabilities (1, C) float32 that add up to 1.

    thresholds: the lowest probability at which a class is stated at all, one for each label.
    """

    name: HeadName = "classify"
    labels: Labels
    thresholds: tuple[Share, ...]
    temperature: Above0 = 1.0

    def __post_init__(self) -> None:
        _one_each("ClassifyHead.thresholds", self.thresholds, self.labels)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return ("probabilities",)


Head = DetectHead | SegmentHead | ClassifyHead


EMBEDDING = "embedding"
"""The graph's output (1, D) float32 that belongs to no head: the network's own summary of the frame."""


def at_threshold(head: Head, threshold: float) -> Head:
    """The head with this threshold for every label; masks have none."""
    if isinstance(head, SegmentHead):
        return head
    return msgspec.structs.replace(head, thresholds=(threshold,) * len(head.labels))


def task_of(head: Head) -> str:
    """`detect`, `segment` or `classify`, as the manifest's `task` says."""
    return str(head.__struct_config__.tag)


class Reliability(Frozen, frozen=True, kw_only=True):
    """How often an answer with a score is right, on validation images, before and after the temperature.

    Every bin: mean score, share that is right, how many. error: expected calibration error, 0..1.
    """

    before: tuple[tuple[float, float, int], ...]
    after: tuple[tuple[float, float, int], ...]
    error_before: float
    error_after: float
    answers: Annotated[int, msgspec.Meta(ge=0)]


def _one_each(name: str, values: tuple[float, ...], labels: tuple[str, ...]) -> None:
    if len(values) != len(labels):
        raise ValueError(f"{name} must hold one value for each of {len(labels)} labels, found {len(values)}")


class DomainStatistics(Frozen, frozen=True, kw_only=True):
    """What frames of the training domain look like to the network, for the vehicle to compare with.

    file: .npz in the bundle (see edgetl_runtime.domain). output: the graph's output (1, D) float32 that it is about.
    """

    file: RelativePath
    output: str
    images: Positive


class Calibration(Frozen, frozen=True, kw_only=True):
    """The frames that INT8 ranges were taken from.

    sha256: over the bytes of the letterboxed uint8 frames (1, H, W, 3), in their order. strata: how many frames have
    what, such as "light: dark" or "class: car"; "different: groups" counts the drives or cameras. method: how ranges
    were made of them.
    """

    frames: Positive
    sha256: Sha256
    strata: dict[str, Annotated[int, msgspec.Meta(ge=0)]]
    method: str = ""

    def by_kind(self) -> dict[str, str]:
        """The strata in lines: "light" -> "dark 3, day 61"."""
        lines: dict[str, list[str]] = {}
        for stratum, count in self.strata.items():
            kind, _, name = stratum.partition(": ")
            lines.setdefault(kind, []).append(f"{name} {count}".lstrip())
        return {kind: ", ".join(parts) for kind, parts in lines.items()}


class Scores(Frozen, frozen=True, kw_only=True):
    """The metric on one set of frames, 0..1: `value` is the mean of `heads`; `classes` by head and label."""

    value: float
    heads: dict[str, float]
    classes: dict[str, dict[str, float | None]] = msgspec.field(default_factory=dict)


class Hop(Frozen, frozen=True, kw_only=True):
    """One step of the chain, compared with the step before it, by tensor and by the task's metric.

    `max_rel_error` is the largest absolute difference over the largest absolute reference value, the
    worst tensor of all compared frames; `cosine` is the lowest cosine similarity. `heads` holds the metric of
    every head where there are several; `value` is then their mean. `classes`: the metric by head and label. `domains`:
    the same on further sets of frames that the budget is held on, by name.
    """

    hop: str
    metric: str
    value: float
    max_rel_error: float
    cosine: float
    passed: bool
    note: str = ""
    heads: dict[str, float] = msgspec.field(default_factory=dict)
    classes: dict[str, dict[str, float | None]] = msgspec.field(default_factory=dict)
    domains: dict[str, Scores] = msgspec.field(default_factory=dict)


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


class Sensitivity(Frozen, frozen=True, kw_only=True):
    """What one layer alone in INT8 costs: the relative root mean square error of the tensors that decoding reads.

    macs: its multiply-accumulates for one frame.
    """

    layer: str
    op: str
    module: str
    macs: int
    error: float


class SearchTrial(Frozen, frozen=True, kw_only=True):
    """One choice of INT8 layers that was measured. float_layers: those left in float. p50_ms: None if not timed."""

    variant: str
    engine: EngineName
    precision: Precision
    calibrator: str
    float_layers: tuple[str, ...]
    value: float
    passed: bool
    note: str
    p50_ms: float | None = None


class Search(Frozen, frozen=True, kw_only=True):
    """How the INT8 layers were found. calibrators: the error of each, all layers in INT8; the least was taken first.

    layers: how many there are. sensitivities: empty where INT8 everywhere met the budget.
    """

    calibrators: dict[str, float]
    layers: int
    sensitivities: tuple[Sensitivity, ...] = ()
    trials: tuple[SearchTrial, ...] = ()


class Check(Frozen, frozen=True, kw_only=True):
    """One finding about one operator on one target."""

    code: str
    op: str = ""
    node: str = ""
    module: str = ""
    advice: str = ""


GraphState = Literal["compiled", "refused", "cannot tell", "over budget"]
"""What the host found of a graph for a target. cannot tell: only the target itself can; over budget: not tried."""


class TargetResult(Frozen, frozen=True, kw_only=True):
    """What would run on one target, and what the host could check of it.

    file: the compiled engine in the bundle, "" where the device builds its own. graphs: what was found of each, by
    variant.
    """

    variant: str
    engine: str
    deployable: bool
    file: str = ""
    checks: tuple[Check, ...] = ()
    note: str = ""
    graphs: dict[str, GraphState] = msgspec.field(default_factory=dict)


class AccuracyBudget(Frozen, frozen=True, kw_only=True):
    """How much a variant may lose of each head's metric, and of single classes by label, all 0..1."""

    head: float
    classes: dict[str, float] = msgspec.field(default_factory=dict)


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


def sample_name(variant: str, engine: str) -> str:
    """What golden samples of a variant are called that one of its further engines gave."""
    return f"{variant}@{engine}"


class Manifest(Frozen, frozen=True, kw_only=True):
    """A bundle's contract; `manifest.json` holds exactly this.

    dataset_classes: by head, a label -> the names that the dataset had for it; empty where they were the labels.
    release: rises with each bundle that a fleet is to take, see `edgetl update`; 0 where nobody counts.
    golden_engines: what golden samples are of besides the chosen pair, and the engine that gave them: variants, and as
    VARIANT@ENGINE those of a variant's further engines.
    """

    schema_version: Annotated[int, msgspec.Meta(ge=1)]
    name: str
    heads: Annotated[tuple[Head, ...], msgspec.Meta(min_length=1)]
    preprocess: Preprocess
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    variants: tuple[Variant, ...]
    chosen: Chosen
    targets: dict[str, TargetResult]
    hops: tuple[Hop, ...]
    latencies: tuple[Latency, ...]
    golden: RelativePath
    files: dict[RelativePath, FileEntry]
    provenance: Provenance
    domain: DomainStatistics | None = None
    reliability: dict[str, Reliability] = msgspec.field(default_factory=dict)
    search: Search | None = None
    budget: AccuracyBudget | None = None
    calibration: Calibration | None = None
    dataset_classes: dict[str, dict[str, tuple[str, ...]]] = msgspec.field(default_factory=dict)
    release: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    golden_engines: dict[str, EngineName] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        heads = [h.name for h in self.heads]
        if len(set(heads)) != len(heads):
            raise ValueError(f"Manifest.heads must have different names, found {heads}")
        names = [v.name for v in self.variants]
        if self.chosen.variant not in names:
            raise ValueError(f"chosen variant {self.chosen.variant!r} is not one of {names}")
        known = {name for name in names if name != self.chosen.variant}
        known |= {sample_name(v.name, engine) for v in self.variants for engine in v.engines}
        if unknown := [name for name in self.golden_engines if name not in known]:
            raise ValueError(f"Manifest.golden_engines names {unknown}, expected further ones of {names}")
        missing = [v.file for v in self.variants if v.file not in self.files]
        missing += [f for f in (self.golden, self.domain.file if self.domain else None) if f and f not in self.files]
        if missing:
            raise ValueError(f"Manifest.files does not list {missing}")

    def head(self, name: str) -> Head:
        """The head of this name. Raises KeyError that lists the names there are."""
        for h in self.heads:
            if h.name == name:
                return h
        raise KeyError(f"no head {name!r}; there are {[h.name for h in self.heads]}")

    def variant(self, name: str) -> Variant:
        """The variant of this name. Raises KeyError that lists the names there are."""
        for v in self.variants:
            if v.name == name:
                return v
        raise KeyError(f"no variant {name!r}; there are {[v.name for v in self.variants]}")
