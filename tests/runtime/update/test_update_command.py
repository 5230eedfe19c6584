"""edgetl update and edgetl run STORE, from keys to a rollback, as a person types them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ros_support import router
from service_support import ROOTS, Manager
from test_camera import Talker
from update_support import Fleet

from edgetl import cli
from edgetl_runtime.update.store import Store

SMALL = ("--camera-size", "160x96", "--camera-fps", "25")


@pytest.fixture
def call(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`edgetl update … --store`, its status, document and text."""

    def update(*words: str | Path) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        status = cli.main(["update", *map(str, words), "--store", str(fleet.folder / "store"), "--json"])
        made = capsys.readouterr()
        return status, json.loads(made.out), made.err

    return update


Call = Callable[..., tuple[int, dict[str, Any], str]]


def run_store(fleet: Fleet, *words: str, notify: Manager | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}
    if notify is not None:
        environment |= {"NOTIFY_SOCKET": notify.address, "WATCHDOG_USEC": "1000000"}
    command = ["run", str(fleet.folder / "store"), "roadworld:day", *SMALL, "--json", *words]
    return subprocess.run(
        [sys.executable, "-P", "-m", "edgetl.cli", *command],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_from_a_new_store_to_a_committed_update(fleet: Fleet, call: Call) -> None:
    status, document, told = call(fleet.release(1), "--keys", fleet.folder / "mine.pub")
    assert status == 0 and document["state"] == "committed" and "keyring      version 0" in told
    status, document, told = call(fleet.release(2))
    assert status == 2 and "needs a camera to compare on" in document["error"]["message"]
    status, document, told = call(
        fleet.release(2), "--source", "roadworld:day", *SMALL, "--shadow-s", "3", "--min-frames", "3",
        "--max-slower", "100", "--shadow-share", "0.5", "--probation-s", "0.5",
    )  # fmt: skip
    assert status == 0 and document["state"] == "trial", told
    assert document["shadow"]["agreement"] == {"detect": 1.0} and document["shadow"]["share"] <= 0.55
    assert document["golden"]["frames"] == 3
    made = run_store(fleet, "--max-frames", "100")
    assert made.returncode == 0 and "is committed" in made.stderr, made.stderr
    found = json.loads(made.stdout)
    assert found["slot"] == document["slot"] and found["signature"]["trusted"] is True
    status, document, told = call("--status")
    assert status == 0 and document["pointer"]["state"] == "committed" and len(document["slots"]) == 2
    assert all(row["whole"] for row in document["slots"].values()) and "release 2, whole" in told


def test_a_shadow_run_looks_at_a_ros_topic(fleet: Fleet, call: Call) -> None:
    call(fleet.release(1), "--keys", fleet.folder / "mine.pub")
    with router() as address:
        talker = Talker(address, "/camera/image_raw")
        try:
            status, document, told = call(
                fleet.release(2), "--source", "ros2:/camera/image_raw", "--ros2-connect", address, "--ros2-domain", "0",
                "--shadow-s", "1.5", "--min-frames", "1", "--max-slower", "100", "--shadow-share", "0.5",
            )  # fmt: skip
        finally:
            talker.close()
    assert status == 0 and document["shadow"]["compared"] >= 1, told


def test_a_bundle_that_faults_after_the_switch_is_taken_back(fleet: Fleet, call: Call, tmp_path: Path) -> None:
    call(fleet.release(1), "--keys", fleet.folder / "mine.pub")
    call(fleet.release(2), "--skip-shadow")
    manager = Manager(str(tmp_path / "notify"))
    made = run_store(fleet, "--inject", "nan=1@10/8", notify=manager)
    manager.wait_for("STOPPING=1")
    manager.close()
    assert made.returncode == 75, made.stderr
    assert "3 faults in one run" in made.stderr and json.loads(made.stdout)["exit_status"] == 75
    status, document, told = call("--status")
    assert status == 0 and "taken back" in told and document["pointer"]["trial"] is None
    assert [f["why"][:8] for f in document["pointer"]["failures"]] == ["3 faults"]
    assert Store(fleet.folder / "store").start().bundle.manifest.release == 1
    assert call(fleet.release(2), "--skip-shadow")[0] == 2
    assert call(fleet.release(2), "--skip-shadow", "--allow-failed")[0] == 0


@pytest.mark.slow
def test_an_engine_that_stays_broken_goes_back_at_the_next_start(fleet: Fleet, call: Call) -> None:
    call(fleet.release(1), "--keys", fleet.folder / "mine.pub")
    call(fleet.release(2), "--skip-shadow")
    made = run_store(fleet, "--inject", "engine@5/1", "--give-up-s", "4")
    assert made.returncode == 2 and "failed (injected)" in made.stderr, made.stderr
    made = run_store(fleet, "--max-frames", "3")
    assert made.returncode == 0 and "went back from" in made.stderr and "ended with a fault: engine" in made.stderr


def test_back_by_hand_and_committed_by_hand(fleet: Fleet, call: Call) -> None:
    call(fleet.release(1), "--keys", fleet.folder / "mine.pub")
    assert call("--rollback")[0] == 2
    call(fleet.release(2), "--skip-shadow")
    assert call("--commit")[1]["pointer"]["state"] == "committed"
    status, document, told = call("--rollback")
    assert status == 0 and "back         slot-" in told
    assert document["pointer"]["failures"][0]["why"] == "an operator went back"


def test_a_downgrade_is_for_a_person(fleet: Fleet, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call(fleet.release(2), "--keys", fleet.folder / "mine.pub")
    status, document, _ = call(fleet.release(1), "--skip-shadow", "--allow-downgrade")
    assert status == 2 and "a person at a terminal" in document["error"]["message"]

    class Terminal:
        def __init__(self, answer: str) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.answer

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    assert call(fleet.release(1), "--skip-shadow", "--allow-downgrade")[1]["error"]["message"] == "nothing was done"
    monkeypatch.setattr("sys.stdin", Terminal("downgrade\n"))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert call(fleet.release(1), "--skip-shadow", "--allow-downgrade")[0] == 0


def test_a_keyring_of_its_own_and_a_revoked_key(fleet: Fleet, call: Call) -> None:
    place = fleet.folder
    call(fleet.release(1), "--keys", place / "mine.pub")
    made = ["keyring", str(place / "next"), "--sign", str(place / "mine.key"), "--after", str(place / "mine.pub")]
    assert cli.main([*made, "--key", str(place / "other.pub"), "--root", str(place / "other.pub")]) == 0
    status, document, _ = call("--keys", place / "next")
    assert status == 0 and document["keyring"]["version"] == 1 and len(document["keyring"]["keys"]) == 2
    assert call("--keys", place / "next")[0] == 0, "the same again is nothing new"
    assert call("--keys", place / "mine.pub")[0] == 2
    mine = document["keyring"]["roots"][0]
    made = ["keyring", str(place / "last"), "--sign", str(place / "other.key"), "--after", str(place / "next")]
    assert cli.main([*made, "--revoke", mine]) == 0
    status, document, told = call("--keys", place / "last")
    assert status == 0 and document["keyring"]["revoked"] == [mine] and "was revoked" in told
    refused = run_store(fleet, "--max-frames", "2")
    assert refused.returncode == 2 and "--run-revoked" in refused.stderr
    assert run_store(fleet, "--max-frames", "2", "--run-revoked").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to do"),
        (["--status", "x"], "about the store alone"),
        (["--status"], "is no store"),
        (["x", "--shadow-share", "2"], "from 0.01 to 1"),
        (["x", "--min-boxes", "nan"], "the gate for boxes is a share"),
        (["x", "--max-slower", "nan"], "the gate for slower"),
        (["x", "--probation-s", "0"], "above 0"),
        (["x", "--skip-shadow"], "is no store"),
        (["x", "--ros2-connect", "tcp/127.0.0.1:7447"], "--ros2-connect is of a ROS 2 camera"),
        (["x", "--source", "ros2:/image", "--ros2-domain", "-1"], "domain"),
    ],
)
def test_wrong_usage_is_one_line(call: Call, words: list[str], said: str) -> None:
    status, document, told = call(*words)
    assert status == 2 and said in told and told.count("\n") == 1 and document["error"]["code"] == "input"


