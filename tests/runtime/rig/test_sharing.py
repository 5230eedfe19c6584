"""One letterbox for all bundles that want the same, made once for each frame."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from runtime_support import manifest_of, scene

from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.rig.sharing import Letterboxes, SharedLetterbox
from edgetl_runtime.spec import Preprocess

PREPROCESS: Preprocess = manifest_of().preprocess


def test_the_same_image_is_made_once_and_another_one_again() -> None:
    shared, plain = SharedLetterbox(PREPROCESS), Letterbox(PREPROCESS)
    a, b = scene(90, 160), scene(120, 120, 3)
    for image, made in ((a, 1), (a, 1), (b, 2), (a, 3), (a.copy(), 4)):
        tensor, place = shared(image)
        expected, where = plain(image)
        np.testing.assert_array_equal(tensor, expected)
        assert place == where and shared.made == made


def test_what_is_forgotten_is_made_again_and_let_go_of() -> None:
    boxes = Letterboxes()
    shared, image = boxes.of(PREPROCESS), scene(90, 160)
    before = shared(image)[0].copy()
    boxes.forget()
    image[:] = 255 - image  # the buffer's next picture
    assert not np.array_equal(shared(image)[0], before) and shared.made == 2


def test_a_picture_that_is_refused_leaves_nothing_behind() -> None:
    shared, image = SharedLetterbox(PREPROCESS), scene(90, 160)
    shared(image)
    with pytest.raises(ValueError, match="needs"):
        shared(image[..., :2])
    shared(image)
    assert shared.made == 2


@pytest.mark.parametrize(
    ("change", "shared"),
    [({}, True), ({"mean": (1.0, 2.0, 3.0)}, True), ({"size_hw": (32, 96)}, False), ({"pad_value": 0}, False)],
)
def test_only_what_the_host_does_tells_letterboxes_apart(change: dict[str, object], shared: bool) -> None:
    boxes = Letterboxes()
    other = msgspec.structs.replace(PREPROCESS, **change)
    assert (boxes.of(PREPROCESS) is boxes.of(other)) == shared
