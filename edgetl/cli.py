"""The command line: `edgetl COMMAND`. Each command is a module with add_arguments and run, imported when used."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from edgetl_runtime import __version__
from edgetl_runtime.errors import EdgetlError, InputError, MissingPackage, NotThereYet

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("edgetl.commands.demo", "the whole way on rendered driving scenes, offline, in minutes"),
    "data render": ("edgetl.commands.data_render", "render labelled driving scenes"),
    "data check": ("edgetl.commands.data_check", "find corrupt files, wrong boxes and leaking splits"),
    "data convert": ("edgetl.commands.data_convert", "convert between dataset formats"),
    "data split": ("edgetl.commands.data_split", "split by group"),
    "rank": ("edgetl.commands.rank", "which pretrained model for this data on this target"),
    "tune": ("edgetl.commands.tune", "fine-tune a pretrained network"),
    "shift": ("edgetl.commands.shift", "how far data is from what the model was trained on"),
    "adapt": ("edgetl.commands.adapt", "adapt to unlabelled frames of a new domain"),
    "evaluate": ("edgetl.commands.evaluate", "the task's metric of a checkpoint or a bundle"),
    "export": ("edgetl.commands.export", "checkpoint to verified bundle"),
    "keygen": ("edgetl.commands.keygen", "a pair of keys to sign bundles with"),
    "sign": ("edgetl.commands.sign", "sign a bundle, so that vehicles know who made it"),
    "verify": ("edgetl.commands.verify", "a bundle against its golden samples and, given data, its metric"),
    "build": ("edgetl.commands.build", "a bundle's engine on this device"),
    "bench": ("edgetl.commands.bench", "latency percentiles of a bundle, every engine here"),
    "inspect": ("edgetl.commands.inspect", "what is in a bundle"),
    "run": ("edgetl.commands.run", "camera, video or images to results"),
    "replay": ("edgetl.commands.replay", "a recording, bit for bit"),
    "keyring": ("edgetl.commands.keyring", "whose bundles vehicles take, and whose no more"),
    "update": ("edgetl.commands.update", "a new bundle on a vehicle: verified, compared, taken back where it fails"),
    "service install": ("edgetl.commands.service_install", "a systemd unit for a run, restarted and sandboxed"),
    "service status": ("edgetl.commands.service_status", "how a service is, and whether its results can be used"),
    "service remove": ("edgetl.commands.service_remove", "remove the unit of a stopped service"),
    "doctor": ("edgetl.commands.doctor", "what this machine has and lacks"),
}
"""Command -> module and one line of help; an empty module is designed but not built yet."""


GARBAGE_AFTER = 50_000
"""New objects until the youngest are looked through for garbage. Importing torch makes a million that stay: with
Python's own 700 that took 1.3 of the first 10 s of an export."""

atexit.register(gc.freeze)  # what lives to the end is not garbage: with torch, to look through it takes another 1.4 s


class _Parser(argparse.ArgumentParser):
    """argparse that raises InputError with one clear line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, remedy=f"see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for a failed gate, 2 for wrong usage or input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments[: arguments.index("--") if "--" in arguments else None]
    try:
        document = _dispatch(arguments)
    except EdgetlError as error:
        return _fail(error, as_json=as_json)
    except ModuleNotFoundError as error:
        missing = _extra_of(error)
        if missing is None:
            raise
        return _fail(missing, as_json=as_json)
    except KeyboardInterrupt:
        sys.stderr.write("\nedgetl: stopped\n")
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        remedy = "check its permissions, and those of the folders above it"
        return _fail(InputError(f"{error.filename}: {error.strerror or error}", remedy=remedy), as_json=as_json)
    if as_json and document is not None and os.environ.get("RANK", "0") == "0":  # of several processes, the first
        sys.stdout.write(json.dumps(_strict(document), indent=2, default=_plain, allow_nan=False) + "\n")
    status = document.get("exit_status", 0) if document else 0
    return status if isinstance(status, int) else 0


def _dispatch(arguments: list[str]) -> dict[str, object] | None:
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(_help())
        return None
    if arguments[0] in {"-V", "--version"}:
        sys.stdout.write(f"edgetl {__version__}\n")
        return None
    words = 2 if any(c.startswith(arguments[0] + " ") for c in COMMANDS) else 1
    name = " ".join(arguments[:words])
    if name not in COMMANDS:
        group = [c for c in COMMANDS if c.startswith(arguments[0] + " ")]
        if group and (len(arguments) == 1 or arguments[1] in {"-h", "--help"}):
            sys.stdout.write(_help(prefix=arguments[0] + " "))
            return None
        raise InputError(f"there is no command {name!r}", remedy=f"commands: {', '.join(group or COMMANDS)}")
    module_name, summary = COMMANDS[name]
    if not module_name:
        raise NotThereYet(f"`edgetl {name}` is designed but not built yet ({summary})")
    gc.set_threshold(GARBAGE_AFTER, *gc.get_threshold()[1:])
    module = importlib.import_module(module_name)
    parser = _Parser(prog=f"edgetl {name}", description=module.__doc__, formatter_class=_formatter)
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML or JSON with the same names as the flags")
    rest, tail = arguments[words:], None
    if getattr(module, "TAKES_COMMAND", False):
        rest, tail = _split(rest)
    apply_config(parser, rest)
    document: dict[str, object] = module.run(parser.parse_args(rest, argparse.Namespace(tail=tail)))
    return document


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and behind -- another command."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:cut], arguments[cut + 1 :]


class _Formatter(argparse.HelpFormatter):
    """Says the default of an option where there is one to say and its help does not."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        unsaid = action.default not in (None, False, argparse.SUPPRESS, "", []) and "default" not in text
        return f"{text} (default: %(default)s)" if action.option_strings and unsaid else text


