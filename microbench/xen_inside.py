# SPDX-License-Identifier: MIT
"""`xen-inside`: count instructions; runs where `hypercall-patch/boot --icount` runs it.

There an instruction takes a nanosecond, so the programs of this folder, which
report nanoseconds, report instructions: of the process, of the guest's kernel
and of Xen, whatever was executed between the two looks at the clock.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from microbench import machine
from microbench.cells import NAIVE, Cell, Variant
from microbench.program import Program, ProgramFailed, Unavailable
from microbench.rounds import Measure, measure
from microbench.rows import VERSION, Skip
from microbench.xen_cells import PAIRS, SCAN, SCAN_VARIANT
from microbench.xen_rows import XenDocument, XenRow

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

BATCHES = 5
SPREAD = 0.03
TRANSACTIONS = 50  # at least, over all batches
BATCH_INSTRUCTIONS = 20_000_000  # about what a batch should take
ATTEMPTS = 6  # each with batches twice as long


def _count(program: Program) -> Measure:
    """The median of five batches, once they lie together."""
    program.run(5)
    size = max(TRANSACTIONS // BATCHES, 1)
    size = min(max(size, BATCH_INSTRUCTIONS * size // max(program.run(size), 1)), 5000)
    found = Measure(0, 0)
    for _ in range(ATTEMPTS):
        found = measure([program.run(size) / size for _ in range(BATCHES)])
        if found.spread < SPREAD * found.ns:
            break
        size *= 2
    return found


def _row(cell: Cell, variant: Variant, program: Program, found: Measure, base: float) -> XenRow:
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
        "instr_per_txn": round(found.ns, 1),
        "spread": round(found.spread, 1),
        "ratio_to_pt": round(base / found.ns, 3),
        "pages_per_txn": program.pages / program.transactions,
        "words_per_txn": program.words / program.transactions,
    }


def _cells() -> dict[Cell, list[Variant]]:
    """Naive PT in each cell, then what is measured there, each once."""
    cells: dict[Cell, list[Variant]] = {}
    for pair in PAIRS:
        wanted = cells.setdefault(pair.cell, [Variant(NAIVE, "pages", twin=False)])
        wanted += [variant for variant in pair.variants() if variant not in wanted]
    for cell in SCAN:
        cells.setdefault(cell, [Variant(NAIVE, "pages", twin=False)]).append(SCAN_VARIANT)
    return cells


def _measure_cell(
    cell: Cell, wanted: Iterable[Variant], skipped: list[Skip], failed: list[Skip]
) -> Iterable[XenRow]:
    base = 0.0
    for variant in wanted:
        what = f"{variant} ({cell})"
        try:
            with Program(cell, variant) as program:
                found = _count(program)
                base = base or found.ns
                yield _row(cell, variant, program, found, base)
        except Unavailable as reason:
            skipped.append({"what": what, "reason": str(reason)})
        except ProgramFailed as error:
            failed.append({"what": what, "reason": str(error)})
            if variant.engine == NAIVE:
                return


def run(options: argparse.Namespace) -> int:
    rows: list[XenRow] = []
    skipped: list[Skip] = []
    failed: list[Skip] = []
    cells = _cells()
    for number, (cell, wanted) in enumerate(cells.items(), 1):
        print(f"[{number}/{len(cells)}] {cell}", flush=True)
        rows += _measure_cell(cell, wanted, skipped, failed)
    document: XenDocument = {
        "version": VERSION,
        "machine": machine.describe(),
        "rows": rows,
        "targets": [],
        "scan": None,
        "skipped": skipped,
        "failed": failed,
    }
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def add_command(commands: "Commands") -> None:
    parser = commands.add_parser(
        "xen-inside",
        help="count instructions (what `xen` runs inside the patched Xen)",
        description=__doc__,
        epilog="example:\n  hypercall-patch/boot --icount --share /tmp/out -- \\\n"
        "      python -m microbench xen-inside --json /tmp/out/rows.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.set_defaults(run=run)
