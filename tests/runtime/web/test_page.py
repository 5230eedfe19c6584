"""The page in a real browser, headless Chromium, on a loop that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig_support import RateCamera, rig_of
from runtime_support import FakeCamera, scene, until

import edgetl_runtime
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.health import Health
from edgetl_runtime.repair import Patience
from edgetl_runtime.rig.rig import Rig
from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.web import WebSink
from edgetl_runtime.web.live import LivePage
from edgetl_runtime.web.rounds import WebRounds

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)

needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on PATH")


class _Shown(WebSink):
    """The sink, which remembers whose health it shows and ends the loop when the test has seen enough."""

    health: Health
    stop = False

    def watch(self, source: Any) -> None:
        self.health = source.__self__.health
        super().watch(source)


@pytest.fixture
def shown(shared_many: Path) -> Iterator[_Shown]:
    bundle = open_bundle(shared_many)
    sink = _Shown(bundle.manifest.heads)
    camera = FakeCamera([scene(180, 320, i) for i in range(16)] * 10_000, delay_s=0.03)
    loop = threading.Thread(target=edgetl_runtime.run, args=(bundle, camera), kwargs={"sinks": [sink]})
    loop.start()
    try:
        until(lambda: hasattr(sink, "health"))
        yield sink
    finally:
        sink.stop = True
        loop.join(60)
    assert not loop.is_alive()


def dom(url: str, profile: Path) -> str:
    """The page's HTML after its scripts have run for a while."""
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--window-size=1280,900"]
    command = [BROWSER, *options, "--virtual-time-budget=4000", "--enable-logging=stderr", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    refused = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not refused, "errors and refusals of the security policy are told on the console"
    return done.stdout


def shown_in(page: str, name: str) -> str:
    """The text of the element with this id, without the narrow spaces in large numbers."""
    match = re.search(rf'<(\w+)[^>]* id="{name}"[^>]*>(.*?)</\1>', page, re.DOTALL)
    assert match, name
    return re.sub(r"<[^>]*>", " ", match[2]).replace("\u202f", "").strip()


@needs_browser
def test_numbers_picture_and_charts_are_there(shown: _Shown, tmp_path: Path) -> None:
    page = dom(shown.url, tmp_path)
    assert 'data-state="ok"' in page and shown_in(page, "state") == "ok"
    assert (shown_in(page, "bundle"), shown_in(page, "engine")) == ("tiny", "onnxruntime · fp32")
    assert shown_in(page, "ready") == "ready" and re.search(r'<p id="why" hidden="">', page)
    captured, processed = (int(shown_in(page, name)) for name in ("captured", "processed"))
    assert captured >= processed > 10
    assert re.fullmatch(r"\d+ ms", shown_in(page, "since"))
    assert re.fullmatch(r"\d+\.\d", shown_in(page, "rate"))
    assert re.fullmatch(r"\d+ MB", shown_in(page, "memory"))
    rows = re.findall(r'<th scope="row">(\w+)</th>((?:<td>[^<]*</td>)*)', page)
    assert [name for name, _ in rows] == ["wait", "letterbox", "infer", "decode", "publish", "total", "age"]
    assert all(re.fullmatch(r"(<td>\d+(\.\d+)?</td>){6}", cells) for _, cells in rows)
    assert page.count("<rect ") >= 2 and "p99" in page
    assert re.search(r'<img alt="newest annotated frame"[^>]* src="blob:', page)
    assert "road" in shown_in(page, "found") and "%" in shown_in(page, "found")
    assert shown_in(page, "conditions") == "none holds"


@needs_browser
def test_a_fault_has_colour_word_and_reason(shown: _Shown, tmp_path: Path) -> None:
    shown.health.set("ladder", "every second frame is left out")
    shown.health.set("disconnected", "unplugged <b>&amp;")
    page = dom(shown.url, tmp_path)
    assert 'data-state="fault"' in page and shown_in(page, "state") == "fault"
    assert shown_in(page, "ready") == "not ready"
    assert shown_in(page, "why").startswith("fault: disconnected (unplugged")
    assert "unplugged &lt;b&gt;&amp;amp;" in page, "details are text, never markup"
    conditions, events = shown_in(page, "conditions"), shown_in(page, "events")
    assert conditions.index("disconnected · fault") < conditions.index("ladder · degraded")
    assert events.index("disconnected began") < events.index("ladder began")
    assert re.search(r"\d\d:\d\d:\d\d", events)
    assert re.search(r"disconnected 1×", shown_in(page, "counts"))


@pytest.fixture
def rig_shown(shared_bundle: Path, shared_many: Path) -> Iterator[tuple[LivePage, Rig]]:
    folders = {"boxes": shared_bundle, "all": shared_many}
    heads = {name: open_bundle(folder).manifest.heads for name, folder in folders.items()}
    cameras = {"left": RateCamera(20), "right": RateCamera(20)}
    page = LivePage([LaneName(camera, bundle) for camera in cameras for bundle in folders], heads, ready_s=30.0)
    ended = threading.Event()
    with rig_of(folders, cameras, patience=Patience(stall_s=20.0, give_up_s=60.0, frozen_s=20.0)) as rig:

        def work() -> None:
            sink = WebRounds(page)
            sink.begin(rig)
            for made in rig:
                sink.write(made)
                if ended.is_set():
                    break
            sink.close()

        loop = threading.Thread(target=work)
        loop.start()
        try:
            yield page, rig
        finally:
            ended.set()
            loop.join(60)
    assert not loop.is_alive()


@needs_browser
def test_a_rig_shows_every_camera_and_one_lane_in_detail(rig_shown: tuple[LivePage, Rig], tmp_path: Path) -> None:
    page = dom(rig_shown[0].url, tmp_path)
    assert 'data-state="ok"' in page and shown_in(page, "ready") == "ready"
    tiles = page[page.index('<div id="tiles"') : page.index('<div id="found"')]
    assert len(re.findall(r'<img alt="newest annotated frame of (?:left|right)"[^>]* src="blob:', tiles)) == 2
    assert re.findall(r'<button class="name" aria-pressed="(\w+)">(\w+)<', tiles) == [
        ("true", "left"),
        ("false", "right"),
    ]
    assert len(re.findall(r'<span class="word">ok</span><span class="age">[\d.]+ m?s old</span>', tiles)) == 2
    assert re.findall(r'<button aria-pressed="(\w+)">(\w+)<', page) == [("true", "boxes"), ("false", "all")]
    assert shown_in(page, "lane") == "left · boxes" and shown_in(page, "found") == "detect: nothing"
    names = re.findall(r'<th scope="row">(\w+)</th>', page)
    assert names[names.index("age") + 1 :] == ["wait", "gather", "skew", "total"]
    assert re.search(r"[\d.]+ rounds/s · \d+ rounds · each waits [\d.]+ ms", shown_in(page, "of-rounds"))
    assert page.count("<rect ") >= 3


@needs_browser
def test_the_address_chooses_a_lane_and_trouble_is_at_its_camera(
    rig_shown: tuple[LivePage, Rig], tmp_path: Path
) -> None:
    served, rig = rig_shown
    rig.seats["right"].feed.health.set("disconnected", "unplugged <b>")
    page = dom(f"{served.url}#camera=right&bundle=all", tmp_path)
    assert shown_in(page, "lane") == "right · all" and "road" in shown_in(page, "found")
    assert shown_in(page, "state") == "fault" and shown_in(page, "ready") == "not ready"
    assert shown_in(page, "why").startswith("right/boxes, right/all: fault: disconnected (unplugged")
    assert "unplugged &lt;b&gt;" in page and "unplugged <b>" not in page, "details are text, never markup"
    tiles = page[page.index('<div id="tiles"') : page.index('<div id="found"')]
    assert re.findall(r'<figure data-state="(\w+)"', tiles) == ["ok", "fault"]
    assert tiles.count('class="chosen"') == 1 and tiles.index('class="chosen"') > tiles.index('data-state="ok"')
    assert "disconnected · fault" in shown_in(page, "conditions")
    rig.seats["right"].feed.health.clear("disconnected")
    page = dom(f"{served.url}#camera=rear&bundle=none", tmp_path)
    assert shown_in(page, "lane") == "left · boxes", "an address of another run"
