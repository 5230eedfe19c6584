"""Argument types and small checks that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.pairs import MOST_THREADS

if TYPE_CHECKING:
    from edgetl.data import Reading
    from edgetl_runtime.bundle import Bundle

FRAME_HW = (352, 640)
"""Network input for whole frames of a driving camera where --size isn't given, (height, width)."""
CATEGORY_HW = (128, 128)
"""Network input where only categories are asked for. On 32-pixel traffic signs an input of 96 learnt in 4 epochs more
than one of 64 in 8, and at 128 what an engine gains by INT8 and bf16 is more than what each call costs anyway."""


def size_wxh(text: str) -> tuple[int, int]:
    """`640x352` (width x height) to (height, width)."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 640x352, found {text!r}")
    return int(parts[1]), int(parts[0])


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


MOST_SEED = 2**63 - 1
"""What every generator of chance takes."""


def seed(text: str) -> int:
    """A whole number from 0 to MOST_SEED."""
    if not (text.isascii() and text.isdigit()) or int(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {MOST_SEED}, found {text!r}")
    return int(text)


AUTO = -1
"""What `auto` becomes where a number of threads is asked for."""


def threads(text: str) -> int:
    """A whole number up to 1024, or `auto`."""
    if text == "auto":
        return AUTO
    if not text.isdecimal() or int(text) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"threads must be auto or a whole number up to {MOST_THREADS}, found {text!r}")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """`detect,segment` to its parts."""
    parts = tuple(p.strip() for p in text.split(",") if p.strip())
    if not parts:
        raise argparse.ArgumentTypeError(f"expected names with commas between them, found {text!r}")
    return parts


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """DATA, and how it is to be read."""
    parser.add_argument("data", type=Path, metavar="DATA", help="dataset directory, in any format that is known")
    add_reading_arguments(parser, "its format (default: found out)")


def add_reading_arguments(parser: argparse.ArgumentParser, about_format: str) -> None:
    """How a dataset is to be read; see `reading_of`."""
    parser.add_argument("--format", metavar="NAME", help=about_format)
    parser.add_argument(
        "--group-pattern", metavar="REGEX", help="what in a file's name must stay on one side of a split"
    )


def reading_of(args: argparse.Namespace) -> Reading:
    """What --format and --group-pattern say."""
    from edgetl.data import Reading

    return Reading(args.group_pattern, args.format)


def add_signature_argument(parser: argparse.ArgumentParser) -> None:
    """--require-signature, to be passed on to `open_bundle`: None, True or a file."""
    parser.add_argument(
        "--require-signature",
        nargs="?",
        const=True,
        metavar="PUBKEY",
        help="refuse a bundle that isn't signed by a key of the file PUBKEY, or without a file by any key",
    )


def signature_line(bundle: Bundle, required: bool | str | None) -> str:
    """What is known of a bundle's signature, for a person."""
    if bundle.signed_by is not None:
        by_whom = "any key was accepted" if required is True else f"trusted by {required}"
        return f"valid, by the key {bundle.signed_by}; {by_whom}"
    from edgetl_runtime.signature import read_signature

    found = read_signature(bundle.path)
    if found is None:
        return "none"
    return f"by the key {found.key_id}, NOT checked: give --require-signature PUBKEY"


def signature_json(bundle: Bundle, required: bool | str | None) -> dict[str, object]:
    """The same for a program. key_id: of a signature that was checked, else null."""
    return {
        "checked": bundle.signed_by is not None,
        "key_id": bundle.signed_by,
        "trusted": bundle.signed_by is not None and required is not True,
    }


def plain(text: str) -> str:
    """One line of text from a file, in which nothing steers the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def signatures_json(each: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Those of several bundles as one: checked and trusted where all are, the key where it is the same for all."""
    keys = {s["key_id"] for s in each}
    return {
        "checked": all(s["checked"] for s in each),
        "key_id": keys.pop() if len(keys) == 1 else None,
        "trusted": all(s["trusted"] for s in each),
    }


def points(text: str) -> float:
    """Metric points, 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected points from 0 to 100, found {text!r}")
    return value


def class_points(text: str) -> tuple[str, float]:
    """`person=1.0` to the class and its points."""
    name, sign, value = text.rpartition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"expected CLASS=POINTS such as person=1.0, found {text!r}")
    return name, points(value)


def milliseconds(text: str) -> float:
    """A time above 0 that ends."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected milliseconds above 0, found {text!r}")
    return value


def check_page(path: Path | None) -> None:
    """Raise InputError where a page can't be written, before the work whose findings it is to show."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise InputError(f"{path}: no directory {path.parent}", remedy="make it first")
    if path.is_dir():
        raise InputError(f"{path} is a directory, a page is a file", remedy=f"give a name in it: {path / 'page.html'}")


def add_engine_dir(parser: argparse.ArgumentParser) -> None:
    """Where `edgetl build` put a bundle's engines."""
    parser.add_argument("--engine-dir", type=Path, help="TensorRT engines (default: BUNDLE.engines beside the bundle)")


def share_cores() -> None:
    """Let torch's worker threads spin only briefly while they wait; to be called before torch is imported.

    By default they spin for long and steal the cores from whatever else runs: the median step of two trainings
    on two cores took 1.5 to 1.7 times as long as with this; one alone is as fast. The user's own settings are kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def first_process() -> bool:
    """Whether this is the first of the processes that a launcher started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line for a person, on stderr; of several processes only the first one talks."""
    if first_process():
        sys.stderr.write(text + "\n")


@contextmanager
def no_empty_directory(out: Path) -> Iterator[None]:
    """Remove `out` afterwards where nothing was written into it: left behind, it would be in the way next time."""
    try:
        yield
    finally:
        with suppress(OSError):  # it holds something
            out.rmdir()


def prepare_run_directory(
    out: Path, *, resume: bool, force: bool, needed: Sequence[Path] = (), resumable: bool = True
) -> None:
    """Make `out` for a run. An existing one is refused, resumed, or with force moved aside to `out.old`.

    needed: what the run will read, which must not be moved. resumable: whether the command has a --resume.
    """
    if out.exists() and not resume:
        if not force:
            going_on = " --resume to go on with it," if resumable else ""
            raise InputError(f"{out} exists", remedy=f"give another --out,{going_on} or --force to move it aside")
        inside = [path for path in needed if path.resolve().is_relative_to(out.resolve())]
        if inside:
            raise InputError(f"{out}: holds {inside[0]}, which this run reads", remedy="give another --out")
        number = 1
        while (aside := out.with_name(f"{out.name}.old{number}")).exists():
            number += 1
        out.rename(aside)
        say(f"moved the old {out} to {aside}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be made ({error.strerror})", remedy="give another --out") from error
