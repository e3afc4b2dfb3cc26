# SPDX-License-Identifier: MIT
"""Section V of the paper: figures 6 to 10."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from operator import attrgetter, itemgetter

from microbench.report import paper
from microbench.report.claims import (
    NOISE,
    Finding,
    Unknown,
    View,
    about,
    beside,
    found,
    middle,
)
from microbench.report.lines import Line, Plane, fit, fit_plane, steady
from microbench.report.measured import Row
from microbench.report.wording import MIB, amount, listed, number, size, span, times

STRAIGHT = 0.98  # R squared of what is called linear
SMALL_CDA = MIB  # "10s or 100s of Kbytes"
NEGLIGIBLE = 0.25  # a share of the cost
PAGE = 4096


def ppt(row: Row) -> int:
    assert row.ppt is not None
    return row.ppt


def wpp(row: Row) -> int:
    assert row.wpp is not None
    return row.wpp


def tsize(row: Row) -> int:
    return ppt(row) * wpp(row)


def _largest_area(rows: Sequence[Row]) -> list[Row]:
    """One size of the area, where several were measured."""
    most = max(row.cda_bytes for row in rows)
    return [row for row in rows if row.cda_bytes == most]


def line_over(rows: Sequence[Row], x: str, least: int = 2) -> Line:
    """A line through the costs over "ppt", "wpp" or "tsize"."""
    of = {"ppt": ppt, "wpp": wpp, "tsize": tsize}[x]
    if len({of(row) for row in rows}) < least:
        raise Unknown(
            f"rows missing: {rows[0].engine} has fewer than {least} values of {x.upper()}"
        )
    return steady([(of(row), row.per_txn) for row in rows])


def compared(view: View, slow: tuple[str, Line], fast: tuple[str, Line], what: str) -> str:
    """What makes a ratio: the fixed costs, and those of each page or write."""
    (name, line), (other, base) = slow, fast
    shown = partial(amount, unit=view.unit)
    each = f"each {what} costs {name} {shown(line.slope)} and {other} {shown(base.slope)}"
    if base.slope > 0 and line.slope > 0:
        each += f" ({times(line.slope / base.slope)})"
    ends = [shown(each.fixed) if each.fixed > 0 else "nothing" for each in (line, base)]
    fixed = f"begin and end {ends[0]} and {ends[1]}"
    if base.fixed > 0 and line.fixed > 0:
        fixed += f" ({times(line.fixed / base.fixed)})"
    return f"{each}, {fixed}.{view.caution}"


def _by_ppt(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Of one size of the area."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in _largest_area(rows):
        groups[ppt(row)].append(row)
    return dict(sorted(groups.items()))


def _farthest(groups: Iterable[Sequence[Row]]) -> tuple[float, Row, Row]:
    """The group whose rows are the most times apart; how many; its least and greatest."""
    cost = attrgetter("per_txn")
    ends = [(min(group, key=cost), max(group, key=cost)) for group in groups]
    return max(((high.per_txn / low.per_txn, low, high) for low, high in ends), key=itemgetter(0))


def _scatter(view: View, low: Row, high: Row) -> str:
    """Rows that differ by nothing that was varied."""
    spreads = span([100 * row.spread / row.per_txn for row in (low, high)])
    return (
        f"the rows scatter: at PPT {low.ppt} WPP {low.wpp} costs "
        f"{amount(low.per_txn, view.unit)}, WPP {high.wpp} {amount(high.per_txn, view.unit)}, "
        f"with spreads of {spreads} %"
    )


def linear(view: View, engine: str) -> Finding:
    """Of the medians over WPP: what writes cost is asked by coincide()."""
    rows = view.rows(6, engine)
    groups = _by_ppt(rows)
    if len(groups) < 3:
        raise Unknown(f"rows missing: {view.name(engine)} has fewer than 3 values of PPT")
    points = [(at, middle([row.per_txn for row in group])) for at, group in groups.items()]
    line, shown = fit(points), partial(amount, unit=view.unit)
    steps = [(b - a) / (y - x) for (x, a), (y, b) in pairwise(points)]
    first, last = (f"from PPT {a[0]} to {b[0]}" for a, b in (points[:2], points[-2:]))
    why = f"a page more costs {shown(steps[0])} {first} and {shown(steps[-1])} {last}"
    apart, low, high = _farthest(groups.values())
    if apart > NOISE:
        why += f"; {_scatter(view, low, high)}"
    return found(
        line.slope > 0 and line.straight >= STRAIGHT,
        f"R² {line.straight:.3f}",
        f"{view.name(engine)}: {shown(line.fixed)} and {shown(line.slope)} a page, "
        f"R² = {line.straight:.4f}.",
        f"{why}.{view.caution}",
    )


def coincide(view: View, engine: str) -> Finding:
    rows = view.rows(6, engine)
    several = [group for group in _by_ppt(rows).values() if len(group) > 1]
    if not several:
        raise Unknown(f"rows missing: {view.name(engine)} in figure 6 has one WPP only")
    apart, low, high = _farthest(several)
    write = fit_plane([(ppt(row), tsize(row), row.per_txn) for row in rows])
    shown = partial(amount, unit=view.unit)
    why = f"each write costs {shown(write.b)} even on an open page, beside {shown(write.a)} a page"
    if wpp(high) < wpp(low) or write.b <= 0:
        why = f"more writes do not cost more, {_scatter(view, low, high)}"
    return found(
        apart <= NOISE,
        f"≤ {100 * (apart - 1):.0f} % apart",
        f"{view.name(engine)}: farthest apart at PPT {low.ppt}, WPP {low.wpp} {shown(low.per_txn)} "
        f"and WPP {high.wpp} {shown(high.per_txn)}.",
        f"{why}.",
    )


def faster(view: View, figure: int, slow: str, fast: str, wanted: float) -> Finding:
    """Cell by cell, how many times as fast."""
    what, axis = ("page", "ppt") if slow == "PT" else ("write", "tsize")
    theirs, ours = view.rows(figure, slow), view.rows(figure, fast)
    by_cell = {(row.cda_bytes, row.ppt, row.wpp): row for row in ours}
    ratios = [
        row.per_txn / other.per_txn
        for row in theirs
        if (other := by_cell.get((row.cda_bytes, row.ppt, row.wpp)))
    ]
    if not ratios:
        raise Unknown(f"rows missing: {slow} and {fast} have no cell of figure {figure} in common")
    ratio = middle(ratios)
    lines = [
        (view.name(engine), line_over(_largest_area(rows), axis))
        for engine, rows in ((slow, theirs), (fast, ours))
    ]
    return found(
        about(ratio, wanted),
        times(ratio),
        f"{view.name(fast)} is {span(ratios, times)} as fast as {view.name(slow)}, "
        f"median {times(ratio)}.",
        f"{beside(ratio, wanted)}: {compared(view, lines[0], lines[1], what)}",
    )


def tsize_alone(view: View, engine: str) -> Finding:
    rows = view.rows(7, engine)
    groups: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.cda_bytes, tsize(row)].append(row)
    several = [group for group in groups.values() if len({ppt(row) for row in group}) > 1]
    if not several:
        raise Unknown(f"rows missing: {view.name(engine)} has no Tsize with two values of PPT")
    apart, low, high = _farthest(several)
    both = fit_plane([(tsize(row), ppt(row), row.per_txn) for row in rows])
    shown = partial(amount, unit=view.unit)
    return found(
        apart <= NOISE,
        f"≤ {100 * (apart - 1):.0f} % apart",
        f"{view.name(engine)}: farthest apart at Tsize {tsize(low)}: PPT {low.ppt} costs "
        f"{shown(low.per_txn)}, PPT {high.ppt} {shown(high.per_txn)}.",
        f"a write costs {shown(both.a)}, and the first on a page "
        f"{shown(abs(both.b))} {'more' if both.b > 0 else 'less'}; the spreads of "
        f"the two are {span([100 * row.spread / row.per_txn for row in (low, high)])} %.",
    )


def crossing(view: View, figure: int, pages: str, writes: str) -> tuple[float, Line, Line, int]:
    """The WPP at which both cost the same, their lines over WPP, and the PPT."""
    theirs, ours = view.rows(figure, pages), view.rows(figure, writes)
    at = max(
        {(r.cda_bytes, ppt(r)) for r in theirs} & {(r.cda_bytes, ppt(r)) for r in ours},
        default=None,
    )
    if at is None:
        raise Unknown(
            f"rows missing: {pages} and {writes} have no cell of figure {figure} in common"
        )
    flat, steep = (
        line_over([row for row in rows if (row.cda_bytes, ppt(row)) == at], "wpp")
        for rows in (theirs, ours)
    )
    meets = flat.meets(steep)
    if meets is None or steep.slope <= flat.slope:
        raise Unknown(f"{writes} does not grow faster with WPP than {pages}: the lines do not meet")
    return meets, flat, steep, at[1]


def _page_in_writes(view: View, pages: str, writes: str) -> str:
    """What the break-even comes of."""
    meets, flat, steep, at = crossing(view, 8, pages, writes)
    shown = partial(amount, unit=view.unit)
    page, write = flat.at(meets) / at, steep.slope / at
    free = max(steep.fixed, 0) / at
    besides = f", and {shown(free)} a page besides" if free else ""
    return (
        f"at PPT {at} a page costs {view.name(pages)} {shown(page)}, begin and end spread over the "
        f"pages; a write costs {view.name(writes)} {shown(write)}{besides}"
    )


def _cheaper_at(view: View, pages: str, writes: str) -> str:
    """The measured WPP at which emulation wins, without any line."""
    theirs = {(row.cda_bytes, row.ppt, row.wpp): row.per_txn for row in view.rows(8, pages)}
    won = {
        wpp(row)
        for row in view.rows(8, writes)
        if row.per_txn < theirs.get((row.cda_bytes, row.ppt, row.wpp), 0.0)
    }
    return f"WPP {listed(map(str, sorted(won)), most=12)}" if won else "none"


def break_even(view: View, pages: str, writes: str, wanted: float) -> Finding:
    meets, *_ = crossing(view, 8, pages, writes)
    tested = [wpp(row) for row in view.rows(8, writes)]
    cheaper = _cheaper_at(view, pages, writes)
    outside = "" if min(tested) <= meets <= max(tested) else ", outside of what was measured"
    side = "fewer" if meets < wanted else "more"
    why = (
        f"{_page_in_writes(view, pages, writes)}: {side} of {view.name(writes)}'s writes fit into "
        f"a page's cost than the paper's {number(wanted)}"
    )
    if writes == "Emul" and view.place == "native" and meets < wanted:
        why += (
            "; natively mprotect and signals need no hypercall, and the paper measured under Xen, "
            f"where it found mprotect {times(paper.MPROTECT_UNDER_XEN)} as slow"
        )
    return found(
        about(meets, wanted),
        f"WPP {number(meets)}",
        f"The lines of {view.name(pages)} and {view.name(writes)} meet at WPP {number(meets)}"
        f"{outside}; {view.name(writes)} is the cheaper one at {cheaper}.",
        f"{why}.{view.caution}",
    )


def sides(view: View, pages: str, writes: str) -> Finding:
    """Emulation is cheaper at few writes a page, page tracking at many."""
    theirs, ours = view.rows(8, pages), view.rows(8, writes)
    by_cell = {(row.cda_bytes, row.ppt, row.wpp): row for row in theirs}
    both = [
        (row, by_cell[key]) for row in ours if (key := (row.cda_bytes, row.ppt, row.wpp)) in by_cell
    ]
    if len({wpp(row) for row, _ in both}) < 2:
        raise Unknown(f"rows missing: {pages} and {writes} share fewer than two values of WPP")
    few, many = (pick(wpp(row) for row, _ in both) for pick in (min, max))
    cheap = all(row.per_txn < other.per_txn for row, other in both if wpp(row) == few)
    dear = all(row.per_txn > other.per_txn for row, other in both if wpp(row) == many)
    name, other_name = view.name(writes), view.name(pages)
    shares = {
        edge: [row.per_txn / other.per_txn for row, other in both if wpp(row) == edge]
        for edge in (few, many)
    }
    said = ", ".join(
        f"at WPP {edge} {name} costs {span(share, times)} of {other_name}"
        for edge, share in shares.items()
    )
    try:
        why = f"{_page_in_writes(view, pages, writes)}.{view.caution}"
    except Unknown as unknown:
        why = f"{unknown}."
    ends = " | ".join(times(middle(share)) for share in shares.values())
    return found(cheap and dear, ends, f"{said[0].upper()}{said[1:]}.", why)


def lower_in_xen(view: View) -> Finding:
    user, *_ = crossing(view, 8, "PT", "Emul")
    inside, *_ = crossing(view, 8, "PTxen", "Emulxen")
    return found(
        inside < user,
        f"{number(inside)} < {number(user)}"
        if inside < user
        else f"{number(inside)} ≥ {number(user)}",
        f"Break-even at WPP {number(inside)} with the hypervisor, {number(user)} in user space.",
        f"{_page_in_writes(view, 'PTxen', 'Emulxen')}; {_page_in_writes(view, 'PT', 'Emul')}.",
    )


def scan_plane(view: View) -> tuple[Plane, list[Row]]:
    rows = view.rows(9, "Scanxen")
    if len({ppt(row) for row in rows}) < 2 or len({row.cda_bytes for row in rows}) < 2:
        raise Unknown("rows missing: scanxen needs two values of PPT and two sizes in figure 9")
    return fit_plane([(ppt(row), row.cda_bytes / MIB, row.per_txn) for row in rows]), rows


def scan_line(view: View) -> Finding:
    plane, _ = scan_plane(view)
    if plane.b <= 0:
        said = f"b = {number(plane.b)}"
        return found(False, said, f"{said}.", f"the size costs nothing here: {said}.")
    ours, theirs = plane.a / plane.b, paper.SCAN_PER_PAGE / paper.SCAN_PER_MB
    entries = MIB // PAGE
    shown = partial(amount, unit=view.unit)
    return found(
        about(ours, theirs),
        f"a = {number(plane.a)}, b = {number(plane.b)}",
        f"y = {number(plane.a)} PPT + {number(plane.b)} MB {view.unit} (and {shown(plane.fixed)} "
        f"always). The paper names no unit, so only a / b compares: {number(ours)} MB a page here, "
        f"{number(theirs)} there.",
        f"reading an entry of a page table costs {shown(plane.b / entries)} and a page found dirty "
        f"{shown(plane.a)}, as much as {number(plane.a / plane.b * entries)} entries; in the paper "
        f"as {number(theirs * entries)}.",
    )


def _page_by_size(view: View, rows: Sequence[Row]) -> str:
    """What a dirty page costs the scan in areas of each size."""
    by_size: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_size[row.cda_bytes].append(row)
    return listed(
        f"{amount(line_over(group, 'ppt').slope, view.unit)} in {size(area)}"
        for area, group in sorted(by_size.items())
        if len({ppt(row) for row in group}) > 1
    )


def scan_linear(view: View) -> Finding:
    plane, rows = scan_plane(view)
    signs = f"a = {number(plane.a)}, b = {number(plane.b)}, R² = {plane.straight:.4f}"
    return found(
        plane.a > 0 and plane.b > 0 and plane.straight >= STRAIGHT,
        f"R² {plane.straight:.3f}",
        f"{len(rows)} cells: {signs}.",
        f"a page costs {_page_by_size(view, rows)}.{view.caution}",
    )


def scan_static(view: View) -> Finding:
    plane, rows = scan_plane(view)
    if plane.a <= 0 or plane.b <= 0:
        signs = f"a = {number(plane.a)}, b = {number(plane.b)}"
        return found(False, "no line", f"{signs}.", f"pages or size cost nothing here: {signs}.")
    pages = int(middle(sorted({ppt(row) for row in rows})))
    sizes = sorted({row.cda_bytes for row in rows})
    small, large = (
        plane.a * pages / (plane.a * pages + plane.b * edge / MIB) for edge in (sizes[0], sizes[-1])
    )
    return found(
        large < small and large <= NEGLIGIBLE,
        f"{100 * large:.0f} % of {size(sizes[-1])}",
        f"At PPT {pages} the pages make {100 * small:.0f} % of the line at {size(sizes[0])} and "
        f"{100 * large:.0f} % at {size(sizes[-1])}.",
        f"a page found costs as much as scanning {size(plane.a / plane.b * MIB)}, in the paper as "
        f"{size(paper.SCAN_PER_PAGE / paper.SCAN_PER_MB * MIB)}.",
    )


def _against_scan(view: View, engine: str) -> dict[tuple[int, int], float]:
    """The engine's cost over Scanxen's, by size and PPT."""
    scans, others = view.rows(9, "Scanxen"), view.rows(9, engine)
    exact = {(row.cda_bytes, ppt(row)): row.per_txn for row in others}
    ratios = {
        key: exact[key] / row.per_txn
        for row in scans
        if (key := (row.cda_bytes, ppt(row))) in exact
    }
    if len(ratios) < 2:
        raise Unknown(f"rows missing: {view.name(engine)} beside scanxen in two cells of figure 9")
    return ratios


def _won(ratios: dict[tuple[int, int], float], name: str) -> str:
    wins = [key for key, ratio in ratios.items() if ratio > 1]
    if not wins:
        return f"Scanxen beats {name} in none of {len(ratios)} cells."
    by_size: dict[int, int] = {}
    for area, pages in wins:
        by_size[area] = min(pages, by_size.get(area, pages))
    cells = listed(f"{size(area)} from PPT {pages}" for area, pages in sorted(by_size.items()))
    return f"Scanxen beats {name} in {len(wins)} of {len(ratios)} cells: {cells}."


def scan_beats_pt(view: View) -> Finding:
    ratios = _against_scan(view, "PT")
    by_size: dict[int, list[float]] = defaultdict(list)
    by_pages: dict[int, list[float]] = defaultdict(list)
    for (area, pages), ratio in sorted(ratios.items()):
        by_size[area].append(ratio)
        by_pages[pages].append(ratio)
    grows = all(group[-1] > group[0] for group in by_size.values() if len(group) > 1)
    falls = all(a > b for group in by_pages.values() for a, b in pairwise(group))
    wins = sum(ratio > 1 for ratio in ratios.values())
    name = view.name("PT")
    (area, pages), least = min(ratios.items(), key=lambda item: item[1])
    trend = "grows" if grows else "does not grow"
    return found(
        bool(wins) and grows and falls,
        f"{wins} of {len(ratios)} cells",
        f"{_won(ratios, name)} Its gain {trend} with PPT and "
        f"{'falls' if falls else 'does not fall'} with the size.",
        f"at {size(area)} and PPT {pages} {name} costs {times(least)} of scanxen's cost, the least "
        f"of all cells.{view.caution}",
    )


def scan_against_ptxen(view: View) -> Finding:
    ratios = _against_scan(view, "PTxen")
    wins = [key for key, ratio in ratios.items() if ratio > 1]
    small = [key for key in ratios if key[0] < SMALL_CDA]
    plane, _ = scan_plane(view)
    tracked = line_over(view.rows(9, "PTxen"), "ppt")
    shown = partial(amount, unit=view.unit)
    only_small = all(area < SMALL_CDA for area, _ in wins)
    return found(
        2 * len(wins) < len(ratios) and only_small and bool(wins or not small),
        f"{len(wins)} of {len(ratios)} cells",
        _won(ratios, view.name("PTxen")),
        f"a page costs ptxen {shown(tracked.slope)} and scanxen {shown(plane.a)}, and a MB to scan "
        f"{shown(plane.b)}: so scanxen is ahead where PPT is above "
        f"{number(plane.b / max(tracked.slope - plane.a, 1e-9))} for each MB, fixed costs apart."
        if tracked.slope > plane.a
        else f"a page costs ptxen {shown(tracked.slope)}, no more than scanxen's {shown(plane.a)}.",
    )


def cheaper_at_4(view: View, better: str, worse: str) -> Finding:
    """Figure 10, WPP 4."""
    by_cell = {(row.cda_bytes, row.ppt): row for row in view.rows(10, worse) if row.wpp == 4}
    pairs = [
        (row, by_cell[key])
        for row in view.rows(10, better)
        if row.wpp == 4 and (key := (row.cda_bytes, row.ppt)) in by_cell
    ]
    if not pairs:
        raise Unknown(f"rows missing: {better} and {worse} have no cell at WPP 4 in figure 10")
    ratios = [other.per_txn / row.per_txn for row, other in pairs]
    return found(
        min(ratios) > 1,
        times(middle(ratios)),
        f"{view.name(worse)} costs {span(ratios, times)} of {view.name(better)}.",
        f"{_why_at_4(view, better, pairs)}.{view.caution}",
    )


def _why_at_4(view: View, better: str, pairs: Sequence[tuple[Row, Row]]) -> str:
    """Emulation wins below the break-even, unless rows scatter."""
    emulates = better in ("Emul", "Emulxen")
    pages, writes = ("PTxen", "Emulxen") if better in ("PTxen", "Emulxen") else ("PT", "Emul")
    spreads = span([100 * row.spread / row.per_txn for pair in pairs for row in pair])
    try:
        meets, *_ = crossing(view, 8, pages, writes)
    except Unknown as unknown:
        return f"{unknown}; the rows' spreads are {spreads} %"
    side = "below" if meets < 4 else "above"
    if (meets < 4) == emulates:
        return f"the break-even of figure 8 is WPP {number(meets)}, {side} 4"
    return (
        f"though the lines of figure 8 meet at WPP {number(meets)}, {side} 4: so the rows at WPP 4 "
        f"are off them, with spreads of {spreads} %"
    )


def overall(view: View) -> Finding:
    ratios = {}
    for slow, fast in (("PT", "PTxen"), ("Emul", "Emulxen")):
        ours = {(row.cda_bytes, row.ppt): row for row in view.rows(10, fast) if row.wpp == 4}
        for row in view.rows(10, slow):
            if row.wpp == 4 and (other := ours.get((row.cda_bytes, row.ppt))):
                ratios[f"{view.name(slow)} to {view.name(fast)} at PPT {row.ppt}"] = (
                    row.per_txn / other.per_txn
                )
    if not ratios:
        raise Unknown("rows missing: no engine of figure 10 and its counterpart at WPP 4")
    least, most = min(ratios, key=lambda key: ratios[key]), max(ratios, key=lambda key: ratios[key])
    low, high = ratios[least], ratios[most]
    return found(
        low >= paper.OVERALL[0] / NOISE and high <= paper.OVERALL[1] * NOISE,
        span(list(ratios.values()), times),
        f"From {times(low)} ({least}) to {times(high)} ({most}).",
        f"{times(low)} and {times(high)} against the paper's {times(paper.OVERALL[0])} and "
        f"{times(paper.OVERALL[1])}; figures 6 and 7 say what a page and a write cost each."
        f"{view.caution}",
    )
