"""edgetl service: what is written, what is refused, what is said where there is no systemd."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from runtime_support import write_test_bundle

from edgetl import cli
from edgetl.commands import service_remove, service_status
from edgetl_runtime.service import readable


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a bundle that all can read, not below /tmp."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("EDGETL_TEST_OPT", "/var/lib")) as name:
        folder = Path(name)
        folder.chmod(0o755)
        bundle = write_test_bundle(folder / "road bundle")
        for path in (bundle, *bundle.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield folder


pytestmark = pytest.mark.skipif(not os.access("/var/lib", os.W_OK), reason="needs a folder outside /tmp")


@pytest.fixture(autouse=True)
def program_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the Python that runs these tests is open to all is not what they are about."""
    from edgetl.commands import service_plan

    monkeypatch.setattr(service_plan, "_program", lambda: ("/usr/bin/env",))
    monkeypatch.setattr(service_plan, "_python", lambda: "/usr/bin/env")


def install(place: Path, *words: str, flags: tuple[str, ...] = (), source: str = "/dev/video0") -> int:
    units = place / "units"
    units.mkdir(exist_ok=True)
    run = ["run", str(place / "road bundle"), source, *words]
    return cli.main(["service", "install", "front", "--dir", str(units), "--force", *flags, "--", *run])


def test_the_unit_is_written_and_two_commands_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(place, "--deadline-ms", "200", "--web", "8080") == 0
    path = place / "units" / "edgetl-front.service"
    text = path.read_text()
    bundle = place / "road bundle"
    assert f'ExecStart=/usr/bin/env run "{bundle}" /dev/video0 --deadline-ms 200 --web 8080\n' in text
    assert "Ready=http://127.0.0.1:8080/readyz" in text and "DeviceAllow=/dev/video0 rw" in text
    assert "MemoryDenyWriteExecute=yes" in text, "the bundle runs on ONNX Runtime"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    told = capsys.readouterr().err
    assert "systemctl daemon-reload" in told and "systemctl enable --now edgetl-front.service" in told
    assert [p.name for p in path.parent.iterdir()] == ["edgetl-front.service"], "nothing half-written is left"


def test_flags_behind_the_dashes_are_the_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(place, "--json", flags=("--dry-run", "--watchdog-s", "5", "--memory-max", "1G")) == 0
    text = capsys.readouterr().out
    assert text.startswith("[Unit]") and "/dev/video0 --json\n" in text
    assert "WatchdogSec=5\n" in text and "MemoryMax=1G\n" in text


def test_an_existing_unit_is_kept_without_force(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units = place / "kept"
    units.mkdir()
    (units / "edgetl-front.service").write_text("mine")
    command = ["service", "install", "front", "--dir", str(units), "--", "run", str(place / "road bundle"), "0"]
    assert cli.main(command) == 2
    assert "exists" in capsys.readouterr().err and (units / "edgetl-front.service").read_text() == "mine"


def test_a_secret_is_for_root_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(place, source="rtsp://me:secret%20word@10.0.0.7/live") == 0
    path = place / "units" / "edgetl-front.service"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret%%20word" in path.read_text() and "After=network-online.target" in path.read_text()
    assert "tells all users" in capsys.readouterr().err


def test_openvino_may_make_machine_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(place, "--engine", "openvino", flags=("--dry-run",)) == 0
    made = capsys.readouterr()
    assert "MemoryDenyWriteExecute" not in made.out and "machine code" in made.err


INTERNET = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"
OWN = "IPAddressDeny=any\nIPAddressAllow=localhost\n"
NEEDS = {
    "Foxglove": (["--foxglove"], "/dev/video0", [INTERNET + OWN]),
    "ROS 2": (["--ros2"], "/dev/video0", [INTERNET + OWN]),
    "a ROS 2 topic": ([], "ros2:/camera/image_raw", [INTERNET + OWN]),
    "a ROS 2 router here": (["--ros2", "--ros2-connect", "tcp/127.0.0.1:7447"], "0", [INTERNET + OWN]),
    "CAN": (["--can", "socketcan:can0"], "0", ["RestrictAddressFamilies=AF_UNIX AF_CAN\nIPAddressDeny=any\n"]),
    "OpenCV": ([], "opencv:2", ["DeviceAllow=/dev/video2 rw\n", "RestrictAddressFamilies=AF_UNIX\n"]),
    "nothing": ([], "0", ["RestrictAddressFamilies=AF_UNIX\nIPAddressDeny=any\n"]),
}


@pytest.mark.parametrize(("words", "source", "lines"), NEEDS.values(), ids=NEEDS)
def test_the_unit_lets_a_run_have_what_it_asks_for(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], source: str, lines: list[str]
) -> None:
    assert install(place, *words, source=source, flags=("--dry-run",)) == 0
    text = capsys.readouterr().out
    assert all(line in text for line in lines)
    assert ("IPAddressAllow" in text) == any("IPAddressAllow" in line for line in lines)


