"""One graph of three parts: the frame's bytes to the network's input, the network as it is, its outputs to the heads'.

Requires: a network of one input and batch 1 (see network.py). Ensures: frame (1, H, W, 3) uint8 BGR -> Cast ->
Transpose -> channel order -> (x - mean) / std -> the network; outputs are the heads', then the network's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, shape_inference

from edgetl_export.foreign.decoders import Decoder, Output, decoder_name
from edgetl_export.foreign.network import Network
from edgetl_export.foreign.nodes import Nodes
from edgetl_export.graph import attribute, consumers, prune
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, Preprocess

FRAME = "frame"
TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def heads_of(network: Network, decoders: Sequence[Decoder], size_hw: tuple[int, int]) -> tuple[Head, ...]:
    """The heads of all decoders. Raises InputError for outputs that don't fit, or two heads of one name."""
    heads = [h for d in decoders for h in d.heads(network.read_by(d), size_hw)]
    names = [h.name for h in heads]
    outputs = [o for h in heads for o in h.outputs]
    if len(set(names)) != len(names) or len(set(outputs)) != len(outputs):
        twice = next(n for n in (*names, *outputs) if names.count(n) > 1 or outputs.count(n) > 1)
        raise InputError(
            f"two heads are called {twice!r} or give it", remedy="one head of boxes, one of categories, masks by name"
        )
    return tuple(heads)


def raw_names(network: Network, decoders: Sequence[Decoder], heads: Sequence[Head]) -> dict[str, str]:
    """The network's own outputs that decoders read -> what they are called beside the heads' outputs."""
    taken = {FRAME, *(o for h in heads for o in h.outputs)}
    wanted = [o.name for d in decoders for o in network.read_by(d)]
    return {name: f"raw_{name}" if name in taken else name for name in dict.fromkeys(wanted)}


def probe_names(network: Network, decoders: Sequence[Decoder], names: Mapping[str, str]) -> dict[str, str]:
    """The network's own outputs that decoders read -> what parity compares of each; names: as `raw_names` has it."""
    unsteady = {network.read_by(d)[place].name for d in decoders for place in d.unsteady()}
    return {raw: f"steady_{name}" if raw in unsteady else name for raw, name in names.items()}


def compose(network: Network, preprocess: Preprocess, decoders: Sequence[Decoder], heads: Sequence[Head]) -> ModelProto:
    """The whole graph, with shapes inferred."""
    model = ModelProto()
    model.CopyFrom(network.model)
    names = raw_names(network, decoders, heads)
    probes = probe_names(network, decoders, names)
    _rename(model.graph, _away(model, network, heads, names, {*probes.values()} - {*names.values()}))
    taken = _names(model.graph)
    start = _input_nodes(model, network, preprocess, _unlike("input", taken))
    parts = [start]
    for i, decoder in enumerate(decoders):
        g = Nodes(_unlike(f"decode_{i}_{decoder_name(decoder)}", taken))
        read = network.read_by(decoder)
        outputs = [Output(names[o.name], o.shape) for o in read]
        decoder.nodes(g, outputs, preprocess.size_hw)
        decoder.steady_nodes(g, outputs, {i: probes[read[i].name] for i in decoder.unsteady()})
        parts.append(g)
    _join(model, parts, preprocess.size_hw)
    infos = [o for h in heads for o in contract_of(h, preprocess.size_hw)]
    infos += [
        helper.make_tensor_value_info(probes[name], TensorProto.FLOAT, network.outputs[name].shape) for name in names
    ]
    del model.graph.output[:]
    model.graph.output.extend(infos)
    prune(model)
    return shape_inference.infer_shapes(model, data_prop=True)


