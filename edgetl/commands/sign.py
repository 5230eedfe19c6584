"""Sign a bundle with an Ed25519 key: every file of it is checked first, and only signature.json is written.

With --release the manifest is given that number first: `edgetl update` takes rising ones only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import count, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl sign`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--key", type=Path, required=True, help="the private key that `edgetl keygen` wrote")
    parser.add_argument("--release", type=count, metavar="N", help="number that `edgetl update` compares")
    parser.add_argument("--force", action="store_true", help="replace the signature that is there")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Sign, and say by which key."""
    from edgetl_runtime.bundle import sign_bundle
    from edgetl_runtime.keys import read_private_key

    identity = sign_bundle(args.bundle, read_private_key(args.key), force=args.force, release=args.release)
    say(f"signed       {args.bundle} by the key {identity}")
    return {"bundle": str(args.bundle), "key_id": identity}
