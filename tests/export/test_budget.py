"""What may be lost: by head, by class, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgetl_export.budget import Budget, Measured, over_domains
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import SegmentHead

NAN = float("nan")
ROAD = SegmentHead(name="road", labels=("lane", "person"), stride=4)


@pytest.mark.parametrize(
    ("found", "passed", "what"),
    [
        ({"a": 0.5, "b": 0.5}, True, "a"),
        ({"a": 0.5, "b": 0.6}, True, "a"),
        ({"a": 0.9, "b": 0.4}, False, "b"),
        ({"a": 0.5, "b": NAN}, False, "b"),
        ({"a": 0.5}, False, "b"),
    ],
)
def test_one_head_that_gained_does_not_pay_for_another(found: dict[str, float], passed: bool, what: str) -> None:
    verdict = Budget(0.01).judge(Measured({"a": 0.5, "b": 0.5}), Measured(found))
    assert (verdict.ok, verdict.what) == (passed, what)


def test_heads_without_a_figure_before_are_not_judged() -> None:
    assert Budget(0.0).judge(Measured({"a": NAN}), Measured({"a": NAN})).ok
    assert Budget(0.0).judge(Measured({"a": 0.5, "b": NAN}), Measured({"a": 0.5, "b": 0.0})).ok


def test_a_class_has_its_own_limit() -> None:
    before = Measured({"detect": 0.5}, {"detect": {"car": 0.6, "person": 0.4, "train": NAN}})
    after = Measured({"detect": 0.5}, {"detect": {"car": 0.5, "person": 0.385, "train": NAN}})
    assert Budget(0.005).judge(before, after).ok, "classes without a limit may move"
    assert Budget(0.005, {"person": 0.02, "train": 0.0}).judge(before, after).ok
    verdict = Budget(0.005, {"person": 0.01}).judge(before, after)
    assert not verdict.ok and verdict.note == "-1.50 points in person, budget 1.00"
    gone = Measured({"detect": 0.5}, {})
    assert not Budget(0.005, {"person": 0.5}).judge(before, gone).ok, "a class that vanished lost all"


def test_one_head_needs_no_name() -> None:
    verdict = Budget(0.005).judge(Measured({"detect": 0.5}), Measured({"detect": 0.502}))
    assert verdict.ok and verdict.note == "+0.20 points, budget 0.50"


def test_an_unknown_class_is_refused() -> None:
    Budget(0.005, {"person": 0.01}).check([ROAD])
    with pytest.raises(InputError, match=r"no class 'persn'; there are: lane, person"):
        Budget(0.005, {"persn": 0.01}).check([ROAD])


def test_one_figure_for_several_heads() -> None:
    assert Measured({"a": 0.2, "b": 0.6}).value == pytest.approx(0.4)
    assert Measured({"a": 0.2, "b": NAN}).value == pytest.approx(0.2)
    assert math.isnan(Measured({"a": NAN}).value) and math.isnan(Measured({}).value)


def test_every_domain_is_held_to_the_budget_against_its_own_reference() -> None:
    day, night = (
        Measured({"detect": 0.7}, {"detect": {"car": 0.8}}),
        Measured({"detect": 0.4}, {"detect": {"car": 0.5}}),
    )
    reference = replace(day, domains={"night": night})
    budget = Budget(0.01, {"car": 0.02})
    assert budget.judge(reference, reference).ok
    dim = replace(day, domains={"night": Measured({"detect": 0.38}, {"detect": {"car": 0.5}})})
    verdict = budget.judge(reference, dim)
    assert not verdict.ok and verdict.what == "on night" and verdict.drop == pytest.approx(0.02)
    assert verdict.note == "-2.00 points on night, budget 1.00"
    dim = replace(day, domains={"night": Measured({"detect": 0.4}, {"detect": {"car": 0.4}})})
    assert (found := budget.judge(reference, dim)).what == "car on night" and "in car on night" in found.note
    assert not budget.judge(reference, day).ok, "a domain that has no figure any more lost it"


def test_further_domains_are_measured_beside_the_first() -> None:
    first, calls = Measured({"a": 0.5}), []

    def metric(infer: object) -> Measured:
        calls.append(infer)
        return first

    assert over_domains(metric, {}) is metric
    found = over_domains(metric, {"night": lambda infer: Measured({"a": 0.25})})(lambda frame: {})
    assert (found.heads, found.value, found.domains["night"].value) == ({"a": 0.5}, 0.5, 0.25) and len(calls) == 1


def test_classes_whose_budget_cannot_be_held() -> None:
    budget = Budget(0.01, {"person": 0.02, "train": 0.02, "tram": 0.02})
    day = Measured({"detect": 0.5}, {"detect": {"car": 0.6, "person": NAN, "train": NAN}})
    night = Measured({"detect": 0.4}, {"detect": {"person": 0.0}})
    assert budget.unheld(day) == ["person", "train", "tram"]
    assert budget.unheld(replace(day, domains={"night": night})) == ["train", "tram"]
