"""Make a keyring: whose bundles vehicles take from now on, signed by a root of the keyring before.

Without --after it is the first one. With --after OLD its version is the next; what OLD has stays unless it is revoked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import say
from edgetl_runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl keyring`."""
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write, such as fleet-2.keyring")
    parser.add_argument("--sign", type=Path, required=True, metavar="KEY", help="a root's private key")
    parser.add_argument(
        "--after", type=Path, metavar="OLD", help="the keyring, or the .pub file, that vehicles have now"
    )
    parser.add_argument("--key", type=Path, action="append", default=[], metavar="PUB", help="may sign bundles")
    parser.add_argument("--root", type=Path, action="append", default=[], metavar="PUB", help="may sign keyrings")
    parser.add_argument(
        "--revoke", action="append", default=[], metavar="KEY_ID", help="takes this key's bundles no more"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Write it, after checking that it could follow the one before."""
    from edgetl_runtime.files import staged_file
    from edgetl_runtime.keys import key_id, read_private_key, read_public_keys
    from edgetl_runtime.update.keyring import check_next, make_keyring, read_keyring

    before = read_keyring(args.after) if args.after is not None else None
    revoked = frozenset(args.revoke) | (before.revoked if before is not None else frozenset())
    keys, roots = (
        tuple(
            dict.fromkeys(
                key
                for key in (*kept, *(k for path in paths for k in read_public_keys(path)))
                if key_id(key) not in revoked
            )
        )
        for kept, paths in (
            (before.keys if before is not None else (), args.key),
            (before.roots if before is not None else (), args.root),
        )
    )
    private = read_private_key(args.sign)
    if not roots and before is None:
        roots = (private.public,)
    version = before.version + 1 if before is not None else 1
    data = make_keyring(private, version=version, keys=keys, roots=roots, revoked=revoked)
    with staged_file(args.out, force=args.force) as temporary:
        temporary.write_bytes(data)
        made = read_keyring(temporary)
        if before is not None:
            check_next(before, made)
        elif private.public not in made.roots:
            raise InputError("the first keyring is signed by one of its own roots", remedy="give that root's --sign")
    say(f"wrote        {args.out}: version {version}, {len(keys)} keys, {len(roots)} roots, {len(revoked)} revoked")
    return {"out": str(args.out), **made.as_json()}
