"""The vehicle's side of domain statistics: reading, scoring, false alarms, and seeing a move."""

from __future__ import annotations

import io
import math
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl_runtime.domain import FORMAT, DomainMonitor, read_domain
from edgetl_runtime.errors import BundleError, EngineError

WIDTH, AXES, IMAGES = 32, 8, 500
SECOND = 1_000_000_000
RNG_SEED = 7
Arrays = dict[str, NDArray[np.generic]]


def truth() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Axes (D, K) and deviations (K,) of the training domain; the rest has deviation 0.5."""
    rng = np.random.default_rng(RNG_SEED)
    return np.linalg.qr(rng.normal(size=(WIDTH, AXES)))[0], np.linspace(5, 1, AXES)


def frames(n: int, seed: int, move: float = 0.0) -> NDArray[np.float32]:
    """(n, D) embeddings of the training domain, moved along the first axes by `move` deviations."""
    axes, deviations = truth()
    rng = np.random.default_rng(seed)
    noise = 0.5 * rng.normal(size=(n, WIDTH))
    noise -= noise @ axes @ axes.T
    along = (rng.normal(size=(n, AXES)) + move) * deviations
    return (2 + along @ axes.T + noise).astype(np.float32)


def arrays(images: int = IMAGES) -> Arrays:
    axes, deviations = truth()
    centred = frames(images, 1).astype(np.float64) - 2
    along = centred @ axes
    outside = (centred**2).sum(1) - (along**2).sum(1)
    distances = np.sort(np.sqrt((((along / deviations) ** 2).sum(1) + outside / 0.25) / WIDTH))
    return {
        "format": np.array(FORMAT, np.int64),
        "mean": np.full(WIDTH, 2, np.float32),
        "axes": axes.astype(np.float32),
        "deviations": deviations.astype(np.float32),
        "residual": np.array(0.5),
        "distances": distances,
        "probabilities": np.arange(1, images + 1) / (images + 1),
        "images": np.array(images, np.int64),
    }


def write(path: Path, **changed: object) -> Path:
    np.savez(path, **{**arrays(), **changed})  # type: ignore[arg-type]
    return path


@pytest.fixture
def monitor(tmp_path: Path) -> DomainMonitor:
    return DomainMonitor(write(tmp_path / "domain.npz"))


def test_the_score_is_the_distance_by_the_inverse(monitor: DomainMonitor) -> None:
    axes, deviations = truth()
    covariance = axes @ np.diag(deviations**2 - 0.25) @ axes.T + 0.25 * np.eye(WIDTH)
    for i, row in enumerate(frames(5, 3, move=1.0)):
        centred = row.astype(np.float64) - 2
        expected = math.sqrt(centred @ np.linalg.inv(covariance) @ centred / WIDTH)
        score = monitor.score(row[None])
        assert score.distance == pytest.approx(expected, rel=1e-4), i
        np.testing.assert_allclose(monitor.model.distances(row[None].astype(np.float64)), score.distance, rtol=1e-9)


def test_quantiles_hold_on_new_frames_of_the_domain(monitor: DomainMonitor) -> None:
    scores = [monitor.score(row[None]) for row in frames(4000, 4)]
    shares = np.array([s.quantile for s in scores])
    assert np.mean(shares < 0.5) == pytest.approx(0.5, abs=0.06)
    assert np.mean([not s.typical for s in scores]) == pytest.approx(0.01, abs=0.012)
    assert all(s.typical == (s.quantile <= 0.99 + 1e-9) for s in scores)


def test_the_ends_of_the_scale(monitor: DomainMonitor) -> None:
    middle = monitor.score(np.full((1, WIDTH), 2, np.float32))
    assert middle.distance == 0 and middle.quantile == 0 and middle.typical
    far = monitor.score(np.full((1, WIDTH), 1e6, np.float32))
    assert far.quantile == pytest.approx(IMAGES / (IMAGES + 1)) and not far.typical


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_embedding_that_is_not_finite_is_infinitely_far(monitor: DomainMonitor, value: float) -> None:
    row = frames(1, 0)
    row[0, 3] = value
    score = monitor.score(row)
    assert score.distance == math.inf and not score.typical
    assert monitor.score(frames(1, 0)).typical  # the buffers hold nothing of it


@pytest.mark.parametrize("shape", [(WIDTH,), (1, WIDTH + 1), (2, WIDTH), (1, WIDTH, 1)])
def test_another_shape_is_refused(monitor: DomainMonitor, shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match="embedding"):
        monitor.score(np.zeros(shape, np.float32))


def test_no_false_alarm_in_a_long_drive(monitor: DomainMonitor) -> None:
    states = {monitor.observe(row[None], t_capture_ns=i * SECOND).state for i, row in enumerate(frames(20000, 5))}
    assert states == {"typical"}


@pytest.mark.parametrize(("move", "within"), [(3.0, 8), (1.3, 60)])
def test_moved_frames_are_seen_and_the_way_back_too(monitor: DomainMonitor, move: float, within: int) -> None:
    clock = 0
    for row in frames(300, 6):
        clock += SECOND
        monitor.observe(row[None], t_capture_ns=clock)
    seen = []
    for row in frames(500, 7, move=move):
        clock += SECOND
        seen.append(monitor.observe(row[None], t_capture_ns=clock).state)
    assert "shifted" in seen[:within] and seen[-1] == "shifted"
    back = []
    for row in frames(300, 8):
        clock += SECOND
        back.append(monitor.observe(row[None], t_capture_ns=clock).state)
    assert back[0] == "shifted" and back[-1] == monitor.state == "typical"
    assert back.count("shifted") < 120


def test_one_odd_scene_in_many_frames_is_little_evidence(monitor: DomainMonitor) -> None:
    """Three seconds at 30 frames/s: three frames count."""
    odd = frames(1, 0, move=5.0)
    states = [monitor.observe(odd, t_capture_ns=int(i * SECOND / 30)) for i in range(90)]
    assert {s.state for s in states} == {"typical"}
    assert 0 < states[-1].evidence < 1
    assert len({round(s.evidence, 6) for s in states}) == 3


def test_a_clock_that_jumps_back_does_not_stop_the_watch(monitor: DomainMonitor) -> None:
    odd = frames(1, 0, move=5.0)
    monitor.observe(odd, t_capture_ns=10**15)
    for i in range(20):
        state = monitor.observe(odd, t_capture_ns=i * SECOND)
    assert state.state == "shifted"
    monitor.reset()
    assert monitor.state == "typical" and monitor.observe(frames(1, 0), t_capture_ns=0).evidence == 0


def test_few_held_out_frames_claim_no_finer_tail(tmp_path: Path) -> None:
    few = DomainMonitor(write(tmp_path / "few.npz", **arrays(30)))
    assert few.model.odd_share == pytest.approx(1 / 31)
    assert few.model.limit == pytest.approx(few.model.quantiles[-1])
    states = {few.observe(row[None], t_capture_ns=i * SECOND).state for i, row in enumerate(frames(2000, 9))}
    assert states == {"typical"}


def test_scoring_is_quick(monitor: DomainMonitor) -> None:
    rows = frames(300, 10)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        for i in range(len(rows)):
            monitor.score(rows[i : i + 1])
        best = min(best, (time.perf_counter() - start) / len(rows))
    assert best < 1e-4


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"format": np.array(9)}, "format 9"),
        ({"mean": np.zeros(WIDTH)}, "float64, expected float32"),
        ({"mean": np.zeros(WIDTH + 1, np.float32)}, "shape"),
        ({"mean": np.full(WIDTH, np.nan, np.float32)}, "NaN"),
        ({"axes": np.zeros((WIDTH, 0), np.float32), "deviations": np.zeros(0, np.float32)}, "0 axes"),
        ({"axes": np.zeros((WIDTH, AXES), np.float32)}, "orthonormal"),
        ({"axes": np.zeros(WIDTH, np.float32)}, "shape"),
        ({"deviations": np.zeros(AXES, np.float32)}, "deviations must be from"),
        ({"deviations": np.full(AXES, 1e-40, np.float32)}, "deviations must be from"),
        ({"residual": np.array(0.0)}, "deviations must be from"),
        ({"residual": np.array(1e-200)}, "deviations must be from"),
        ({"residual": np.array(1e200)}, "deviations must be from"),
        ({"residual": np.zeros(2)}, "shape"),
        ({"distances": np.linspace(2, 1, IMAGES)}, "rise"),
        ({"probabilities": np.full(IMAGES, 0.5)}, "rise"),
        ({"probabilities": np.linspace(0.1, 1.0, IMAGES)}, "between 0 and 1"),
        ({"distances": np.zeros(0), "probabilities": np.zeros(0)}, "0 quantiles"),
        ({"images": np.array(3)}, "no fewer images"),
        ({"mean": np.array(["a"], object)}, "unreadable"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, changed: dict[str, object], says: str) -> None:
    with pytest.raises(BundleError, match=says) as caught:
        read_domain(write(tmp_path / "domain.npz", **changed))
    assert "domain.npz" in str(caught.value)


def test_files_that_are_no_statistics(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"mean": 1}))
    np.savez(tmp_path / "lacking.npz", mean=np.zeros(3, np.float32))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("mean.npy", "no array")
    stream = io.BytesIO()
    np.save(stream, np.zeros(10))
    with zipfile.ZipFile(tmp_path / "huge.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", b"\0" * (64 << 20))
    for name in ("cut", "empty", "pickle", "lacking", "text", "huge", "absent"):
        with pytest.raises(BundleError, match="unreadable"):
            DomainMonitor(tmp_path / f"{name}.npz")
    with pytest.raises(BundleError, match="unreadable"):
        DomainMonitor(tmp_path)
