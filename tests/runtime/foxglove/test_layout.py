"""The layout that is shipped: its topics are those of live connections and of recordings, its keys are Foxglove's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import foxglove.layouts as theirs
from foxglove_support import Client
from mcap.reader import make_reader
from recording_support import frame_of, header, placed, result
from runtime_support import HEADS, snapshot_of

from edgetl_runtime.foxglove import LAYOUT, FoxgloveSink
from edgetl_runtime.health import Event
from edgetl_runtime.ledger import STAGES, Ledger
from edgetl_runtime.recording.sink import RecordSink

DOCUMENT: dict[str, Any] = json.loads(LAYOUT.read_text())
PANELS: dict[str, dict[str, Any]] = DOCUMENT["configById"]


def texts(node: Any) -> Iterator[str]:
    """Every text in it, keys too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


def paths() -> set[str]:
    """What is plotted: topic and fields."""
    return {p["value"] for panel in PANELS.values() for p in panel.get("paths", [])}


def topics() -> set[str]:
    return {text.partition(".")[0] for text in texts(PANELS) if text.startswith("/")}


def record(path: Path) -> None:
    """A recording of one placed result, with everything beside it."""
    ledger = Ledger()
    for stage in STAGES:
        ledger.add(stage, 3.0)
    sink = RecordSink(path, header())
    sink.watch(lambda: snapshot_of(ledger=ledger, newest=result()))
    of = result(outputs=result().outputs | {"detect": placed(2)}, stages_ms=dict.fromkeys(STAGES, 1.0))
    sink.write(of, frame_of(of), None)
    sink.event(Event(7, "cam", "dark", began=True, state="degraded", detail="covered"))
    sink.close()


def test_every_topic_is_in_a_live_connection() -> None:
    sink = FoxgloveSink(HEADS, port=0)
    with Client(sink.port) as client:
        client.learn(7)
        assert topics() <= set(client.channels) and len(topics()) == 6
    sink.close()


def test_every_topic_and_every_path_is_in_a_recording(tmp_path: Path) -> None:
    record(tmp_path / "d.mcap")
    documents: dict[str, Any] = {}
    with (tmp_path / "d.mcap").open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            plain = schema is not None and schema.encoding == "jsonschema"
            documents[channel.topic] = json.loads(message.data) if plain else None
    assert topics() <= set(documents)
    assert len(paths()) > 10
    for path in paths():
        topic, *fields = path.split(".")
        value = documents[topic]
        for field in fields:
            assert field in value, f"{path}: there is no {field} in {sorted(value)}"
            value = value[field]
        assert isinstance(value, (int, float, str))


def test_keys_are_those_of_foxgloves_own_description() -> None:
    known = {
        "Image": theirs.ImageConfig()._to_dict(),
        "Plot": theirs.PlotConfig()._to_dict(),
        "StateTransitions": theirs.StateTransitionsConfig()._to_dict(),
        "RosOut": theirs.LogConfig()._to_dict(),
        "3D": theirs.ThreeDeeConfig()._to_dict(),
    }
    for name, panel in PANELS.items():
        kind = name.partition("!")[0]
        assert set(panel) - {"foxglovePanelTitle"} <= set(known[kind]), name
    image = next(panel for name, panel in PANELS.items() if name.startswith("Image!"))
    assert set(image["imageMode"]) <= set(theirs.ImageModeConfig()._to_dict())
    plotted = set(theirs.PlotSeries(value="/a.b")._to_dict())
    stated = set(theirs.StateTransitionsSeries(value="/a.b")._to_dict())
    for name, panel in PANELS.items():
        for path in panel.get("paths", []):
            assert set(path) <= (plotted if name.startswith("Plot") else stated)


def test_every_panel_stands_somewhere() -> None:
    placed_panels = [t for t in texts(DOCUMENT["layout"]) if "!" in t]
    assert sorted(placed_panels) == sorted(PANELS)
