# SPDX-License-Identifier: MIT
"""What is measured inside the patched Xen, what is wanted, and what the paper found."""

from collections.abc import Iterator
from dataclasses import dataclass

from microbench.cells import MIB, NAIVE, Cell, Variant

PAGE = 4096


@dataclass(frozen=True)
class Pair:
    """An engine in Xen beside its counterpart in user space, in the same cell."""

    cell: Cell
    engine: str
    baseline: str
    wanted: float  # times as few instructions
    paper: str  # what DSN 2011 reports for such a pair, in words

    def variants(self) -> Iterator[Variant]:
        """The baseline first. All without a twin: lists of pages, or of words."""
        delta = "words" if self.engine == "emulxen" else "pages"
        yield Variant(self.baseline, delta, twin=False)
        yield Variant(self.engine, delta, twin=False)
        yield Variant(self.engine, delta, twin=False, loop="next")


def _pages(pages: int, ppt: int, wpp: int = 1) -> Cell:
    return Cell(pages * PAGE, ppt, wpp)


PT_PAPER = "about 10 times (figure 6), up to 13 (figure 14)"
EMUL_PAPER = "about 4 times (figure 7)"

PAIRS = (
    Pair(_pages(64, 1), "ptxen", NAIVE, 10, PT_PAPER),
    Pair(_pages(64, 8), "ptxen", NAIVE, 15, PT_PAPER),
    Pair(_pages(1024, 64), "ptxen", NAIVE, 15, PT_PAPER),
    Pair(_pages(65536, 8), "ptxen", NAIVE, 10, PT_PAPER),
    Pair(_pages(64, 1, 1), "emulxen", "emul", 2, EMUL_PAPER),
    Pair(_pages(64, 1, 4), "emulxen", "emul", 3, EMUL_PAPER),
    Pair(_pages(64, 1, 16), "emulxen", "emul", 3, EMUL_PAPER),
)
EMUL_PER_WRITE = 6500.0  # at most; the baseline must not be a straw man

# Dirty pages and sizes over which Scanxen's line is fitted.
SCAN = tuple(
    Cell(size, ppt, 1) for size in (MIB // 4, MIB, 4 * MIB, 16 * MIB) for ppt in (1, 8, 32, 64)
)
SCAN_VARIANT = Variant("scanxen", "pages", twin=False, loop="next")
SCAN_PAPER = (0.0625, 2.5)  # y = a PPT + b MB, section V.C; y's unit is not given
