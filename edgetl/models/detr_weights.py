"""Weights for the detectors of detr.py: from the hub, a folder, a file or nowhere; licence and hash on record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgetl.models.detr import DETRS, DetrNetwork, config_of, fresh_model, network_from_model, packages
from edgetl.models.hub import FILES, HubUnreachable, hub_file
from edgetl.models.licences import NOT_STATED, Use, check_licence
from edgetl.models.state import read_state
from edgetl.models.weights import WeightSource, sha256_of
from edgetl_runtime.errors import InputError

OF_CLASSES = ("class_embed.", "enc_score_head.", "denoising_class_embed.")
"""Parts with one row for each class: they differ from dataset to dataset."""
TWICE = ("class_embed.", "bbox_embed.")
COUNTERS = ("num_batches_tracked",)
"""Frozen norms have none."""
CONFIG = "config.json"
OFFLINE = "give a folder or a file of its weights, or `none` for random ones"


def build_detr(
    name: str, labels: Sequence[str], weights: str, *, use: Use = "commercial", allow_license: bool = False
) -> tuple[DetrNetwork, WeightSource]:
    """The detector `name` for these classes, in eval mode, and what its weights are.

    weights: `none` (random), `hub`, a folder that transformers' save_pretrained wrote, or a file with a state dict
    of transformers' model. Classes that the weights know by the same name start from theirs, the others anew; by their
    place where the weights name no classes and have as many.
    Raises InputError for weights that do not fit, can't be had or may not be used so; MissingPackage.
    """
    if weights == "none":
        network = network_from_model(fresh_model(name, len(labels)))
        return network, WeightSource("none (random)", hashlib.sha256(b"").hexdigest(), "none")
    file, config, source = _found(name, weights, use=use, allow_license=allow_license)
    state = _named_once(read_state(file))
    spoiled = [k for k, v in state.items() if not v.isfinite().all()]
    if spoiled:
        raise InputError(
            f"{file}: {len(spoiled)} tensors hold NaN or infinity (first: {spoiled[0]})", remedy="give other weights"
        )
    known = _class_names(config)
    same = [n.lower() for n in known] == [n.lower() for n in labels]
    kept = state if same or not known else {k: v for k, v in state.items() if not _of_classes(k)}
    model = _loaded(name, len(labels), kept, source=str(file))
    _take_classes(model, state, labels, known)
    return network_from_model(model), source


def _found(name: str, weights: str, *, use: Use, allow_license: bool) -> tuple[Path, Path | None, WeightSource]:
    """The file of weights, the config beside it or None, and what to put on record."""
    entry = DETRS[name]
    if weights == "hub":
        check_licence(f"{entry.hub} from the hub", entry.licence, use=use, allowed=allow_license)
        try:
            file, config = hub_file(entry.hub), hub_file(entry.hub, names=(CONFIG,))
        except HubUnreachable as error:
            raise HubUnreachable(f"{name}: {error.message}", remedy=OFFLINE) from error
        return file, config, WeightSource(f"{entry.hub}/{file.name} (hub)", sha256_of(file), entry.licence)
    path = Path(weights)
    if path.is_dir():
        held = [path / f for f in FILES if (path / f).is_file()]
        if not held:
            raise InputError(f"{path}: holds no {' or '.join(FILES)}", remedy=OFFLINE)
        source = WeightSource(f"{path.name}/{held[0].name}", sha256_of(held[0]), NOT_STATED)
        return held[0], path / CONFIG if (path / CONFIG).is_file() else None, source
    if not path.is_file():
        package = weights == "package"
        what = f"no registry package carries weights for {name}" if package else f"--weights {weights}: no such file"
        raise InputError(what, remedy=f"give `hub`, or {OFFLINE.removeprefix('give ')}")
    return path, None, WeightSource(path.name, sha256_of(path), NOT_STATED)


def _named_once(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same, the decoder's last layers only under the name of the module that uses them.

    transformers has them twice, and can't tell that two are one where both are of another shape than the model's.
    """
    inner = {f"model.decoder.{k}": v for k, v in state.items() if k.startswith(TWICE)}
    return inner | {k: v for k, v in state.items() if not k.startswith(TWICE)}


def _loaded(name: str, classes: int, state: Mapping[str, Tensor], *, source: str) -> nn.Module:
    """transformers' model with these weights; only parts of OF_CLASSES may be left as they start."""
    transformers = packages()
    model_class = getattr(transformers, DETRS[name].family[2])
    with _quiet(transformers):
        try:
            # Through transformers, which knows what its parts were called in earlier versions.
            model, report = model_class.from_pretrained(
                None,
                config=config_of(name, classes),
                state_dict=dict(state),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            raise InputError(f"{source}: not weights of {name} ({reason})", remedy=OFFLINE) from error
    _check_report(name, report, source)
    return cast("nn.Module", model)


def _check_report(name: str, report: Mapping[str, Any], source: str) -> None:
    missing = [str(k) for k in report["missing_keys"] if not str(k).endswith(COUNTERS)]
    other = [str(k) for k in report["unexpected_keys"] if not str(k).endswith(COUNTERS)]
    shapes = [str(k[0] if isinstance(k, tuple) else k) for k in report["mismatched_keys"]]
    wrong = {
        "are missing": [k for k in missing if not _of_classes(k)],
        "are not of it": other,
        "have another shape": [k for k in shapes if not _of_classes(k)],
    }
    problems = [f"{len(keys)} tensors {what} (first: {min(keys)})" for what, keys in wrong.items() if keys]
    if problems:
        raise InputError(
            f"{source}: weights of another architecture than {name}, {' and '.join(problems)}",
            remedy="give weights of this detector",
        )


def _of_classes(key: str) -> bool:
    return any(part in key for part in OF_CLASSES)


def _class_names(config: Path | None) -> tuple[str, ...]:
    """The classes that a transformers config names, in order; empty where it names none."""
    try:
        names = json.loads(config.read_text(encoding="utf-8"))["id2label"] if config else {}
        return tuple(str(names[str(i)]) for i in range(len(names)))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _take_classes(model: nn.Module, state: Mapping[str, Tensor], labels: Sequence[str], known: tuple[str, ...]) -> None:
    """Copy the rows of classes that the weights know by the same name, whatever their case."""
    places = {n.lower(): i for i, n in enumerate(known)}
    pairs = [(i, places[n.lower()]) for i, n in enumerate(labels) if n.lower() in places]
    if not pairs:
        return
    ours, theirs = (list(column) for column in zip(*pairs, strict=True))
    own = model.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            if _of_classes(key) and key in own and len(value) >= len(known):
                own[key][ours] = value[theirs].to(own[key].dtype)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No bars and no advice from transformers while it loads; the caller's settings come back."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
