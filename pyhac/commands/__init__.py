# SPDX-License-Identifier: MIT
"""The command ``hac``: one class and module for each of its commands."""

import argparse
import os
import sys
from collections.abc import Sequence

from pyhac import _native
from pyhac.errors import EngineUnavailable, Error, ImageDamaged

from .backup import Backup
from .base import BAD, USAGE, Command, complain
from .check import Check
from .compact import Compact
from .engines import Engines
from .helper import Helper
from .keys import Keys
from .log import Log
from .top import Top

COMMANDS: tuple[type[Command], ...] = (
    Engines, Check, Log, Compact, Backup, Top, Keys, Helper
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """What the command line looks like."""
    top = argparse.ArgumentParser(
        prog="hac",
        description="Look after the images of checkpointed programs.",
        epilog="example: hac check orders.hac\n\n"
        "exit codes: 0 good, 1 bad (see each command), 2 wrong usage or an unusable path",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"hac {_native.library_version()}")
    choices = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = choices.add_parser(
            command.name,
            help=command.summary,
            description=command.description or command.summary,
            epilog=f"example: {command.example}\n\nexit codes: {command.exit_codes}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
        sub.set_defaults(command_class=command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.command_class(options).run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python flushes at exit once
        # more, which must find something that takes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (ImageDamaged, EngineUnavailable) as failure:
        return complain(options.command, failure, BAD)
    except (Error, OSError, ValueError, MemoryError) as failure:
        return complain(options.command, failure, USAGE)
