# SPDX-License-Identifier: MIT
"""hac engines: which engines work here."""

from dataclasses import asdict

from pyhac import _native

from .base import BAD, GOOD, Command, print_json, print_table


class Engines(Command):
    name = "engines"
    summary = "list the engines and whether they work here"
    description = (
        "List the engines that can track writes. Each was probed: it had to notice a write."
    )
    example = "hac engines --json"
    exit_codes = "0 at least one engine works, 1 none does, 2 wrong usage"

    def run(self) -> int:
        engines = _native.engines()
        if self.options.json:
            print_json([asdict(engine) for engine in engines])
        else:
            print_table(
                ("ENGINE", "WORKS", "SEES", "KERNEL WRITES", "WHY"),
                [
                    (
                        engine.name,
                        "yes" if engine.available else "no",
                        "words" if engine.words else "pages",
                        "work" if engine.kernel_writes else "announced",
                        engine.reason,
                    )
                    for engine in engines
                ],
            )
        return GOOD if any(engine.available for engine in engines) else BAD
