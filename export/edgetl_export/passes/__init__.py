"""Graph passes: each says what it requires and what it ensures, and is checked after it ran.

A pass takes a model and returns another, or the same where it does not apply, with a note for the report. Passes keep
the names of tensors whose meaning they keep: by them `locate` finds the first layer that a bad pass broke.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import ModelProto

from edgetl_export.passes.drop_dead import drop_dead
from edgetl_export.passes.flush_tiny import flush_tiny
from edgetl_export.passes.fold_batch_norm import fold_batch_norm
from edgetl_export.passes.fold_constants import fold_constants
from edgetl_export.passes.fold_input import fold_input
from edgetl_export.passes.join_branches import join_branches
from edgetl_export.passes.join_pool import join_pool
from edgetl_export.passes.select_early import select_early
from edgetl_export.passes.shuffle_late import shuffle_late
from edgetl_export.passes.simplify import simplify
from edgetl_export.passes.split_early import split_early


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass. optional: where its result does not hold against the reference, the model before it is kept."""

    name: str
    run: Callable[[ModelProto], tuple[ModelProto, str]]
    optional: bool = False


PASSES = (
    Pass("flush-tiny", flush_tiny),
    Pass("fold-constants", fold_constants),
    Pass("select-early", select_early),
    Pass("fold-batch-norm", fold_batch_norm),
    Pass("join-branches", join_branches),
    Pass("join-pool", join_pool),
    Pass("fold-input", fold_input),
    Pass("drop-dead", drop_dead),
    Pass("shuffle-late", shuffle_late),
    Pass("split-early", split_early),
)
"""What every network goes through, in this order; first what makes the checks of the others faster."""

SIMPLIFY = Pass("onnxslim", simplify, optional=True)
"""Goes first where it was asked for."""
