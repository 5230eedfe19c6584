"""The networks to be ranked: a backbone and where its weights come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgetl.models.weights import HUB, packaged_architectures
from edgetl.ranking.prior import PUBLISHED
from edgetl_runtime.errors import InputError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A timm features_only network; weights as `edgetl tune --weights` takes them."""

    backbone: str
    weights: str

    @property
    def name(self) -> str:
        """`backbone:weights`, as the flag takes it."""
        return f"{self.backbone}:{self.weights}"


def parse_candidates(texts: Sequence[str], weights: str) -> tuple[Candidate, ...]:
    """`name` or `name:weights`; `weights` is for those that state none. `auto`: a package's, else the hub's.

    Raises InputError where there is none, or one twice.
    """
    parsed = []
    for text in texts:
        backbone, _, own = text.partition(":")
        parsed.append(Candidate(backbone, _chosen(backbone, own or weights)))
    twice = [c.name for i, c in enumerate(parsed) if c in parsed[:i]]
    if twice:
        raise InputError(f"the candidate {twice[0]} is given twice", remedy="name each once")
    if not parsed:
        raise InputError(
            "no candidate's weights are on this machine",
            remedy="name some with --candidates, or install edgetl[train], which brings one network's",
        )
    return tuple(parsed)


def here() -> tuple[Candidate, ...]:
    """The networks whose weights need no download: from installed packages, and from the hub's cache."""
    packaged = packaged_architectures(installed=True)
    cached = [name for name in PUBLISHED if name not in packaged and _in_hub_cache(name)]
    return (*(Candidate(name, "package") for name in packaged), *(Candidate(name, HUB) for name in cached))


def _chosen(backbone: str, weights: str) -> str:
    if weights != "auto":
        return weights
    return "package" if backbone in packaged_architectures(installed=True) else HUB


def _in_hub_cache(backbone: str) -> bool:
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    if config is None or not config.hf_hub_id:
        return False
    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(config.hf_hub_id, name), str) for name in files)
