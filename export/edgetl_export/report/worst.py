"""The frames on which the chosen pair differs most, beside what the network itself says."""

from __future__ import annotations

from edgetl_export.report.blocks import Gallery, Note, Picture
from edgetl_export.report.page import Section
from edgetl_export.worst import Worst


def worst_section(worst: Worst | None) -> list[Section]:
    """Pairs of pictures, the reference first; one line where nothing differs; no section where nothing was compared."""
    if worst is None or not worst.compared:
        return []
    title = "Worst frames"
    lead = f"Of {worst.compared} validation frames those on which {worst.found} differs most from {worst.reference}."
    lead += " White outlines: cells of another class." if any(frame.outlined for frame in worst.frames) else ""
    if not worst.frames:
        return [Section(title, [Note(f"On none of {worst.compared} validation frames do the outputs differ.")])]
    pictures = []
    for frame in worst.frames:
        place = f"frame {frame.index}"
        left = ": ".join(part for part in (f"{place}, {worst.reference}", frame.reference_says) if part)
        right = ": ".join(part for part in (f"{place}, {worst.found}", frame.found_says) if part)
        pictures.append(Picture(image=frame.reference, caption=left, alt=f"What {left}"))
        pictures.append(Picture(image=frame.found, caption=f"{right}; {frame.difference}", alt=f"What {right}"))
    return [Section(title, [Gallery(pictures=pictures, pairs=True)], lead)]
