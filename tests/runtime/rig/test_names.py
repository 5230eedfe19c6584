"""Names of cameras and bundles as parts of topics."""

from __future__ import annotations

import pytest

from edgetl_runtime.errors import InputError
from edgetl_runtime.rig.names import lane_prefixes, safe_names
from edgetl_runtime.rig.sinks import LaneName


def test_any_text_becomes_letters_digits_and_underscores() -> None:
    names = {"left": "left", "a-b": "a_b", "2nd": "_2nd", "ünï": "_n_", "": "_"}
    assert safe_names(names, "camera") == names


def test_two_that_become_one_are_refused() -> None:
    with pytest.raises(InputError, match="the cameras '2' and '_2' are both _2 in topics"):
        safe_names(["2", "_2"], "camera")


def test_the_bundle_is_in_the_topic_where_there_are_several() -> None:
    assert lane_prefixes(["left"], ["road"], "/p") == {LaneName("left", "road"): "/p/left"}
    several = lane_prefixes(["left"], ["road", "2"], "/p")
    assert several == {LaneName("left", "road"): "/p/left/road", LaneName("left", "2"): "/p/left/_2"}
