"""What several sections of a bundle's page ask of its manifest."""

from __future__ import annotations

import re

from edgetl_runtime.spec import Hop, Latency, Manifest, SearchTrial

METRIC_NAMES = {"ap50": "AP50", "ap": "AP", "miou": "mIoU", "accuracy": "accuracy", "mean": "mean over heads"}


def minus(text: str) -> str:
    """Text with a real minus sign before its numbers."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "−", text)


def key_of(row: Latency | SearchTrial) -> str:
    """`engine/variant`, as hops of engines are named."""
    return f"{row.engine}/{row.variant}"


def chosen_key(manifest: Manifest) -> str:
    """The chosen pair as `engine/variant`."""
    return f"{manifest.chosen.engine}/{manifest.chosen.variant}"


def hop_of(manifest: Manifest, key: str) -> Hop | None:
    """The hop of this name, if there is one."""
    return next((hop for hop in manifest.hops if hop.hop == key), None)


def metric_name(hop: Hop) -> str:
    """The metric's name with its unit; values are shown times 100."""
    return f"{METRIC_NAMES[hop.metric]}, per cent" if hop.metric in METRIC_NAMES else hop.metric


def chosen_trial(manifest: Manifest) -> SearchTrial | None:
    """What the search says of the chosen pair; None where that is no INT8 pair."""
    trials = manifest.search.trials if manifest.search else ()
    return next((trial for trial in trials if key_of(trial) == chosen_key(manifest)), None)


def passing_trials(manifest: Manifest) -> frozenset[str]:
    """Keys of the pairs that a search only tried on its way: neither plain INT8 nor the chosen one."""
    trials = manifest.search.trials if manifest.search else ()
    plain = {key_of(trial) for trial in trials if trial.variant == trial.precision}
    return frozenset(key_of(trial) for trial in trials) - plain - {chosen_key(manifest)}
