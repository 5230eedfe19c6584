"""Panels for Foxglove: the layout that is shipped, and one made of it for several cameras and bundles.

A tab panel's keys are those of TabPanelConfig in Lichtblick, the open successor of Foxglove Studio:
https://github.com/Lichtblick-Suite/lichtblick/blob/1f58e67da132ce39a1883d08c25e55490d397a75/packages/studio-base/src/types/layouts.ts
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgetl_runtime.recording.format import BOXES_TOPIC, IMAGE_TOPIC
from edgetl_runtime.rig.names import camera_prefixes, lane_prefixes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.rig.sinks import LaneName

LAYOUT = Path(__file__).with_name("edgetl.layout.json")
"""Panels for the topics of one camera and bundle, to be imported in Foxglove; for live connections and recordings."""

_Node: TypeAlias = dict[str, "_Node"] | list["_Node"] | str | float | bool | None
_TABS = "Tab!edgetl"
_OURS = ("/camera/", "/edgetl/")


def rig_layout(cameras: Sequence[str], bundles: Sequence[str]) -> bytes:
    """JSON to be imported: a tab with the pictures of all cameras, and one like LAYOUT for each bundle on each camera.

    For the topics of FoxgloveRounds. Raises InputError where two names become one in topics.
    """
    document = json.loads(LAYOUT.read_bytes())
    above, lanes = camera_prefixes(cameras, ""), lane_prefixes(cameras, bundles, "")
    panels = _all(above, lanes)
    tabs: list[_Node] = [{"title": "all", "layout": _tiled(list(panels), across=True)}]
    for number, (lane, prefix) in enumerate(lanes.items(), 1):
        ids = {panel: f"{panel}of{number}" for panel in document["configById"]}
        panels |= {
            ids[panel]: _under(config, above[lane.camera], prefix) for panel, config in document["configById"].items()
        }
        title = lane.camera if len(bundles) == 1 else f"{lane.camera} {lane.bundle}"
        tabs.append({"title": title, "layout": _renamed(document["layout"], ids)})
    panels[_TABS] = {"activeTabIdx": 0, "tabs": tabs}
    return json.dumps(document | {"configById": panels, "layout": _TABS}, indent=2).encode() + b"\n"


def _all(above: dict[str, str], lanes: dict[LaneName, str]) -> dict[str, _Node]:
    """Panels with a picture of each camera and the boxes of every bundle."""
    panels: dict[str, _Node] = {}
    for number, (camera, prefix) in enumerate(above.items(), 1):
        boxes: dict[str, _Node] = {
            f"{under}{BOXES_TOPIC}": {"visible": True} for lane, under in lanes.items() if lane.camera == camera
        }
        panels[f"Image!edgetlall{number}"] = {
            "foxglovePanelTitle": camera,
            "imageMode": {"imageTopic": f"{prefix}{IMAGE_TOPIC}", "annotations": boxes},
            "synchronize": True,
        }
    return panels


def _tiled(ids: Sequence[str], *, across: bool) -> _Node:
    """All beside and above each other, about as many each way."""
    if len(ids) == 1:
        return ids[0]
    half = (len(ids) + 1) // 2
    return {
        "direction": "row" if across else "column",
        "splitPercentage": 100 * half / len(ids),
        "first": _tiled(ids[:half], across=not across),
        "second": _tiled(ids[half:], across=not across),
    }


def _under(node: _Node, camera: str, lane: str) -> _Node:
    """With the camera's prefix before its picture's topic, the lane's before all others."""

    def text(value: str) -> str:
        return (camera if value == IMAGE_TOPIC else lane) + value if value.startswith(_OURS) else value

    if isinstance(node, dict):
        return {text(key): _under(value, camera, lane) for key, value in node.items()}
    if isinstance(node, list):
        return [_under(value, camera, lane) for value in node]
    return text(node) if isinstance(node, str) else node


def _renamed(node: _Node, ids: dict[str, str]) -> _Node:
    """How panels stand, with other names."""
    if isinstance(node, dict):
        return {key: _renamed(value, ids) for key, value in node.items()}
    return ids.get(node, node) if isinstance(node, str) else node