def test_flags_of_run_that_do_not_go_together(fleet: Fleet, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call(fleet.release(1), "--keys", fleet.folder / "mine.pub")
    assert cli.main(["run", str(fleet.folder / "store"), "0", "--require-signature"]) == 2
    assert "its own keyring" in capsys.readouterr().err
    assert cli.main(["run", str(fleet.release(1)), "0", "--run-revoked"]) == 2
    assert "is of a store" in capsys.readouterr().err


@pytest.fixture
def on_probation(fleet: Fleet, call: Call) -> Store:
    """Release 2 on probation after release 1, not started yet."""
    call(fleet.release(1), "--keys", fleet.folder / "mine.pub")
    call(fleet.release(2), "--skip-shadow")
    return Store(fleet.folder / "store")


def starts_of(store: Store) -> int:
    pointer = store.pointer()
    assert pointer is not None and pointer.trial is not None
    return pointer.trial.starts


def test_a_port_that_is_taken_is_not_the_bundles_fault(on_probation: Store) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for _ in range(4):
            assert cli.main(["run", str(on_probation.folder), "0", "--web", str(taken.getsockname()[1])]) == 2
    assert starts_of(on_probation) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--calibration", "none.yaml"], "can't read"),
        (["--calibration", "none.yaml", "--ros2"], "can't read"),
        (["--ladder", "none.yaml"], "can't read the ladder"),
        (["--view"], "--view needs"),
        (["--collect", "/dev/null/x"], "needs the training domain"),
        (["--priority", "1000"], "priority"),
    ],
)
def test_only_what_the_bundle_brings_about_counts(
    on_probation: Store,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["run", str(on_probation.folder), "roadworld:day", *SMALL, "--max-frames", "2", *words]) == 2
    assert said in capsys.readouterr().err
    assert starts_of(on_probation) == (1 if words[0] == "--collect" else 0)


def test_a_run_that_is_told_to_stop_while_it_starts_is_no_failed_start(on_probation: Store) -> None:
    command = ["run", str(on_probation.folder), "roadworld:day", *SMALL, "--web", "0"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "edgetl.cli", *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert any(line.startswith("live page") for line in process.stderr)
        assert starts_of(on_probation) == 1
        process.terminate()
        process.stderr.read()
    assert process.returncode in (130, 0), "0 where it had started already"
    assert starts_of(on_probation) == 0


def test_a_run_beside_another_one_says_so(on_probation: Store, capsys: pytest.CaptureFixture[str]) -> None:
    first = on_probation.start()
    for words in ([], ["--skip-golden", "--variant", "none"]):
        cli.main(["run", str(on_probation.folder), "roadworld:day", *SMALL, "--max-frames", "2", *words])
        assert "on probation, beside the run that counts" in capsys.readouterr().err
    assert starts_of(on_probation) == 1
    assert first.held is not None
    first.held.release()
