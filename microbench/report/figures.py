# SPDX-License-Identifier: MIT
"""The paper's figures 6 to 18 from rows, one drawing for each place."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib import rc_context
from matplotlib.figure import Figure

from microbench.report import paper
from microbench.report.claims import PLACE_NAMES
from microbench.report.claims_micro import ppt, tsize, wpp
from microbench.report.drawing import bars, curves, dots, engines_of, scale, svg
from microbench.report.measured import Measured, Row
from microbench.report.style import SETTINGS
from microbench.report.wording import listed, number, size

ALL = ("naive-pt", "pt", "uffd", "compare", "emul", "ptxen", "emulxen", "scanxen", "auto")
PAGES, XEN_PAGES, EMULATION = ("naive-pt", "pt"), ("ptxen",), ("emul", "emulxen")
# User space and its counterpart in Xen.
COUNTERPARTS = (("naive-pt", "ptxen"), ("pt", "ptxen"), ("emul", "emulxen"))
SCANS = ("scanxen", "uffd")
MB = 1e6


class Absent(Exception):
    """There is nothing to draw; the message says what is missing."""


@dataclass(frozen=True)
class Drawing:
    figure: str  # the paper's number, with a letter where it has parts
    title: str
    needs: Sequence[str]  # without a row of each of these there is no drawing
    draw: Callable[[Sequence[Row]], Figure]


@dataclass(frozen=True)
class Plot:
    figure: str
    place: str
    says: str  # for those who do not see it
    svg: bytes

    @property
    def name(self) -> str:
        return f"fig{self.figure}-{self.place}"


@dataclass(frozen=True)
class Gap:
    """A drawing that could not be made."""

    figure: str
    place: str
    reason: str


def micro(rows: Sequence[Row], figure: int, engines: Sequence[str]) -> list[Row]:
    """A microbenchmark's rows."""
    found = [
        row
        for row in rows
        if f"fig{figure:02}" in row.figures and row.engine in engines and row.ppt and row.wpp
    ]
    if not found:
        raise Absent(f"no rows of figure {figure} with {listed(engines)}")
    return found


def works(rows: Sequence[Row], opt: int) -> list[Row]:
    """The data structures' rows."""
    found = [row for row in rows if row.structure and row.opt == opt]
    if not found:
        raise Absent(f"no rows of data structures at OPT {opt}")
    return found


def fig6(rows: Sequence[Row]) -> Figure:
    found = micro(rows, 6, (*PAGES, *XEN_PAGES))
    return curves(found, ppt, "PPT, pages a transaction", wpp, lambda w: f"WPP {w}")


def fig7(rows: Sequence[Row]) -> Figure:
    found = micro(rows, 7, EMULATION)
    return curves(found, tsize, "Tsize, writes a transaction", ppt, lambda p: f"PPT {p}")


def fig8(rows: Sequence[Row], engines: Sequence[str]) -> Figure:
    found = micro(rows, 8, engines)
    return curves(found, wpp, "WPP, writes a page", ppt, lambda p: f"PPT {p}")


def fig9(rows: Sequence[Row], engines: Sequence[str]) -> Figure:
    """Where there is no Scanxen, uffd stands in its place: it scans, too."""
    scans = [engine for engine in SCANS if any(row.engine == engine for row in rows)][:1]
    found = micro(rows, 9, (*scans, *engines))
    return curves(
        found, ppt, "PPT, pages a transaction", lambda r: r.cda_bytes, size, logarithmic=True
    )


def fig10(rows: Sequence[Row]) -> Figure:
    found = [row for row in micro(rows, 10, ALL) if row.wpp == 4]
    if not found:
        raise Absent("no rows of figure 10 at WPP 4")
    cell = max((row.cda_bytes, ppt(row)) for row in found)
    chosen = [row for row in found if (row.cda_bytes, ppt(row)) == cell]
    return bars(chosen, f"\n{size(cell[0])}, WPP 4, PPT {cell[1]}")


def _by_engine(rows: Sequence[Row], value: Callable[[Row], float]) -> dict[str, dict[str, float]]:
    points: dict[str, dict[str, float]] = {}
    for row in rows:
        points.setdefault(row.engine, {})[row.work] = value(row)
    return points


def costs(rows: Sequence[Row], opt: int) -> Figure:
    """Figures 11 and 13."""
    found = works(rows, opt)
    divisor, unit = scale([row.total for row in found], found[0].unit)
    points = _by_engine(found, lambda row: row.total / divisor)
    return dots(points, f"{unit} for {number(found[0].tcount * opt)} operations")


