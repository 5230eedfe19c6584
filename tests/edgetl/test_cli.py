"""The command line: help, one clear line for every wrong input, --json, --config, and nothing lost."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
import torch

from edgetl import cli
from edgetl.training.checkpoint import load_checkpoint
from edgetl.training.logs import read_curve
from edgetl_export.targets import TARGETS
from edgetl_runtime.bundle import file_entry, open_bundle, write_manifest
from edgetl_runtime.errors import EdgetlError

BUILT = sorted(name for name, (module, _) in cli.COMMANDS.items() if module)
SMALL = ["--weights", "none", "--size", "96x64", "--batch", "2", "--probe-epochs", "1", "--epochs", "1"]


@dataclass(frozen=True)
class Outcome:
    """Exit status and what was written."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout, read strictly: NaN is not JSON."""
        found = json.loads(self.out, parse_constant=_refuse)
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> str:
        """The one error line: the last on stderr, without a traceback above it."""
        lines = self.err.splitlines()
        marked = [line for line in lines if line.startswith("edgetl: error: ")]
        assert marked == lines[-1:], self.err
        assert "Traceback" not in self.err
        return marked[0]


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run edgetl in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            status = cli.main([str(a) for a in arguments])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine take a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _ground(seed: int) -> np.ndarray:
    """Patches of grey that no other picture has: splits with equal pictures are refused."""
    rng = np.random.default_rng(seed)
    patches = cv2.resize(rng.integers(50, 110, (6, 8, 3), np.uint8), (160, 90), interpolation=cv2.INTER_NEAREST)
    return patches + rng.integers(0, 20, (90, 160, 3), np.uint8)


def write_data(root: Path) -> Path:
    """A COCO dataset of drawn squares, six images a split; no image shows a person."""
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(6):
            picture = _ground(i if split == "train" else 100 + i)
            x, y = 10 + 16 * i, 15 + 6 * i
            cv2.rectangle(picture, (x, y), (x + 40, y + 30), (30, 60, 250), -1)
            name = f"images/{split}/{i}.png"
            cv2.imwrite(str(root / name), picture)
            images.append({"id": i, "file_name": name, "width": 160, "height": 90})
            annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": [x, y, 40, 30]})
        document = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(document))
    return root


