# SPDX-License-Identifier: MIT
"""Tracking, measured in C: naive PT and the engines, cell by cell."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from microbench.cells import NAIVE, Cell, Variant, variants
from microbench.program import Program, ProgramFailed, Unavailable
from microbench.rounds import Effort, Measure, interleave
from microbench.rows import Row, Skip


def _row(cell: Cell, variant: Variant, program: Program, found: Measure, naive: float) -> Row:
    return {
        "engine": variant.engine,
        "pattern": cell.pattern,
        "cda_bytes": cell.cda_bytes,
        "ppt": cell.ppt,
        "wpp": cell.wpp,
        "threads": cell.threads,
        "delta": variant.delta,
        "twin": variant.twin,
        "ns_per_txn": round(found.ns, 1),
        "spread": round(found.spread, 1),
        "ratio_to_pt": round(naive / found.ns, 3),
        "pages_per_txn": program.pages / program.transactions,
        "words_per_txn": program.words / program.transactions,
    }


def measure_cell(
    cell: Cell, engines: Sequence[str], effort: Effort, tick: Callable[[], None]
) -> tuple[list[Row], list[Skip], list[Skip]]:
    """The rows of a cell, what could not be measured here, and what failed to start.

    Raises ProgramFailed when a program dies later; nothing of the cell is kept then.
    """
    skipped: list[Skip] = []
    failed: list[Skip] = []
    programs: dict[Variant, Program] = {}
    with ExitStack() as stack:
        for variant in variants(engines):
            try:
                programs[variant] = stack.enter_context(Program(cell, variant))
            except Unavailable as reason:
                skipped.append({"what": f"{variant} ({cell})", "reason": str(reason)})
            except ProgramFailed as error:
                if variant.engine == NAIVE:
                    raise  # nothing to compare with
                failed.append({"what": f"{variant} ({cell})", "reason": str(error)})
        runs = {str(variant): program.run for variant, program in programs.items()}
        found = interleave(runs, effort, tick)
        naive = found[NAIVE].ns
        rows = [_row(cell, v, p, found[str(v)], naive) for v, p in programs.items()]
    return rows, skipped, failed


def measure_cells(
    cells: Sequence[Cell],
    engines: Sequence[str],
    effort: Effort,
    progress: Callable[[str], None],
) -> tuple[list[Row], list[Skip], list[Skip]]:
    """Rows, skipped and failed ones; `progress` is called once a round."""
    rows: list[Row] = []
    skipped: list[Skip] = []
    failed: list[Skip] = []
    for cell in cells:
        try:
            new, not_here, broken = measure_cell(
                cell, engines, effort, partial(progress, str(cell))
            )
        except ProgramFailed as error:
            failed.append({"what": str(cell), "reason": str(error)})
            continue
        rows += new
        skipped += not_here
        failed += broken
    return rows, skipped, failed
