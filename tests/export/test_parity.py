"""Parity between two runs: the worst tensor of the worst frame, and never a pass for what is not a number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetl_export.parity import compare, other_input_other_output, record, tensor_error

Row = dict[str, NDArray[np.float32]]


def rows(count: int = 3) -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        {"heat": rng.normal(size=(1, 2, 4)).astype(np.float32), "box": rng.normal(size=5).astype(np.float32)}
        for _ in range(count)
    ]


def copy(given_rows: list[Row]) -> list[Row]:
    return [{n: v.copy() for n, v in row.items()} for row in given_rows]


def test_identical() -> None:
    parity = compare(rows(), rows())
    assert parity.max_rel_error == 0
    assert parity.cosine == pytest.approx(1.0)


def test_nothing_to_compare() -> None:
    assert compare([], []).max_rel_error == 0


def test_the_worst_tensor_and_frame_are_named() -> None:
    other = copy(rows())
    other[0]["heat"][0, 0, 0] += 0.01
    other[1]["box"][3] += 1.0
    parity = compare(rows(), other)
    assert (parity.tensor, parity.frame) == ("box", 1)
    assert parity.max_rel_error == pytest.approx(1.0 / np.abs(rows()[1]["box"]).max(), rel=1e-5)
    assert parity.cosine < 1


def test_the_lowest_cosine_is_kept_even_where_the_error_is_smaller() -> None:
    reference = [{"a": np.array([100.0, 0.0], np.float32), "b": np.array([1.0, 1.0], np.float32)}]
    other = [{"a": np.array([0.0, 0.0], np.float32), "b": np.array([1.0, 1.0], np.float32)}]
    other[0]["b"] = np.array([1.5, 0.5], np.float32)
    parity = compare(reference, other)
    assert (parity.tensor, parity.max_rel_error) == ("a", 1.0)
    assert parity.cosine == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["reference", "other", "both"])
def test_what_is_not_finite_is_an_infinite_error(value: float, side: str) -> None:
    reference, other = rows(), rows()
    if side != "other":
        reference[1]["heat"][0, 0, 0] = value
    if side != "reference":
        other[1]["heat"][0, 0, 0] = value
    parity = compare(reference, other)
    assert parity.max_rel_error == math.inf
    assert (parity.tensor, parity.frame) == ("heat", 1)


def test_another_shape_is_an_infinite_error() -> None:
    other = copy(rows())
    other[2]["box"] = other[2]["box"][:4]
    parity = compare(rows(), other)
    assert (parity.max_rel_error, parity.tensor, parity.frame) == (math.inf, "box", 2)


def test_a_missing_frame_or_tensor_is_no_match() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare(rows(3), rows(2))
    with pytest.raises(KeyError):
        compare(rows(1), [{"heat": rows(1)[0]["heat"]}])


@pytest.mark.parametrize(
    ("expected", "found", "error", "cosine"),
    [
        ([0, 0], [0, 0], 0.0, 1.0),
        ([1, 0], [0, 1], 1.0, 0.0),
        ([2, 0], [-2, 0], 2.0, -1.0),
        ([4, 1], [4, 3], 0.5, 19 / (math.sqrt(17) * 5)),
        ([], [], 0.0, 1.0),
    ],
)
def test_error_and_cosine(expected: list[float], found: list[float], error: float, cosine: float) -> None:
    result = tensor_error(np.array(expected, np.float32), np.array(found, np.float32))
    assert result == pytest.approx((error, cosine))


def test_anything_against_a_zero_reference_is_a_large_error() -> None:
    error, cosine = tensor_error(np.zeros(3, np.float32), np.full(3, 1e-3, np.float32))
    assert error > 1e6 and cosine == 0


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-0.5, 0.5), st.integers(0, 1000))
def test_the_error_is_relative_to_the_largest_value(scale: float, share: float, seed: int) -> None:
    a = np.random.default_rng(seed).normal(size=20).astype(np.float32)
    a /= np.abs(a).max()
    b = a.copy()
    b[0] += share
    assert tensor_error(a * np.float32(scale), b * np.float32(scale))[0] == pytest.approx(abs(share), abs=1e-5)


def test_record_copies_what_the_engine_reuses() -> None:
    buffer = np.zeros(2, np.float64)

    def infer(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        buffer[:] = frame[0, 0, 0, 0]
        return {"y": buffer, "unused": buffer}

    found = record(infer, [np.full((1, 1, 1, 3), v, np.uint8) for v in (3, 7)], ["y"])
    assert [r["y"].tolist() for r in found] == [[3, 3], [7, 7]]
    assert found[0]["y"].dtype == np.float32
    assert set(found[0]) == {"y"}


def constant(value: float) -> Row:
    return {"heat": np.full(3, value, np.float32), "box": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("values", "differs"),
    [([], True), ([1], True), ([1, 1], False), ([1, 1, 1], False), ([1, 2], True), ([1, 2, 1], True)],
    ids=str,
)
def test_another_input_must_give_another_output(values: list[float], differs: bool) -> None:
    """One frame proves nothing; a first and last frame that are the same picture accuse nobody."""
    assert other_input_other_output([constant(v) for v in values]) is differs
