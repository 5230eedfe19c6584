"""What several formats keep in text files beside their labels: lists of images, of classes, and of groups.

groups.csv may lie in the root of a dataset of any format: `file,group,domain`, the file as a path from the root.
An empty field leaves what the format itself says.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

from edgetl.data.dataset import IMAGE_SUFFIXES, Dataset
from edgetl.data.masks import read_class_list
from edgetl_runtime.errors import InputError

GROUPS_FILE = "groups.csv"
GROUPS_HEADER = ("file", "group", "domain")
CLASSES_FILE = "classes.txt"


def listed_classes(root: Path) -> tuple[str, ...]:
    """The names in root/classes.txt, empty where there is none."""
    file = root / CLASSES_FILE
    return read_class_list(file)[0] if file.is_file() else ()


def check_listed(name: str, classes: tuple[str, ...], label_file: Path) -> int:
    """The index of a class. Raises InputError that names the label file for a class that classes.txt lacks."""
    try:
        return classes.index(name)
    except ValueError:
        raise InputError(
            f"{label_file}: class {name!r} is not in {CLASSES_FILE}, which has {', '.join(classes)}",
            remedy="correct the label or add the class",
        ) from None


def read_list(file: Path) -> list[str]:
    """The lines of a list of images, blank ones left out."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not readable as text ({error})", remedy="restore the file") from error
    return [line.strip() for line in lines if line.strip()]


def find_image(folder: Path, name: str) -> Path | None:
    """The image of this name, with whatever suffix, in small letters or in capitals."""
    suffixes = (t for s in sorted(IMAGE_SUFFIXES) for t in (s, s.upper()))
    return next((p for t in suffixes for p in (folder / f"{name}{t}",) if p.is_file()), None)


def with_groups(dataset: Dataset, root: Path) -> Dataset:
    """The same dataset with the groups and domains of root/groups.csv, if there is one."""
    file = root / GROUPS_FILE
    if not file.is_file():
        return dataset
    rows = _rows(file)
    if rows and not any((root / name).is_file() for name in rows):
        raise InputError(
            f"{file}: none of its {len(rows)} lines names a file; the first is {next(iter(rows))!r}",
            remedy=f"write paths from {root}, with / between folders",
        )
    samples = []
    for s in dataset.samples:
        key = s.image.relative_to(root).as_posix() if s.image.is_relative_to(root) else ""
        group, domain = rows.get(key, ("", ""))
        samples.append(dataclasses.replace(s, group=group or s.group, domain=domain or s.domain))
    return dataclasses.replace(dataset, samples=tuple(samples))


def lines_without_file(root: Path) -> list[str]:
    """What root/groups.csv names and is not there: removed since, or misspelt, and then its image has another group."""
    file = root / GROUPS_FILE
    return [name for name in _rows(file) if not (root / name).is_file()] if file.is_file() else []


def _rows(file: Path) -> dict[str, tuple[str, str]]:
    rows: dict[str, tuple[str, str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            header = tuple(next(reader, ()))
            if header != GROUPS_HEADER:
                raise InputError(f"{file}: expected the header {','.join(GROUPS_HEADER)}, found {','.join(header)!r}")
            for row in reader:
                if len(row) != len(GROUPS_HEADER):
                    raise InputError(
                        f"{file}:{reader.line_num}: expected {','.join(GROUPS_HEADER)}, found {len(row)} fields",
                        remedy="correct the line",
                    )
                if rows.setdefault(row[0], (row[1], row[2])) != (row[1], row[2]):
                    raise InputError(
                        f"{file}:{reader.line_num}: {row[0]} has another group or domain above",
                        remedy="keep one of the lines",
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: not readable as CSV ({error})", remedy="restore the file") from error
    return rows


def compiled_pattern(text: str) -> re.Pattern[str]:
    """The regular expression of --group-pattern. Raises InputError where it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise InputError(f"the group pattern {text!r} is not a regular expression ({error})") from error


def group_of(image: Path, pattern: re.Pattern[str]) -> str:
    """The part of the file's stem that names its group: the whole stem where the pattern doesn't fit."""
    match = pattern.search(image.stem)
    if not match:
        return image.stem
    return next((g for g in match.groups()[:1] if g), match.group(0)) or image.stem
