"""`edgetl export --lint`: an ONNX file, or the graph that a checkpoint becomes, against the targets; no bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl_export.lint import LintReport

SUFFIX = ".onnx"


def lint(path: Path, targets: Sequence[str], say: Callable[[str], None]) -> dict[str, object]:
    """Lint, show the report, and give it as the command's document.

    path: an ONNX file, or a checkpoint. Raises InputError for a file that is neither.
    """
    from edgetl_export.lint import lint_json
    from edgetl_export.lint_text import lint_text

    if path.suffix.lower() == SUFFIX:
        report = lint_file(path, targets, say)
    else:
        report = lint_checkpoint(path, targets, say)
    say(lint_text(report))
    return {**lint_json(report), "exit_status": int(not report.ok)}


def lint_file(path: Path, targets: Sequence[str], say: Callable[[str], None]) -> LintReport:
    """Lint an ONNX file."""
    from edgetl_export.lint import lint_onnx

    say(f"lint         {path}, for {', '.join(targets)}")
    return lint_onnx(path, targets)


def lint_checkpoint(path: Path, targets: Sequence[str], say: Callable[[str], None]) -> LintReport:
    """Lint the fp32 graph that an export of this checkpoint would check; no dataset is needed."""
    with tempfile.TemporaryDirectory(prefix="edgetl-lint-") as scratch:
        say(f"lint         {path} to ONNX")
        return lint_file(write_graph(path, Path(scratch)), targets, say)


def write_graph(checkpoint: Path, folder: Path) -> Path:
    """The ONNX file of a checkpoint as it ships: frame in, decoded outputs out, through the export's passes."""
    import numpy as np

    from edgetl.heads import kinds_of
    from edgetl.models.deploy import INPUT, Deployed
    from edgetl.models.reparameterise import for_deployment
    from edgetl.training.checkpoint import load_network
    from edgetl_export.graph import load_model, save_model, without_outputs
    from edgetl_export.passes import PASSES
    from edgetl_export.source import torch_source

    network, card = load_network(checkpoint)
    kinds = kinds_of(card.heads, backbone=card.backbone)
    network.backbone = for_deployment(network.backbone)
    module = Deployed(network, kinds, card.preprocess).eval()
    frame = np.random.default_rng(0).integers(0, 256, (1, *card.preprocess.size_hw, 3), np.uint8)
    source = torch_source(module, frame, input_name=INPUT, outputs=module.outputs, probes=module.probes)
    raw, shipped = folder / "raw.onnx", folder / "model.fp32.onnx"
    source.write(raw)
    model = load_model(raw)
    for each in PASSES:
        model, _ = each.run(model)
    save_model(without_outputs(model, module.probes), shipped)
    return shipped
