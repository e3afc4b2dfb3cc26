# SPDX-License-Identifier: MIT
"""hac keys: certificates for a small set-up, and data keys."""

import argparse
import os
import secrets
from pathlib import Path

from .base import GOOD, Command, print_json


class Keys(Command):
    name = "keys"
    summary = "make certificates for the nodes of a small set-up, and a data key"
    description = (
        "Make DIR/NAME with ca.pem, cert.pem and key.pem, which a node takes with --tls. The\n"
        "first call makes the authority (DIR/ca.pem, DIR/ca-key.pem); later ones sign with it.\n"
        "Whoever has ca-key.pem can make peers: keep it away from the nodes. --data-key makes\n"
        "DIR/data.key, for --key-file: every node of the image needs the same."
    )
    example = "hac keys keys --name a --host a.example.org --host 10.0.0.1"
    exit_codes = "0 done, 2 wrong usage, or a file is there already"

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("directory", metavar="DIR")
        parser.add_argument("--name", help="of the node: makes DIR/NAME")
        parser.add_argument(
            "--host",
            action="append",
            default=[],
            metavar="H",
            help="a name or address under which others connect to it; may be repeated",
        )
        parser.add_argument("--days", type=int, default=825, help="that the certificate lasts")
        parser.add_argument("--data-key", action="store_true", help="make DIR/data.key")

    def run(self) -> int:
        options = self.options
        if not options.name and not options.data_key:
            raise ValueError("give --name NAME with --host H, or --data-key")
        if options.name and (not options.host or "/" in options.name or options.name[0] == "."):
            raise ValueError("--name is a plain name, and needs at least one --host")
        directory = Path(options.directory)
        directory.mkdir(parents=True, exist_ok=True)
        made: dict[str, str] = {}
        if options.data_key:
            made["data_key"] = str(directory / "data.key")
            write_secret(directory / "data.key", (secrets.token_hex(32) + "\n").encode())
        if options.name:
            from ._certificates import make_node

            made["tls"] = str(make_node(directory, options.name, options.host, options.days))
        if options.json:
            print_json(made)
        else:
            for path in made.values():
                print(path)
        return GOOD


def write_secret(path: Path, data: bytes) -> None:
    """A new file that only its owner reads; never in the place of another."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
