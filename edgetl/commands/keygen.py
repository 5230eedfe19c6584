"""Make a pair of Ed25519 keys: NAME.key signs bundles and stays with you, NAME.pub goes to the vehicles."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl keygen`."""
    parser.add_argument("name", type=Path, metavar="NAME", help="writes NAME.key and NAME.pub")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Write both keys, and say what each is for."""
    from edgetl_runtime.keys import write_key_pair

    private, public, identity = write_key_pair(args.name)
    say(f"private key  {private}, readable by you only: keep it, and keep it off the vehicles")
    say(f"public key   {public}: for --require-signature; several can stand in one file")
    say(f"key id       {identity}")
    return {"private_key": str(private), "public_key": str(public), "key_id": identity}