@dataclass(frozen=True)
class Made:
    """What the commands made: data, a run directory, a bundle, and the documents of tune and export."""

    data: Path
    run: Path
    bundle: Path
    tuned: dict[str, Any]
    exported: dict[str, Any]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A real checkpoint and bundle out of the commands; tests only read them."""
    root = tmp_path_factory.mktemp("cli")
    data = write_data(root / "data")
    torch.set_num_threads(1)

    def document(name: str, *arguments: object) -> dict[str, Any]:
        module = importlib.import_module(cli.COMMANDS[name][0])
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        found: dict[str, Any] = module.run(parser.parse_args([str(a) for a in arguments]))
        return found

    tuned = document("tune", data, "--out", root / "run", *SMALL, "--epochs", 2)
    exported = document(
        "export", root / "run", "--out", root / "x.bundle", "--targets", "cpu", "--calibration", 4, "--max-drop", 100
    )
    return Made(data, root / "run", root / "x.bundle", tuned, exported)


@pytest.fixture
def bundle(made: Made, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    return Path(shutil.copytree(made.bundle, tmp_path / "copy.bundle"))


@pytest.fixture
def data(made: Made, tmp_path: Path) -> Path:
    """A copy of the data that a test may spoil."""
    return Path(shutil.copytree(made.data, tmp_path / "data"))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- help and usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT)
def test_help_of_every_command(call: Call, name: str) -> None:
    outcome = call(*name.split(), "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert "--json" in outcome.out and "--config" in outcome.out
    assert outcome.out.startswith(f"usage: edgetl {name}")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_the_overview_names_every_command(call: Call, arguments: list[str]) -> None:
    outcome = call(*arguments)
    assert outcome.status == 0
    for name, (module, summary) in cli.COMMANDS.items():
        line = next(text for text in outcome.out.splitlines() if text.startswith(f"  {name} "))
        assert summary in line
        assert ("not built yet" in line) is (not module)


def test_a_group_lists_its_commands(call: Call) -> None:
    for arguments in (["data"], ["data", "--help"]):
        outcome = call(*arguments)
        assert outcome.status == 0 and "data render" in outcome.out and "tune" not in outcome.out.split("commands:")[1]


def test_version(call: Call) -> None:
    assert call("--version").out.startswith("edgetl 0.")


USAGE = {
    "an unknown command": (["tunee"], "no command 'tunee'; commands: demo"),
    "an unknown command of a group": (["data", "rendre"], "no command 'data rendre'; commands: data render"),
    "a missing argument": (["tune"], "arguments are required: DATA; see edgetl tune --help"),
    "a missing flag": (["export", "x"], "required: --out"),
    "a flag without its value": (["tune", "x", "--epochs"], "--epochs: expected one argument"),
    "--config without its value": (["tune", "x", "--config"], "--config: expected one argument"),
    "an unknown flag": (["tune", "x", "--epoch-count", "3"], "unrecognized arguments"),
    "a word for a number": (["tune", "x", "--epochs", "many"], "--epochs: invalid int value: 'many'"),
    "a size that is none": (["tune", "x", "--size", "640"], "WIDTHxHEIGHT such as 640x352, found '640'"),
    "a size of zero": (["tune", "x", "--size", "0x352"], "WIDTHxHEIGHT"),
    "a size that does not fit the network": (["tune", "x", "--size", "100x64"], "multiples of 32, found 64x100"),
    "a count of zero": (["tune", "x", "--batch", "0"], "at least 1, found '0'"),
    "epochs below zero": (["tune", "x", "--epochs", "-1"], "epochs"),
    "a rate of zero": (["tune", "x", "--head-lr", "0"], "head_lr"),
    "a choice that is none": (["tune", "x", "--freeze-stride", "3"], "--freeze-stride: invalid choice: 3"),
    "points that are none": (["export", "x", "--out", "y", "--max-drop", "-1"], "points from 0 to 100"),
    "a threshold that is none": (["export", "x", "--out", "y", "--threshold", "2"], "--threshold must be from 0 to 1"),
    "a key that is not there": (["export", "x", "--out", "y", "--sign", "none.key"], "can't read the key none.key"),
    "no key": (["sign", "x"], "required: --key"),
    "keys for no name": (["keygen", "none/fleet"], "the folder none does not exist"),
    "runs below one": (["bench", "x", "--runs", "0"], "--runs"),
    "a metric that is none": (["evaluate", "x", "y", "--metric", "f1"], "invalid choice: 'f1'"),
    "two things at once": (["data", "render", "x", "--images", "1", "--clip", "1"], "not allowed with"),
}


@pytest.mark.parametrize("case", USAGE, ids=str)
def test_wrong_usage_is_one_line(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, says = USAGE[case]
    outcome = call(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("edgetl: error: ") and outcome.err.count("\n") == 1
    assert says in outcome.error
    again = call(*arguments, "--json") if arguments[-1] != "--config" else call("--json", *arguments)
    assert again.status == 2 and again.err.count("\n") == 1
    assert set(again.document["error"]) == {"code", "message", "remedy"}
    assert again.document["error"]["code"] == "input"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["later", "data later"])
@pytest.mark.parametrize("flags", [[], ["--json"], ["--help"]], ids=str)
def test_commands_that_are_not_built_say_so(
    call: Call, monkeypatch: pytest.MonkeyPatch, name: str, flags: list[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, name, ("", "something"))
    outcome = call(*name.split(), *flags)
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert "not built yet" in outcome.error and name in outcome.error
    if "--json" in flags:
        assert outcome.document["error"]["code"] == "not-there-yet"


@pytest.mark.parametrize(
    ("missing", "extra"), [("torch", "train"), ("onnx.helper", "export"), ("cv2", "desktop"), ("yaml", "train")]
)
def test_a_missing_package_names_its_extra(
    call: Call, monkeypatch: pytest.MonkeyPatch, missing: str, extra: str
) -> None:
    def run(args: argparse.Namespace) -> dict[str, object]:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("edgetl.commands.doctor.run", run)
    outcome = call("doctor", "--json")
    assert outcome.status == 2 and f"pip install 'edgetl[{extra}]'" in outcome.error
    assert outcome.document["error"]["code"] == "missing-package"


def test_a_bug_is_not_hidden_as_a_missing_package(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> dict[str, object]:
        raise ModuleNotFoundError("No module named 'edgetl.nothing'", name="edgetl.nothing")

    monkeypatch.setattr("edgetl.commands.doctor.run", run)
    with pytest.raises(ModuleNotFoundError):
        call("doctor")


def test_a_path_that_the_system_refuses_is_one_line_and_nothing_else_is_hidden(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([PermissionError(13, "Permission denied", "/srv/x"), OSError("a bug")])

    def run(args: argparse.Namespace) -> dict[str, object]:
        raise next(errors)

    monkeypatch.setattr("edgetl.commands.doctor.run", run)
    outcome = call("doctor", "--json")
    assert outcome.status == 2 and outcome.error.startswith("edgetl: error: /srv/x: Permission denied; check")
    assert outcome.document["error"]["code"] == "input"
    with pytest.raises(OSError, match="a bug"):
        call("doctor")


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141), (EdgetlError("a\nb"), 2)], ids=repr
)
def test_how_a_command_ends(call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int) -> None:
    def run(args: argparse.Namespace) -> dict[str, object]:
        raise error

    monkeypatch.setattr("edgetl.commands.doctor.run", run)
    outcome = call("doctor")
    assert outcome.status == status
    assert "Traceback" not in outcome.err and outcome.err.strip().count("\n") == 0


# --- --config ---------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """The arguments that a command got."""

    args: argparse.Namespace | None = None

    def __call__(self, args: argparse.Namespace) -> dict[str, object]:
        self.args = args
        return {}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Commands that only look at their arguments."""
    watcher = Seen()
    for name in ("tune", "evaluate", "export", "data_render"):
        monkeypatch.setattr(f"edgetl.commands.{name}.run", watcher)
    return watcher


