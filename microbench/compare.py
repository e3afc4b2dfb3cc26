# SPDX-License-Identifier: MIT
"""`compare`: two result files, row by row."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from microbench.results import BadResults, Results, Row, key, read
from microbench.show import cell_of

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Compare two result files of `run`, row by row: how many times as much B's
transaction costs as A's, and whether the difference is beyond the spread, that is
larger than the median deviations of both together.
"""
EPILOG = """\
example:
  python -m microbench compare /tmp/before.json /tmp/after.json

exit codes: 0 no difference is beyond the spread; 1 one is, or the counts of
Table 2 differ; 2 the files cannot be compared.
"""


class Compared(TypedDict):
    """A row that both files have."""

    cell: str
    engine: str
    unit: str
    a: float
    b: float
    ratio: float  # b / a
    spread: float  # of both together
    beyond: bool


def add_command(commands: "Commands") -> None:
    parser = commands.add_parser(
        "compare",
        help="compare two result files of run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=Path, metavar="A", help="a result file")
    parser.add_argument("b", type=Path, metavar="B", help="another one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison there, too")
    parser.set_defaults(run=run)


def _compared(a: Row, b: Row) -> Compared:
    spread = a["spread"] + b["spread"]
    return {
        "cell": f"{a['sweep']}: {cell_of(a)}",
        "engine": a["engine"],
        "unit": a["unit"],
        "a": a["per_txn"],
        "b": b["per_txn"],
        "ratio": round(b["per_txn"] / a["per_txn"], 3) if a["per_txn"] else 0.0,
        "spread": round(spread, 1),
        "beyond": abs(b["per_txn"] - a["per_txn"]) > spread,
    }


def compare(a: Results, b: Results) -> list[Compared]:
    """The rows that both have, in the order of A."""
    there = {key(row): row for row in b["rows"]}
    return [_compared(row, there[key(row)]) for row in a["rows"] if key(row) in there]


def _counts(results: Results) -> dict[tuple[Any, ...], tuple[float, float]]:
    return {
        (row["structure"], row["operation"], row["opt"]): (row["writes"], row["pages"])
        for row in results["table2"]
    }


def different_counts(a: Results, b: Results) -> Iterator[str]:
    """Rows of Table 2 that both have, and that differ."""
    ours, theirs = _counts(a), _counts(b)
    for row in ours:
        if row in theirs and ours[row] != theirs[row]:
            structure, operation, opt = row
            yield f"{structure} {operation}, OPT {opt}: {ours[row]} and {theirs[row]}"


def _show(rows: Iterable[Compared], counts: Iterable[str]) -> None:
    shown = None
    for row in rows:
        if row["cell"] != shown:
            shown = row["cell"]
            print(f"\n{shown}")
        mark = "  beyond the spread" if row["beyond"] else ""
        print(
            f"  {row['engine']:10}{row['a']:14,.1f}{row['b']:14,.1f} {row['unit']}"
            f"{row['ratio']:9.3f}x ±{row['spread']:,.1f}{mark}"
        )
    for line in counts:
        print(f"\nTable 2 differs: {line}")


def run(options: argparse.Namespace) -> int:
    try:
        a, b = read(options.a), read(options.b)
    except BadResults as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    rows, counts = compare(a, b), list(different_counts(a, b))
    tables = _counts(a).keys() & _counts(b).keys()
    if not rows and not tables:
        print(f"compare: {options.a} and {options.b} have no row in common", file=sys.stderr)
        return 2
    _show(rows, counts)
    beyond = sum(row["beyond"] for row in rows)
    for name, file in (("A", a), ("B", b)):
        if alone := len(file["rows"]) - len(rows):
            print(f"\n{alone} rows are in {name} only")
    print(f"\n{len(rows)} rows compared, {beyond} beyond the spread; {len(tables)} of Table 2")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "table2": counts}, indent=1) + "\n")
    return 1 if beyond or counts else 0
