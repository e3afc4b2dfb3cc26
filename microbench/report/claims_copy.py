# SPDX-License-Identifier: MIT
"""Section VI.C of the paper: what is copied to the helper, figures 15 to 18; and mprotect."""

from functools import partial

from microbench import table2
from microbench.report import paper
from microbench.report.claims import (
    PLACE_NAMES,
    Finding,
    Unknown,
    View,
    about,
    beside,
    found,
    middle,
)
from microbench.report.claims_micro import crossing
from microbench.report.claims_work import line_through, mean, most_of, parts, speed_ups
from microbench.report.lines import Line
from microbench.report.wording import amount, listed, number, span, times

MB = 1e6
MS = 1e6  # nanoseconds
PAGE = 4096


def _volumes(view: View, engine: str) -> dict[str, float]:
    """MB that were copied in all."""
    rows = view.works(engine, 1)
    return {work: row.copy_bytes * row.tcount / MB for work, row in rows.items()}


def _paper_volumes() -> list[float]:
    """MB that the pages of the paper's Table 2 are, at OPT 1."""
    pages = (float(numbers.split()[1]) for numbers in table2.PAPER.values())
    return [each * PAGE * paper.OPERATIONS / MB for each in pages]


def page_volume(view: View, engine: str) -> Finding:
    volumes = _volumes(view, engine)
    usual, (low, high) = middle(list(volumes.values())), paper.PAGE_BYTES_MB
    theirs = _paper_volumes()
    return found(
        low <= usual <= high,
        f"{number(usual)} MB",
        f"{view.name(engine)}: {span(list(volumes.values()))} MB for 10 000 operations, median "
        f"{number(usual)} MB.",
        f"a page is {PAGE} bytes, so the paper's own Table 2 makes {span(theirs)} MB, median "
        f"{number(middle(theirs))} MB.",
    )


def _bytes_of_a_write(view: View, engine: str) -> str:
    rows = view.works(engine, 1).values()
    each = [row.copy_bytes / row.writes for row in rows if row.writes]
    writes = float(table2.PAPER["tree", "insert"].split()[0]) * paper.OPERATIONS
    theirs = paper.TREE_INSERT_MB * MB / writes
    ours = f"a write copies {span(each)} bytes here; " if each else ""
    return (
        f"{ours}the paper's {number(paper.TREE_INSERT_MB)} MB for tree insert make "
        f"{number(theirs)} bytes a write"
    )


def emul_volume(view: View, engine: str) -> Finding:
    volumes = _volumes(view, engine)
    little = [work for work, volume in volumes.items() if volume < paper.EMUL_BYTES_MB]
    most = max(volumes, key=lambda work: volumes[work])
    return found(
        most_of(little, list(volumes))
        and most == "tree insert"
        and about(volumes[most], paper.TREE_INSERT_MB),
        f"{number(volumes[most])} MB",
        f"{view.name(engine)}: under {number(paper.EMUL_BYTES_MB)} MB in {len(little)} of "
        f"{len(volumes)} works; the most is {number(volumes[most])} MB in {most}.",
        f"{_bytes_of_a_write(view, engine)}.",
    )


def _copies_ms(view: View, engine: str) -> dict[str, float]:
    rows = view.works(engine, 1)
    if view.unit != "ns":
        raise Unknown(f"the units differ: the paper has milliseconds, these are {view.unit}")
    return {work: row.copy_per_txn * row.tcount / MS for work, row in rows.items()}


def _bandwidth(view: View, engine: str) -> str:
    volumes, copies = _volumes(view, engine), _copies_ms(view, engine)
    took = sum(copies[work] for work in copies if work in volumes)
    if took <= 0:
        return "copying took no time that could be measured"
    rate = sum(volumes[work] for work in copies if work in volumes) / took
    return f"{number(rate)} GB are copied a second here, {span(list(volumes.values()))} MB in all"


def emul_copy(view: View) -> Finding:
    copies = _copies_ms(view, "Emul")
    short = [work for work, ms in copies.items() if ms < paper.EMUL_COPY_MS]
    average = mean(list(copies.values()))
    most = max(copies, key=lambda work: copies[work])
    usual = [ms for work, ms in copies.items() if work != most]
    return found(
        most_of(short, list(copies)) and mean(usual or [average]) < paper.EMUL_COPY_MEAN_MS,
        f"mean {number(average)} ms",
        f"emul: under {number(paper.EMUL_COPY_MS)} ms in {len(short)} of {len(copies)} works, mean "
        f"{number(average)} ms; without {most} ({number(copies[most])} ms), which the verdict "
        f"leaves out, {number(mean(usual or [average]))} ms.",
        f"{_bandwidth(view, 'Emul')}; {_bytes_of_a_write(view, 'Emul')}.",
    )


