# SPDX-License-Identifier: MIT
"""`advise-check`: what `advise` expects of the engines beside what they take here."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pyhac
from microbench.cells import KIB, MIB, Cell, Variant
from microbench.program import Missing, Program, executable
from microbench.rounds import Effort, sample
from microbench.show import Progress
from pyhac.advice import checked_engines
from pyhac.calibration import Manner, costs_of
from pyhac.costs import Costs

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

# None of these sizes is one that the model was fitted to.
SIZES = (24 * KIB, 96 * KIB, 384 * KIB, 1536 * KIB, 6 * MIB, 24 * MIB)
PPTS, WPPS = (1, 3, 12, 48), (1, 3, 12)
PASSES = 3  # over all cells, each with processes of its own
ALIKE = 1.1  # engines this near to each other are equally good

DESCRIPTION = """\
Measure engines over a grid of cells with engine_bench, in C, and compare what
`advise` expects (pyhac/costs.py, fitted to a few other cells, in Python).
"""
EPILOG = """\
example:
  python -m microbench advise-check --rounds 5 --json /tmp/check.json

exit codes: 0 measured; 2 wrong usage, the C programs are not built, or the
engines could not be measured.
"""


@dataclass(frozen=True)
class Check:
    """One engine in one cell, nanoseconds a transaction."""

    engine: str
    cda_bytes: int
    ppt: int
    wpp: int
    expected: float
    measured: float

    @property
    def factor(self) -> float:
        """How far apart they are: 1 is equal."""
        return max(self.expected / self.measured, self.measured / self.expected)


def grid() -> Iterator[Cell]:
    for size in SIZES:
        for ppt in PPTS:
            for wpp in WPPS:
                if ppt * 4096 <= size:
                    yield Cell(size, ppt, wpp)


def _measure(cell: Cell, engines: Iterable[str], effort: Effort) -> dict[str, float]:
    """The fastest rounds: whatever else the machine does makes one longer, never shorter."""
    with ExitStack() as stack:
        runs = {}
        for engine in engines:
            variant = Variant(engine, "words", twin=True)
            runs[engine] = stack.enter_context(Program(cell, variant)).run
        return {engine: min(found) for engine, found in sample(runs, effort).items()}


def _checks(cell: Cell, costs: dict[str, Costs], passes: Sequence[dict[str, float]]) -> list[Check]:
    checks = []
    for engine, model in costs.items():
        measured = min(found[engine] for found in passes)
        expected = model.ns(cell.cda_bytes, 1, cell.ppt, cell.ppt * cell.wpp)
        shape = (cell.cda_bytes, cell.ppt, cell.wpp)
        checks.append(Check(engine, *shape, round(expected, 1), round(measured, 1)))
    return checks


def loss(cell: Sequence[Check]) -> float:
    """How many times as long as the best engine takes the one that would be favoured."""
    favoured = min(cell, key=lambda check: check.expected)
    return favoured.measured / min(check.measured for check in cell)


def misordered(cell: Sequence[Check]) -> tuple[int, int]:
    """Pairs of engines in the wrong order, of those that are not alike."""
    wrong = pairs = 0
    for one, two in combinations(cell, 2):
        ratio = one.measured / two.measured
        if 1 / ALIKE < ratio < ALIKE:
            continue
        pairs += 1
        wrong += (ratio > 1) != (one.expected > two.expected)
    return wrong, pairs


def _show(cells: dict[Cell, list[Check]]) -> None:
    for cell, checks in cells.items():
        cost = loss(checks)
        print(f"{cell}{'' if cost <= ALIKE else f'   favoured one takes {cost:.2f}x the best'}")
        for check in sorted(checks, key=lambda check: check.measured):
            print(
                f"  {check.engine:10}measured {check.measured / 1000:10.2f} µs, expected "
                f"{check.expected / 1000:10.2f} µs  {check.expected / check.measured:5.2f}x"
            )
    print()
    every = [check for checks in cells.values() for check in checks]
    for engine in dict.fromkeys(check.engine for check in every):
        factors = [check.factor for check in every if check.engine == engine]
        print(f"{engine:10}off by {median(factors):.2f}x (median), {max(factors):.2f}x (worst)")
    right = sum(loss(checks) <= ALIKE for checks in cells.values())
    worst = max(loss(checks) for checks in cells.values())
    wrong, pairs = map(sum, zip(*map(misordered, cells.values()), strict=True))
    print(
        f"the favoured engine is the best, or within {ALIKE - 1:.0%} of it, in {right} of "
        f"{len(cells)} cells; at worst it takes {worst:.2f}x\n"
        f"of pairs of engines that are not so near, {pairs - wrong} of {pairs} are in order"
    )


def run(options: argparse.Namespace) -> int:
    try:
        executable("engine_bench")
        engines = [info.name for info in checked_engines(None) if info.available]
        costs = costs_of(engines, Manner(), anew=options.measure)
    except (Missing, pyhac.Error) as error:
        print(f"advise-check: {error}", file=sys.stderr)
        return 2
    effort, every = Effort(options.rounds, options.round_ms), list(grid())
    passes: dict[Cell, list[dict[str, float]]] = {cell: [] for cell in every}
    progress = Progress(PASSES * len(every))
    try:
        for _ in range(PASSES):
            for cell in every:
                passes[cell].append(_measure(cell, costs, effort))
                progress(str(cell))
    finally:
        progress.close()
    found = {cell: _checks(cell, costs, passes[cell]) for cell in every}
    _show(found)
    if options.json:
        rows = [asdict(check) for checks in found.values() for check in checks]
        options.json.write_text(json.dumps({"version": 1, "rows": rows}, indent=1) + "\n")
    return 0


def add_command(commands: "Commands") -> None:
    parser = commands.add_parser(
        "advise-check",
        help="compare what advise expects with measurements",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of each cell in each of three passes (3)"
    )
    parser.add_argument("--round-ms", type=float, default=5.0, help="length of a round (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go")
    parser.add_argument("--measure", action="store_true", help="measure what advise uses again")
    parser.set_defaults(run=run)
