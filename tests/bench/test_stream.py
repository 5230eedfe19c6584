"""The comparison of camera loops: the number in the picture, the camera that waits for nobody, a fake contestant."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from runtime_support import write_test_bundle

sys.path.insert(0, str(Path(__file__).parent))

from compilers.processes import PeerFailed
from stream.contest import BASELINE, CHOSEN, SAME, Contestant, ages_ms, camera, contestants, one_round
from stream.number import LIMIT, draw_number, read_number
from stream.prepare import Prepared, there_and_back, write_clip, write_pictures
from stream.rows import FILE_COLUMNS, LIVE_COLUMNS, Table, document, file_verdicts, live_verdicts, markdown, ratio

HW = (96, 320)


def noise(count: int = 6) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 190, (*HW, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def made(tmp_path: Path) -> Prepared:
    frames = noise()
    write_clip(tmp_path / "clip.mp4", there_and_back(frames, 60))
    write_pictures(tmp_path / "pictures", there_and_back(frames, 90))
    return Prepared(
        clip=tmp_path / "clip.mp4",
        pictures=tmp_path / "pictures",
        onnx=tmp_path / "net.onnx",
        openvino=None,
        bundle=write_test_bundle(tmp_path / "b.bundle"),
        size=64,
        source_hw=HW,
        threshold=0.5,
        candidates=2.0,
        boxes=1.0,
        fp32="fp32",
        chosen="onnxruntime fp32",
    )


@pytest.mark.parametrize("number", [0, 1, 4711, LIMIT - 1])
@pytest.mark.parametrize("quality", [40, 95])
def test_the_number_survives_jpeg(number: int, quality: int) -> None:
    picture = noise(1)[0]
    draw_number(picture, number)
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    assert read_number(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)) == number


def test_what_is_no_number_is_not_read_as_one() -> None:
    assert read_number(noise(1)[0]) is None
    assert read_number(np.zeros((8, 8, 3), np.uint8)) is None
    picture = noise(1)[0]
    draw_number(picture, 1000)
    picture[:16, :16] = 255 - picture[:16, :16]
    assert read_number(picture) is None
    with pytest.raises(ValueError, match="from 0 to"):
        draw_number(picture, LIMIT)


def test_a_clip_is_played_there_and_back() -> None:
    frames = noise(3)
    places = [next(i for i, f in enumerate(frames) if f is x) for x in there_and_back(frames, 7)]
    assert places == [0, 1, 2, 1, 0, 1, 2]


def test_an_age_is_counted_from_the_newest_picture_of_that_number() -> None:
    due = [(0, 0), (1, 10_000_000), (0, 20_000_000), (1, 30_000_000)]
    assert ages_ms([(0, 5_000_000), (1, 31_000_000), (0, 50_000_000)], due, 2) == [5.0, 1.0, 30.0]
    with pytest.raises(PeerFailed, match="in 1 of 3 results"):
        ages_ms([(0, 5_000_000), (None, 9), (None, 9)], due, 2)


def test_the_camera_waits_for_nobody(made: Prepared) -> None:
    """A client that does not read loses pictures; the times of those that are sent are when they were due."""
    with camera(made.pictures, 400.0) as (url, sent):
        port = int(url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /front HTTP/1.0\r\n\r\n")
            time.sleep(2.0)
    numbers = [number for number, _ in sent["due_ns"]]
    times = np.array([when for _, when in sent["due_ns"]])
    assert numbers[0] == 0
    assert (np.diff(times) > 0).all()
    steps = (times - times[0]) * 400e-9
    assert steps == pytest.approx(np.round(steps), abs=1e-3)
    assert sent["lost"] > 0 or len(numbers) > 500


def test_edgetl_on_a_file_and_on_the_camera(made: Prepared, tmp_path: Path) -> None:
    everyone, python = contestants(made), Path(sys.executable)
    found = one_round(everyone[SAME], "file", made, python, tmp_path / "file", fps=60.0, seconds=0.0).figures
    assert found["results"] == 40
    assert 0 < found["outside_ms"] < found["p50_ms"] + 10
    assert found["peak_mb"] > 20
    live = one_round(everyone[CHOSEN], "live", made, python, tmp_path / "live", fps=60.0, seconds=1.0)
    assert live.figures["results"] >= 20
    assert 0 < live.figures["age_p50_ms"] < 500
    assert live.said["engine"] == "onnxruntime fp32"


def fake(tmp_path: Path, text: str) -> Contestant:
    script = tmp_path / "fake.py"
    script.write_text(text, encoding="utf-8")
    return Contestant(name="fake", runs="nothing", script=str(script), environment="ultralytics")


def test_a_contestant_speaks_json(made: Prepared, tmp_path: Path) -> None:
    said = {"times_ms": [9, 10, 11], "outside_ms": [1, 2, 3], "engine_ms": [7, 7, 7], "cpu_s": 0.02, "peak_mb": 50}
    one = fake(tmp_path, f"import json; print(json.dumps({said | {'boxes': 20.0, 'packages': {}}!r}))")
    found = one_round(one, "file", made, Path(sys.executable), tmp_path / "f", fps=30.0, seconds=0.0).figures
    assert (found["p50_ms"], found["outside_ms"], found["rest_ms"], found["cpu_ms"]) == (10, 2, 3, 20)


@pytest.mark.parametrize(
    ("text", "why"),
    [("raise SystemExit('no such network')", "^no such network$"), ("pass", "said nothing")],
)
def test_a_contestant_that_fails_says_why(made: Prepared, tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(PeerFailed, match=why):
        one_round(fake(tmp_path, text), "file", made, Path(sys.executable), tmp_path / "f", fps=30.0, seconds=0.0)


@pytest.mark.parametrize(("python", "why"), [(None, "no environment"), (Path("/nowhere/python"), "no Python at")])
def test_a_contestant_without_environment(made: Prepared, tmp_path: Path, python: Path | None, why: str) -> None:
    with pytest.raises(PeerFailed, match=why):
        one_round(contestants(made)["roboflow"], "file", made, python, tmp_path / "f", fps=30.0, seconds=0.0)


def rounds(**p50: Sequence[float]) -> dict[str, list[dict[str, float]]]:
    return {
        name: [
            {"p50_ms": v, "p99_ms": 2 * v, "outside_ms": v / 100, "peak_mb": 250.0, "engine_ms": 0.9 * v}
            for v in values
        ]
        for name, values in p50.items()
    }


def test_ratios_are_taken_within_a_round() -> None:
    """The machine was three times slower in the second round: for both."""
    found = rounds(**{BASELINE: [100, 300, 110], SAME: [50, 150, 66]})
    assert ratio(found, SAME, BASELINE, "p50_ms") == pytest.approx(0.5)
    assert ratio(found, CHOSEN, BASELINE, "p50_ms") is None


def test_the_table_says_what_is_met_missed_and_not_there() -> None:
    found = rounds(**{BASELINE: [100, 100, 100], SAME: [95, 95, 95], CHOSEN: [40, 40, 40]})
    names = {BASELINE: "Ultralytics", SAME: "edgetl", CHOSEN: "edgetl, choice", "roboflow": "Roboflow"}
    table = Table("file", names, found, {"roboflow": "it does not install"}, ["a note"], file_verdicts(found))
    text = markdown(table, FILE_COLUMNS)
    assert "| edgetl, choice | 40.0 | 80.0 | 0.40 |" in text
    assert "| Roboflow | not measured: it does not install |" in text
    assert "- MET       its choice / Ultralytics on ONNX Runtime, p50: 0.40 x, limit 0.45" in text
    assert "- MISSED    same engine and precision / Ultralytics on ONNX Runtime, p50: 0.95 x, limit 0.90" in text
    plain = json.loads(json.dumps(document(table)))
    assert [row["name"] for row in plain["rows"]] == [BASELINE, SAME, CHOSEN]
    assert {v["says"] for v in plain["limits"]} == {"met", "missed"}


def test_limits_without_a_peer_are_not_known() -> None:
    found = rounds(**{SAME: [80, 80]})
    assert [v.says for v in file_verdicts(found)][:3] == ["met", "not known", "not known"]
    assert "| - |" in markdown(Table("file", {SAME: "edgetl"}, found), FILE_COLUMNS)


def test_an_age_is_held_against_work_and_interval() -> None:
    row = {"age_p50_ms": 100.0, "age_p99_ms": 140.0, "own_age_p99_ms": 120.0, "work_p99_ms": 95.0, "results": 100.0}
    found = {SAME: [row | {"age_first_ms": 100.0, "age_second_ms": 101.0, "engine_ms": 90.0}]}
    verdicts = live_verdicts(found, 1e3 / 30)
    assert [v.says for v in verdicts] == ["missed", "met", "met"]
    assert "| 100 | 140 |" in markdown(Table("live", {SAME: "edgetl"}, found, verdicts=verdicts), LIVE_COLUMNS)
