"""How well two orders agree: Kendall's tau with more weight on the top (Vigna, arXiv:1404.3325)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def weighted_tau(predicted: Sequence[float], truth: Sequence[float]) -> float:
    """-1..1 for two lists of values, higher is better; a pair weighs the sum of 1 / rank of its two by `truth`.

    1 for equal orders, -1 for opposite ones; pairs that are equal in one list count as neither. NaN without any pair
    that differs in both.
    """
    a, b = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"weighted_tau needs two lists of one length, found {a.shape} and {b.shape}")
    position = np.empty(len(b))
    position[np.argsort(-b, kind="stable")] = np.arange(len(b))
    weight = 1 / (1 + position)
    pair = np.triu(weight[:, None] + weight[None], 1)
    sign_a, sign_b = np.sign(a[:, None] - a[None]), np.sign(b[:, None] - b[None])
    norm = np.sqrt((pair * sign_a**2).sum() * (pair * sign_b**2).sum())
    return float((pair * sign_a * sign_b).sum() / norm) if norm > 0 else float("nan")
