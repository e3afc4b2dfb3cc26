# SPDX-License-Identifier: MIT
"""What the commands have in common."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import ClassVar

GOOD, BAD, USAGE = 0, 1, 2


class Command:
    """One command of ``hac``. Subclasses say what they are and implement run()."""

    name: ClassVar[str]
    summary: ClassVar[str]
    description: ClassVar[str] = ""
    example: ClassVar[str]
    exit_codes: ClassVar[str]

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes besides --json."""

    def run(self) -> int:
        """Do it; the exit code."""
        raise NotImplementedError


class ImageCommand(Command):
    """A command about one image."""

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("image", metavar="IMAGE", help="the image, a directory")

    @property
    def path(self) -> bytes:
        """The image's path as libhac wants it."""
        path = os.fsencode(self.options.image)
        os.stat(path)  # says at once which path is wrong
        return path


def complain(command: str, failure: Exception, code: int) -> int:
    """One line about what went wrong; ``code``."""
    if isinstance(failure, OSError) and failure.filename is not None:
        name = (
            os.fsdecode(failure.filename)
            if isinstance(failure.filename, bytes)
            else (failure.filename)
        )
        text = f"{name}: {failure.strerror}"
    elif isinstance(failure, OSError) and failure.strerror:
        text = failure.strerror
    else:
        text = str(failure) or type(failure).__name__
    print(f"hac {command}: {' '.join(text.split())}", file=sys.stderr)
    return code


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values under each other."""
    rows = [(name, str(value)) for name, value in pairs]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [all(isinstance(cell, int) for cell in column) for column in zip(*rows, strict=True)]
    for line in [list(header), *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(
                line, widths, right or [False] * len(line), strict=True
            )
        ]
        print("  ".join(padded).rstrip())


def size_text(size: int) -> str:
    """Bytes as people read them."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
