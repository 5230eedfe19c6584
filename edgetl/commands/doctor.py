"""edgetl doctor: what this machine has and lacks."""

from __future__ import annotations

import argparse
import sys

from edgetl_runtime.doctor import examine, text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command takes no arguments of its own."""
    parser.description = "Shows what this machine has and lacks for edgetl, with the remedy for each lack."


def run(args: argparse.Namespace) -> dict[str, object]:
    """Examine the machine; the report for people goes to stderr."""
    report = examine()
    sys.stderr.write(text(report) + "\n")
    return report
