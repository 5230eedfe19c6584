"""Networks that train with several branches and run with one: RepVGG (arXiv:2101.03697) and those after it."""

from __future__ import annotations

from torch import nn

MERGES = ("fuse", "reparameterize", "switch_to_deploy")
"""Methods by which timm's modules merge their branches, in the order in which timm asks for them."""


def has_branches(module: nn.Module) -> bool:
    """Whether this very module can merge its branches (or its convolution and norm) into one convolution."""
    return any(callable(getattr(module, merge, None)) for merge in MERGES)


def branched(module: nn.Module) -> tuple[str, ...]:
    """Names of the outermost modules below `module` that can still merge."""
    names: list[str] = []
    for name, child in module.named_modules():
        if name and has_branches(child) and not name.startswith(tuple(f"{n}." for n in names)):
            names.append(name)
    return tuple(names)


def for_deployment(module: nn.Module) -> nn.Module:
    """A copy of a backbone as it runs on the vehicle: branches merged, batch norms folded, in eval mode.

    Training keeps the branches; call this when it is over. Each step is compared with the one before on a frame of
    noise, and left out where the maps differ by more than float32 rounding: the result always computes the same.
    """
    from timm.utils.model import reparameterize_model

    from edgetl.models.fold import fold_batch_norms, same_function

    module = module.eval()
    if branched(module):
        try:
            merged = reparameterize_model(module).eval()
        except (RuntimeError, TypeError, AttributeError, ValueError):
            merged = module
        if same_function(module, merged):
            module = merged
    return fold_batch_norms(module)
