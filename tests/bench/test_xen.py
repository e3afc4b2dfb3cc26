# SPDX-License-Identifier: MIT
"""What `microbench xen` makes of the rows that it gets from inside Xen."""

import pytest

from microbench.cells import MIB, Cell, Variant
from microbench.xen import _fit, _judge
from microbench.xen_cells import PAIRS, SCAN, SCAN_VARIANT
from microbench.xen_rows import XenRow


def row(cell: Cell, variant: Variant, instructions: float) -> XenRow:
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
        "instr_per_txn": instructions,
        "spread": 0.0,
        "ratio_to_pt": 1.0,
        "pages_per_txn": 1.0,
        "words_per_txn": 1.0,
    }


def test_ratios_are_judged_against_the_counterpart() -> None:
    pair = PAIRS[0]
    base, begin_end, after_next = pair.variants()
    rows = [
        row(pair.cell, base, 1000.0),
        row(pair.cell, begin_end, 1000.0 / (pair.wanted / 2)),
        row(pair.cell, after_next, 1000.0 / (pair.wanted * 2)),
    ]
    missed, met = _judge(rows)
    assert (missed["got"], missed["met"]) == (pair.wanted / 2, False)
    assert (met["got"], met["met"]) == (pair.wanted * 2, True)


def test_a_write_of_emul_is_counted_without_begin_and_end() -> None:
    rows = [
        row(pair.cell, next(pair.variants()), 2000.0 + 6400.0 * pair.cell.wpp)
        for pair in PAIRS
        if pair.baseline == "emul"
    ]
    (target,) = _judge(rows)
    assert (target["got"], target["met"]) == (6400, True)


def test_the_line_of_a_scan_is_found() -> None:
    rows = [
        row(cell, SCAN_VARIANT, 700.0 + 500.0 * cell.ppt + 3000.0 * cell.cda_bytes / MIB)
        for cell in SCAN
    ]
    line = _fit(rows)
    assert line is not None
    assert (line["base"], line["a"], line["b"]) == pytest.approx((700, 500, 3000), rel=1e-6)