@pytest.mark.parametrize(
    "words", [["--ros2", "--ros2-connect", "tcp/10.0.0.7:7447"], ["--can", "udp_multicast:239.74.163.2"]]
)
def test_other_machines_are_reached_where_they_are_named(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert install(place, *words, flags=("--dry-run",)) == 0
    text = capsys.readouterr().out
    assert INTERNET in text and "IPAddress" not in text and "network-online" in text


def test_what_a_file_of_settings_says_counts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = place / "run.yaml"
    settings.write_text("web: 8080\ndeadline_ms: 200\n")
    settings.chmod(0o644)
    assert install(place, "--config", str(settings), flags=("--dry-run",)) == 0
    made = capsys.readouterr()
    assert INTERNET + OWN in made.out and "Ready=http://127.0.0.1:8080/readyz" in made.out
    assert "without --deadline-ms" not in made.err
    settings.write_text("view: true\n")
    assert install(place, "--config", str(settings), flags=("--dry-run",)) == 2
    assert "no screen" in capsys.readouterr().err


def test_a_python_that_the_user_cannot_reach_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgetl.commands import service_plan

    (place / "closed").mkdir(mode=0o700, exist_ok=True)
    (place / "closed" / "python").write_text("")
    (place / "python").unlink(missing_ok=True)
    (place / "python").symlink_to(place / "closed" / "python")
    monkeypatch.setattr(service_plan, "_python", lambda: str(place / "python"))
    assert install(place) == 2
    assert "can't enter" in capsys.readouterr().err


def test_what_a_rendered_camera_knows_of_itself_is_no_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(place, "--calibration", "own", source="roadworld:day", flags=("--dry-run",)) == 0
    assert "roadworld:day --calibration own\n" in capsys.readouterr().out
    assert install(place, "--calibration", "own") == 2
    assert "only a rendered camera knows its own calibration, not /dev/video0" in capsys.readouterr().err
    assert install(place, "--calibration", "./own", source="roadworld:day") == 2
    assert "must be an absolute path" in capsys.readouterr().err


def test_a_bundles_path_may_hold_an_equals_sign(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    also = place / "v=2"
    also.symlink_to(place / "road bundle")
    try:
        assert install(place, "--also-bundle", str(also), flags=("--dry-run",)) == 0
        assert install(place, "--also-bundle", f"two={also}", flags=("--dry-run",)) == 0
    finally:
        also.unlink()
    assert install(place, "--also-bundle", "two=v=2") == 2
    assert "BUNDLE v=2 must be an absolute path" in capsys.readouterr().err


def test_engines_beside_a_bundle_must_be_readable(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engines = place / "road bundle.engines"
    engines.mkdir(mode=0o700)
    try:
        assert install(place, flags=("--dry-run",)) == 2
        assert f"can't read {engines}" in capsys.readouterr().err
        engines.chmod(0o755)
        assert install(place, flags=("--dry-run",)) == 0
    finally:
        engines.rmdir()


@pytest.mark.parametrize(("engines", "allowed"), [(("onnxruntime",), False), (("onnxruntime", "tensorrt"), True)])
def test_a_run_whose_engine_may_change_has_the_gpu_where_a_bundle_can_use_it(
    place: Path, capsys: pytest.CaptureFixture[str], engines: tuple[str, ...], allowed: bool
) -> None:
    from runtime_support import manifest_of

    variants = tuple(msgspec.structs.replace(v, engines=engines) for v in manifest_of().variants)
    folder = write_test_bundle(place / f"bundle {len(engines)}", variants=variants)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    ladder = place / "ladder.yaml"
    ladder.write_text("deadline_ms: 50\nsteps: [{skip: 2}]\n")
    ladder.chmod(0o644)
    run = ["run", str(folder), "/dev/video0", "--ladder", str(ladder)]
    assert cli.main(["service", "install", "front", "--dry-run", "--", *run]) == 0
    assert ("char-nvidia*" in capsys.readouterr().out) is allowed


def test_what_every_camera_and_flag_needs_is_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--also-camera", "left=rtsp://10.0.0.7/live", "--also-camera", "right=/dev/video7", "--web", "8080"]
    assert install(place, *words, "--foxglove", "443", "--priority", "50", flags=("--dry-run",)) == 0
    text = capsys.readouterr().out
    assert "DeviceAllow=/dev/video0 rw\nDeviceAllow=/dev/video7 rw\n" in text and "network-online" in text
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in text and "LimitRTPRIO=50\n" in text


def test_a_token_is_a_secret_too(place: Path) -> None:
    assert install(place, "--web", "8080", "--token", "a" * 20) == 0
    assert stat.S_IMODE((place / "units" / "edgetl-front.service").stat().st_mode) == 0o600


def test_a_mounting_beside_its_calibration_must_be_readable(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibration, mounting = place / "front.yaml", place / "front.mounting.yaml"
    for path in (calibration, mounting):
        path.write_text("")
        path.chmod(0o644)
    assert install(place, "--calibration", str(calibration), flags=("--dry-run",)) == 0
    mounting.chmod(0o600)
    assert install(place, "--calibration", str(calibration), flags=("--dry-run",)) == 2
    assert f"can't read {mounting}" in capsys.readouterr().err


CAMERA_INFO = """
image_width: 640
image_height: 480
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [500.0, 0, 319.5, 0, 500, 239.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [480, 0, 319.5, 0, 0, 480, 239.5, 0, 0, 0, 1, 0]}
"""


def test_a_camera_info_must_be_readable(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "info.yaml"
    path.write_text(CAMERA_INFO)
    path.chmod(0o600)
    words = ("--ros2", "--ros2-images", "5", "--ros2-camera-info", str(path))
    assert install(place, *words, flags=("--dry-run",)) == 2
    assert f"can't read {path}" in capsys.readouterr().err
    path.chmod(0o644)
    assert install(place, *words, flags=("--dry-run",)) == 0


def test_only_groups_of_this_machine_are_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp

    monkeypatch.setattr(grp, "getgrall", lambda: [grp.struct_group(("video", "x", 44, []))])
    assert install(place, "--engine", "tensorrt", flags=("--dry-run",)) == 0
    assert "SupplementaryGroups=video\n" in capsys.readouterr().out


def test_homes_are_shown_where_the_bundle_is_in_one(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgetl.commands import service_plan

    assert install(place, flags=("--dry-run",)) == 0
    assert "ProtectHome=yes\n" in capsys.readouterr().out
    monkeypatch.setattr(service_plan, "_VISIBLE_HOMES", (str(place),))
    assert install(place, flags=("--dry-run",)) == 0
    assert "ProtectHome=read-only\n" in capsys.readouterr().out


def test_a_pipelines_devices_are_allowed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "gst:v4l2src device=/dev/video3 ! videoconvert ! appsink"
    assert install(place, source=source, flags=("--dry-run",)) == 0
    assert "DeviceAllow=/dev/video3 rw\n" in capsys.readouterr().out


def test_outputs_of_another_user_are_in_the_way(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    lines, frames = shared / "x.jsonl", shared / "frames"
    lines.write_text("of root")
    lines.chmod(0o644)
    frames.mkdir()
    frames.chmod(0o755)
    assert install(place, "--jsonl", str(lines), "--force") == 2
    assert f"can't replace {lines}" in capsys.readouterr().err
    assert install(place, "--collect", str(frames)) == 2
    assert f"can't write into {frames}" in capsys.readouterr().err
    frames.chmod(0o777)
    lines.unlink()
    assert install(place, "--jsonl", str(lines), "--force", "--collect", str(frames), flags=("--dry-run",)) == 0
    text = capsys.readouterr().out
    assert f"ReadWritePaths={shared}\n" in text and f"ReadWritePaths={frames}\n" in text
    assert install(place, "--collect", "/var/lib/edgetl-front", flags=("--dry-run",)) == 0
    assert "ReadWritePaths" not in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--out", "--jsonl", "--record", "--collect"])
def test_the_state_folder_is_made_by_systemd(place: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    ending = {"--out": "/x.mp4", "--jsonl": "/x.jsonl", "--record": "/x.mcap", "--collect": ""}[flag]
    assert install(place, flag, f"/var/lib/edgetl-front{ending}", "--force", flags=("--dry-run",)) == 0
    assert f"{flag} /var/lib/edgetl-front{ending}" in capsys.readouterr().out


def test_a_ros_port_that_nobody_finds_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listen = ["--ros2", "--ros2-listen", "tcp/127.0.0.1:0"]
    assert install(place, *listen, flags=("--dry-run",)) == 2
    assert "another port at each start" in capsys.readouterr().err
    router = ["--ros2-connect", "tcp/127.0.0.1:7447"]
    assert install(place, *listen, *router, flags=("--dry-run",)) == 0


REFUSED = {
    "a screen": (["--view"], "/dev/video0", "no screen"),
    "an end": (["--max-frames", "5"], "/dev/video0", "goes on"),
    "faults": (["--inject", "nan@5"], "/dev/video0", "for tests"),
    "no proof": (["--skip-golden"], "/dev/video0", "for development"),
    "a file of several": (
        ["--also-camera", "left=/srv/clip.mp4"],
        "/dev/video0",
        "/srv/clip.mp4 is a file, which ends",
    ),
    "any port": (["--web", "0"], "/dev/video0", "another port"),
    "any port for Foxglove": (["--foxglove", "0"], "/dev/video0", "another port"),
    "a DBC in the way": (["--can", "socketcan:can0", "--can-dbc", "/var/lib/x.dbc"], "/dev/video0", "--can-dbc would"),
    "a relative calibration": (["--calibration", "front.yaml"], "/dev/video0", "absolute"),
    "no calibration": (
        ["--calibration", "left=/srv/none.yaml", "--also-camera", "left=2"],
        "0",
        "/srv/none.yaml is not",
    ),
    "in the way": (["--jsonl", "/var/lib/edgetl-front/x.jsonl"], "/dev/video0", "--force"),
    "a file": ([], "/srv/clip.mp4", "which ends"),
    "a rig's video of another kind": (
        ["--out", "/var/lib/x.avi", "--force", "--also-camera", "b=/dev/video1"],
        "/dev/video0",
        "end in .mp4",
    ),
    "a relative output": (["--jsonl", "x.jsonl", "--force"], "/dev/video0", "absolute"),
    "an output elsewhere": (["--jsonl", "/usr/x.jsonl", "--force"], "/dev/video0", "can't write into /usr"),
    "no deadline": (["--deadline-ms", "nan"], "/dev/video0", "a deadline is from 0"),
    "no time": (["--stall-s", "-1"], "/dev/video0", "--stall-s must be"),
    "no share": (["--threshold", "7"], "/dev/video0", "--threshold must be"),
    "no size": (["--camera-size", "big"], "/dev/video0", "--camera-size must be like"),
    "no cores": (["--cpus", "x"], "/dev/video0", "expected cores like"),
    "no priority": (["--priority", "0"], "/dev/video0", "a priority is from"),
    "no port": (["--web", "99999"], "/dev/video0", "a port is from 0 to 65535"),
    "no bus": (["--can", "can0"], "/dev/video0", "--can must be like"),
    "no rate": (["--ros2", "--ros2-images", "99"], "/dev/video0", "pictures for ROS are from"),
    "a bound of nothing": (["--record-budget-mb", "5"], "/dev/video0", "bounds a recording that is not made"),
    "no such flag": (["--vew"], "/dev/video0", "see edgetl run --help"),
    "a private ladder": (["--ladder", "/tmp"], "/dev/video0", "of its own"),
    "a revoked slot of several": (
        ["--run-revoked", "--also-camera", "left=2"],
        "0",
        "--run-revoked can't be used with",
    ),
    "a name of one camera": (["--camera-name", "front"], "0", "--camera-name is of several cameras"),
    "a ladder that is not there": (["--ladder", "/srv/none.yaml"], "/dev/video0", "is not there"),
}


@pytest.mark.parametrize(("words", "source", "said"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], source: str, said: str
) -> None:
    before = sorted((place / "units").iterdir()) if (place / "units").exists() else []
    assert install(place, *words, source=source) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert sorted((place / "units").iterdir()) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["service", "install", "front"], "after -- comes"),
        (["service", "install", "front", "--", "bench", "x"], "must be `run"),
        (["service", "install", "Front Door", "--dry-run", "--", "run", "x", "0"], "small letters"),
        (["service", "install", "front", "--watchdog-s", "0", "--", "run", "x", "0"], "1 to 3600"),
        (["service", "install", "front", "--memory-max", "much", "--", "run", "x", "0"], "2G or 50%"),
        (["service", "install", "front", "--set", "no", "--", "run", "x", "0"], "Nice=-5"),
        (["service", "install", "front", "--set", "Nice=-5\\", "--", "run", "x", "0"], "found 'Nice=-5"),
        (["service", "install", "front", "--device", "ttyUSB0", "--", "run", "x", "0"], "such as /dev/ttyUSB0"),
        (["service", "install", "front", "--device", "/dev/../x", "--", "run", "x", "0"], "such as /dev/ttyUSB0"),
        (["service", "install", "front", "--", "run", "relative", "0"], "must be an absolute path"),
        (["service", "install", "front", "--user", "nobody-at-all", "--", "run", "/x", "0"], "no user"),
    ],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], command: list[str], said: str) -> None:
    assert cli.main(command) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_what_the_user_can_not_read_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = place / "road bundle" / "model.fp32.onnx"
    model.chmod(0o600)
    try:
        assert install(place) == 2
        assert f"can't read {model}" in capsys.readouterr().err
    finally:
        model.chmod(0o644)


def test_a_named_user_and_devices(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--dry-run", "--user", "root", "--device", "/dev/ttyUSB0", "--set", "Nice=-5", "--device", "char-ttyACM")
    assert install(place, flags=flags, source="shm:front") == 0
    text = capsys.readouterr().out
    assert "User=root\n" in text and "Nice=-5\n" in text
    assert "DeviceAllow=/dev/ttyUSB0 rw\nDeviceAllow=char-ttyACM rw\n" in text
    assert "/dev/video" not in text and readable.who("root").uid == 0


SHOWN = """LoadState=loaded
ActiveState=active
SubState=running
Result=success
StatusText=ok: 812 results, 0 dropped, 0 failed, age p99 31 ms
NRestarts=1
MainPID=812
MemoryCurrent=104857600
ActiveEnterTimestamp=Mon 2025-03-03 09:00:00 UTC
"""


def test_status_without_systemd_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_status, "BOOTED", place / "nothing")
    assert install(place) == 0
    capsys.readouterr()
    assert cli.main(["service", "status", "front", "--dir", str(place / "units")]) == 2
    assert "systemd does not run this machine" in capsys.readouterr().err


@pytest.mark.parametrize(("answers", "status"), [(200, 0), (503, 1), (None, 1)])
def test_status_is_one_summary(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answers: int | None,
    status: int,
) -> None:
    import http.server
    import threading

    class Probe(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"ready" if answers == 200 else b"stale: stalled (no frame for 2.0 s)"
            self.send_response(answers or 500)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Probe)
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert install(place, "--web", str(port)) == 0
        if answers is None:
            server.shutdown()
            server.server_close()
        monkeypatch.setattr(service_status, "BOOTED", place)
        monkeypatch.setattr(service_status.shutil, "which", lambda name: f"/usr/bin/{name}")
        monkeypatch.setattr(
            service_status.subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=0, stdout=SHOWN)
        )
        capsys.readouterr()
        assert cli.main(["service", "status", "front", "--dir", str(place / "units"), "--json"]) == status
    finally:
        if answers is not None:
            server.shutdown()
            server.server_close()
        thread.join()
    made = capsys.readouterr()
    document = json.loads(made.out)
    assert document["ok"] is (answers == 200) and document["systemd"]["NRestarts"] == "1"
    assert "active (running)" in made.err and "age p99 31 ms" in made.err and "105 MB" in made.err
    expected = {200: "can be used", 503: "stale: stalled (no frame for 2.0 s)", None: "no answer"}[answers]
    assert expected in made.err


def test_remove_takes_only_what_is_ours_and_stopped(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    units = place / "units"
    assert install(place) == 0
    monkeypatch.setattr(service_remove, "UNITS", units)
    monkeypatch.setattr(service_remove, "BOOTED", place)
    monkeypatch.setattr(service_remove.shutil, "which", lambda name: name)
    monkeypatch.setattr(service_remove, "ask", lambda unit: {"ActiveState": "active"})
    assert cli.main(["service", "remove", "front", "--dir", str(units)]) == 2
    assert "disable --now edgetl-front.service" in capsys.readouterr().err
    monkeypatch.setattr(service_remove, "ask", lambda unit: {"ActiveState": "inactive"})
    assert cli.main(["service", "remove", "front", "--dir", str(units)]) == 0
    assert not (units / "edgetl-front.service").exists() and "daemon-reload" in capsys.readouterr().err
    assert cli.main(["service", "remove", "front", "--dir", str(units)]) == 2
    (units / "edgetl-other.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert cli.main(["service", "remove", "other", "--dir", str(units)]) == 2
    assert "not written by edgetl" in capsys.readouterr().err and (units / "edgetl-other.service").exists()


def answering(reply: bytes) -> str:
    """The address of something that gives whoever connects these bytes, once."""
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(reply)

    threading.Thread(target=work, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/readyz"


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH_9\r\n", b"x" * 70_000, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200])
def test_another_program_on_the_port_is_no_answer(reply: bytes) -> None:
    ready, why = service_status.probe(answering(reply))
    assert ready is False and why.startswith("no answer (") and "\n" not in why


def test_a_systemctl_that_hangs_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install(place) == 0
    hangs = place / "systemctl"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(service_status, "BOOTED", place)
    monkeypatch.setattr(service_status, "PATIENCE_S", 0.05)
    monkeypatch.setattr(service_status.shutil, "which", lambda name: str(hangs))
    capsys.readouterr()
    assert cli.main(["service", "status", "front", "--dir", str(place / "units")]) == 2
    told = capsys.readouterr().err
    assert "systemctl said nothing for" in told and told.count("\n") == 1


def test_a_unit_in_another_encoding_is_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else's unit, or one of ours with a comment."""
    units = place / "latin"
    units.mkdir()
    path = units / "edgetl-front.service"
    path.write_bytes(b"[Unit]\nDescription=caf\xe9\n")
    for command in ("status", "remove"):
        assert cli.main(["service", command, "front", "--dir", str(units)]) == 2
        assert "was not written by edgetl" in capsys.readouterr().err
    path.write_bytes(path.read_bytes() + b"[X-Edgetl]\n")
    assert cli.main(["service", "remove", "front", "--dir", str(units)]) == 0 and not path.exists()


@pytest.mark.parametrize("read", ["loaded", "bad-setting", "masked", "not-found"])
def test_a_service_that_runs_keeps_its_unit_whatever_systemd_makes_of_the_file(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    assert install(place) == 0
    units = place / "units"
    shown = SHOWN.replace("LoadState=loaded", f"LoadState={read}")
    monkeypatch.setattr(service_remove, "UNITS", units)
    for module in (service_remove, service_status):
        monkeypatch.setattr(module, "BOOTED", place)
    monkeypatch.setattr(service_status.shutil, "which", lambda name: name)
    told = SimpleNamespace(returncode=0, stdout=shown, stderr="no bus")
    monkeypatch.setattr(service_status.subprocess, "run", lambda *a, **k: told)
    remove = ["service", "remove", "front", "--dir", str(units)]
    assert cli.main(remove) == 2 and "is running" in capsys.readouterr().err
    told.returncode = 1
    assert cli.main(remove) == 2 and "systemctl can't say: no bus" in capsys.readouterr().err
    told.returncode, told.stdout = 0, shown.replace("=active", "=inactive")
    assert (units / "edgetl-front.service").exists()
    assert cli.main(remove) == 0 and not (units / "edgetl-front.service").exists()


def test_a_store_belongs_to_the_services_user(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = place / "store"
    store.mkdir(mode=0o755)
    (store / "keyring").write_text("{}")
    command = ["service", "install", "front", "--dry-run", "--", "run", str(store), "/dev/video0"]
    assert cli.main(command) == 2
    assert "can't write into the store" in capsys.readouterr().err
    assert cli.main([*command[:3], "--user", "root", *command[3:]]) == 0
    made = capsys.readouterr()
    assert f"ReadWritePaths={store}\n" in made.out and "RestartForceExitStatus=75" in made.out
    assert "MemoryDenyWriteExecute" not in made.out, "the next bundle may run on another engine"


def test_a_page_that_asks_for_its_token_says_nothing_of_results() -> None:
    from edgetl_runtime.web import WebSink

    for token, expected in (("a" * 20, None), (None, False)):
        sink = WebSink((), port=0, token=token)
        try:
            ready, why = service_status.probe(f"http://127.0.0.1:{sink.port}/readyz")
        finally:
            sink.close()
        assert ready is expected and ("token" in why) == (expected is None)


@pytest.mark.parametrize(
    ("bind", "host"), [("0.0.0.0", "127.0.0.1"), ("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]")]
)
def test_the_page_is_asked_where_it_listens(
    place: Path, capsys: pytest.CaptureFixture[str], bind: str, host: str
) -> None:
    assert install(place, "--web", "8080", "--bind", bind, flags=("--dry-run",)) == 0
    assert f"Ready=http://{host}:8080/readyz\n" in capsys.readouterr().out
