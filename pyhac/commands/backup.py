# SPDX-License-Identifier: MIT
"""hac backup: a standby without a program; questions and orders to any node."""

import argparse
from typing import Any

from .base import (
    BAD,
    GOOD,
    USAGE,
    Command,
    complain,
    print_fields,
    print_json,
    print_table,
    size_text,
)


class Backup(Command):
    name = "backup"
    summary = "receive a journal, ask a node for its status, promote a standby"
    description = "Replication: see the sub-commands serve, status and promote."
    example = "hac backup serve --image orders.hac --listen 10.0.0.2:7000 --tls keys/b"
    exit_codes = "0 good, 1 no answer or refused, 2 wrong usage; serve: those of its command"

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        from pyhac.replication.arguments import add_node_arguments, address

        parts = parser.add_subparsers(dest="part", metavar="PART", required=True)
        serve = parts.add_parser("serve", help="receive and acknowledge until promoted")
        add_node_arguments(serve)
        serve.add_argument(
            "--on-promote",
            metavar="COMMAND",
            help="run it when promoted, with HAC_IMAGE, HAC_GENERATION and HAC_EPOCH set",
        )
        for name, text in (
            ("status", "role, generation, epoch, and the lag of each sink"),
            ("promote", "make a standby primary; the old primary is fenced"),
        ):
            part = parts.add_parser(name, help=text)
            part.add_argument("address", type=address, metavar="ADDRESS", help="HOST:PORT")
            part.add_argument("--tls", metavar="DIR", help="with ca.pem, cert.pem and key.pem")
            part.add_argument("--json", action="store_true", default=argparse.SUPPRESS)

    def run(self) -> int:
        from pyhac.replication._keeper import KeeperError
        from pyhac.replication.protocol import ProtocolError, Refused

        try:
            match self.options.part:
                case "serve":
                    from pyhac.replication import backup

                    return backup.serve(self.options)
                case "status":
                    return self._status()
                case _:
                    return self._promote()
        except KeeperError as failure:
            return complain("backup", failure, USAGE)
        except (ProtocolError, Refused, TimeoutError, ConnectionError) as failure:
            return complain(f"backup: {self.options.address}", failure, BAD)

    def _status(self) -> int:
        from asyncio import run

        from pyhac.replication.status import ask

        status = run(ask(self.options.address, security(self.options)))
        if self.options.json:
            print_json(status)
        else:
            print_status(status)
        return GOOD

    def _promote(self) -> int:
        from asyncio import run

        from pyhac.replication.status import promote

        done = run(promote(self.options.address, security(self.options)))
        if self.options.json:
            print_json(done)
        else:
            print(f"{self.options.address} leads: generation {done['generation']}")
        return GOOD


def security(options: argparse.Namespace) -> Any:
    """How to connect to ``options.address``. ValueError."""
    from pyhac.replication.log import Log
    from pyhac.replication.tls import Security, load_security

    if options.tls is None and options.address.loopback:
        return Security(None, None)
    return load_security(options.tls, [options.address], Log())


def print_status(status: dict[str, Any]) -> None:
    print_fields(
        [
            ("name", status["name"]),
            ("state", status["state"]),
            ("follows", status["leader"] or "nobody"),
            ("image", "none yet" if status["blank"] else status["uuid"]),
            ("generation", f"{status['generation']} (from {status['parent']})"),
            ("epoch", f"{status['epoch']} (synced: {status['durable']})"),
        ]
    )
    if status["sinks"]:
        print()
        print_sinks(status["sinks"])


def print_sinks(sinks: list[dict[str, Any]]) -> None:
    print_table(
        ("SINK", "ANSWERS", "EPOCH", "LAG", "BYTES", "SECONDS", "TROUBLE"),
        [
            (
                sink["name"],
                "yes" if sink["connected"] else "no",
                sink["epoch"],
                sink["transactions"],
                size_text(sink["bytes"]),
                f"{sink['seconds']:.3f}",
                sink["trouble"],
            )
            for sink in sinks
        ],
    )
