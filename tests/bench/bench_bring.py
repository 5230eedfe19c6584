"""A bundle of a network from elsewhere against ONNX Runtime's defaults on that network as it came, side by side.

    python tests/bench/bench_bring.py NETWORK SPEC BUNDLE [--runs 100] [--json]

NETWORK and SPEC are those of `edgetl export`. Rows: the file alone on a float input (ONNX files only), the same with
frame and decoder around it before any pass, and every engine and variant of the bundle.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime

from edgetl_export.foreign.network import read_network
from edgetl_export.foreign.source import file_runner, foreign, prepare
from edgetl_export.foreign.spec_file import read_spec
from edgetl_runtime.bench import measure, percentiles
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import available_engines, load_bundle_engine
from edgetl_runtime.golden import read_golden


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("spec", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    spec, bundle = read_spec(args.spec), open_bundle(args.bundle)
    frame = read_golden(bundle).frames[:1]
    calls: dict[str, Callable[[], object]] = {}
    if args.network.endswith(".onnx"):
        run_file, x = file_runner(read_network(Path(args.network), spec.input)), prepare(frame, spec.input.preprocess)
        calls["as it came"] = lambda: run_file(x)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "graph.onnx")
        foreign(args.network, spec).source.write(Path(path))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    calls["with frame and decoder"] = lambda: session.run(None, {"frame": frame})
    chosen = f"{bundle.manifest.chosen.engine}/{bundle.manifest.chosen.variant}"
    for variant in bundle.manifest.variants:
        for name in (n for n in variant.engines if n in available_engines() and n != "tensorrt"):
            engine = load_bundle_engine(bundle, variant=variant.name, engine=name)
            calls[f"{name}/{variant.name}"] = lambda e=engine: e.infer({e.inputs[0].name: frame})  # type: ignore[misc]
    rows = {name: percentiles(times) for name, times in measure(calls, runs=args.runs).items()}
    base = rows["with frame and decoder"]["p50_ms"]
    if args.json:
        json.dump({"rows": rows, "chosen": chosen, "speedup": base / rows[chosen]["p50_ms"]}, sys.stdout, indent=2)
        return
    for name, row in rows.items():
        mark = "  chosen" if name == chosen else ""
        print(f"{name:<34} p50 {row['p50_ms']:9.2f}  p99 {row['p99_ms']:9.2f} ms  {base / row['p50_ms']:6.2f}x{mark}")


if __name__ == "__main__":
    main()
