"""The page in a real browser, headless Chromium, on a loop that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_support import FakeCamera, scene

import edgetl_runtime
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.health import Health
from edgetl_runtime.web import WebSink

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
    camera = FakeCamera([scene(180, 320, i) for i in range(16)] * 1000, delay_s=0.03)
    loop = threading.Thread(target=edgetl_runtime.run, args=(bundle, camera), kwargs={"sinks": [sink]})
    loop.start()
    try:
        end_s = time.monotonic() + 10
        while not hasattr(sink, "health"):
            assert time.monotonic() < end_s
            time.sleep(0.01)
        yield sink
    finally:
        sink.stop = True
        loop.join(10)
    assert not loop.is_alive()


def dom(url: str, profile: Path) -> str:
    """The page's HTML after its scripts have run for a while."""
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--window-size=1280,900"]
    command = [BROWSER, *options, "--virtual-time-budget=4000", "--enable-logging=stderr", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
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
    assert re.search(r'<img id="picture"[^>]* src="blob:', page)
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
