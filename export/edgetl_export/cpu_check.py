"""Does a CPU engine of edgetl load this graph, and if not, which node is in the way?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgetl_runtime.engines import available_engines, load_engine
from edgetl_runtime.errors import EngineError
from edgetl_runtime.spec import Check, EngineName
from edgetl_runtime.tensorrt.diagnostics import rule_of

QUOTED_CHARS = 240
PATTERNS: tuple[tuple[str, str], ...] = (
    ("dynamic-shape", r"tensor '(?P<node>[^']*)' has the dynamic shape"),
    ("element-type-on-cpu", r"tensor '(?P<node>[^']*)' has dtype"),
    ("newer-than-engine", r"max supported IR version|official support for domain \S+ is till opset"),
    ("mixed-types", r"Optype \((?P<op>\w+)\) bound to different types.*in node \((?P<node>[^)]*)\)"),
    ("no-cpu-kernel", r"implementation for (?P<op>\w+)\(\d+\) node with name '(?P<node>[^']*)'"),
    ("no-cpu-kernel", r"kernel for (?P<op>\w+)\(\d+\) \(node:'(?P<node>[^']*)'"),
    ("no-cpu-kernel", r"operator \((?P<op>\w+)\) in node \((?P<node>[^)]*)\) is invalid"),
    ("custom-op", r":(?P<op>\w+)\(-?\d+\) is not a registered function/op"),
    ("engine-refuses", ""),
)
"""What ONNX Runtime, or edgetl's own engine around it, says, by the finding's code."""
ADVICE = {
    "element-type-on-cpu": "Inputs and outputs must be UINT8, FLOAT, INT64 or INT32 on a CPU: put a Cast beside it.",
    "newer-than-engine": "The file is newer than the installed ONNX Runtime: export it with opset 18.",
    "no-cpu-kernel": "No CPU engine has this operator with these types: choose another one, or another precision.",
    "engine-refuses": "No CPU engine loads the file: look at what it said.",
}


@dataclass(frozen=True, slots=True)
class CpuCheck:
    """engine: the first that loaded the graph, None where none did or none is installed; checks: why."""

    engine: EngineName | None
    checks: tuple[Check, ...] = ()
    installed: tuple[EngineName, ...] = ()


def check_cpu(path: Path) -> CpuCheck:
    """Load `path` with every CPU engine that is installed, until one takes it."""
    said = ""
    installed = available_engines()
    for name in installed:
        try:
            load_engine(name, path, precision="fp32").close()
        except EngineError as error:
            said = said or str(error)
            continue
        return CpuCheck(name, (), installed)
    return CpuCheck(None, (_finding(said),) if said else (), installed)


def _finding(said: str) -> Check:
    code, match = next((code, m) for code, pattern in PATTERNS if (m := re.search(pattern, said)))
    where = match.groupdict()
    advice = ADVICE[code] if code in ADVICE else rule_of(code).advice
    words = re.sub(r"^.*?(\[ONNXRuntimeError\] : \d+ : \w+ : |: (?=tensor '))", "", said)[:QUOTED_CHARS]
    return Check(
        code=code, op=where.get("op", ""), node=where.get("node", ""), advice=f'{advice} The engine said: "{words}"'
    )