def test_config_values_are_used_and_flags_win(call: Call, tmp_path: Path, seen: Seen) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "epochs: 7\nsize: 96x64\nhead-lr: 0.001\nfreeze_stride: 8\nresume: true\nout: here\nbatch: 3\n"
        "task: segment,detect\naverage: false\n"
    )
    assert call("tune", "data", "--config", file, "--batch", 5).status == 0
    assert seen.args is not None
    found = vars(seen.args)
    assert (found["epochs"], found["size"], found["head_lr"]) == (7, (64, 96), 0.001)
    assert (found["freeze_stride"], found["resume"], found["out"]) == (8, True, Path("here"))
    assert (found["tasks"], found["average"]) == (("segment", "detect"), False)
    assert found["batch"] == 5, "the flag must win"
    assert found["weights"] == "package", "a default must stay"


def test_config_may_be_json_and_hold_what_is_required(call: Call, tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"out": "x.bundle", "max-drop": 2}))
    assert call("export", "checkpoint", f"--config={tmp_path / 'run.json'}").status == 0
    assert seen.args is not None and (seen.args.out, seen.args.max_drop) == (Path("x.bundle"), 2.0)


def test_config_may_hold_one_of_a_group(call: Call, tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "run.yaml").write_text("images: 3\n")
    assert call("data", "render", "out", "--config", tmp_path / "run.yaml").status == 0
    assert seen.args is not None and seen.args.images == 3


