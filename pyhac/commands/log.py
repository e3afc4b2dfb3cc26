# SPDX-License-Identifier: MIT
"""hac log: what is in an image's journal."""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime

from pyhac import _native
from pyhac.info import LogRecord

from .base import GOOD, ImageCommand


class Log(ImageCommand):
    name = "log"
    summary = "list the records of an image's journal"
    description = (
        "List the records of an image's journal in order: generations, layouts of areas,\n"
        "dropped areas, and transactions. Nothing is changed. With --json, one object a line."
    )
    example = "hac log orders.hac --kind transaction"
    exit_codes = "0 all of it was read, 1 damaged, 2 wrong usage or no image there"

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--kind",
            choices=("generation", "layout", "drop", "transaction"),
            help="only records of this kind",
        )

    def run(self) -> int:
        if not self.options.json:
            print(f"{'EPOCH':>10}  {'GEN':>4}  {'TIME (UTC)':<23}  {'FRAME':<24}  RECORD")
        _native.read_log(self.path, self._print)
        return GOOD

    def _print(self, record: LogRecord) -> None:
        if self.options.kind not in (None, record.kind):
            return
        if self.options.json:
            print(json.dumps(asdict(record), ensure_ascii=False))
            return
        frame = f"{record.file}+{record.offset}"
        print(
            f"{record.epoch:>10}  {record.generation:>4}  {_time(record.time_ns):<23}  "
            f"{frame:<24}  {_what(record)}"
        )


def _time(nanoseconds: int) -> str:
    if not nanoseconds:
        return "-"
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{nanoseconds // 1_000_000 % 1000:03}"


def _what(record: LogRecord) -> str:
    match record.kind:
        case "generation":
            if not record.parent:
                return f"generation {record.generation} begins"
            return (
                f"generation {record.generation} branches from {record.parent} "
                f"at epoch {record.branch_epoch}"
            )
        case "layout":
            return f"area {record.area} {record.name!r}: {record.bytes} bytes, {record.type}"
        case "drop":
            return f"area {record.area} dropped"
        case "transaction":
            more = ", more follows" if record.partial else ""
            return f"transaction: {record.runs} run(s), {record.bytes} bytes{more}"
    return record.kind
