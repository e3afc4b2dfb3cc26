# SPDX-License-Identifier: MIT
"""Table 2 of the paper: writes and unique pages a transaction, counted again here."""

from collections.abc import Callable, Iterable
from typing import TypedDict

OPTS = (1, 5)

PAPER = {
    ("aa", "insert"): "21.9 4.9 109.9 5.0",
    ("aa", "delete"): "20.4 6.0 102.0 8.8",
    ("avl", "insert"): "30.5 5.1 152.8 5.1",
    ("bin", "insert"): "27.9 2.0 139.9 2.3",
    ("dsl", "insert"): "10.4 3.1 52.0 3.6",
    ("hashquad", "insert"): "11.3 1.0 56.9 1.6",
    ("hashsepchain", "insert"): "4 1.9 20 1.9",
    ("leftheap", "insert"): "23.5 3.0 117.8 3.0",
    ("leftheap", "delete"): "34.0 9.2 170.0 18.5",
    ("heap", "insert"): "2.8 2.4 14.3 2.8",
    ("heap", "delete"): "12.5 2.7 62.7 4.1",
    ("list", "insert"): "4 1.0 20 1.0",
    ("list", "delete"): "1 1 5 1",
    ("queue", "insert"): "3 1.8 15 1.9",
    ("queue", "delete"): "2 1 10 1",
    ("rb", "insert"): "13.7 4.6 68.5 4.9",
    ("splay", "insert"): "20.0 4.7 100.4 5.0",
    ("splay", "delete"): "7.7 3.0 38.8 6.7",
    ("tree", "insert"): "720.7 5.4 3603.9 5.5",
    ("tree", "delete"): "1.7 1.7 8.56 4.1",
}
"""The paper's own numbers, with its digits: writes and pages at OPT 1, then at OPT 5."""


class Row(TypedDict):
    """An operation of a structure, with `opt` of them in a transaction."""

    structure: str
    operation: str
    opt: int
    writes: float  # a transaction, on average
    pages: float


class Cell(TypedDict):
    """A number of the table beside the paper's."""

    structure: str
    operation: str
    opt: int
    what: str  # "writes" or "pages"
    ours: float
    paper: str
    equal: bool  # once ours is cut off after as many digits as the paper gives


def measure(progress: Callable[[str], None] = lambda what: None) -> list[Row]:
    """Count what every workload writes. Calls `progress` before each."""
    from microbench.trace import Trace
    from microbench.traces import recorded
    from microbench.workloads import ROWS

    rows: list[Row] = []
    for (structure, operation), path in recorded(ROWS, progress):
        trace = Trace.load(path)
        for opt in OPTS:
            transactions = trace.transactions(opt)
            rows.append(
                {
                    "structure": structure,
                    "operation": operation,
                    "opt": opt,
                    "writes": trace.writes() / transactions,
                    "pages": trace.pages(opt) / transactions,
                }
            )
    return rows


def cells(rows: Iterable[Row]) -> list[Cell]:
    """Every number of these rows beside the paper's."""
    return [
        {
            "structure": row["structure"],
            "operation": row["operation"],
            "opt": row["opt"],
            "what": what,
            "ours": ours,
            "paper": paper,
            "equal": cut(ours, paper) == paper,
        }
        for row in rows
        for what, ours, paper in (
            ("writes", row["writes"], paper_number(row, "writes")),
            ("pages", row["pages"], paper_number(row, "pages")),
        )
    ]


def paper_number(row: Row, what: str) -> str:
    numbers = PAPER[row["structure"], row["operation"]].split()
    return numbers[2 * OPTS.index(row["opt"]) + ("writes", "pages").index(what)]


def cut(number: float, like: str) -> str:
    """The number without the digits that the other one doesn't have: the paper truncates."""
    digits = len(like.partition(".")[2])
    # Our averages are multiples of 1/10000; the addition keeps 0.3 from becoming 0.2999...
    whole = int(number * 10**digits + 1e-6)
    return f"{whole / 10**digits:.{digits}f}"


def show(rows: Iterable[Row]) -> str:
    """The table as text: ours, the paper's in brackets, a star where they differ."""
    lines = [f"{'':22}{'OPT 1':^40}{'OPT 5':^40}"]
    lines += [f"{'':22}" + 2 * f"{'writes':>10}{'':10}{'pages':>10}{'':10}"]
    found: dict[str, str] = {}
    for cell in cells(rows):
        row = f"{cell['structure']} {cell['operation']}"
        text = f"{cell['ours']:10.3f} ({cell['paper']}){' ' if cell['equal'] else '*'}"
        found[row] = found.get(row, f"{row:22}") + f"{text:20}"
    return "\n".join([*lines, *(line.rstrip() for line in found.values())])