def contract_of(head: Head, size_hw: tuple[int, int]) -> list[ValueInfoProto]:
    """The types and shapes that a head promises for its outputs."""
    if isinstance(head, DetectHead):
        k = head.max_detections
        kinds: list[tuple[int, list[int]]] = [
            (TensorProto.FLOAT, [1, k, 4]),
            (TensorProto.FLOAT, [1, k]),
            (TensorProto.INT64, [1, k]),
        ]
    elif isinstance(head, ClassifyHead):
        kinds = [(TensorProto.FLOAT, [1, len(head.labels)])]
    else:
        kinds = [(TensorProto.UINT8, [1, size_hw[0] // head.stride, size_hw[1] // head.stride])]
    return [
        helper.make_tensor_value_info(name, kind, shape)
        for name, (kind, shape) in zip(head.outputs, kinds, strict=True)
    ]


def _away(
    model: ModelProto, network: Network, heads: Sequence[Head], names: Mapping[str, str], steady: Set[str]
) -> dict[str, str]:
    """Old name -> new name of every tensor of the network whose name is needed for another."""
    taken = {FRAME, *steady, *(o for h in heads for o in h.outputs)}
    own = {network.input_name, *(i.name for i in model.graph.initializer)}
    own |= {o for n in model.graph.node for o in n.output}
    moved = {name: f"network_{name}" for name in own & taken}
    return moved | {old: new for old, new in names.items() if old != new}


def _rename(graph: GraphProto, table: Mapping[str, str]) -> None:
    """Rename tensors of a graph and of the graphs inside its nodes."""
    if not table:
        return
    for tensor in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        tensor.name = table.get(tensor.name, tensor.name)
    for node in graph.node:
        for field in (node.input, node.output):
            renamed = [table.get(name, name) for name in field]
            del field[:]
            field.extend(renamed)
        for a in node.attribute:
            for inner in (*a.graphs, *([a.g] if a.HasField("g") else [])):
                _rename(inner, table)


def _names(graph: GraphProto) -> set[str]:
    """Of the graph's tensors and nodes."""
    made = {name for node in graph.node for name in (node.name, *node.output)}
    return made | {tensor.name for tensor in (*graph.initializer, *graph.input)}


def _unlike(part: str, taken: set[str]) -> str:
    """A name for this part that none of `taken` begins with."""
    while any(name.startswith(f"{part}/") for name in taken):
        part += "_"
    return part


def _input_nodes(model: ModelProto, network: Network, preprocess: Preprocess, part: str) -> Nodes:
    """From the frame to the network's input tensor, which they make."""
    g = Nodes(part)
    target = f"network_{FRAME}" if network.input_name == FRAME else network.input_name
    x = g.add("Transpose", g.cast(FRAME, TensorProto.FLOAT), perm=TO_NCHW)
    if preprocess.channel_order == "rgb":
        x = g.add("Gather", x, g.indices(2, 1, 0), axis=1)
    if any(preprocess.mean):
        x = g.add("Sub", x, g.constant([[[[m]], [[n]], [[o]]] for m, n, o in (preprocess.mean,)]))
    if set(preprocess.std) != {1.0}:
        x = g.add("Div", x, g.constant([[[[m]], [[n]], [[o]]] for m, n, o in (preprocess.std,)]))
    if network.input_type != TensorProto.FLOAT:
        x = g.cast(x, network.input_type)
    if network.layout == "nhwc":
        _skip_transposes(model, target, x)
        x = g.add("Transpose", x, perm=TO_NHWC)
    _rename(model.graph, {target: x})
    return g


def _skip_transposes(model: ModelProto, source: str, planes: str) -> None:
    """Let what reads `source` through a Transpose to NCHW read `planes`, which are the same, directly."""
    for node in consumers(model).get(source, []):
        if node.op_type == "Transpose" and attribute(node, "perm") == TO_NCHW:
            model.graph.node.remove(node)
            _rename(model.graph, {node.output[0]: planes})


def _join(model: ModelProto, parts: Sequence[Nodes], size_hw: tuple[int, int]) -> None:
    """Put the parts' nodes around the network's, and the frame in the place of its input."""
    start, *decoders = parts
    network = [NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    for i, node in enumerate(network):  # a node's name is what quantisation and diagnostics know it by
        node.name = node.name or f"{node.op_type}_{i}"
    if len({n.name for n in network}) < len(network):
        for i, node in enumerate(network):
            node.name = f"{node.name}_{i}"
    del model.graph.node[:]
    model.graph.node.extend([*start.nodes, *network, *(n for g in decoders for n in g.nodes)])
    model.graph.initializer.extend(c for g in parts for c in g.constants)
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(FRAME, TensorProto.UINT8, [1, *size_hw, 3]))
    del model.graph.value_info[:]
