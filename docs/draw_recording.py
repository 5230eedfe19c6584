"""Draws what edgetl's layout for Foxglove shows, from a recording: for pages like the README.

    python docs/draw_recording.py drive.mcap docs/foxglove-data.jpg --at 28.5

It takes the messages that Foxglove takes (by the schemas in the file), and draws them itself: the camera's picture with
the ImageAnnotations, the SceneUpdate seen from above, plots of results and of the ledger. It is not Foxglove. Needs
edgetl's extras dev and desktop.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.reader import make_reader
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Curve = tuple[str, Colour, list[tuple[float, float]]]

PAPER, PANEL, GRID, INK, QUIET = (24, 22, 20), (38, 35, 32), (66, 62, 58), (236, 234, 232), (168, 164, 160)
BLUE, GREEN, ORANGE, RED = (240, 170, 80), (120, 200, 110), (60, 160, 250), (90, 90, 240)
FONT = cv2.FONT_HERSHEY_SIMPLEX
GAP, TITLE = 12, 34
CAMERA_WH, ABOVE_WH, PLOT_WH = (748, 421), (428, 421), (588, 210)
REACH_M, SIDE_M = 46.0, 20.0


@dataclass
class Recording:
    """What is drawn; times are seconds from the first result on."""

    image: Any = None
    boxes: Any = None
    objects: Any = None
    results: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    ledger: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


def read(path: Path, at_s: float) -> Recording:
    """The curves, and of pictures, boxes and objects the last before at_s. Exits where there is no such moment."""
    found = Recording()
    kept: dict[str, tuple[Any, bytes]] = {}
    begun_ns = None
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            if channel.topic == "/edgetl/result" and begun_ns is None:
                begun_ns = message.log_time
            seconds = (message.log_time - (begun_ns or message.log_time)) / 1e9
            if channel.topic == "/edgetl/result":
                found.results.append((seconds, json.loads(message.data)))
            elif channel.topic == "/edgetl/ledger":
                found.ledger.append((seconds, json.loads(message.data)))
            elif schema is not None and seconds <= at_s:
                kept[channel.topic] = schema, message.data
    if missing := {"/camera/image", "/camera/boxes", "/edgetl/objects"} - kept.keys():
        sys.exit(f"draw_recording: {path} has nothing of {', '.join(sorted(missing))} before {at_s:g} s")
    found.image, found.boxes, found.objects = (
        decode(*kept[topic]) for topic in ("/camera/image", "/camera/boxes", "/edgetl/objects")
    )
    return found


def decode(schema: Any, data: bytes) -> Any:
    """A message in protobuf, by its schema in the file."""
    return _message_class(schema.name, schema.data).FromString(data)


@cache
def _message_class(name: str, files: bytes) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(files).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def camera_panel(recorded: Recording) -> Picture:
    """foxglove.RawImage with foxglove.ImageAnnotations on it."""
    image = recorded.image
    picture = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    width, height = CAMERA_WH
    scale = width / image.width
    panel: Picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    for shape in recorded.boxes.points:
        corners = np.array([(point.x, point.y) for point in shape.points]) * scale
        cv2.polylines(panel, [corners.round().astype(np.int32)], True, bgr(shape.outline_color), 2, cv2.LINE_AA)
    for text in recorded.boxes.texts:
        at = text.position.x * scale, text.position.y * scale
        label(panel, text.text, at, ground=bgr(text.background_color), ink=bgr(text.text_color))
    return panel


def above_panel(recorded: Recording) -> Picture:
    """foxglove.SceneUpdate from above, base_link below in the middle; discs are two deviations of the place."""
    width, height = ABOVE_WH
    panel = sheet(width, height)
    scale = (height - 44) / REACH_M

    def pixel(x_m: float, y_m: float) -> tuple[int, int]:
        return round(width / 2 - y_m * scale), round(height - 30 - x_m * scale)

    for metres in range(0, int(REACH_M) + 1, 10):
        row = pixel(metres, 0)[1]
        cv2.line(panel, (0, row), (width, row), GRID, 1)
        write(panel, f"{metres} m", (6, row - 4), QUIET, 0.4)
    for entity in recorded.objects.entities:
        post, disc = entity.cylinders
        at = pixel(post.pose.position.x, post.pose.position.y)
        shade = panel.copy()
        cv2.circle(shade, at, max(round(disc.size.x / 2 * scale), 1), bgr(disc.color), -1, cv2.LINE_AA)
        cv2.addWeighted(shade, disc.color.a, panel, 1 - disc.color.a, 0, dst=panel)
        cv2.circle(panel, at, 5, INK, -1, cv2.LINE_AA)
        cv2.circle(panel, at, 4, bgr(post.color), -1, cv2.LINE_AA)
    free_y = 0  # texts stand below each other where objects stand too close
    for entity in sorted(recorded.objects.entities, key=lambda each: -each.cylinders[0].pose.position.x):
        at = entity.cylinders[0].pose.position
        x, y = pixel(at.x, at.y)
        if 0 <= x < width and 0 <= y < height:
            text, row = entity.texts[0].text, max(y + 4, free_y)
            write(panel, text, (min(x + 9, width - text_width(text, 0.42) - 4), row), INK, 0.42)
            free_y = row + 14
    ego = np.array([pixel(0.8, 0), pixel(-1.6, 0.9), pixel(-1.6, -0.9)])
    cv2.fillPoly(panel, [ego.astype(np.int32)], INK, cv2.LINE_AA)
    return panel


def plot_panel(curves: list[Curve], at_s: float, until_s: float, top: float) -> Picture:
    """Curves over seconds, from 0 to `top`, in ms; a line stands at at_s."""
    width, height = PLOT_WH
    panel = sheet(width, height)
    left, right, high, low = 44, width - 20, 30, height - 24

    def pixel(seconds: float, value: float) -> tuple[int, int]:
        return (
            round(left + (right - left) * seconds / until_s),
            round(low - (low - high) * min(value / top, 1.02)),
        )

    for share in range(5):
        value = top * share / 4
        row = pixel(0, value)[1]
        cv2.line(panel, (left, row), (right, row), GRID, 1)
        write(panel, f"{value:.0f}", (8, row + 4), QUIET, 0.4)
    for seconds in range(0, int(until_s) + 1, 10):
        write(panel, f"{seconds} s", (pixel(seconds, 0)[0] - 8, height - 8), QUIET, 0.4)
    x = left
    for name, colour, points in curves:
        path = np.array([pixel(*point) for point in points], np.int32)
        cv2.polylines(panel, [path], False, colour, 1, cv2.LINE_AA)
        cv2.line(panel, (x, 16), (x + 16, 16), colour, 2)
        write(panel, name, (x + 22, 20), INK, 0.42)
        x += 40 + text_width(name, 0.42)
    column = pixel(at_s, 0)[0]
    cv2.line(panel, (column, high), (column, low), QUIET, 1)
    return panel


def page(recorded: Recording, at_s: float, name: str) -> Picture:
    """All panels with their titles, and who drew them."""
    until_s = max(recorded.results[-1][0], 1.0)
    ages = [(s, each["age_ms"]) for s, each in recorded.results]
    ledger = recorded.ledger

    def stage(which: str, value: str) -> list[tuple[float, float]]:
        return [(s, each["stages"][which][value]) for s, each in ledger if which in each["stages"]]

    age_curves: list[Curve] = [
        ("each result at publish", BLUE, ages),
        ("p50 of 10 s", GREEN, stage("age", "p50_ms")),
        ("p99 of 10 s", ORANGE, stage("age", "p99_ms")),
    ]
    stage_curves: list[Curve] = [
        ("infer p50", GREEN, stage("infer", "p50_ms")),
        ("infer p99", BLUE, stage("infer", "p99_ms")),
        ("total p50", ORANGE, stage("total", "p50_ms")),
        ("total p99", RED, stage("total", "p99_ms")),
    ]
    state = next((each["health"] for s, each in reversed(ledger) if s <= at_s), "starting")
    count = len(recorded.objects.entities)
    top = titled(
        (f"Camera: /camera/image with /camera/boxes, {at_s:.1f} s, state {state}", camera_panel(recorded)),
        (f"Objects: /edgetl/objects in base_link, {count} placed", above_panel(recorded)),
    )
    bottom = titled(
        ("Age of results, ms: /edgetl/result, /edgetl/ledger", plot_panel(age_curves, at_s, until_s, nice(age_curves))),
        ("Stages over 10 s, ms: /edgetl/ledger", plot_panel(stage_curves, at_s, until_s, nice(stage_curves))),
    )
    foot = np.full((26, top.shape[1], 3), PAPER, np.uint8)
    write(foot, f"{name}: drawn by docs/draw_recording.py from the messages of the recording, not by Foxglove",
          (GAP, 12), QUIET, 0.44)  # fmt: skip
    return np.vstack([top, bottom, foot])


def nice(curves: list[Curve]) -> float:
    """A round end of the axis above nearly all that is drawn."""
    values = [value for _, _, points in curves for _, value in points]
    most = float(np.percentile(values, 99.5)) if values else 1.0
    return next((step for step in (4, 8, 20, 40, 80, 120, 160, 200, 400, 800, 2000) if step >= most), most)


def titled(*panels: tuple[str, Picture]) -> Picture:
    """Panels of one height beside each other, each under its title."""
    parts = [np.full((panels[0][1].shape[0] + TITLE, GAP, 3), PAPER, np.uint8)]
    for title, panel in panels:
        head = np.full((TITLE, panel.shape[1], 3), PAPER, np.uint8)
        write(head, title, (2, 23), INK, 0.5)
        parts += [np.vstack([head, panel]), parts[0]]
    row: Picture = np.hstack(parts)
    return row


def sheet(width: int, height: int) -> Picture:
    """An empty panel."""
    return np.full((height, width, 3), PANEL, np.uint8)


def label(panel: Picture, text: str, at: tuple[float, float], *, ground: Colour, ink: Colour) -> None:
    """On a coloured ground, above the point."""
    width = text_width(text, 0.4)
    x = int(np.clip(at[0] - 1, 0, panel.shape[1] - width - 6))
    y = int(max(at[1], 16))
    cv2.rectangle(panel, (x, y - 15), (x + width + 5, y), ground, -1)
    write(panel, text, (x + 3, y - 4), ink, 0.4)


def write(panel: Picture, text: str, at: tuple[int, int], colour: Colour, size: float) -> None:
    """One line of text; `at` is where it begins, on its base line."""
    cv2.putText(panel, text, at, FONT, size, colour, 1, cv2.LINE_AA)


def text_width(text: str, size: float) -> int:
    """In pixels."""
    return int(cv2.getTextSize(text, FONT, size, 1)[0][0])


def bgr(colour: Any) -> Colour:
    """Of a foxglove.Color."""
    return round(colour.b * 255), round(colour.g * 255), round(colour.r * 255)


def main() -> None:
    """Draw one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="of `edgetl run --record`, with --calibration and --track")
    parser.add_argument("out", type=Path, help="JPEG to write")
    parser.add_argument("--at", type=float, default=10.0, metavar="S", help="seconds after the first result")
    args = parser.parse_args()
    picture = page(read(args.recording, args.at), args.at, args.recording.name)
    cv2.imwrite(str(args.out), picture, [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    main()