@pytest.mark.parametrize("text", ["merge: vehicle=car,bus", "merge: ['vehicle=car,bus']"])
def test_config_lists(call: Call, tmp_path: Path, seen: Seen, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert call("evaluate", "m", "d", "--config", tmp_path / "run.yaml").status == 0
    assert seen.args is not None and seen.args.merge == ["vehicle=car,bus"]


def test_a_repeated_flag_replaces_the_config(call: Call, tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "run.yaml").write_text("merge: vehicle=car,bus")
    assert call("evaluate", "m", "d", "--config", tmp_path / "run.yaml", "--merge", "two=bike,motor").status == 0
    assert seen.args is not None and seen.args.merge == ["two=bike,motor"]


WRONG_CONFIGS = {
    "epoch: 3": "unknown setting 'epoch'; settings are: allow_leaks, ",
    "tasks: segment": "unknown setting 'tasks'",
    "data: x": "unknown setting 'data'",
    "config: other.yaml": "unknown setting 'config'",
    "3: 4": "unknown setting 3",
    "freeze_stride: 5": "freeze_stride is 5, expected one of 0, 4, 8",
    "size: [96, 64]": "size is [96, 64], expected one value",
    "size: 96by64": "WIDTHxHEIGHT",
    "epochs: many": "invalid int value: 'many'",
    "epochs: true": "epochs is True, expected one value",
    "out:": "out is None, expected one value",
    "resume: maybe": "resume is 'maybe', expected true or false",
    "- epochs": "expected `name: value` lines",
    "": "expected `name: value` lines",
    "epochs: [": "not readable",
    "epochs: \x00": "not readable",
}


@pytest.mark.parametrize("text", WRONG_CONFIGS, ids=repr)
def test_wrong_configs_are_refused(call: Call, tmp_path: Path, seen: Seen, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    outcome = call("tune", "data", "--config", tmp_path / "run.yaml")
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert WRONG_CONFIGS[text] in outcome.error
    assert seen.args is None


def test_a_config_on_a_vehicle_without_yaml_asks_for_no_training(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text("threshold: 0.5\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    outcome = call("run", "bundle", "0", "--config", tmp_path / "run.yaml")
    assert outcome.status == 2 and "edgetl[vehicle]" in outcome.err


@pytest.mark.parametrize("kind", ["missing", "a directory", "bytes"])
def test_a_config_that_can_not_be_read(call: Call, tmp_path: Path, seen: Seen, kind: str) -> None:
    file = tmp_path / "run.yaml"
    if kind == "a directory":
        file.mkdir()
    elif kind == "bytes":
        file.write_bytes(b"\xff\xfe\x00epochs")
    outcome = call("tune", "data", "--config", file)
    assert outcome.status == 2 and "run.yaml" in outcome.error and outcome.err.count("\n") == 1
    assert seen.args is None


# --- wrong input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "empty", "a file", "something else"])
def test_no_data(call: Call, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    if kind == "a file":
        root.write_text("")
    elif kind != "missing":
        root.mkdir()
        if kind == "something else":
            (root / "readme").write_text("")
    outcome = call("tune", root, "--out", tmp_path / "run", "--json")
    assert outcome.status == 2 and str(root) in outcome.error and outcome.err.count("\n") == 1
    assert outcome.document["error"]["code"] == "input"
    assert not (tmp_path / "run").exists()


def edit(data: Path, split: str, change: Callable[[dict[str, Any]], None]) -> None:
    file = data / "annotations" / f"{split}.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


WRONG_LABELS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "an unknown class": (lambda d: d["annotations"][0].update(category_id=9), "unknown class id 9"),
    "a box outside": (lambda d: d["annotations"][0].update(bbox=[150, 10, 90, 30]), "stands outside it"),
    "a box of three numbers": (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "not in COCO's form"),
    "a box of words": (lambda d: d["annotations"][0].update(bbox="large"), "not in COCO's form"),
    "an image without a size": (lambda d: d["images"][0].pop("width"), "not in COCO's form"),
    "an image of no width": (lambda d: d["images"][0].update(width=0), "not in COCO's form"),
    "no categories": (lambda d: d.pop("categories"), "lacks categories"),
}


@pytest.mark.parametrize("case", WRONG_LABELS, ids=str)
def test_wrong_labels_name_their_file(call: Call, data: Path, tmp_path: Path, case: str) -> None:
    change, says = WRONG_LABELS[case]
    edit(data, "train", change)
    outcome = call("tune", data, "--out", tmp_path / "run")
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert says in outcome.error and "train.json" in outcome.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("split", "content"), [("train", b""), ("train", b"\x89PNG broken"), ("val", b"no picture")])
def test_an_unreadable_image_is_named(call: Call, data: Path, tmp_path: Path, split: str, content: bytes) -> None:
    (data / "images" / split / "3.png").write_bytes(content)
    outcome = call("tune", data, "--out", tmp_path / "run", *SMALL)
    assert outcome.status == 2
    assert f"{split}/3.png" in outcome.error


def test_a_split_that_is_not_there(call: Call, made: Made, tmp_path: Path) -> None:
    outcome = call("tune", made.data, "--out", tmp_path / "run", "--val", "test")
    assert outcome.status == 2 and "no split 'test', there are train, val" in outcome.error


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("command", ["verify", "inspect", "run", "bench", "evaluate"])
@pytest.mark.parametrize("damage", [_truncate, _alter, Path.unlink], ids=["truncated", "altered", "missing"])
def test_a_damaged_bundle_is_refused(
    call: Call, made: Made, bundle: Path, command: str, damage: Callable[[Path], None]
) -> None:
    damage(bundle / "model.int8.onnx")
    more: list[Path] = {"run": [made.data / "images" / "val"], "evaluate": [made.data]}.get(command, [])
    outcome = call(command, bundle, *more, "--json")
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert "model.int8.onnx" in outcome.error
    assert outcome.document["error"]["code"] == "bundle"


@pytest.mark.parametrize("command", ["verify", "inspect", "bench"])
def test_no_bundle(call: Call, tmp_path: Path, command: str) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        outcome = call(command, path)
        assert outcome.status == 2 and outcome.err.count("\n") == 1 and str(path) in outcome.error


@pytest.mark.parametrize("kind", ["missing.mp4", "broken.mp4", "empty folder"])
def test_a_source_that_can_not_be_opened(call: Call, made: Made, tmp_path: Path, kind: str) -> None:
    source = tmp_path / kind
    if kind == "broken.mp4":
        source.write_bytes(b"no video in here" * 100)
    elif kind == "empty folder":
        source.mkdir()
    outcome = call("run", made.bundle, source, "--jsonl", tmp_path / "out.jsonl", "--json")
    assert outcome.status == 2 and kind in outcome.error
    assert outcome.document["error"]["code"] in {"camera", "input"}
    assert not (tmp_path / "out.jsonl").exists()


def test_an_unknown_target_lists_the_targets(call: Call, made: Made, tmp_path: Path) -> None:
    outcome = call("export", made.run, "--out", tmp_path / "new.bundle", "--targets", "cpu,toaster")
    assert outcome.status == 2 and outcome.err.count("\n") == 1
    assert "no target 'toaster'" in outcome.error and all(name in outcome.error for name in TARGETS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "garbage"])
def test_no_checkpoint(call: Call, made: Made, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "best.pt"
    if kind == "garbage":
        path.write_bytes(b"garbage")
    for arguments in (["export", path, "--out", tmp_path / "x"], ["evaluate", path, made.data]):
        outcome = call(*arguments)
        assert outcome.status == 2 and "best.pt" in outcome.error and outcome.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_data_of_other_classes_is_refused(call: Call, made: Made, data: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        edit(data, split, lambda d: d["categories"][1].update(name="tram"))
    outcome = call("export", made.run, "--out", tmp_path / "x.bundle", "--data", data)
    assert outcome.status == 2 and "tram" in outcome.error and "person" in outcome.error
    for model in (made.run, made.bundle):
        outcome = call("evaluate", model, data)
        assert outcome.status == 2 and "doesn't know: tram" in outcome.error


@pytest.mark.parametrize("text", ["vehicle=car,boat", "vehicle", "=car"])
def test_a_wrong_merge_names_the_classes(call: Call, made: Made, text: str) -> None:
    outcome = call("evaluate", made.run, made.data, "--merge", text)
    assert outcome.status == 2 and "classes are: car, person" in outcome.error and outcome.err.count("\n") == 1


@pytest.mark.parametrize(("flag", "value"), [("--engine", "tensorrt"), ("--variant", "int4")])
@pytest.mark.parametrize("command", ["verify", "evaluate"])
def test_a_pair_that_is_not_in_the_bundle(call: Call, made: Made, command: str, flag: str, value: str) -> None:
    more = [made.data] if command == "evaluate" else []
    outcome = call(command, made.bundle, *more, flag, value)
    assert outcome.status == 2 and value in outcome.error and "fp32 on" in outcome.error


# --- what exists stays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["tune", "export", "data render"])
def test_an_existing_output_is_refused_and_untouched(call: Call, made: Made, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("old")
    arguments = {
        "tune": ["tune", made.data, "--out", out, *SMALL],
        "export": ["export", made.run, "--out", out, "--targets", "cpu"],
        "data render": ["data", "render", out, "--images", 2],
    }[command]
    outcome = call(*arguments, "--json")
    assert outcome.status == 2 and str(out) in outcome.error and "--force" in outcome.error
    assert outcome.document["error"]["code"] == "input"
    assert snapshot(tmp_path) == {"out/precious": b"old"}


def test_tune_with_force_moves_the_old_run_aside(call: Call, made: Made, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "precious").write_text("old")
    outcome = call("tune", made.data, "--out", out, "--force", "--json", *SMALL)
    assert outcome.status == 0
    assert (tmp_path / "run.old1" / "precious").read_text() == "old"
    assert (out / "best.pt").is_file() and not (out / "precious").exists()


def test_export_with_force_fails_and_keeps_the_old_bundle(call: Call, made: Made, bundle: Path, data: Path) -> None:
    before = snapshot(bundle)
    (data / "images" / "val" / "0.png").write_bytes(b"no picture")
    outcome = call("export", made.run, "--out", bundle, "--data", data, "--force", "--targets", "cpu")
    assert outcome.status == 2 and "val/0.png" in outcome.error
    assert snapshot(bundle) == before
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["copy.bundle", "data"]


def test_resume_without_a_run(call: Call, made: Made, tmp_path: Path) -> None:
    outcome = call("tune", made.data, "--out", tmp_path / "run", "--resume")
    assert outcome.status == 2 and "no last.pt" in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_saves_ends_with_130_and_resumes(call: Call, made: Made, tmp_path: Path) -> None:
    """A real SIGINT, sent as soon as the probe is over."""
    out = tmp_path / "run"
    arguments = ["tune", made.data, "--out", out, *SMALL, "--weights", "package", "--epochs", 12, "--val-every", 12]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetl.cli", *(str(a) for a in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    shown = ""
    for line in process.stderr:
        shown += line
        if line.startswith("probe"):
            os.kill(process.pid, signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=60)
    outcome = Outcome(process.returncode, rest, shown + errors)
    assert outcome.status == 130
    assert "--resume" in outcome.error
    training = load_checkpoint(out / "last.pt").training
    assert training is not None and 0 < training["at"]["step"] < 36
    again = call(*arguments, "--resume", "--json")
    assert again.status == 0 and again.document["steps"] == 36
    steps = [row["step"] for row in read_curve(out / "metrics.csv") if row["phase"] == "fine-tune" and "loss" in row]
    assert steps == [3 * (epoch + 1) for epoch in range(12)], "an epoch is missing or there twice"


# --- documents ----------------------------------------------------------------------------------------------------


def test_tune_document(made: Made) -> None:
    assert Path(made.tuned["checkpoint"]) == made.run / "best.pt"
    assert made.tuned["metric"] == "ap50" and 0 <= made.tuned["value"] <= 1
    assert (made.tuned["steps"], made.tuned["epochs"], made.tuned["train_images"]) == (6, 2, 6)
    assert Path(made.tuned["curve"]).is_file()


def test_export_document(made: Made) -> None:
    document = json.loads(json.dumps(made.exported))
    assert {"bundle", "targets", "hops", "seconds"} <= set(document)
    assert Path(document["bundle"]) == made.bundle
    assert document["seconds"] > 0
    cpu = document["targets"]["cpu"]
    assert {"variant", "engine", "deployable", "checks"} <= set(cpu) and cpu["deployable"]
    assert [h["hop"] for h in document["hops"]][:12] == [
        "torch",
        "onnx",
        "flush-tiny",
        "fold-constants",
        "select-early",
        "fold-batch-norm",
        "join-branches",
        "join-pool",
        "fold-input",
        "drop-dead",
        "shuffle-late",
        "split-early",
    ]
    assert all({"hop", "metric", "value", "max_rel_error"} <= set(h) for h in document["hops"])
    assert open_bundle(made.bundle).manifest.provenance.dataset_sha256 != "0" * 64


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_evaluate_document(call: Call, made: Made, kind: str) -> None:
    model = made.run if kind == "run" else made.bundle
    outcome = call("evaluate", model, made.data, "--limit", 4, "--json")
    assert outcome.status == 0, outcome.err
    document = outcome.document
    assert {"task", "metric", "value", "per_class", "images", "engine", "variant"} <= set(document)
    assert (document["task"], document["metric"], document["images"]) == ("detect", "ap50", 4)
    assert 0 <= document["value"] <= 1 and document["value"] == document["ap50"]
    assert set(document["per_class"]) == {"car", "person"}
    assert document["per_class"]["person"] is None, "a class that doesn't occur has no metric"
    if kind == "run":
        assert (document["engine"], document["variant"]) == ("torch", "fp32")
    else:
        chosen = made.exported["chosen"]
        assert (document["engine"], document["variant"]) == (chosen["engine"], chosen["variant"])


def test_evaluate_merges_and_scores_ap(call: Call, made: Made) -> None:
    outcome = call("evaluate", made.run, made.data, "--merge", "thing=car,person", "--metric", "ap", "--json")
    assert set(outcome.document["per_class"]) == {"thing"}
    assert outcome.document["value"] == outcome.document["ap"]
    high = call("evaluate", made.run, made.data, "--min-height", 500, "--json").document
    assert high["value"] is None, "no object is that high"


def test_verify_document(call: Call, made: Made) -> None:
    outcome = call("verify", made.bundle, "--json")
    assert outcome.status == 0, outcome.err
    document = outcome.document
    assert {"ok", "hops", "golden"} <= set(document) and document["ok"] is True
    assert set(document["golden"]) == {"compared", "worst_rel_error"}
    assert document["golden"]["compared"] == 4 and document["golden"]["worst_rel_error"] < 1e-6
    assert document["metric"] is None
    assert document["hops"] == json.loads(json.dumps(made.exported["hops"]))


def test_verify_measures_the_metric_on_data(call: Call, made: Made) -> None:
    outcome = call("verify", made.bundle, "--data", made.data, "--json")
    assert outcome.status == 0, outcome.err
    metric = outcome.document["metric"]
    assert metric["ok"] is True and metric["images"] == 6
    assert metric["value"] == pytest.approx(metric["stored"], abs=1e-6)


def rewrite(bundle: Path, **changes: Any) -> None:
    """Give the bundle a manifest that fits its files again, as someone with the tool could."""
    manifest = open_bundle(bundle, verify=False).manifest
    files = {name: file_entry(bundle / name) for name in manifest.files}
    import msgspec

    write_manifest(bundle, msgspec.structs.replace(manifest, files=files, **changes))


def test_verify_fails_where_the_golden_samples_differ(call: Call, bundle: Path) -> None:
    golden = dict(np.load(bundle / "golden.npz"))
    golden["out_scores"] = golden["out_scores"] * 0.5
    np.savez_compressed(bundle / "golden.npz", **golden)
    rewrite(bundle)
    outcome = call("verify", bundle, "--json")
    assert outcome.status == 1
    assert outcome.document["ok"] is False
    assert outcome.document["golden"]["worst_rel_error"] > 0.4
    assert "NOT verified" in outcome.err and "Traceback" not in outcome.err


def test_verify_fails_where_the_metric_fell(call: Call, made: Made, bundle: Path) -> None:
    import msgspec

    hops = tuple(msgspec.structs.replace(h, value=2.0) for h in open_bundle(bundle).manifest.hops)
    rewrite(bundle, hops=hops)
    outcome = call("verify", bundle, "--data", made.data, "--json")
    assert outcome.status == 1
    assert outcome.document["ok"] is False and outcome.document["metric"]["ok"] is False
    assert outcome.document["golden"]["worst_rel_error"] < 1e-6


def test_bench_document(call: Call, made: Made) -> None:
    outcome = call("bench", made.bundle, "--runs", 5, "--json")
    assert outcome.status == 0, outcome.err
    document = outcome.document
    assert {"rows", "baseline", "chosen", "speedup"} <= set(document)
    assert document["baseline"] == "onnxruntime/fp32"
    assert {(r["engine"], r["variant"]) for r in document["rows"]} == {
        (r["engine"], r["variant"]) for r in made.exported["latencies"]
    }
    assert all({"p50_ms", "p95_ms", "p99_ms", "runs"} <= set(r) and r["runs"] == 5 for r in document["rows"])


def test_inspect_and_run_documents(call: Call, made: Made) -> None:
    document = call("inspect", made.bundle, "--json").document
    assert document["heads"][0]["labels"] == ["car", "person"] and document["bytes"] > 0
    outcome = call("run", made.bundle, made.data / "images" / "val", "--json")
    assert outcome.status == 0, outcome.err
    document = outcome.document
    assert {"captured", "processed", "dropped", "failed", "stages", "age_ms", "rss_mb", "states"} <= set(document)
    assert (document["processed"], document["failed"]) == (6, 0)


def test_doctor_document(call: Call) -> None:
    outcome = call("doctor", "--json")
    assert outcome.status == 0 and outcome.document["ok"] is True
