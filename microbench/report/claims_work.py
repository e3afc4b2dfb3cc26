# SPDX-License-Identifier: MIT
"""Section VI of the paper: Table 2 and figures 11 to 14."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

from microbench.report import counted, paper
from microbench.report.claims import (
    ABOUT,
    NOISE,
    Finding,
    Unknown,
    View,
    about,
    beside,
    found,
    middle,
)
from microbench.report.claims_micro import compared, crossing
from microbench.report.lines import Line, fit
from microbench.report.measured import Row
from microbench.report.wording import amount, listed, number, span, times

MB = 1e6
MS = 1e6  # nanoseconds
PAGE = 4096
MOST = 0.5  # "in most cases": more than half
PROPORTIONAL = 0.95  # R squared


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def most_of(these: Sequence[object], of: Sequence[object]) -> bool:
    return len(these) > MOST * len(of)


def _densities(view: View, opt: int) -> dict[str, float]:
    """Writes a page: those that emulation saw, on the pages that tracking saw."""
    writes, pages = view.works("Emul", opt), view.works("PT", opt)
    return {
        work: (row.writes or 0) / (pages[work].pages or 1)
        for work, row in writes.items()
        if work in pages
    }


def line_through(rows: Iterable[Row], x: Callable[[Row], float | None]) -> Line | None:
    points = [(at, row.per_txn) for row in rows if (at := x(row)) is not None]
    return fit(points) if len({at for at, _ in points}) > 1 else None


def parts(view: View, slow: str, fast: str, opt: int) -> str:
    """What a page or a write costs both engines, over all works."""
    what, x = ("page", _pages_of) if slow == "PT" else ("write", _writes_of)
    # Both over what one of them counted: an engine of Xen's may not count both.
    pairs = view.paired(slow, fast, opt)
    at = {
        work: x(rows[0]) if x(rows[0]) is not None else x(rows[1]) for work, rows in pairs.items()
    }
    lines = [
        line_through((rows[i] for rows in pairs.values()), lambda row: at[row.work])
        for i in range(2)
    ]
    if lines[0] is None or lines[1] is None:
        return f"the rows do not say how many {what}s a transaction has."
    return compared(view, (view.name(slow), lines[0]), (view.name(fast), lines[1]), what)


def _pages_of(row: Row) -> float | None:
    return row.pages


def _writes_of(row: Row) -> float | None:
    return row.writes


def writes_fivefold(view: View) -> Finding:
    both = {work: c for work, c in view.counts().items() if {1, 5} <= set(c)}
    if not both:
        raise Unknown("rows missing: no work of Table 2 has both OPT 1 and OPT 5")
    ratios = {work: c[5]["writes"] / c[1]["writes"] for work, c in both.items()}
    work, far = max(ratios.items(), key=lambda item: abs(item[1] - paper.AGGREGATED))
    return found(
        all(abs(r / paper.AGGREGATED - 1) < NOISE - 1 for r in ratios.values()),
        span(list(ratios.values()), times),
        f"OPT 5 has {span(list(ratios.values()), times)} the writes of OPT 1.",
        f"{work} is at {times(far)}: {number(both[work][1]['writes'])} at OPT 1 and "
        f"{number(both[work][5]['writes'])} at OPT 5.",
    )


def pages_stay(view: View) -> Finding:
    both = {work: c for work, c in view.counts().items() if {1, 5} <= set(c)}
    if not both:
        raise Unknown("rows missing: no work of Table 2 has both OPT 1 and OPT 5")
    ratios = {work: c[5]["pages"] / c[1]["pages"] for work, c in both.items()}
    same = [work for work, ratio in ratios.items() if ratio < ABOUT]
    grown = [f"{work} ({times(ratio)})" for work, ratio in ratios.items() if ratio >= ABOUT]
    return found(
        most_of(same, list(ratios)) and max(ratios.values()) < paper.AGGREGATED,
        f"{len(same)} of {len(ratios)}",
        f"OPT 5 has fewer than {number(ABOUT)} times the pages of OPT 1 in "
        f"{len(same)} of {len(ratios)} works.",
        f"pages grow in {listed(grown)}.",
    )


def cells(view: View, column: str, least: int) -> Finding:
    view.counts()
    asked = [cell for cell in counted.cells(view.results.table2) if cell.column == column]
    equal = [cell for cell in asked if cell.equal]
    wrong = [cell for cell in asked if cell.reason]
    lacking = len(asked) - len(equal) - len(wrong)
    other = listed(f"{c.work} at OPT {c.opt} ({c.shown}, the paper {c.paper})" for c in wrong)
    why = [cell.reason for cell in wrong] + [f"{lacking} cells were not counted."] * bool(lacking)
    return found(
        len(equal) >= least,
        f"{len(equal)} of {len(asked)}",
        f"{len(equal)} of {len(asked)} cells are the paper's, cut to its digits"
        f"{'; not ' + other if wrong else ''}.",
        " ".join(why),
    )


def _break_even(view: View, pages: str, writes: str) -> str:
    try:
        return f"; the break-even of figure 8 is WPP {number(crossing(view, 8, pages, writes)[0])}"
    except Unknown:
        return ""


def usual_order(view: View, works: Sequence[str] = ()) -> Finding:
    names = ("PT", "Emul", "Emulxen", "PTxen")
    rows = {name: view.works(name, 1) for name in names}
    both = [
        work
        for work in rows["PT"]
        if all(work in rows[name] for name in names) and (not works or work.split()[0] in works)
    ]
    if not both:
        raise Unknown("rows missing: no work was measured under all four engines")
    ordered, broken = [], dict[str, list[str]]()
    for work in both:
        wrong = [
            f"{view.name(a)} ≤ {view.name(b)}"
            for a, b in pairwise(names)
            if rows[a][work].per_txn <= rows[b][work].per_txn
        ]
        for pair in wrong:
            broken.setdefault(pair, []).append(work)
        if not wrong:
            ordered.append(work)
    worst = max(broken.items(), key=lambda item: len(item[1]), default=("", []))
    density = _densities(view, 1)
    densities = [density[work] for work in worst[1]]
    return found(
        most_of(ordered, both),
        f"{len(ordered)} of {len(both)}",
        f"{len(ordered)} of {len(both)} works are in this order"
        + (f"; most often broken: {worst[0]} in {listed(worst[1])}." if worst[1] else "."),
        f"{worst[0]} in {len(worst[1])} works, which have {span(densities or [0.0])} writes a page"
        f"{_break_even(view, 'PT', 'Emul')}.{view.caution}",
    )


def ptxen_best(view: View) -> Finding:
    others = {name: view.works(name, 1) for name in ("PT", "Emul", "Emulxen")}
    best, ahead = [], dict[str, str]()
    ours = view.works("PTxen", 1)
    for work, row in ours.items():
        least = min((rows[work].per_txn, name) for name, rows in others.items() if work in rows)
        if row.per_txn < least[0]:
            best.append(work)
        else:
            ahead[work] = least[1]
    return found(
        most_of(best, list(ours)),
        f"{len(best)} of {len(ours)}",
        f"PTxen is the cheapest in {len(best)} of {len(ours)} works"
        + (f"; not in {listed(ahead)}." if ahead else "."),
        f"cheaper are {listed(f'{view.name(name)} in {work}' for work, name in ahead.items())}"
        f"{_break_even(view, 'PTxen', 'Emulxen')}.{view.caution}",
    )


def emul_dearer(view: View) -> Finding:
    pairs = view.paired("Emul", "PT", 1)
    asked = {work: pairs[work] for work in paper.EMUL_DEARER if work in pairs}
    if not asked:
        raise Unknown(f"rows missing: {listed(paper.EMUL_DEARER)} at OPT 1")
    cheap = {work: rows for work, rows in asked.items() if rows[0].per_txn <= rows[1].per_txn}
    density = _densities(view, 1)
    shown = [
        f"{work} {times(emul.per_txn / pt.per_txn)} at {number(density[work])} writes a page"
        for work, (emul, pt) in asked.items()
    ]
    return found(
        not cheap and len(asked) == len(paper.EMUL_DEARER),
        f"{len(asked) - len(cheap)} of {len(asked)}",
        f"emul costs, beside {view.name('PT')}: {listed(shown)}.",
        f"{listed(cheap)} {'has' if len(cheap) == 1 else 'have'} too few writes a page here"
        f"{_break_even(view, 'PT', 'Emul')}.{view.caution}"
        if cheap
        else f"not measured: {listed(set(paper.EMUL_DEARER) - set(asked))}.",
    )


def insert_dearer(view: View, engine: str) -> Finding:
    rows = view.works(engine, 1)
    if not {"list insert", "list delete"} <= set(rows):
        raise Unknown(f"rows missing: list insert and list delete under {view.name(engine)}")
    insert, delete = rows["list insert"], rows["list delete"]
    ratio = insert.per_txn / delete.per_txn
    shown = partial(amount, unit=view.unit)
    return found(
        ratio > 1,
        times(ratio),
        f"{view.name(engine)}: insert {shown(insert.per_txn)}, delete {shown(delete.per_txn)}.",
        f"insert has {number(insert.writes or 0)} writes and delete {number(delete.writes or 0)}, "
        f"with spreads of {shown(insert.spread)} and {shown(delete.spread)}.",
    )


def proportional(view: View, engine: str) -> Finding:
    rows = [row for row in view.works(engine, 1).values() if row.writes]
    line = line_through(rows, _writes_of)
    if line is None:
        raise Unknown(f"rows missing: {view.name(engine)} does not say how many writes there were")
    shown = partial(amount, unit=view.unit)
    far = max(rows, key=lambda r: abs(r.per_txn - line.at(r.writes or 0)) / r.per_txn)
    return found(
        line.straight >= PROPORTIONAL and line.slope > 0,
        f"R² {line.straight:.3f}",
        f"{view.name(engine)}: {shown(line.slope)} a write, R² = {line.straight:.4f} over "
        f"{len(rows)} works.",
        f"farthest off is {far.work}: {shown(far.per_txn)} for {number(far.writes or 0)} writes, "
        f"where the line has {shown(line.at(far.writes or 0))}.",
    )


def speed_ups(view: View, slow: str, fast: str, opt: int, copied: bool = False) -> dict[str, float]:
    def cost(row: Row) -> float:
        return row.copied_total if copied else row.total

    return {work: cost(a) / cost(b) for work, (a, b) in view.paired(slow, fast, opt).items()}


def speed_up(
    view: View, slow: str, fast: str, opt: int, most: float, average: float | None
) -> Finding:
    ratios = speed_ups(view, slow, fast, opt)
    top, got = max(ratios.values()), mean(list(ratios.values()))
    best = max(ratios, key=lambda work: ratios[work])
    agrees = about(top, most) and (average is None or about(got, average))
    against = [beside(top, most)] + ([beside(got, average)] if average else [])
    return found(
        agrees,
        f"up to {times(top)}, mean {times(got)}",
        f"{view.name(fast)} over {view.name(slow)}: {span(list(ratios.values()), times)}, mean "
        f"{times(got)}, the most in {best}.",
        f"{' and '.join(against)}: {parts(view, slow, fast, opt)}",
    )


def pt_ahead_at_5(view: View) -> Finding:
    one, five = view.paired("PT", "Emul", 1), view.paired("PT", "Emul", 5)
    ahead = [work for work, (pt, emul) in five.items() if pt.per_txn < emul.per_txn]
    before = [work for work, (pt, emul) in one.items() if pt.per_txn < emul.per_txn]
    density = middle(list(_densities(view, 5).values()))
    return found(
        most_of(ahead, list(five)),
        f"{len(ahead)} of {len(five)}",
        f"{view.name('PT')} is cheaper than emul in {len(ahead)} of {len(five)} works at OPT 5, in "
        f"{len(before)} of {len(one)} at OPT 1.",
        f"the works have {number(density)} writes a page at OPT 5 (median)"
        f"{_break_even(view, 'PT', 'Emul')}.{view.caution}",
    )


def emul_ahead_at_1(view: View) -> Finding:
    one = view.paired("Emul", "PT", 1)
    ahead = [work for work, (emul, pt) in one.items() if emul.per_txn < pt.per_txn]
    density = middle(list(_densities(view, 1).values()))
    return found(
        most_of(ahead, list(one)),
        f"{len(ahead)} of {len(one)}",
        f"emul is cheaper than {view.name('PT')} in {len(ahead)} of {len(one)} works.",
        f"the works have {number(density)} writes a page at OPT 1 (median)"
        f"{_break_even(view, 'PT', 'Emul')}.{view.caution}",
    )


def gain(view: View, engine: str, wanted: float) -> Finding:
    """What joining five operations saves of the whole."""
    one, five = view.works(engine, 1), view.works(engine, 5)
    both = [work for work in one if work in five]
    if not both:
        raise Unknown(f"rows missing: {view.name(engine)} at OPT 1 and OPT 5 of the same work")
    ratios = [one[work].total / five[work].total for work in both]
    got = mean(ratios)
    pages = mean([five[work].pages / one[work].pages for work in both if one[work].pages])
    line = line_through(one.values(), lambda row: row.pages)
    shown = partial(amount, unit=view.unit)
    why = f"a transaction of five operations has {times(pages)} the pages of one"
    if engine in ("PT", "PTxen") and line and line.slope > 0:
        why += (
            f", {shown(line.slope)} each; begin and end, "
            f"{shown(max(line.fixed, 0))}, come once for five"
        )
    return found(
        about(got, wanted),
        times(got),
        f"{number(paper.OPERATIONS)} operations cost {view.name(engine)} {span(ratios, times)} as "
        f"much at OPT 1 as at OPT 5, mean {times(got)}.",
        f"{beside(got, wanted)}: {why}.{view.caution}",
    )
