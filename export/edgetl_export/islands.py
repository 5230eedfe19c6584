"""Which layers stay in float32 so that bf16 keeps within the accuracy budget, in the least time.

OpenVINO takes bf16 for a whole network; the layers that the graph itself names, see KEEP_FP32, it runs in float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from msgspec import structs
from onnx import ModelProto

from edgetl_export.candidates import Candidate, Pair, Reference, judge, recorded
from edgetl_export.crew import at_once
from edgetl_export.graph import copy_of, float_tensors, producers, save_model, set_metadata, without_outputs
from edgetl_export.layers import Layer
from edgetl_export.parity import rms_error
from edgetl_export.proof import proved
from edgetl_runtime.engines.openvino import KEEP_FP32, list_of_names
from edgetl_runtime.errors import EngineError
from edgetl_runtime.progress import Progress

SENSITIVITY_FRAMES = 4


@dataclass(slots=True)
class Islands:
    """What a search came to. candidates: every one that was judged; layers: those that stay in float32, none where
    nothing was found.
    """

    candidates: list[Candidate] = field(default_factory=list)
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FloatNetwork:
    """A float network that layers are kept in float32 of. model: with the probes as outputs; layers: of `layers_of`;
    work, ship: folders for graphs with probes and without.
    """

    model: ModelProto
    layers: Sequence[Layer]
    probes: Sequence[str]
    work: Path
    ship: Path

    def keeping(self, names: Iterable[str]) -> ModelProto:
        """The network with these layers, and what follows them, in float32."""
        return keep_fp32(self.model, nodes_of(self.model, self.layers, names))


def regions_of(model: ModelProto, layers: Sequence[Layer]) -> dict[str, tuple[str, ...]]:
    """Layer -> the nodes that it stands for: itself, and what follows until the next layer.

    Each node belongs to the last layer that it depends on, nodes before all layers to the first: where only layers
    stayed in float32, what is between them would round to bf16 all the same.
    """
    names = [layer.name for layer in layers]
    place = {name: i for i, name in enumerate(names)}
    of: dict[str, int] = {}
    regions: dict[str, list[str]] = {name: [] for name in names}
    for node in model.graph.node:
        at = place.get(node.name, max((of[i] for i in node.input if i in of), default=0))
        of.update((output, at) for output in node.output)
        regions[names[at]].append(node.name)
    return {name: tuple(nodes) for name, nodes in regions.items()}


def nodes_of(model: ModelProto, layers: Sequence[Layer], names: Iterable[str]) -> list[str]:
    """The nodes that these layers stand for in the float network `model`."""
    wanted = list(names)
    regions = regions_of(model, layers) if wanted else {}
    return [node for name in wanted for node in regions[name]]


def keep_fp32(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """The model, or a copy of it that says which nodes to keep in float32 where others run in bf16."""
    kept = set(names)
    floats = set(float_tensors(model)) if kept else set()
    tensors = [node.output[0] for node in model.graph.node if node.name in kept and node.output[0] in floats]
    if not tensors:
        return model
    marked = copy_of(model)
    set_metadata(marked, KEEP_FP32, list_of_names(tensors))
    return marked


def without_probes(model: ModelProto, probes: Iterable[str]) -> ModelProto:
    """The model without its probes; nodes that only they needed are no longer among those that stay in float32."""
    result = without_outputs(model, probes)
    kept = [json.loads(p.value) for p in result.metadata_props if p.key == KEEP_FP32]
    if kept:
        made = producers(result)
        set_metadata(result, KEEP_FP32, list_of_names(name for name in kept[0] if name in made))
    return result


def find_islands(network: FloatNetwork, reference: Reference, *, say: Callable[[str], None]) -> Islands:
    """Judge graphs with the most sensitive layers in float32, as few as the budget needs, found by halving.

    Nothing is found, and why is said, where OpenVINO can't keep the network's layers apart.
    """
    found = Islands()
    try:
        order = _most_sensitive(network, reference)
    except EngineError as error:
        say(f"  layers can't be kept in float32: {error.message}")
        return found

    def attempt(chosen: Sequence[str]) -> bool:
        candidate = _judged(network, reference, f"bf16-mixed{len(found.candidates)}", chosen)
        if candidate is None:
            return False
        found.candidates.append(candidate)
        verdict = "within the budget" if candidate.hop.passed else "over the budget"
        say(f"  {len(chosen)} of {len(order)} layers in float32: {candidate.hop.note}, {verdict}")
        return candidate.hop.passed

    found.layers = tuple(least_prefix(order, attempt))
    return found


def _most_sensitive(network: FloatNetwork, reference: Reference) -> list[str]:
    """The layers by the error of each alone in bf16, greatest first."""
    frames = reference.frames[:SENSITIVITY_FRAMES]
    tensors = reference.tensors[:SENSITIVITY_FRAMES]
    names = [layer.name for layer in network.layers]

    def error_of(number: int, name: str) -> float:
        path = network.work / f"bf16-alone{number}.onnx"
        save_model(network.keeping([other for other in names if other != name]), path)
        rows = recorded("openvino", path, "bf16", frames, reference.probes)
        path.unlink()
        progress.step()
        return rms_error(tensors, rows)

    with Progress("bf16", len(names), unit="layers") as progress:
        found = at_once([partial(error_of, i, name) for i, name in enumerate(names)])
    errors = dict(zip(names, found, strict=True))
    return sorted(errors, key=lambda name: errors[name], reverse=True)


def _judged(network: FloatNetwork, reference: Reference, variant: str, names: Sequence[str]) -> Candidate | None:
    """The network in bf16 but for these layers, where it runs here."""
    model = network.keeping(names)
    pair = Pair(
        variant=variant,
        precision="bf16",
        engine="openvino",
        probe_file=network.work / f"{variant}.onnx",
        file=network.ship / f"model.{variant}.onnx",
        float_layers=tuple(names),
    )
    save_model(model, pair.probe_file)
    save_model(without_probes(model, network.probes), pair.file)
    judged = judge(pair, reference)
    if isinstance(judged, str):
        return None
    candidate = proved(judged, reference.shipped, network.layers, (), fp32=names)
    note = f"{candidate.hop.note}, {len(names)} of {len(network.layers)} layers in float32"
    return replace(candidate, hop=structs.replace(candidate.hop, note=note))


def least_prefix(order: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> list[str]:
    """The shortest start of `order` that passes, found by halving; empty where not even all but the last do."""
    good: list[str] = []
    low, high = 1, len(order) - 1
    while low <= high:
        middle = (low + high) // 2
        if passes(order[:middle]):
            good, high = list(order[:middle]), middle - 1
        else:
            low = middle + 1
    return good
