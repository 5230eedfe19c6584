"""The gate: every combination of what is lost at home and what is estimated abroad."""

from __future__ import annotations

import pytest

from edgetl.adapt.gate import MAX_LOSS, Evidence, judge

CASES = [
    # home before, home after, abroad before, abroad after, accepted
    (0.60, 0.60, 1.0, 1.0, True),
    (0.60, 0.61, 1.0, 1.2, True),
    (0.60, 0.596, 1.0, 1.2, True),
    (0.60, 0.59, 1.0, 9.0, False),
    (0.60, 0.70, 1.0, 0.99, False),
    (0.60, 0.59, 1.0, 0.9, False),
    (0.60, 0.60, None, None, True),
    (0.60, 0.60, 1.0, None, False),
    (0.60, 0.60, None, 1.0, True),
    (0.60, 0.50, None, None, False),
    (0.60, float("nan"), None, None, False),
    (0.60, float("nan"), 1.0, 2.0, False),
]


@pytest.mark.parametrize(("home", "home_after", "abroad", "abroad_after", "accepted"), CASES)
def test_the_truth_table(
    home: float, home_after: float, abroad: float | None, abroad_after: float | None, accepted: bool
) -> None:
    verdict = judge(Evidence(home, abroad), Evidence(home_after, abroad_after), metric="ap50")
    assert verdict.accepted is accepted
    assert verdict.reason.startswith("accepted: " if accepted else "refused: ")
    assert "ap50 on the original validation images 60.0 -> " in verdict.reason


def test_the_reasons_name_what_decided() -> None:
    lost = judge(Evidence(0.6, 1.0), Evidence(0.5, 2.0), metric="miou")
    assert "60.0 -> 50.0, more than the 0.5 points" in lost.reason
    worse = judge(Evidence(0.6, 1.5), Evidence(0.6, 1.25), metric="miou")
    assert "label-free estimate on the new domain 1.5 -> 1.25" in worse.reason
    blind = judge(Evidence(0.6, None), Evidence(0.6, None), metric="miou")
    assert "can't be judged without labels: too few answers with a confidence" in blind.reason


@pytest.mark.parametrize(
    ("values", "estimates", "accepted"),
    [
        ((0.5, 0.7), {"boxes": 2.0, "signs": 0.8}, True),
        ((0.496, 0.8), {"boxes": 2.0, "signs": 0.8}, True),
        ((0.4, 0.9), {"boxes": 2.0, "signs": 0.8}, False),
        ((0.9, float("nan")), {"boxes": 2.0, "signs": 0.8}, False),
        ((0.5, 0.7), {"boxes": 5.0, "signs": 0.7}, False),
        ((0.5, 0.7), {"boxes": 5.0}, False),
    ],
)
def test_no_head_may_lose_what_another_gains(
    values: tuple[float, float], estimates: dict[str, float], accepted: bool
) -> None:
    before = Evidence(0.6, 1.4, {"boxes": 0.5, "signs": 0.7, "lane": float("nan")}, {"boxes": 2.0, "signs": 0.8})
    after = Evidence(0.65, 3.0, dict(zip(("boxes", "signs"), values, strict=True)), estimates)
    verdict = judge(before, after, metric="mean")
    assert verdict.accepted is accepted
    if not accepted:
        assert "signs" in verdict.reason or "boxes 50.0 -> 40.0" in verdict.reason


@pytest.mark.parametrize(("max_loss", "accepted"), [(0.0, False), (0.02, True), (0.05, True), (0.019, False)])
def test_what_may_be_lost_can_be_set(max_loss: float, accepted: bool) -> None:
    found = judge(Evidence(0.5, None), Evidence(0.4801, None), metric="ap50", max_loss=max_loss)
    assert found.accepted is accepted
    assert MAX_LOSS == 0.005


@pytest.mark.parametrize("max_loss", [0.005, 0.01])
def test_exactly_what_may_be_lost_may_be_lost(max_loss: float) -> None:
    """Accuracies over 200 images move in halves of a point, and most differences of two are a little too large."""
    lost = round(200 * max_loss)
    for right in range(lost + 1, 201):
        before = Evidence(right / 200, None, {"signs": right / 200})
        for more, accepted in ((0, True), (1, False)):
            value = (right - lost - more) / 200
            after = Evidence(value, None, {"signs": value})
            assert judge(before, after, metric="accuracy", max_loss=max_loss).accepted is accepted, right
