# SPDX-License-Identifier: MIT
"""Table 2 cell by cell beside the paper's, and why a cell differs."""

from collections.abc import Sequence
from dataclasses import dataclass

from microbench import table2
from microbench.report.wording import number


@dataclass(frozen=True)
class Cell:
    work: str
    opt: int
    column: str  # "writes" or "pages"
    paper: str
    shown: str  # ours, cut to the paper's digits
    equal: bool
    reason: str  # why it differs


def _theirs(structure: str, operation: str, opt: int, column: str) -> str:
    place: table2.Row = {
        "structure": structure,
        "operation": operation,
        "opt": opt,
        "writes": 0.0,
        "pages": 0.0,
    }
    return table2.paper_number(place, column)


def _reason(row: table2.Row, column: str) -> str:
    work = f"{row['structure']} {row['operation']} at OPT {row['opt']}"
    theirs = table2.paper_number(row, column)
    if column == "writes":
        side = "more" if row["writes"] > float(theirs) else "fewer"
        return f"{work} stores {side} words than the paper's did."
    said = table2.paper_number(row, "writes")
    if table2.cut(row["writes"], said) == said:
        return (
            f"{work} makes the paper's writes, so what differs is where its words lie: on "
            f"{number(row['pages'])} pages."
        )
    return f"{work} does not make the paper's writes either."


def cells(rows: Sequence[table2.Row]) -> list[Cell]:
    """All 80, in the paper's order; those that were not counted show a dash."""
    by_key = {(row["structure"], row["operation"], row["opt"]): row for row in rows}
    found = []
    for structure, operation in table2.PAPER:
        for opt in table2.OPTS:
            row = by_key.get((structure, operation, opt))
            for column in ("writes", "pages"):
                theirs = _theirs(structure, operation, opt, column)
                work = f"{structure} {operation}"
                if row is None:
                    found.append(Cell(work, opt, column, theirs, "–", False, ""))
                    continue
                ours = table2.cut(row["writes"] if column == "writes" else row["pages"], theirs)
                reason = "" if ours == theirs else _reason(row, column)
                found.append(Cell(work, opt, column, theirs, ours, ours == theirs, reason))
    return found
