# SPDX-License-Identifier: MIT
"""Tracking, measured in C: naive PT and the engines, cell by cell."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from operator import truediv
from statistics import median

from microbench.cells import NAIVE, Cell, Variant, variants
from microbench.program import Program, ProgramFailed, Unavailable
from microbench.rounds import Effort, measure, sample
from microbench.rows import Row, Skip

SETS = 3  # sets of processes for each cell


@dataclass
class Tally:
    """What the processes of one variant reported."""

    samples: list[float] = field(default_factory=list)
    transactions: int = 0
    pages: int = 0
    words: int = 0

    def add(self, program: Program, samples: list[float]) -> None:
        self.samples += samples
        self.transactions += program.transactions
        self.pages += program.pages
        self.words += program.words


def _row(cell: Cell, variant: Variant, tally: Tally, naive: Tally) -> Row:
    found = measure(tally.samples)
    # Round by round, so that what slowed a whole round down does not count.
    ratios = map(truediv, naive.samples, tally.samples)
    return {
        "engine": variant.engine,
        "pattern": cell.pattern,
        "cda_bytes": cell.cda_bytes,
        "ppt": cell.ppt,
        "wpp": cell.wpp,
        "threads": cell.threads,
        "delta": variant.delta,
        "twin": variant.twin,
        "loop": variant.loop,
        "ns_per_txn": round(found.ns, 1),
        "spread": round(found.spread, 1),
        "ratio_to_pt": round(median(ratios), 3),
        "pages_per_txn": tally.pages / tally.transactions,
        "words_per_txn": tally.words / tally.transactions,
    }


def _start(
    cell: Cell, wanted: Iterable[Variant], stack: ExitStack
) -> tuple[dict[Variant, Program], list[Skip], list[Skip]]:
    skipped: list[Skip] = []
    failed: list[Skip] = []
    programs: dict[Variant, Program] = {}
    for variant in wanted:
        what = f"{variant} ({cell})"
        try:
            programs[variant] = stack.enter_context(Program(cell, variant))
        except Unavailable as reason:
            skipped.append({"what": what, "reason": str(reason)})
        except ProgramFailed as error:
            if variant.engine == NAIVE:
                raise  # nothing to compare with
            failed.append({"what": what, "reason": str(error)})
    return programs, skipped, failed


def measure_cell(
    cell: Cell, engines: Sequence[str], effort: Effort, tick: Callable[[], None]
) -> tuple[list[Row], list[Skip], list[Skip]]:
    """The rows of a cell, what could not be measured here, and what failed to start.

    The rounds are spread over several sets of processes: where in memory a
    process happens to lie makes it up to a third faster or slower.
    Raises ProgramFailed when a program dies later; nothing of the cell is kept then.
    """
    wanted = list(variants(engines))
    skipped: list[Skip] = []
    failed: list[Skip] = []
    tallies: dict[Variant, Tally] = {}
    for rounds in _shares(effort.rounds):
        with ExitStack() as stack:
            programs, new_skipped, new_failed = _start(cell, wanted, stack)
            skipped += new_skipped
            failed += new_failed
            wanted = list(programs)
            runs = {str(variant): program.run for variant, program in programs.items()}
            found = sample(runs, Effort(rounds, effort.round_ms), tick)
            for variant, program in programs.items():
                tallies.setdefault(variant, Tally()).add(program, found[str(variant)])
    naive = next(tally for variant, tally in tallies.items() if variant.engine == NAIVE)
    return [_row(cell, v, tallies[v], naive) for v in wanted], skipped, failed


def _shares(rounds: int) -> Iterator[int]:
    """The rounds of each set of processes."""
    sets = min(SETS, rounds)
    for i in range(sets):
        yield rounds // sets + (i < rounds % sets)


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
