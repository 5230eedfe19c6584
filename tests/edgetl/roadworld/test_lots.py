"""The short ways to draw by lot draw what numpy's own calls draw: scenes of old seeds stay as they were."""

from __future__ import annotations

import numpy as np

from edgetl.roadworld.lots import between, draw


def test_draw_is_choice_and_between_is_uniform() -> None:
    odds = (0.22, 0.1, 0.1, 0.14, 0.1, 0.09, 0.1, 0.08, 0.07)
    ours, theirs = (np.random.default_rng(7) for _ in range(2))
    for _ in range(200):
        assert draw(ours, odds) == int(theirs.choice(len(odds), p=odds))
        assert between(ours, 0.7, 1.9) == theirs.uniform(0.7, 1.9)
    assert draw(ours, (1.0,)) == 0
