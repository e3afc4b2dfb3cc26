# SPDX-License-Identifier: MIT
"""What is measured: cells (a workload) and variants (who tracks it, and how)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

KIB, MIB = 1 << 10, 1 << 20
NAIVE = "naive-pt"
# Of a trace, for each round: a transaction of each part of the trace, and the part's share of
# all transactions.
Sample = tuple[tuple[tuple[int, float], ...], ...]
ENGINES = ("pt", "emul", "uffd", "compare", "auto")
PAGE_ENGINES = ("pt", "uffd")  # measured in page form without a twin, too
NEXT_ENGINES = ("uffd", "compare")  # measured in a loop of hac_next(), too


@dataclass(frozen=True)
class Cell:
    """A workload: per transaction `ppt` pages of the area, `wpp` writes on each."""

    cda_bytes: int
    ppt: int
    wpp: int
    pattern: str = "random"
    threads: int = 1

    def __str__(self) -> str:
        unit, size = (MIB, "MiB") if self.cda_bytes >= MIB else (KIB, "KiB")
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        shape = f"PPT {self.ppt}, WPP {self.wpp}, {self.pattern}"
        return f"{self.cda_bytes // unit} {size}, {shape}{threads}"

    def arguments(self) -> list[str]:
        """For the programs in C."""
        words = ["--cda", str(self.cda_bytes), "--ppt", str(self.ppt), "--wpp", str(self.wpp)]
        return [*words, "--pattern", self.pattern, "--threads", str(self.threads)]


@dataclass(frozen=True)
class Replay:
    """A workload: `opt` operations of a data structure a transaction, from a trace."""

    structure: str
    operation: str
    opt: int
    trace: Path

    def __str__(self) -> str:
        return f"{self.structure} {self.operation}, OPT {self.opt}"

    def arguments(self) -> list[str]:
        return ["--trace", str(self.trace), "--opt", str(self.opt)]


@dataclass(frozen=True)
class Variant:
    engine: str
    delta: str  # "words" or "pages"
    twin: bool
    loop: str = "begin-end"  # or "next"

    def __str__(self) -> str:
        if self.engine == NAIVE:
            return self.engine
        name = self.engine if self.twin else f"{self.engine} {self.delta}, no twin"
        return name if self.loop == "begin-end" else f"{name}, hac_{self.loop}"


# The form in which an engine's result is what the paper's is: pages or words are listed, and
# nothing is compared. Those that are not named here compare with a twin.
LISTS = {
    NAIVE: "pages",
    "pt": "pages",
    "uffd": "pages",
    "ptxen": "pages",
    "scanxen": "pages",
    "emul": "words",
    "emulxen": "words",
}


def listing(engine: str) -> Variant:
    """The engine as the evaluation measures it: transactions follow each other, as in the
    paper's loops, without a look for writes between them."""
    form = LISTS.get(engine)
    return Variant(engine, form or "words", twin=form is None, loop="next")


FULL = (
    *(
        Cell(size, ppt, wpp)
        for size, ppts in ((64 * KIB, (1, 4)), (MIB, (1, 4, 16)), (64 * MIB, (4,)))
        for ppt in ppts
        for wpp in (1, 4)
    ),
    Cell(64 * KIB, 4, 16),
    Cell(MIB, 4, 16),
    Cell(64 * KIB, 4, 4, "hot"),
    Cell(MIB, 4, 4, "hot"),
    Cell(64 * MIB, 4, 4, "hot"),
    Cell(MIB, 4, 4, threads=2),
)
QUICK = (
    Cell(64 * KIB, 4, 4),
    Cell(MIB, 4, 1),
    Cell(MIB, 4, 4),
    Cell(MIB, 16, 4),
)


def variants(engines: Sequence[str]) -> Iterator[Variant]:
    """The yardstick first, then each engine as users get it, then page lists."""
    yield Variant(NAIVE, "pages", twin=False)
    for engine in engines:
        yield Variant(engine, "words", twin=True)
        if engine in NEXT_ENGINES:
            yield Variant(engine, "words", twin=True, loop="next")
    for engine in engines:
        if engine in PAGE_ENGINES:
            yield Variant(engine, "pages", twin=False)
