"""A rig on the page: every lane in its documents, pictures of those that are watched, ready only where all are."""

from __future__ import annotations

import email
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.policy import HTTP
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rig_support import RateCamera, rig_of
from runtime_support import DETECT, HEADS, until

from edgetl_runtime.health import Health
from edgetl_runtime.ladder import Ladder, Policy, Step
from edgetl_runtime.repair import Patience
from edgetl_runtime.rig.rig import Rig
from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.web.live import LivePage
from edgetl_runtime.web.rounds import WebRounds

OF_BUNDLES = {"boxes": (DETECT,), "all": HEADS}
LANES = [LaneName(camera, bundle) for camera in ("left", "right") for bundle in OF_BUNDLES]
PATIENT = Patience(stall_s=1.0, give_up_s=60.0, frozen_s=5.0)


def ask(page: LivePage, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    client = http.client.HTTPConnection("127.0.0.1", page.port, timeout=5)
    try:
        client.request(method, path, headers=headers)
        response = client.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        client.close()


@contextmanager
def driven(
    bundles: dict[str, Path], cameras: dict[str, RateCamera], **options: Any
) -> Iterator[tuple[LivePage, Rig, list[int]]]:
    """The page of a rig that runs in a thread of its own, the rig, and how many frames each round had."""
    lanes = [LaneName(camera, bundle) for camera in cameras for bundle in bundles]
    page = LivePage(lanes, {name: OF_BUNDLES[name] for name in bundles}, **options.pop("page", {}))
    ended, sizes = threading.Event(), []
    with rig_of(bundles, cameras, patience=PATIENT, **options) as rig:  # type: ignore[arg-type]

        def work() -> None:
            sink = WebRounds(page)
            sink.begin(rig)
            for made in rig:
                sink.write(made)
                sizes.append(len(made.frames))
                del made
                if ended.is_set():
                    break
            sink.close()

        loop = threading.Thread(target=work, name="loop")
        loop.start()
        try:
            yield page, rig, sizes
        finally:
            ended.set()
            for camera in cameras.values():
                camera.interrupt()
            loop.join(10)
        assert not loop.is_alive()


@pytest.fixture(scope="module")
def running(shared_bundle: Path, shared_many: Path) -> Iterator[tuple[LivePage, Rig, list[int]]]:
    cameras = {"left": RateCamera(40), "right": RateCamera(25, size_hw=(60, 80))}
    page = {"ready_s": 30.0}  # a busy machine is not what is tested
    with driven({"boxes": shared_bundle, "all": shared_many}, cameras, page=page) as made:
        until(lambda: len(made[2]) > 5 and 2 in made[2])
        yield made


def test_status_has_a_row_for_each_lane_and_one_in_full(running: Any) -> None:
    page, rig, _ = running
    until(lambda: not json.loads(ask(page, "/status.json")[2])["unready_because"])
    document = json.loads(ask(page, "/status.json")[2])
    assert document["started"] and document["dead_because"] == ""
    assert document["rounds"] > 5 and document["gather_ms"] == rig.gather_ms
    assert {"wait", "gather", "skew", "total"} == set(document["stages"]) and document["health"]["state"] == "ok"
    rows = document["lanes"]
    assert [(row["camera_id"], row["bundle"]) for row in rows] == [(n.camera, n.bundle) for n in LANES]
    for row in rows:
        assert row["wanted"] and row["unready_because"] == "" and row["newest"]["state"] == "fresh"
        waiting = row["captured"] - row["processed"] - row["dropped"] - row["failed"]
        assert row["processed"] > 0 and -2 <= waiting <= 2, "the loop goes on while they are read"
        assert not {"events", "stages", "rss_mb"} & set(row)
    assert "lane" not in document
    lane = json.loads(ask(page, "/status.json?camera=right&bundle=all")[2])["lane"]
    assert (lane["camera_id"], lane["bundle"]) == ("right", "all")
    assert lane["stages"]["infer"]["run"]["count"] > 0 and lane["events"] == []
    assert lane["newest"]["size_hw"] == [60, 80] and {f["head"] for f in lane["newest"]["found"]} == {
        "detect",
        "ground",
        "light",
    }
    first = json.loads(ask(page, "/status.json?bundle=all")[2])["lane"]
    assert (first["camera_id"], first["bundle"]) == ("left", "all")


@pytest.mark.parametrize("path", ["status.json", "frame.jpg", "frames", "stream.mjpg"])
@pytest.mark.parametrize("query", ["camera=rear", "bundle=none", "camera=left&bundle=left", "camera=%3Cb%3E"])
def test_a_lane_that_is_none_is_told_with_those_there_are(running: Any, path: str, query: str) -> None:
    status, headers, body = ask(running[0], f"/{path}?{query}")
    assert status == 404 and headers["Content-Type"].startswith("text/plain")
    assert b"camera=left&bundle=boxes, " in body and b"<b>" not in body


def test_metrics_name_camera_and_bundle(running: Any) -> None:
    status, _, body = ask(running[0], "/metrics")
    assert status == 200
    for lane in LANES:
        labels = f'camera="{lane.camera}",bundle="{lane.bundle}"'
        assert f"\nedgetl_frames_processed_total{{{labels}}} ".encode() in body
        assert f'\nedgetl_state{{{labels},state="ok"}} 1\n'.encode() in body
    assert body.count(b"\nedgetl_resident_memory_bytes ") == 1


def picture(jpeg: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_each_camera_has_its_pictures(running: Any) -> None:
    for query, shape in (("", (90, 160, 3)), ("?camera=right&bundle=all", (60, 80, 3)), ("?camera=left", (90, 160, 3))):
        status, headers, body = ask(running[0], f"/frame.jpg{query}")
        assert status == 200 and picture(body).shape == shape and int(headers["X-Picture"]) > 0


def test_all_cameras_come_in_one_answer(running: Any) -> None:
    page, seen, number = running[0], {}, 0
    end_s = time.monotonic() + 10
    while len(seen) < 2:
        assert time.monotonic() < end_s
        status, headers, body = ask(page, f"/frames?bundle=all&after={number}")
        assert status == 200 and headers["Content-Type"].startswith("multipart/form-data; boundary=")
        parts = email.message_from_bytes(
            f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body, policy=HTTP
        ).iter_parts()
        for part in parts:
            told: Any = part
            name = part.get_param("name", header="content-disposition")
            assert part.get_content_type() == "image/jpeg" and int(told.get_filename()) > number
            seen[name] = (int(told.get_filename()), picture(told.get_content()).shape)
        number = max(n for n, _ in seen.values())
    assert {name: shape for name, (_, shape) in seen.items()} == {"left": (90, 160, 3), "right": (60, 80, 3)}
    one = ask(page, "/frames?bundle=all&camera=right")[2]
    assert b'name="right"' in one and b'name="left"' not in one


def test_nothing_is_kept_of_what_nobody_watches(running: Any) -> None:
    page = running[0]
    ask(page, "/frames?bundle=all")
    time.sleep(0.2)
    pictures = page._pictures
    drawn = dict(pictures._newest)
    time.sleep(0.3)
    assert pictures._newest == drawn and pictures._offered.empty()
    assert not any(pictures._waiting.values())


def test_clients_that_never_read_do_not_slow_the_rounds(running: Any) -> None:
    page, _, sizes = running

    def rate() -> float:
        before, t0 = sum(sizes), time.monotonic()
        time.sleep(1.0)
        return (sum(sizes) - before) / (time.monotonic() - t0)

    alone = rate()
    clients = [socket.create_connection(("127.0.0.1", page.port), timeout=5) for _ in range(4)]
    for client, lane in zip(clients, LANES, strict=True):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path = f"/stream.mjpg?camera={lane.camera}&bundle={lane.bundle}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert rate() > 0.1 * alone, "a loop that waits for one of them stands still"
    for client in clients:
        client.close()


def test_a_camera_that_is_gone_makes_it_not_ready_and_is_named(shared_bundle: Path) -> None:
    cameras = {"left": RateCamera(40), "right": RateCamera(40, stuck_at=20)}
    with driven({"boxes": shared_bundle}, cameras, page={"ready_s": 30.0}) as (page, _, _):
        until(lambda: ask(page, "/readyz")[0] == 200)
        until(lambda: ask(page, "/readyz")[0] == 503)
        until(lambda: b"stalled" in ask(page, "/readyz")[2])
        told = ask(page, "/readyz")[2].decode()
        assert told.startswith("right/boxes: stale: stalled (no frame for") and "left" not in told
        assert ask(page, "/healthz")[0::2] == (200, b"ok\n"), "the loop turns"
        document = json.loads(ask(page, "/status.json")[2])
        assert document["unready_because"].startswith("right/boxes: ") and document["health"]["state"] == "stale"
        assert [bool(row["unready_because"]) for row in document["lanes"]] == [False, True]


def test_a_camera_that_the_ladder_leaves_out_is_not_waited_for(shared_bundle: Path) -> None:
    own = Health()
    policy = Policy(deadline_ms=60000, steps=(Step(cameras=("left",)),))
    ladder = Ladder(policy, own, lambda *_: pytest.fail("no engine is loaded"), clock=lambda: 0.0)
    cameras = {"left": RateCamera(40), "right": RateCamera(40)}
    with driven({"boxes": shared_bundle}, cameras, ladder=ladder, own_health=own) as (page, _, _):
        until(lambda: ask(page, "/readyz")[0] == 200)
        ladder.at = 1
        time.sleep(1.5)  # a result of the right camera may now be too old
        until(lambda: ask(page, "/readyz")[0] == 200)
        rows = {row["camera_id"]: row for row in json.loads(ask(page, "/status.json")[2])["lanes"]}
        assert [rows[n]["wanted"] for n in ("left", "right")] == [True, False]
        assert rows["right"]["since_publish_s"] > 1 and "published" in rows["right"]["unready_because"]
        metrics = ask(page, "/metrics")[2]
        assert b'edgetl_wanted{camera="right",bundle="boxes"} 0\n' in metrics
        ladder.at = 0


def test_before_the_loop_it_says_starting_and_afterwards_it_is_gone() -> None:
    page = LivePage(LANES, OF_BUNDLES)
    try:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert ask(page, path)[0::2] == (503, b"starting: the loop has not begun\n")
        assert json.loads(ask(page, "/status.json?camera=left&bundle=all")[2])["started"] is False
        assert ask(page, "/status.json?camera=rear")[0] == 404
    finally:
        WebRounds(page).close()
    with pytest.raises(ConnectionRefusedError):
        ask(page, "/")
    assert not [t for t in threading.enumerate() if f"{t.name} ".startswith(f"web {page.port} ")]


def test_a_token_is_asked_for_everything_of_a_rig() -> None:
    page = LivePage(LANES, OF_BUNDLES, token="a-token-of-enough-characters")
    try:
        for path in ("/frames", "/status.json?camera=left", "/frame.jpg?camera=right&bundle=all", "/frames?camera=no"):
            status, _, body = ask(page, path)
            assert status == 401 and b"left" not in body
    finally:
        page.close()


def test_a_frame_is_let_go_after_it_was_offered(shared_bundle: Path) -> None:
    page = LivePage(LANES, OF_BUNDLES)
    try:
        with rig_of({"boxes": shared_bundle}, {"left": RateCamera(40, 3)}) as rig:
            sink = WebRounds(page)
            sink.begin(rig)
            for made in rig:
                frame = made.frames["left"]
                before = sys.getrefcount(frame)
                sink.write(made)
                assert sys.getrefcount(frame) == before
    finally:
        page.close()