def _formatter(prog: str) -> argparse.HelpFormatter:
    return _Formatter(prog, max_help_position=32, width=100)


def apply_config(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """Defaults from --config; a flag on the command line wins. Raises InputError for an unknown name."""
    early = _Parser(prog=parser.prog, add_help=False)
    early.add_argument("--config", type=Path)
    path = early.parse_known_args(arguments)[0].config
    if path is None:
        return
    settings = _read_config(path)
    actions = {_name(a): a for a in parser._actions if a.option_strings and a.dest not in {"help", "json", "config"}}
    for key, value in settings.items():
        name = str(key).replace("-", "_")
        if name not in actions:
            names = ", ".join(sorted(actions)) or "none"
            raise InputError(f"{path}: unknown setting {key!r}", remedy=f"settings are: {names}")
        action = actions[name]
        if _is_given(action, arguments):
            continue
        parser.set_defaults(**{action.dest: _setting(action, value, f"{path}: {key}")})
        action.required = False
        for group in parser._mutually_exclusive_groups:
            if action in group._group_actions:
                group.required = False


def _name(action: argparse.Action) -> str:
    """The flag's name in a file: as it is written, not as the program holds it."""
    return action.option_strings[0].lstrip("-").replace("-", "_")


def _is_given(action: argparse.Action, arguments: list[str]) -> bool:
    """Whether the flag stands on the command line; one that may be repeated would add to its default."""
    return any(a == o or a.startswith(o + "=") for o in action.option_strings for a in arguments)


def _setting(action: argparse.Action, value: object, where: str) -> object:
    """A value of the file as this flag's default: text, which argparse then reads like the flag's own."""
    if action.nargs == "?" and isinstance(value, bool):  # the flag with or without its value
        return action.const if value else action.default
    if isinstance(action.default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{where} is {value!r}, expected true or false")
        return value
    if isinstance(action.default, list):
        return [str(v) for v in (value if isinstance(value, list) else [value])]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InputError(f"{where} is {value!r}, expected one value")
    if action.choices is not None and value not in action.choices:
        raise InputError(f"{where} is {value!r}, expected one of {', '.join(map(str, action.choices))}")
    return str(value)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--config {path}: not a text file", remedy="give YAML or JSON") from error
    try:
        if path.suffix == ".json":
            settings = json.loads(text)
        else:
            import yaml

            settings = yaml.safe_load(text)
    except ModuleNotFoundError as error:
        raise MissingPackage("pyyaml", extra="vehicle") from error
    except Exception as error:
        raise InputError(f"--config {path}: not readable ({str(error).splitlines()[0]})") from error
    if not isinstance(settings, dict):
        raise InputError(f"--config {path}: expected `name: value` lines")
    return settings


def _help(prefix: str = "") -> str:
    lines = ["usage: edgetl COMMAND ...", "", SUMMARY, "", "commands:"]
    width = max(len(c) for c in COMMANDS) + 2
    for name, (module, summary) in COMMANDS.items():
        if name.startswith(prefix):
            lines.append(f"  {name:<{width}}{summary}{'' if module else '  (not built yet)'}")
    lines += ["", "`edgetl COMMAND --help` tells more; every command takes --json and --config."]
    return "\n".join(lines) + "\n"


SUMMARY = "Fine-tune a pretrained network on driving data, compile it for the vehicle, run it there."


def _fail(error: EdgetlError, *, as_json: bool) -> int:
    sys.stderr.write(f"edgetl: error: {error}\n")
    if as_json:
        body = {"code": error.code, "message": error.message, "remedy": error.remedy}
        sys.stdout.write(json.dumps({"error": body}, indent=2) + "\n")
    return error.exit_status


EXTRAS = {
    "cryptography": ("cryptography", "vehicle"),
    "cv2": ("opencv-python", "desktop"),
    "zstandard": ("zstandard", "vehicle"),
    "onnxruntime": ("onnxruntime", "desktop"),
    "openvino": ("openvino", "desktop"),
    "onnx": ("onnx", "export"),
    "onnxscript": ("onnxscript", "export"),
    "torch": ("torch", "train"),
    "torchvision": ("torchvision", "train"),
    "timm": ("timm", "train"),
    "yaml": ("pyyaml", "train"),
}


def _extra_of(error: ModuleNotFoundError) -> MissingPackage | None:
    """The extra that brings a missing module, or None for a module of unknown origin."""
    top = (error.name or "").partition(".")[0]
    return MissingPackage(EXTRAS[top][0], extra=EXTRAS[top][1]) if top in EXTRAS else None


def _strict(value: object) -> object:
    """The same with null for figures that JSON has not: the metric of a class that doesn't occur is NaN."""
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        plain: object = value.tolist()
        return plain
    raise TypeError(f"{type(value).__name__} is not JSON")


if __name__ == "__main__":
    sys.exit(main())
