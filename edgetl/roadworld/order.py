"""Painting order along a road: who is behind whom, from spans along and places across."""

from __future__ import annotations

import numpy as np


def painting_order(spans: list[tuple[float, float, float]]) -> list[int]:
    """Indices from far to near.

    spans: (s0, s1, aside): start and end along the road and the distance sideways from the camera, in metres.
    What begins where another ends is behind it; where spans overlap, the one farther aside is behind.
    """
    n = len(spans)
    if n < 2:
        return list(range(n))
    table = np.array(spans)
    s0, s1, aside = table[:, 0], table[:, 1], table[:, 2]
    beyond = s0[:, None] >= s1[None, :]
    apart = beyond | beyond.T
    behind = beyond | (~apart & (aside[:, None] > aside[None, :]))
    freed = behind * 1e6
    turn = freed.sum(axis=0) - s1 - 1e-3 * aside
    order: list[int] = []
    for _ in range(n):
        pick = int(turn.argmin())
        order.append(pick)
        turn -= freed[pick]
        turn[pick] = np.inf
    return order
