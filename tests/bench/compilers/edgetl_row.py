"""`edgetl export` as one more tool: run as a command, its choice read from its JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compilers.peers import Made
from compilers.processes import run

from edgetl_runtime.bundle import Bundle, open_bundle

TOOL = "edgetl export"


@dataclass(frozen=True, slots=True)
class Exported:
    """made: the chosen variant. fp32: the float network. for_target: the file that is meant for the target."""

    made: Made
    fp32: Path
    for_target: Path


def by_edgetl(
    model: Path, bundle: Path, *, data: Path, target: str, options: Sequence[str], notes: Sequence[str] = ()
) -> Exported:
    """Export a checkpoint, or an ONNX file with `--spec` among the options, as if for the first time.

    Raises PeerFailed with the command's own words.
    """
    command = [sys.executable, "-m", "edgetl.cli", "export", str(model), "--out", str(bundle), "--data", str(data)]
    command += ["--targets", f"cpu,{target}", *options, "--fresh", "--json"]
    done = run(command, bundle.with_suffix(".log"), dict(os.environ))
    said: dict[str, Any] = done.documents[-1]
    opened = open_bundle(bundle)
    chosen = opened.manifest.variant(said["chosen"]["variant"])
    made = Made(
        tool=TOOL,
        path=opened.model_path(chosen),
        settings=((said["chosen"]["engine"], chosen.precision),),
        seconds=round(done.seconds, 1),
        cpu_s=round(done.cpu_s, 1),
        rss_mb=done.rss_mb,
        notes=(f"chose {chosen.name}; {said['chosen']['reason']}", *notes),
        spin="short",
    )
    fp32 = next(v for v in opened.manifest.variants if v.precision == "fp32")
    return Exported(made, opened.model_path(fp32), _file_for(opened, said["targets"][target]["variant"], made.path))


def _file_for(bundle: Bundle, variant: str, other: Path) -> Path:
    """The file of a target's variant; `other` where the bundle has none of that name."""
    known = {v.name: v for v in bundle.manifest.variants}
    return bundle.model_path(known[variant]) if variant in known else other
