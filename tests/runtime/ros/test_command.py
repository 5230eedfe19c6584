"""edgetl run with --ros2 and from a ros2: source, and what is refused before anything is touched."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ros_support import Listener, free_port, router
from test_camera import Talker

from edgetl.commands import run as run_command
from edgetl.commands.ros2 import intrinsics_of, read_intrinsics
from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.geometry.calibration import read_calibration

CALIBRATION = """
image_width: 640
image_height: 480
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [500.0, 0, 319.5, 0, 500, 239.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [480, 0, 319.5, 0, 0, 480, 239.5, 0, 0, 0, 1, 0]}
"""


def parsed(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    return parser.parse_args([str(a) for a in arguments])


def call(*arguments: object) -> dict[str, Any]:
    return run_command.run(parsed(*arguments))


def test_a_run_is_heard_in_its_domain(
    shared_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "5")
    with router() as address, Listener(address, domain=5) as listener:
        document = call(shared_bundle, clip, "--realtime", "--ros2", "road", "--ros2-connect", address, "--track")
        flat = listener.messages("road/detections")
        listener.messages("diagnostics")
    assert document["processed"] + document["dropped"] == 12
    assert all(line["same"] for line in flat)
    assert flat[0]["message"]["header"]["frame_id"].endswith("_optical_frame")
    assert "ROS 2: /road/detections, /diagnostics" in capsys.readouterr().err


def test_images_of_a_topic_become_boxes_on_another(shared_bundle: Path) -> None:
    with router() as address, Listener(address, domain=0) as listener:
        talker = Talker(address, "/camera/image_raw")
        try:
            document = call(
                *(shared_bundle, "ros2:/camera/image_raw", "--ros2", "--ros2-connect", address, "--max-frames", 5),
                *("--ros2-domain", 0, "--ros2-node", "eyes", "--frozen-s", 0),
            )
        finally:
            talker.close()
        flat = listener.messages("edgetl/detections")
        nodes = {line["token"].split("/")[8] for line in listener.found(lambda line: "/NN/" in line.get("token", ""))}
    assert document["processed"] == 5 and nodes == {"eyes", "eyes_camera"}
    head = flat[0]["message"]["header"]
    assert head["frame_id"] == "lens"
    assert head["stamp"]["sec"] * 10**9 + head["stamp"]["nanosec"] in talker.stamps


def test_any_free_port_is_told_and_others_come_there(shared_bundle: Path) -> None:
    flags = ["--camera-size", "160x96", "--ros2", "--ros2-listen", "tcp/127.0.0.1:0", "--ros2-domain", "0"]
    command = [sys.executable, "-m", "edgetl.cli", "run", str(shared_bundle), "roadworld:day", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            said = next(line for line in process.stderr if "others reach this node" in line)
            found = re.fullmatch(r"ROS 2: others reach this node at (tcp/127\.0\.0\.1:[1-9]\d*)\n", said)
            assert found is not None, said
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            with Listener(found[1], domain=0) as listener:
                assert listener.messages("edgetl/detections")[0]["same"]
        finally:
            process.kill()
        drain.join(10)


def test_a_reader_tells_its_port_before_anything_comes(shared_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CameraError, match="/image"):
        call(shared_bundle, "ros2:/image", "--ros2-listen", "tcp/127.0.0.1:0")
    assert re.search(r"others reach this node at tcp/127\.0\.0\.1:[1-9]\d*\n", capsys.readouterr().err)


def test_several_topics_in_one_rig_are_one_session_with_a_node_each(shared_bundle: Path, shared_many: Path) -> None:
    with router() as address, Listener(address, domain=0) as listener:
        talkers = [Talker(address, "/camera/image_raw"), Talker(address, "/rear/image_raw")]
        try:
            document = call(
                *(shared_bundle, "ros2:/camera/image_raw", "--also-camera", "rear=ros2:/rear/image_raw"),
                *("--also-bundle", f"many={shared_many}", "--ros2", "car", "--ros2-connect", address),
                *("--ros2-frame-id", "rear=tail", "--max-frames", 6, "--frozen-s", 0),
            )
        finally:
            for talker in talkers:
                talker.close()
        flat = {lane: listener.messages(f"car/{lane}/detections") for lane in ("main/tiny", "rear/tiny", "rear/many")}
        tokens = [line["token"].split("/") for line in listener.found(lambda line: "/NN/" in line.get("token", ""))]
    assert document["processed"] >= 6 and set(document["cameras"]) == {"main", "rear"}
    nodes = {parts[8]: parts[3] for parts in tokens}
    assert set(nodes) == {"edgetl", "edgetl_main_camera", "edgetl_rear_camera"} and len({p[2] for p in tokens}) == 1
    assert len(set(nodes.values())) == 3, "each with a number of its own"
    frames = {lane: lines[0]["message"]["header"]["frame_id"] for lane, lines in flat.items()}
    assert frames == {"main/tiny": "lens", "rear/tiny": "tail", "rear/many": "tail"}
    stamps = [line["message"]["header"]["stamp"] for line in flat["rear/many"]]
    assert {s["sec"] * 10**9 + s["nanosec"] for s in stamps} <= talkers[1].stamps


def test_a_topic_that_nobody_publishes_is_told_with_those_that_are_there(
    shared_bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with router() as address:
        talker = Talker(address, "/rear/image_raw")
        talker.linked()
        try:
            document = call(
                *(shared_bundle, clip, "--also-camera", "rear=ros2:/raer/image_raw", "--begin-without"),
                *("--ros2-connect", address, "--max-frames", 5, "--realtime"),
            )
        finally:
            talker.close()
    told = capsys.readouterr().err
    assert "rear <- ros2:/raer/image_raw, which is not there yet: ros2:/raer/image_raw gave nothing for 5 s, " in told
    assert "no node publishes that topic; pictures are on /rear/image_raw" in told
    assert document["cameras"]["rear"]["health"]["conditions"].keys() == {"absent"}


def test_topics_are_read_and_results_published_without_a_router(shared_bundle: Path) -> None:
    address = f"tcp/127.0.0.1:{free_port()}"
    talkers = [Talker(address, "/camera/image_raw"), Talker(address, "/rear/image_raw")]
    try:
        with Listener(address, domain=0) as listener:
            document = call(
                *(shared_bundle, "ros2:/camera/image_raw", "--also-camera", "rear=ros2:/rear/image_raw"),
                *("--ros2", "--ros2-listen", address, "--max-frames", 60, "--frozen-s", 0, "--give-up-s", 20),
            )
            assert listener.messages("edgetl/rear/detections")
    finally:
        for talker in talkers:
            talker.close()
    assert document["cameras"]["rear"]["processed"] > 0


def test_calibrations_and_frames_are_by_camera(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    path.write_text(CALIBRATION)
    rig = (shared_bundle, clip, "--also-camera", f"rear={clip}")
    known = intrinsics_of(parsed(*rig, "--ros2-camera-info", f"rear={path}"), {})
    assert known == {"rear": read_intrinsics(path)}
    alone = (shared_bundle, clip, "--also-bundle", shared_bundle, "--ros2-camera-info", path)
    assert intrinsics_of(parsed(*alone), {}) == {"main": read_intrinsics(path)}, "with one camera it is that one's"
    named = parsed(*alone[:-1], f"main={path}")
    assert intrinsics_of(named, {}) == {"main": read_intrinsics(path)}


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--ros2-frame-id", "lens"], "--ros2-frame-id must be like main=camera_link with several cameras, found lens"),
        (["--ros2-frame-id", "side=lens"], "found side=lens; cameras are called main, front-left"),
        (["--ros2-images", "--ros2-camera-info", "x.yaml"], "--ros2-camera-info must be like main=front.yaml"),
        (["--ros2-images", "--ros2-camera-info", "main=x.yaml"], "can't read the calibration x.yaml"),
        (["--also-camera", "front_left=x.mp4"], "the cameras 'front-left' and 'front_left' are both front_left"),
        (["--also-bundle", "tiny-1={bundle}", "--also-bundle", "tiny_1={bundle}"], "the bundles 'tiny-1' and 'tiny_1'"),
    ],
)
def test_what_a_rig_can_not_publish_is_refused_before_anything_runs(
    shared_bundle: Path, clip: Path, tmp_path: Path, flags: list[str], why: str
) -> None:
    lines = tmp_path / "o.jsonl"
    lines.write_text("kept")
    flags = [flag.format(bundle=shared_bundle) for flag in flags]
    with pytest.raises(InputError) as caught:
        call(
            *(shared_bundle, clip, "--also-camera", f"front-left={clip}", "--ros2", *flags),
            *("--jsonl", lines, "--force"),
        )
    assert why in str(caught.value) and lines.read_text() == "kept"


def test_a_rig_without_a_router_loses_nothing(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    lines = tmp_path / "o.jsonl"
    lines.write_text("kept")
    nobody = ("--ros2-connect", f"tcp/127.0.0.1:{free_port()}")
    with pytest.raises(InputError, match="no Zenoh router or node answers at"):
        call(shared_bundle, clip, "--also-camera", f"b={clip}", "--ros2", *nobody, "--jsonl", lines, "--force")
    assert lines.read_text() == "kept"


def test_without_a_router_nothing_is_lost(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_text("of a run before\n")
    nobody = f"tcp/127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match="no Zenoh router or node answers at"):
        call(shared_bundle, clip, "--ros2", "--ros2-connect", nobody, "--jsonl", kept, "--force")
    assert kept.read_text() == "of a run before\n"
    with pytest.raises(CameraError, match="ros2:/image: no Zenoh router"):
        call(shared_bundle, "ros2:/image", "--ros2-connect", nobody)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--ros2-images"], "--ros2-images is of --ros2"),
        (["--ros2-domain", "3", "--ros2-connect", "tcp/a:1"], "--ros2-connect, --ros2-domain is of --ros2"),
        (["--ros2", "--ros2-domain", "500"], "a ROS domain is a number from 0 to 232, found 500"),
        (["--ros2", "a b"], "a ROS topic is like"),
        (["--ros2", "--ros2-images", "99"], "pictures for ROS are from 0 to 30/s, found 99"),
        (["--ros2", "--ros2-connect", "router"], "a Zenoh address is like"),
        (["--ros2", "--ros2-namespace", "car"], "a ROS namespace is like"),
        (["--ros2", "--ros2-camera-info", "none.yaml"], "--ros2-camera-info goes with pictures"),
        (["--ros2", "--ros2-images", "--ros2-camera-info", "none.yaml"], "can't read the calibration none.yaml"),
        (["--ros2", "--ros2-frame-id", "a", "--ros2-frame-id", "b"], "--ros2-frame-id is given twice for camera main"),
    ],
)
def test_flags_that_make_no_sense_are_refused(shared_bundle: Path, clip: Path, flags: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        call(shared_bundle, clip, *flags)


def test_a_domain_of_the_environment_that_is_none_is_refused(
    shared_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "front")
    with pytest.raises(InputError, match="ROS_DOMAIN_ID must be a number, found 'front'"):
        call(shared_bundle, clip, "--ros2")


def test_the_calibration_file_of_ros_is_read(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    path.write_text(CALIBRATION)
    known = read_intrinsics(path)
    assert (known.size_hw, known.k[0], known.d[1], known.p[0]) == ((480, 640), 500.0, -0.2, 480.0)
    for text in ("image_width: 3", "[1, 2]", "a: [", CALIBRATION.replace("500.0", "wide")):
        path.write_text(text)
        with pytest.raises(InputError, match=r"the calibration .* is not (valid|readable)"):
            read_intrinsics(path)


def test_a_calibrated_camera_needs_no_second_file(tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    path.write_text(CALIBRATION + "edgetl: {position_m: [1, 0, 1.5], pitch_deg: 2, pitch_std_deg: 0.3}\n")
    known = {"main": read_calibration(path)}
    assert intrinsics_of(parsed("b", "0"), known) == {"main": read_intrinsics(path)}
    other = tmp_path / "other.yaml"
    other.write_text(CALIBRATION.replace("500.0", "700.0"))
    assert intrinsics_of(parsed("b", "0", "--ros2-camera-info", other), known)["main"].k[0] == 700
    assert intrinsics_of(parsed("b", "0"), {}) == {}


def test_the_settings_of_a_file_are_read(shared_bundle: Path, clip: Path, tmp_path: Path) -> None:
    settings = tmp_path / "run.yaml"
    settings.write_text("ros2: true\nros2-connect: tcp/nowhere\nros2-no-type-hash: true\nros2-domain: 500\n")
    command = [sys.executable, "-m", "edgetl.cli", "run", str(shared_bundle), str(clip), "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a ROS domain is a number from 0 to 232, found 500" in done.stderr


@pytest.mark.parametrize("package", ["zenoh", "pycdr2"])
def test_without_the_packages_the_extra_is_named_and_the_rest_works(package: str) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        "import edgetl_runtime, edgetl.commands.run, edgetl_runtime.ros\n"
        "from edgetl_runtime.errors import MissingPackage\n"
        "try:\n"
        "    edgetl_runtime.ros.Ros2Sink\n"
        "except MissingPackage as error:\n"
        "    print(error)\n"
        "import edgetl.cli\n"
        "sys.exit(edgetl.cli.main(['run', 'no.bundle', 'no.mp4', '--ros2']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"'{package}' is not installed" in done.stderr
    assert f"'{package}' is not installed" in done.stdout and "edgetl[vehicle]" in done.stdout
