"""Files of weights: read, matched with a network whatever wraps their names, checked, loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("module", "model", "backbone", "encoder", "_orig_mod")
"""Names that data-parallel training, compilation and other frameworks put before a network's own."""
NESTED = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "net", "weights")
"""Where training scripts keep the state dict in a larger checkpoint, averaged weights first."""
OWN_WRAPPERS = ("model_", "body_")
"""What timm's hook and getter feature extractors put before a network's own names."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a torch file (a state dict, or a checkpoint that holds one).

    Raises InputError. Nothing in the file is executed.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            document: object = load_file(path, device="cpu")
        else:
            document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"{path}: not a file of weights ({reason})", remedy="give a torch state dict or a .safetensors file"
        ) from error
    if isinstance(document, Mapping) and {"format", "card"} <= set(document):
        raise InputError(f"{path}: an edgetl checkpoint, not pretrained weights", remedy="go on from it with --start")
    state = _tensors(document)
    if not state:
        raise InputError(
            f"{path}: not a state dict, found {type(document).__name__}{_keys(document)}",
            remedy="give a torch state dict or a .safetensors file",
        )
    return state


def _tensors(document: object) -> dict[str, Tensor]:
    """The state dict that this is, or that lies in it one level down; empty where there is none."""
    import torch

    if not isinstance(document, Mapping):
        return {}
    if document and all(isinstance(v, torch.Tensor) for v in document.values()):
        return {str(k): v for k, v in document.items()}
    for key in NESTED:
        inner = document.get(key)
        if isinstance(inner, Mapping) and inner and all(isinstance(v, torch.Tensor) for v in inner.values()):
            return {str(k): v for k, v in inner.items()}
    return {}


def _keys(document: object) -> str:
    return f" with {', '.join(map(str, list(document)[:4]))}" if isinstance(document, Mapping) and document else ""


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load `state` into `module`; every tensor of the module must be in it, with its shape and without NaN.

    state may be that of the whole classifier and may carry WRAPPERS before its names. `source` is for messages.
    Raises InputError that says how many tensors differ and names the first.
    """
    own = module.state_dict()
    found = _by_name(state)
    matched = {key: found[_flat_own(key)] for key in own if _flat_own(key) in found}
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    missing = [k for k in own if k not in matched and k not in counters]
    shapes = [k for k, v in matched.items() if own[k].shape != v.shape]
    if missing or shapes:
        problems = []
        if missing:
            problems.append(f"{len(missing)} of {len(own) - len(counters)} tensors are missing (first: {missing[0]})")
        if shapes:
            first = shapes[0]
            sizes = f"{tuple(matched[first].shape)} for {tuple(own[first].shape)}"
            problems.append(f"{len(shapes)} have another shape (first: {first}, {sizes})")
        raise InputError(
            f"{source}: weights of another architecture, {' and '.join(problems)}",
            remedy="give weights of this backbone",
        )
    spoiled = [k for k, v in matched.items() if not v.isfinite().all()]
    if spoiled:
        raise InputError(
            f"{source}: {len(spoiled)} tensors hold NaN or infinity (first: {spoiled[0]})", remedy="give other weights"
        )
    module.load_state_dict(matched, strict=False)


def _flat_own(key: str) -> str:
    """A network's own name as it is compared: timm's feature extractors turn some dots into underscores."""
    flat = key.replace(".", "_")
    for prefix in OWN_WRAPPERS:
        if flat.startswith(prefix):
            return flat.removeprefix(prefix)
    return flat


def _by_name(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by flat name, with and without the wrappers before it; the longer name wins where two agree."""
    found: dict[str, Tensor] = {}
    levels: list[tuple[int, str, Tensor]] = []
    for key, value in state.items():
        for level, name in enumerate(_unwrapped(key)):
            levels.append((level, name.replace(".", "_"), value))
    for _, name, value in sorted(levels, key=lambda row: row[0]):
        found.setdefault(name, value)
    return found


def _unwrapped(key: str) -> Iterable[str]:
    yield key
    while key.partition(".")[0] in WRAPPERS:
        key = key.partition(".")[2]
        yield key
