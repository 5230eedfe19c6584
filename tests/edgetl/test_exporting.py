"""From a checkpoint to a request: the time of a build that is to come out the same again."""

from __future__ import annotations

import datetime

import pytest

from edgetl.exporting import created
from edgetl_runtime.errors import InputError


def test_source_date_epoch_is_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert created() == "2023-11-14T22:13:20+00:00"


def test_without_it_the_time_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(created())
    assert 0 <= age.total_seconds() < 60


@pytest.mark.parametrize("text", ["", "yesterday", "1.5", "9" * 30])
def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(InputError, match=r"SOURCE_DATE_EPOCH is .*expected seconds since 1970"):
        created()
