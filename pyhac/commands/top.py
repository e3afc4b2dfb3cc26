# SPDX-License-Identifier: MIT
"""hac top: what a node is doing, once a second."""

import argparse
import json
import sys
import time
from typing import Any

from .backup import print_sinks, security
from .base import BAD, GOOD, Command, complain, print_fields, size_text


class Top(Command):
    name = "top"
    summary = "watch a primary or a backup, once a second"
    description = (
        "Show role, transactions and bytes a second, what is in the ring, and the lag of each\n"
        "sink, once a second until interrupted. With --json, one object a line."
    )
    example = "hac top 127.0.0.1:7000"
    exit_codes = "0 good, 1 no answer, 2 wrong usage"

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        from pyhac.replication.arguments import address

        parser.add_argument("address", type=address, metavar="ADDRESS", help="HOST:PORT")
        parser.add_argument("--tls", metavar="DIR", help="with ca.pem, cert.pem and key.pem")
        parser.add_argument("--once", action="store_true", help="show it once, then exit")

    def run(self) -> int:
        from asyncio import run

        from pyhac.replication.protocol import ProtocolError

        try:
            run(self._watch())
        except (ProtocolError, TimeoutError, ConnectionError) as failure:
            return complain(f"top: {self.options.address}", failure, BAD)
        return GOOD

    async def _watch(self) -> None:
        from asyncio import sleep

        from pyhac.replication.status import ask

        options = self.options
        secure = security(options)
        before, then = await ask(options.address, secure), time.monotonic()
        while True:
            await sleep(1.0)
            status, now = await ask(options.address, secure), time.monotonic()
            rates = _rates(before, status, now - then)
            before, then = status, now
            if options.json:
                print(json.dumps({**status, **rates}), flush=True)
            else:
                if sys.stdout.isatty() and not options.once:
                    print("\033[H\033[J", end="")
                self._show(status, rates)
            if options.once:
                return

    def _show(self, status: dict[str, Any], rates: dict[str, float]) -> None:
        print_fields(
            [
                ("node", f"{status['name']} ({status['state']})"),
                ("generation", status["generation"]),
                ("epoch", status["epoch"]),
                ("transactions/s", f"{rates['transactions_per_second']:,.0f}"),
                ("journal/s", size_text(int(rates["bytes_per_second"]))),
                ("in the ring", size_text(status["ring_bytes"])),
            ]
        )
        if status["sinks"]:
            print()
            print_sinks(status["sinks"])
        print(flush=True)


def _rates(before: dict[str, Any], now: dict[str, Any], seconds: float) -> dict[str, float]:
    same = before["instance"] == now["instance"]

    def rate(field: str) -> float:
        return max(0, now[field] - before[field]) / seconds if same else 0.0

    return {
        "transactions_per_second": round(rate("epoch"), 1),
        "bytes_per_second": round(rate("journal_bytes"), 1),
    }
