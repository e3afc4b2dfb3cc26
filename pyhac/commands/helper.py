# SPDX-License-Identifier: MIT
"""hac helper: the process beside a replicated context. libhac starts it."""

import argparse

from pyhac.replication.arguments import add_helper_arguments

from .base import Command


class Helper(Command):
    name = "helper"
    summary = "own a replicated context's image (started by libhac, not by hand)"
    description = (
        "The process that a replicated context starts beside itself: it writes the journal,\n"
        "and sends it to backups or receives it as a standby. --ring and --control are\n"
        "descriptors that it inherits; the other arguments come from the program."
    )
    example = "hac helper --image orders.hac --ring 3 --control 4 --listen 127.0.0.1:7000"
    exit_codes = "0 closed, or its context ended; 1 failed (the context is told); 2 wrong usage"

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        add_helper_arguments(parser)

    def run(self) -> int:
        # It brings asyncio and ssl, which the other commands do not need.
        from pyhac.replication import helper

        return helper.serve(self.options)
