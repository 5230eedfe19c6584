"""Fold frozen batch norms into the convolutions before them: the same function, less to compute."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from edgetl.models.reparameterise import has_branches

TOLERANCE = 1e-3
TRIAL_HW = (96, 160)


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy of `module` (in eval mode) without the batch norms that follow a convolution.

    Which do is seen from the data: a norm whose input is the very tensor that a convolution gave. An activation
    inside the norm stays. The fold is tried on a copy with other statistics, and the module itself is returned
    where it would compute something else; so what is folded depends on the architecture, never on the weights.
    Modules that will be re-parameterised keep their norms, which that needs.
    """
    module = module.eval()
    trial = _with_other_statistics(module)
    pairs = _pairs(trial)
    if not pairs or not same_function(trial, _folded(trial, pairs)):
        return module
    return _folded(module, pairs)


def same_function(module: nn.Module, other: nn.Module) -> bool:
    """Whether two modules in eval mode give equal maps (float32 rounding apart) for a frame of noise."""
    x = torch.randn(1, 3, *TRIAL_HW, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            pairs = list(zip(module(x), other(x), strict=True))
        except (RuntimeError, TypeError, AttributeError, ValueError, KeyError, IndexError):
            return False
    return all(torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * float(a.abs().max())) for a, b in pairs)


def _with_other_statistics(module: nn.Module) -> nn.Module:
    """A copy whose norms all do something: fresh ones pass their input on, and a wrong fold would go unseen."""
    trial = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in trial.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for tensor, low, high in (
                    (norm.running_mean, -0.2, 0.2),
                    (norm.running_var, 0.5, 1.5),
                    (norm.weight, 0.5, 1.5),
                    (norm.bias, -0.2, 0.2),
                ):
                    if tensor is not None:
                        tensor.uniform_(low, high, generator=generator)
    return trial


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Names of convolution and batch norm where the norm alone reads what the convolution wrote."""
    names = {m: n for n, m in module.named_modules()}
    kept = tuple(f"{n}." for n, m in module.named_modules() if n and has_branches(m))
    written: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: Counter[nn.Module] = Counter()

    def conv_ran(conv: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        calls[conv] += 1
        written[id(output)] = (conv, output, output._version)  # kept, so that no other tensor gets its id

    def norm_runs(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        calls[norm] += 1
        conv, output, version = written.get(id(inputs[0]), (None, None, 0))
        # Another version is an in-place activation between the two.
        if conv is not None and output is not None and output._version == version and _fits(conv, norm):
            pairs.append((conv, norm))

    handles = [m.register_forward_hook(conv_ran) for m in names if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_pre_hook(norm_runs) for m in names if isinstance(m, nn.BatchNorm2d)]
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, *TRIAL_HW))
    except (RuntimeError, TypeError, AttributeError, ValueError):
        return []
    finally:
        for handle in handles:
            handle.remove()
    once = [(names[c], names[n]) for c, n in pairs if calls[c] == calls[n] == 1]
    return [(c, n) for c, n in once if not n.startswith(kept) and not c.startswith(kept)]


def _fits(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    drop = getattr(norm, "drop", None)
    return (
        norm.num_features == conv.out_channels
        and norm.running_mean is not None
        and (drop is None or isinstance(drop, nn.Identity))
    )


def _folded(module: nn.Module, pairs: Sequence[tuple[str, str]]) -> nn.Module:
    folded = copy.deepcopy(module)
    for conv_name, norm_name in pairs:
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _replace(folded, conv_name, _fused(conv, norm))
        activation = getattr(norm, "act", None)
        _replace(folded, norm_name, nn.Identity() if activation is None else activation)
    return folded


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    fused = copy.deepcopy(conv)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return fused
