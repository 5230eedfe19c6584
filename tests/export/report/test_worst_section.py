"""Worst frames side by side."""

from __future__ import annotations

from report_support import blocks

from edgetl_export.report.blocks import Gallery, Note
from edgetl_export.report.page import Report, render
from edgetl_export.report.worst import worst_section
from edgetl_export.worst import Worst, WorstFrame

JPEG = b"\xff\xd8\xff\xe0 small \xff\xd9"


def frame(index: int, says: str = "") -> WorstFrame:
    """One compared frame."""
    return WorstFrame(
        index=index,
        head="detect",
        difference="detect: differs",
        reference=JPEG,
        found=JPEG + b"2",
        reference_says=says,
        found_says=says,
    )


def test_the_reference_stands_left_of_what_ships() -> None:
    (section,) = worst_section(Worst("torch", "openvino/int8", 250, (frame(7, "3 found"), frame(9))))
    (gallery,) = blocks(section, Gallery)
    assert gallery.pairs
    assert [picture.caption for picture in gallery.pictures] == [
        "frame 7, torch: 3 found",
        "frame 7, openvino/int8: 3 found; detect: differs",
        "frame 9, torch",
        "frame 9, openvino/int8; detect: differs",
    ]
    assert [picture.image for picture in gallery.pictures] == [JPEG, JPEG + b"2"] * 2
    assert "250" in section.lead
    assert 'class="gallery pairs"' in render(Report("t", "s", [section]))


def test_frames_that_do_not_differ_are_a_sentence() -> None:
    (section,) = worst_section(Worst("torch", "onnxruntime/fp32", 250, ()))
    assert "250" in blocks(section, Note)[0].text and blocks(section, Gallery) == []


def test_nothing_compared_is_no_section() -> None:
    assert worst_section(None) == [] and worst_section(Worst("torch", "a/b", 0, ())) == []
