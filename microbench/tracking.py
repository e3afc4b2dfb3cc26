# SPDX-License-Identifier: MIT
"""Tracking, measured in C: naive PT and the engines, cell by cell."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from operator import truediv
from statistics import median

from microbench.cells import NAIVE, Cell, Replay, Variant, variants
from microbench.program import Program, ProgramFailed, Unavailable
from microbench.rounds import Effort, measure, sample
from microbench.rows import Row, Skip

SETS = 3  # sets of processes for each cell


@dataclass
class Log:
    """What could not be measured."""

    skipped: list[Skip] = field(default_factory=list)  # not to be had here
    failed: list[Skip] = field(default_factory=list)


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
    cell: Cell | Replay, wanted: Iterable[Variant], stack: ExitStack, log: Log
) -> dict[Variant, Program]:
    programs: dict[Variant, Program] = {}
    for variant in wanted:
        what = f"{variant} ({cell})"
        try:
            programs[variant] = stack.enter_context(Program(cell, variant))
        except Unavailable as reason:
            log.skipped.append({"what": what, "reason": str(reason)})
        except ProgramFailed as error:
            if variant.engine == NAIVE:
                raise  # nothing to compare with
            log.failed.append({"what": what, "reason": str(error)})
    return programs


def sets(
    cell: Cell | Replay, wanted: Sequence[Variant], rounds: int, log: Log
) -> Iterator[tuple[int, dict[Variant, Program]]]:
    """The rounds, spread over several sets of processes, each with its share of them: where
    in memory a process happens to lie makes it up to a third faster or slower. What does not
    start is noted once and left out.
    """
    for share in _shares(rounds):
        with ExitStack() as stack:
            programs = _start(cell, wanted, stack, log)
            wanted = list(programs)
            yield share, programs


def measure_cell(
    cell: Cell, engines: Sequence[str], effort: Effort, tick: Callable[[], None], log: Log
) -> list[Row]:
    """The rows of a cell.

    Raises ProgramFailed when a program dies later; nothing of the cell is kept then.
    """
    tallies: dict[Variant, Tally] = {}
    for rounds, programs in sets(cell, list(variants(engines)), effort.rounds, log):
        runs = {str(variant): program.run for variant, program in programs.items()}
        found = sample(runs, Effort(rounds, effort.round_ms), tick)
        for variant, program in programs.items():
            tallies.setdefault(variant, Tally()).add(program, found[str(variant)])
    naive = next(tally for variant, tally in tallies.items() if variant.engine == NAIVE)
    return [_row(cell, variant, tally, naive) for variant, tally in tallies.items()]


def _shares(rounds: int) -> Iterator[int]:
    """The rounds of each set of processes."""
    count = min(SETS, rounds)
    for i in range(count):
        yield rounds // count + (i < rounds % count)


def measure_cells(
    cells: Sequence[Cell],
    engines: Sequence[str],
    effort: Effort,
    progress: Callable[[str], None],
) -> tuple[list[Row], list[Skip], list[Skip]]:
    """Rows, skipped and failed ones; `progress` is called once a round."""
    rows: list[Row] = []
    log = Log()
    for cell in cells:
        try:
            rows += measure_cell(cell, engines, effort, partial(progress, str(cell)), log)
        except ProgramFailed as error:
            log.failed.append({"what": str(cell), "reason": str(error)})
    return rows, log.skipped, log.failed