def speed_ups(rows: Sequence[Row], opt: int, copied: bool, marks: Sequence[float]) -> Figure:
    """Figures 12, 14 and, with the copy, 18."""
    found = works(rows, opt)
    of: dict[str, dict[str, float]] = {engine: {} for engine in engines_of(found)}
    for row in found:
        of[row.engine][row.work] = row.copied_total if copied else row.total
    # A counterpart has one mark; naive PT is the paper's PT.
    points: dict[str, dict[str, float]] = {}
    for slow, fast in COUNTERPARTS:
        name = fast if slow != "pt" else "pt"
        shared = [work for work in of.get(slow, {}) if work in of.get(fast, {})]
        if shared:
            points[name] = {work: of[slow][work] / of[fast][work] for work in shared}
    if not points:
        raise Absent(f"no engine and its counterpart in Xen at OPT {opt}")
    names = {"ptxen": "ptxen over naive PT", "pt": "ptxen over pt", "emulxen": "emulxen over emul"}
    with_copy = ", with the copy" if copied else ""
    return dots(points, f"times as fast as in user space{with_copy}", marks=marks, names=names)


def volumes(rows: Sequence[Row], emulation: bool) -> Figure:
    """Figures 15 and 16."""
    found = [row for row in works(rows, 1) if (row.engine in EMULATION) == emulation]
    points = _by_engine(found, lambda row: row.copy_bytes * row.tcount / MB)
    if not points:
        raise Absent("no rows of such engines with data structures at OPT 1")
    mark = [paper.EMUL_BYTES_MB] if emulation else list(paper.PAGE_BYTES_MB)
    return dots(points, "MB for 10 000 operations", marks=mark)


def totals(rows: Sequence[Row]) -> Figure:
    """Figure 17."""
    found = works(rows, 1)
    divisor, unit = scale([row.copied_total for row in found], found[0].unit)
    points = _by_engine(found, lambda row: row.copied_total / divisor)
    return dots(points, f"{unit} for {number(found[0].tcount)} operations\nand the copy")


IN_XEN, SCANNED = ("emulxen", "ptxen"), ("scanxen", "ptxen")
beside_naive, beside_ptxen = (partial(fig9, engines=(engine,)) for engine in ("naive-pt", "ptxen"))
speed_ups_1 = partial(speed_ups, opt=1, copied=False, marks=(paper.EMULXEN_MEAN, paper.PTXEN_MEAN))
speed_ups_5 = partial(
    speed_ups, opt=5, copied=False, marks=(paper.EMULXEN_UP_TO_5, paper.PTXEN_UP_TO_5)
)
net_speed_ups = partial(speed_ups, opt=1, copied=True, marks=(paper.NET_EMULXEN, paper.NET_PTXEN))
DRAWINGS = (
    Drawing("6", "PT and PTxen over PPT", (), fig6),
    Drawing("7", "Emul and Emulxen over Tsize", (), fig7),
    Drawing("8a", "Emul and PT", ("emul",), partial(fig8, engines=("emul", *PAGES))),
    Drawing("8b", "Emulxen and PTxen over WPP", IN_XEN, partial(fig8, engines=IN_XEN)),
    Drawing("9a", "Scanxen (natively uffd, which scans, too) and PT", (), beside_naive),
    Drawing("9b", "Scanxen and PTxen over PPT, by the area's size", SCANNED, beside_ptxen),
    Drawing("10", "All engines at WPP 4", (), fig10),
    Drawing("11", "The data structures, OPT 1", (), partial(costs, opt=1)),
    Drawing("12", "Speed-up over the counterpart in user space, OPT 1", (), speed_ups_1),
    Drawing("13", "The data structures, OPT 5", (), partial(costs, opt=5)),
    Drawing("14", "Speed-up over the counterpart in user space, OPT 5", (), speed_ups_5),
    Drawing("15", "Data handled by page tracking, OPT 1", (), partial(volumes, emulation=False)),
    Drawing("16", "Data handled by emulation, OPT 1", (), partial(volumes, emulation=True)),
    Drawing("17", "Total with the copy to the helper, OPT 1", (), totals),
    Drawing("18", "Speed-up with the copy, OPT 1", (), net_speed_ups),
)  # fmt: skip


def _plot(drawing: Drawing, place: str, rows: Sequence[Row]) -> Plot:
    lacking = [e for e in drawing.needs if not any(row.engine == e for row in rows)]
    if lacking:
        raise Absent(f"no rows of {listed(lacking)}")
    with rc_context(SETTINGS):
        drawn = drawing.draw(rows)
        says = f"Figure {drawing.figure}, {PLACE_NAMES[place]}: {drawing.title}"
        return Plot(drawing.figure, place, says, svg(drawn))


def plots(results: Measured) -> Iterator[Plot | Gap]:
    """Every drawing in every place, or why there is none."""
    for drawing in DRAWINGS:
        for place in results.places:
            try:
                yield _plot(drawing, place, results.rows(place))
            except Absent as absent:
                yield Gap(drawing.figure, place, str(absent))
