"""A network from the user's own Python file: `module.py:build_model`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_module(path: Path, function: str) -> nn.Module:
    """What `function` of the file returns when it is called without arguments, in eval mode, on the CPU.

    The file is the user's own program: it is run, and may import files that lie beside it. Raises InputError for a file
    that can't be run, a function that isn't there, and one that returns no torch module.
    """
    from torch import nn

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = f"edgetl_module_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    beside = str(path.resolve().parent)
    sys.modules[name] = module  # dataclasses and pickles in the file look their module up
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
        build = getattr(module, function, None)
        if not callable(build):
            there = ", ".join(n for n, v in vars(module).items() if callable(v) and not n.startswith("_")) or "none"
            raise InputError(f"{path} has no function {function!r}", remedy=f"it has: {there}")
        network = build()
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path}:{function} failed: {type(error).__name__}: {text[:300]}") from error
    finally:
        sys.path.remove(beside)
    if not isinstance(network, nn.Module):
        raise InputError(f"{path}:{function} returned {type(network).__name__}, expected a torch module")
    return network.eval().cpu()


def named_outputs(found: object, wanted: Sequence[str], where: str) -> dict[str, Tensor]:
    """A module's result (a tensor, a sequence, a mapping) as tensors by name.

    wanted: names in order, or none to take the mapping's own, or output_0, output_1, ... Raises InputError otherwise.
    """
    import torch

    if isinstance(found, torch.Tensor):
        found = (found,)
    if isinstance(found, dict):
        tensors = {str(k): v for k, v in found.items()}
    elif isinstance(found, (tuple, list)):
        tensors = {f"output_{i}": v for i, v in enumerate(found)}
    else:
        raise InputError(f"{where} returned {type(found).__name__}, expected tensors, or a tuple or dict of them")
    wrong = [f"{k} is {type(v).__name__}" for k, v in tensors.items() if not isinstance(v, torch.Tensor)]
    if wrong:
        raise InputError(f"{where} must return tensors only: {wrong[0]}", remedy="wrap it in a module that does")
    if wanted and len(wanted) != len(tensors):
        shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in tensors.items())
        raise InputError(f"`outputs` names {len(wanted)} tensors, {where} returned {len(tensors)}: {shapes}")
    return dict(zip(wanted, tensors.values(), strict=True)) if wanted else tensors


def flattened(
    module: nn.Module, example: Tensor, wanted: Sequence[str], where: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """A module that returns a tuple of tensors, and their names; see named_outputs."""
    import torch
    from torch import nn

    class Flattened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(named_outputs(self.network(x), wanted, where).values())

    try:
        with torch.inference_mode():
            names = tuple(named_outputs(module(example), wanted, where))
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(
            f"{where} can't run an input of shape {tuple(example.shape)}: {type(error).__name__}: {text[:300]}",
            remedy="correct input.size_hw",
        ) from error
    return Flattened().eval(), names


def module_of(model: str) -> tuple[Path, str] | None:
    """File and function of `module.py:function`; None for anything else."""
    path, _, function = model.rpartition(":")
    return (Path(path), function) if path.endswith(".py") else None


def is_foreign(model: str) -> bool:
    """Whether this names a network from elsewhere: `model.onnx` or `module.py:function`."""
    named = module_of(model)
    return model.lower().endswith(".onnx") or (named is not None and bool(named[1]))
