"""The commands run, bench, inspect and doctor: documents, files, and refusals before any work."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import pytest
from runtime_support import DETECT, HEADS, make_manifest, output_specs, tiny_model, write_clip, write_test_bundle

from edgetl.commands import bench, doctor, inspect
from edgetl.commands import run as run_command
from edgetl_runtime.bundle import sign_bundle, write_manifest
from edgetl_runtime.errors import BundleError, CameraError, EngineError, InputError
from edgetl_runtime.keys import read_private_key, write_key_pair
from edgetl_runtime.spec import Calibration, DomainStatistics, Hop, Reliability


def call(command: object, *arguments: object) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    return command.run(parser.parse_args([str(a) for a in arguments]))  # type: ignore[attr-defined, no-any-return]


def test_run_writes_what_it_was_asked_for(
    shared_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, lines = tmp_path / "o.mp4", tmp_path / "o.jsonl"
    document = call(run_command, shared_bundle, clip, "--out", out, "--jsonl", lines, "--threshold", 0.3)
    json.dumps(document)
    assert {"captured", "processed", "dropped", "failed", "stages", "age_ms", "rss_mb", "states"} <= set(document)
    assert (document["processed"], document["variant"]) == (12, "fp32")
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [r["frame_id"] for r in rows] == list(range(12))
    assert all(r["detections"] for r in rows)
    assert int(cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "infer" in captured.err and "12 of 12 frames" in captured.err


def test_run_counts_what_every_head_found(shared_many: Path, clip: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "o.mp4", tmp_path / "o.jsonl"
    document = call(run_command, shared_many, clip, "--out", out, "--jsonl", lines)
    json.dumps(document)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    heads: Any = document["heads"]
    labels = [d["label"] for row in rows for d in row["detections"]]
    assert heads["detect"]["boxes"] == {n: labels.count(n) for n in ("vehicle", "pedestrian", "light")}
    assert sum(heads["detect"]["boxes"].values()) > 0
    assert sum(heads["light"]["frames"].values()) == 12
    mean = sum(row["masks"]["ground"]["lane"] for row in rows) / 12
    assert heads["ground"]["mean_share"]["lane"] == pytest.approx(mean, abs=1e-3) and mean > 0.02
    assert {row["categories"]["light"]["label"] for row in rows} <= {"night", "dusk", "day"}
    assert int(cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT)) == 12


def test_inspect_shows_every_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heads = (msgspec.structs.replace(DETECT, thresholds=(0.5, 0.25, 0.5), temperature=1.3), *HEADS[1:])
    hop = Hop(
        hop="torch",
        metric="mean",
        value=0.7,
        max_rel_error=0,
        cosine=1,
        passed=True,
        heads={"ground": 0.6, "light": 0.8},
    )
    folder = write_test_bundle(tmp_path / "b", heads=HEADS)
    (folder / "domain.npz").write_bytes(b"statistics")
    domain = DomainStatistics(file="domain.npz", output="embedding", images=120)
    trust = Reliability(before=(), after=(), error_before=0.081, error_after=0.023, answers=50)
    calibration = Calibration(frames=64, sha256="cd" * 32, strata={"light: dark": 3, "light: day": 61}, method="mse")
    changes = {"heads": heads, "hops": (hop,), "domain": domain, "reliability": {"detect": trust}}
    changes |= {"calibration": calibration}
    write_manifest(folder, make_manifest(folder, **changes, outputs=output_specs(HEADS)))
    document: Any = call(inspect, folder)
    assert [h["task"] for h in document["heads"]] == ["detect", "segment", "classify"]
    shown = capsys.readouterr().err
    for text in (
        "vehicle, pedestrian, light",
        "background, road, lane",
        "0.25 pedestrian",
        "temperature 1.3",
        "4x4 network pixels",
        "ground 0.600, light 0.800",
        "120 images, by embedding",
        "calibration error 0.081, shipped 0.023",
        "64  mse  sha256 cdcdcdcdcdcd",
        "dark 3, day 61",
    ):
        assert text in shown, text


def test_run_in_real_time_takes_as_long_as_the_clip(shared_bundle: Path, clip: Path) -> None:
    document = call(run_command, shared_bundle, clip, "--realtime", "--engine", "openvino")
    assert float(str(document["seconds"])) >= 11 / 30 - 0.02
    assert document["captured"] == 12


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (["--threshold", "7"], InputError, "threshold"),
        (["--max-frames", "0"], InputError, "max-frames"),
        (["--cpus", "x"], InputError, "expected cores like"),
        (["--priority", "0"], InputError, "from 1 to 99"),
        (["--collect-mb", "0"], InputError, "collect-mb"),
        (["--collect-mb", "inf"], InputError, "collect-mb"),
        (["--deadline-ms", "-1"], InputError, "a deadline is from 0 to 1e"),
        (["--deadline-ms", "nan"], InputError, "a deadline is from 0 to 1e"),
        (["--deadline-ms", "inf"], InputError, "a deadline is from 0 to 1e"),
        (["--deadline-ms", "1e10"], InputError, "a deadline is from 0 to 1e"),
        (["--engine", "tensorrt"], EngineError, "there are: fp32 on"),
        (["--variant", "int4"], EngineError, "there are: fp32 on"),
        (["--out", "o.gif"], InputError, r"\.mp4"),
        (["--camera-size", "big"], InputError, "1280x720"),
        (["--camera-size", "640x480"], CameraError, "camera only"),
    ],
)
def test_run_refuses(
    shared_bundle: Path, clip: Path, tmp_path: Path, arguments: list[str], kind: type[Exception], text: str
) -> None:
    arguments = [str(tmp_path / a) if a == "o.gif" else a for a in arguments]
    with pytest.raises(kind, match=text):
        call(run_command, shared_bundle, clip, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["-1", "many", "1025", "1.5"])
def test_what_is_no_number_of_threads(shared_bundle: Path, clip: Path, text: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        call(run_command, shared_bundle, clip, "--threads", text)
    assert ended.value.code == 2 and "threads must be auto or a whole number" in capsys.readouterr().err


def test_threads_can_be_chosen_by_measurement(shared_bundle: Path, clip: Path, capsys: Any) -> None:
    document = call(run_command, shared_bundle, clip, "--threads", "auto")
    assert document["processed"] == 12
    assert re.search(r"threads: \d+ \(1: [\d.]+ ms", capsys.readouterr().err)


def test_run_never_overwrites_its_source(shared_bundle: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    before = source.read_bytes()
    with pytest.raises(InputError, match="source itself"):
        call(run_command, shared_bundle, source, "--out", source, "--force")
    assert source.read_bytes() == before


def test_two_outputs_are_never_one_file(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    same = (tmp_path / "o.mp4", tmp_path / "sub" / ".." / "o.mp4")
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match=r"o\.mp4 can't be two outputs at once"):
        call(run_command, shared_bundle, clip, "--out", same[0], "--jsonl", same[1], "--force")
    assert [p.name for p in tmp_path.iterdir()] == ["sub"]


def test_run_refuses_existing_outputs_before_it_opens_anything(tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_text("precious")
    with pytest.raises(InputError, match="--force"):
        call(run_command, tmp_path / "no bundle", "no source", "--jsonl", tmp_path / "o.jsonl")
    with pytest.raises(BundleError, match="no bundle"):
        call(run_command, tmp_path / "no bundle", "no source")


def test_bench_and_inspect_and_doctor(shared_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = call(bench, shared_bundle, "--runs", 10)
    assert len(document["rows"]) == 2  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert "chosen" in shown.err and "baseline" in shown.err and shown.out == ""
    document = call(inspect, shared_bundle)
    json.dumps(document)
    assert document["heads"][0]["task"] == "detect" and document["bytes"]  # type: ignore[index]
    assert call(doctor)["ok"] is True
    with pytest.raises(InputError):
        call(bench, shared_bundle, "--runs", 0)


def test_bench_reports_a_tampered_bundle(bundle_dir: Path) -> None:
    (bundle_dir / "labels.txt").write_text("other\n")
    for command in (bench, inspect):
        with pytest.raises(BundleError, match=r"labels\.txt"):
            call(command, bundle_dir)


def other_model(folder: Path) -> Path:
    """The bundle with another network in it than the golden samples are of."""
    tiny_model(folder / "model.fp32.onnx", bias=0.05)
    write_manifest(folder, make_manifest(folder))
    return folder


def test_run_refuses_a_bundle_whose_golden_samples_differ_and_replaces_nothing(
    bundle_dir: Path, clip: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "o.jsonl"
    lines.write_text("precious")
    with pytest.raises(EngineError, match=r"onnxruntime at fp32 .*differs by .*nothing is run"):
        call(run_command, other_model(bundle_dir), clip, "--jsonl", lines, "--force")
    assert lines.read_text() == "precious"


def test_run_says_whether_golden_samples_were_replayed(
    bundle_dir: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document: Any = call(run_command, bundle_dir, clip, "--max-frames", 1)
    assert document["golden"]["frames"] == 1 and document["notes"] == []
    assert "golden samples: 1 replayed in" in capsys.readouterr().err
    document = call(run_command, other_model(bundle_dir), clip, "--max-frames", 1, "--skip-golden")
    assert document["golden"] == {"frames": 0} and len(document["notes"]) == 1
    shown = capsys.readouterr().err
    assert "golden samples NOT replayed (--skip-golden)" in shown and "note: the golden samples were not" in shown


def test_every_command_on_a_bundle_can_require_a_signature(
    bundle_dir: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public, identity = write_key_pair(tmp_path / "mine")
    stranger = write_key_pair(tmp_path / "other")[1]
    commands: list[tuple[object, list[object]]] = [
        (run_command, [bundle_dir, clip, "--max-frames", 1]),
        (bench, [bundle_dir, "--runs", 1]),
        (inspect, [bundle_dir]),
    ]
    for command, arguments in commands:
        for required in ([], [public]):
            with pytest.raises(BundleError, match="is not signed"):
                call(command, *arguments, "--require-signature", *required)
    sign_bundle(bundle_dir, read_private_key(private))
    for command, arguments in commands:
        with pytest.raises(BundleError, match="none of the trusted key"):
            call(command, *arguments, "--require-signature", stranger)
        document = call(command, *arguments, "--require-signature", public)
        if command is not bench:
            assert document["signature"] == {"checked": True, "key_id": identity, "trusted": True}
            document = call(command, *arguments, "--require-signature")
            assert document["signature"] == {"checked": True, "key_id": identity, "trusted": False}
            document = call(command, *arguments)
            assert document["signature"] == {"checked": False, "key_id": None, "trusted": False}
    shown = capsys.readouterr().err
    assert f"signature: valid, by the key {identity}; trusted by {public}" in shown
    assert f"signature: valid, by the key {identity}; any key was accepted" in shown
    assert f"signature: by the key {identity}, NOT checked" in shown


def test_inspect_says_that_nothing_is_signed(shared_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(inspect, shared_bundle)
    assert "signature: none\n" in capsys.readouterr().err


ENDLESS = """
import argparse, json, signal, sys
from edgetl.commands import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
parser = argparse.ArgumentParser()
run.add_arguments(parser)
print(json.dumps(run.run(parser.parse_args(sys.argv[1:]))))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_with_a_summary_and_whole_files(
    shared_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=300)
    out, lines = tmp_path / "o.mp4", tmp_path / "o.jsonl"
    command = [sys.executable, "-c", ENDLESS, shared_bundle, clip, "--realtime", "--out", out, "--jsonl", lines]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (lines.exists() and lines.read_text().count("\n") >= 3):
        time.sleep(0.02)
    os.kill(process.pid, number)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    document = json.loads(shown)
    assert document["interrupted"] and 3 <= document["processed"] < 300
    assert len(lines.read_text().splitlines()) == document["processed"]
    assert int(cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT)) in (
        document["processed"],
        document["processed"] - 1,
    )
    assert "Traceback" not in errors


def test_run_with_a_live_page(shared_bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = call(run_command, shared_bundle, clip, "--web", 0)
    assert document["processed"] == 12
    first = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"live page: http://127\.0\.0\.1:\d+/", first)
    call(run_command, shared_bundle, clip, "--web", 0, "--bind", "localhost", "--token", "t" * 16, "--max-frames", 1)
    told = capsys.readouterr().err
    assert "/ (asks for the token that was given)\n" in told and "t" * 16 not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bind", "0.0.0.0"], "add --web PORT"),
        (["--token", "t" * 16], "add --web PORT"),
        (["--web", "70000"], "a port is from 0 to 65535"),
        (["--web", "0", "--token", "short"], "a token is 16 to 128"),
        (["--web", "0", "--bind", "no.such.name.invalid"], "there is no address"),
    ],
)
def test_run_refuses_a_page_that_can_not_be(
    shared_bundle: Path, clip: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(run_command, shared_bundle, clip, *arguments)


def test_run_says_that_the_port_is_taken(shared_bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="already in use"):
        call(run_command, shared_bundle, tmp_path / "no source", "--web", taken.getsockname()[1])