def page_copy(view: View) -> Finding:
    copies = _copies_ms(view, "PT")
    low, high = paper.PAGE_COPY_MS
    theirs = _paper_volumes()
    theirs = [min(theirs), max(theirs)]
    inside = [work for work, ms in copies.items() if low <= ms <= high]
    return found(
        most_of(inside, list(copies)),
        f"{span(list(copies.values()))} ms",
        f"{view.name('PT')}: {span(list(copies.values()))} ms, within {number(low)} to "
        f"{number(high)} ms in {len(inside)} of {len(copies)} works.",
        f"{_bandwidth(view, 'PT')}; the pages of the paper's Table 2 are {span(theirs)} MB, which "
        f"it copied at {span([theirs[0] / low, theirs[1] / high])} GB a second.",
    )


def ptxen_best_with_copy(view: View) -> Finding:
    names = ("PT", "Emul", "Emulxen", "PTxen")
    rows = {name: view.works(name, 1) for name in names}
    both = [work for work in rows["PTxen"] if all(work in rows[name] for name in names)]
    if not both:
        raise Unknown("rows missing: no work was measured under all four engines")
    totals = {name: sum(rows[name][work].copied_total for work in both) for name in names}
    order = sorted(names, key=lambda name: totals[name])
    shares = [
        100 * (1 - row.total / row.copied_total) for work in both if (row := rows["PTxen"][work])
    ]
    return found(
        order[0] == "PTxen" and set(order[:2]) == {"PTxen", "Emulxen"},
        " < ".join(view.name(name) for name in order),
        f"All works together, cheapest first: {listed(view.name(name) for name in order)}.",
        f"the copy makes {span(shares)} % of ptxen's total; in all it costs "
        f"{times(totals['PTxen'] / totals[order[0]])} of {view.name(order[0])}.{view.caution}",
    )


def net(view: View, slow: str, fast: str, wanted: float) -> Finding:
    ratios = speed_ups(view, slow, fast, 1, copied=True)
    bare = speed_ups(view, slow, fast, 1)
    got, without = mean(list(ratios.values())), mean(list(bare.values()))
    return found(
        about(got, wanted),
        times(got),
        f"{view.name(fast)} over {view.name(slow)} with the copy: "
        f"{span(list(ratios.values()), times)}, mean {times(got)} (without it {times(without)}).",
        f"{beside(got, wanted)}: without the copy it is {times(without)}, and "
        f"{parts(view, slow, fast, 1)}",
    )


def net_is_lower(view: View, slow: str, fast: str) -> Finding:
    got = mean(list(speed_ups(view, slow, fast, 1, copied=True).values()))
    without = mean(list(speed_ups(view, slow, fast, 1).values()))
    pairs = view.paired(slow, fast, 1).values()
    added = [100 * mean([p[i].copy_per_txn / p[i].per_txn for p in pairs]) for i in range(2)]
    return found(
        got < without,
        f"{times(got)} {'<' if got < without else '≥'} {times(without)}",
        f"Mean {times(got)} with the copy, {times(without)} without.",
        f"the copy adds {number(added[0])} % to {view.name(slow)} and {number(added[1])} % to "
        f"{view.name(fast)}.",
    )


def _pagesline_through(view: View) -> Line:
    line = line_through(view.rows(6, "PT"), lambda row: row.ppt)
    if line is None:
        raise Unknown("rows missing: PT at two values of PPT in figure 6")
    return line


def _page_in_writes(view: View) -> str:
    """A page's cost without a unit, so that places compare."""
    try:
        meets, flat, steep, _ = crossing(view, 8, "PT", "Emul")
    except Unknown:
        return ""
    worth = number(flat.at(meets) / steep.slope)
    where = PLACE_NAMES[view.place]
    return f"; without a unit, a page of PT costs {worth} writes of emul {where}"


def mprotect(view: View) -> Finding:
    native = View(view.results, "native", view.names)
    if native.unit != view.unit:
        units = f"{native.unit or 'nothing'} natively and {view.unit} inside Xen"
        worth = _page_in_writes(native) + _page_in_writes(view)
        raise Unknown(f"the units differ: {units}{worth}")
    inside, outside = _pagesline_through(view), _pagesline_through(native)
    ratio = inside.slope / outside.slope
    shown = partial(amount, unit=view.unit)
    return found(
        about(ratio, paper.MPROTECT_UNDER_XEN),
        times(ratio),
        f"A page costs {view.name('PT')} {shown(inside.slope)} inside Xen and "
        f"{shown(outside.slope)} natively.",
        f"{beside(ratio, paper.MPROTECT_UNDER_XEN)}; a page is a fault and a signal, too, not "
        "mprotect alone.",
    )
