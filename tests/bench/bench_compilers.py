"""edgetl export beside what people quantise networks with now: same network, same frames, same machine.

    python tests/bench/bench_compilers.py RUN --data DATA --splits val,night_val --merge vehicle=car,bus,truck \
        --min-height 16 --nncf-python NNCF/bin/python --ultralytics-python ULTRALYTICS/bin/python --out compilers.json

RUN is what `edgetl tune` wrote, DATA its dataset. NNCF and ULTRALYTICS are environments of their own (pip install nncf
openvino onnx onnxruntime; pip install ultralytics openvino nncf onnx onnxruntime onnxslim); without one its rows are
left out, with the reason. Prints markdown tables.

Everybody gets the fp32 ONNX that `edgetl export` wrote (uint8 frame in, decoded outputs, normalisation folded) and the
calibration frames that edgetl takes. A tool's time is that of its whole process; edgetl's holds torch to ONNX, metric
and latency of every variant and the TensorRT check too, which the others leave to their user. Latencies come from one
run in which all take turns. TensorRT: the parser and builder of TensorRT for RTX on this host, for --target.

Ultralytics exports its own networks only, so a second table compares on YOLO11n at the same input size. No trained
weights of it come with the project: they are random, nobody has a budget, and instead of a metric there is the share of
the fp32 network's boxes that are found.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from compilers.edgetl_row import TOOL, Exported, by_edgetl
from compilers.measured import load_all, measured, progress, tensorrt_verdict
from compilers.peers import PEERS, Job, Made, Peer, with_names
from compilers.processes import PeerFailed
from compilers.scoring import Scores
from compilers.table import Row, Skipped, document, markdown
from compilers.yolo_case import EXPORTS, Agreement, Exporter, to_planes, write_spec

from edgetl.calibration import calibration_frames, choose_calibration
from edgetl.commands.arguments import names, points, share_cores
from edgetl.data import read_dataset
from edgetl.metrics.predict import Frames
from edgetl.training.checkpoint import ModelCard, load_checkpoint
from edgetl_runtime.errors import EdgetlError

NOTHING = "nothing (fp32 network)"
AGREEMENT_FRAMES = 64


def main() -> None:
    """Print the tables, or why there are none."""
    args = arguments()
    share_cores()
    try:
        tables(args)
    except (PeerFailed, EdgetlError) as error:
        sys.exit(f"bench_compilers: {error}")


def tables(args: argparse.Namespace) -> None:
    """Make every file, score it, time all of them in turn, print the tables."""
    card = load_checkpoint(args.checkpoint).card
    train = read_dataset(args.data, args.train)
    chosen = choose_calibration([train], args.calibration, size_hw=card.preprocess.size_hw)
    calibration, _ = calibration_frames(chosen, card.preprocess)
    found = {}
    with tempfile.TemporaryDirectory(prefix="edgetl-compilers-") as scratch:
        if "network" in args.tables:
            found["network"] = compare(args, card, calibration, Path(scratch))
        if "ultralytics" in args.tables:
            found["ultralytics"] = compare_yolo(args, card, calibration, Path(scratch))
    for name, (rows, skipped) in found.items():
        sys.stdout.write(f"### {name}\n\n{markdown(rows, skipped)}\n")
    if args.out:
        text = json.dumps({name: document(*both) for name, both in found.items()}, indent=2)
        args.out.write_text(text + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", default="train", help="split that calibration frames come from")
    parser.add_argument("--splits", type=names, default=("val",), help="scored; the budget is about the first")
    parser.add_argument("--merge", action="append", default=[], metavar="NAME=CLASS,CLASS")
    parser.add_argument("--min-height", type=float, default=0.0, metavar="PX")
    parser.add_argument("--calibration", type=int, default=64, help="frames")
    parser.add_argument("--val-images", type=int, default=250, help="of each split")
    parser.add_argument("--max-drop", type=points, default=0.5, help="points, for edgetl and NNCF's accuracy control")
    parser.add_argument("--target", default="orin-nx", help="whose TensorRT check is made")
    parser.add_argument("--runs", type=int, default=100, help="latency runs of each row")
    parser.add_argument("--nncf-python", type=Path, help="python of an environment with nncf, openvino, onnx")
    parser.add_argument("--ultralytics-python", type=Path, help="python of an environment with ultralytics")
    parser.add_argument("--tables", type=names, default=("network", "ultralytics"), help="which of the two to make")
    parser.add_argument("--only", default="", metavar="TEXT", help="of the peers only those whose name holds this")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


Table = tuple[list[Row], list[Skipped]]


def compare(args: argparse.Namespace, card: ModelCard, calibration: list[np.ndarray], work: Path) -> Table:
    """All rows, the baseline (ONNX Runtime's defaults on the fp32 network) first."""
    progress("edgetl export")
    options = [*common_options(args), "--max-drop", str(args.max_drop), "--val-images", str(args.val_images)]
    ours = by_edgetl(args.checkpoint, work / "bundle", data=args.data, target=args.target, options=options)
    scores = Scores(card, args.data, args.splits, limit=args.val_images, merge=args.merge, min_height=args.min_height)
    job = job_of(args, ours.fp32, work, scores, calibration)
    pythons = {"project": Path(sys.executable), "nncf": args.nncf_python}
    made, skipped = make_all([p for p in PEERS if args.only in p.tool], job, work, pythons)
    plain = Made(
        tool=NOTHING,
        path=job.model,
        settings=(("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")),
    )
    files = [plain, *made, ours.made]
    verdicts = {m.tool: tensorrt_verdict(m.path, args.target) for m in [plain, *made]}
    verdicts[TOOL] = verdict_on(ours, args.target)
    loaded, refused = load_all(files, {})
    rows = measured(loaded, scores, scores.validation.images[0], runs=args.runs, verdicts=verdicts)
    return rows, [*skipped, *refused]


def compare_yolo(args: argparse.Namespace, card: ModelCard, calibration: list[np.ndarray], work: Path) -> Table:
    """Ultralytics' exports and edgetl's of one of its networks, the fp32 one on ONNX Runtime first."""
    exporter = Exporter(args.ultralytics_python, work / "ultralytics", calibration)
    try:
        exporter.network()
        made, skipped = exporter.all()
    except PeerFailed as error:
        return [], [Skipped("Ultralytics", str(error))]
    if not made or made[0].tool != EXPORTS[0].tool:
        return [], skipped
    val = Frames(read_dataset(args.data, args.splits[0]).take(AGREEMENT_FRAMES), card.preprocess, title="val").images
    feeds = {m.tool: to_planes for m in made}
    loaded, refused = load_all(made, feeds)
    agreement = Agreement(loaded[0].infer, val)
    progress("edgetl export of the same network")
    spec = write_spec(work / "spec.yaml", card.preprocess.size_hw, agreement.threshold)
    options = [*common_options(args), "--spec", str(spec), "--val-images", str(AGREEMENT_FRAMES)]
    options += ["--max-drop", "100"]  # on random weights no budget can be kept: even fp32 engines differ in order
    verdicts = {m.tool: tensorrt_verdict(m.path, args.target) for m in made}
    try:
        ours = by_edgetl(
            made[0].path,
            work / "yolo",
            data=args.data,
            target=args.target,
            options=options,
            notes=("holds preprocessing, decoding and suppression",),
        )
        more, refused_too = load_all([ours.made], {})
        loaded, refused = [*loaded, *more], [*refused, *refused_too]
        verdicts[TOOL] = verdict_on(ours, args.target)
    except PeerFailed as error:
        refused.append(Skipped(TOOL, str(error)))
    return measured(loaded, agreement, val[0], runs=args.runs, verdicts=verdicts), [*skipped, *refused]


def common_options(args: argparse.Namespace) -> list[str]:
    """Of both exports by edgetl."""
    return ["--train", args.train, "--val", args.splits[0], "--calibration", str(args.calibration)]


def verdict_on(ours: Exported, target: str) -> str:
    """TensorRT's on the file that edgetl means for it."""
    return f"{ours.for_target.stem}: {tensorrt_verdict(ours.for_target, target)}"


def job_of(args: argparse.Namespace, fp32: Path, work: Path, scores: Scores, calibration: Sequence[np.ndarray]) -> Job:
    """The network with named nodes and the frames as files, for tools in processes of their own."""
    model = work / "fp32.onnx"
    probes = with_names(fp32, model, [p for kinds in scores.kinds.values() for k in kinds for p in k.probes])
    paths = {"calibration": calibration, "validation": scores.validation.images}
    for name, frames in paths.items():
        np.save(work / f"{name}.npy", np.stack(frames))

    def answer(document: dict[str, Any]) -> float:
        with np.load(document["score"]) as arrays:
            return scores.of_answers(dict(arrays), document["frames"])

    return Job(
        model=model,
        input=open_input(model),
        calibration=work / "calibration.npy",
        validation=work / "validation.npy",
        probes=probes,
        max_drop=args.max_drop / 100,
        answer=answer,
    )


def open_input(model: Path) -> str:
    """The name of a network's input."""
    import onnx

    return str(onnx.load(str(model), load_external_data=False).graph.input[0].name)


def make_all(
    peers: Sequence[Peer], job: Job, work: Path, pythons: Mapping[str, Path | None]
) -> tuple[list[Made], list[Skipped]]:
    """Every tool's file, and the tools that made none with the reason."""
    made, skipped = [], []
    for number, peer in enumerate(peers):
        progress(peer.tool)
        try:
            made.append(peer.make(job, work / f"peer{number}", pythons))
        except PeerFailed as error:
            skipped.append(Skipped(peer.tool, str(error)))
            progress(f"  {error}")
    return made, skipped


if __name__ == "__main__":
    main()
