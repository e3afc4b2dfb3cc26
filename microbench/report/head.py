# SPDX-License-Identifier: MIT
"""What a reader must know of the rows before he believes them."""

from collections.abc import Iterator, Sequence

from microbench.report.claims import ABOUT, NOISE, PLACE_NAMES
from microbench.report.measured import Document, Measured, Row
from microbench.report.wording import number, size, span

Fact = tuple[str, str]
UFFD_KERNEL = (6, 7)


def _kernel(release: str) -> tuple[int, ...]:
    parts = release.split("-")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


def _machine(document: Document) -> str:
    known: dict[str, object] = dict(document.raw["machine"])
    words = []
    if cpu := known.pop("cpu", None):
        words.append(f"{cpu}, {known.pop('cores', '?')} cores")
    if kernel := known.pop("kernel", None):
        words.append(f"Linux {kernel}")
    if memory := known.pop("memory_bytes", None):
        words.append(f"{size(float(str(memory)))} of memory")
    if known.pop("hypervisor", 0):
        words.append("a virtual machine")
    if thp := known.pop("thp", None):
        words.append(f"huge pages {thp}")
    words += [f"{name} {value}" for name, value in {**known, **document.raw["versions"]}.items()]
    return ", ".join(words)


def _cells(rows: Sequence[Row]) -> str:
    spreads = sorted(100 * row.spread / row.per_txn for row in rows)
    worst = max(rows, key=lambda row: row.spread / row.per_txn)
    middle = spreads[len(spreads) // 2]
    return (
        f"{len(rows)} cells, each measured over {span([row.transactions for row in rows])} "
        f"transactions in {span([row.rounds for row in rows])} rounds. A number is the median of "
        f"the rounds; its spread, the median absolute deviation, is {number(middle)} % in the "
        "middle and at most "
        f"{number(spreads[-1])} % ({worst.engine} in {worst.sweep}). Totals are scaled to "
        f"a Tcount of {span([row.tcount for row in rows])}."
    )


def _uffd(results: Measured, place: str) -> Iterator[Fact]:
    """Why there is no uffd inside Xen: the guest's kernel."""
    if any(row.engine == "uffd" for row in results.rows(place)):
        return
    reasons = [skip["reason"] for skip in results.skipped(place) if "uffd" in skip["what"]]
    machines = (each.raw["machine"] for each in results.documents if each.place == place)
    kernels = {str(machine["kernel"]) for machine in machines if "kernel" in machine}
    old = [kernel for kernel in kernels if _kernel(kernel) < UFFD_KERNEL]
    if reasons:
        yield "No uffd " + PLACE_NAMES[place], reasons[0]
    elif old:
        wanted = ".".join(str(part) for part in UFFD_KERNEL)
        yield (
            "No uffd " + PLACE_NAMES[place],
            f"it needs Linux {wanted}, and this kernel is {old[0]}.",
        )


def _unit(results: Measured, place: str) -> Iterator[Fact]:
    if any(row.unit == "instructions" for row in results.rows(place)):
        yield (
            f"The unit {PLACE_NAMES[place]}",
            "Instructions of the process, the guest's kernel and Xen together, counted by an "
            "emulator; no times. What traps, flushes and caches cost beyond their instructions is "
            "not in them.",
        )


def facts(results: Measured, without: str) -> list[Fact]:
    """`without`: why there are no results from inside Xen, where that is known."""
    found: list[Fact] = []
    for document in results.documents:
        raw = document.raw
        rows = f"{len(document.rows)} rows" + (", Table 2" if raw["table2"] else "")
        how = "A quick run" if raw["quick"] else "A full run"
        ended = "" if raw["complete"] else ", which did not come to its end"
        text = f"{_machine(document)}. {how}{ended}; {rows}."
        found.append((f"Measured {PLACE_NAMES[document.place]}", text))
    for place in ("native", "xen"):
        if place in results.places:
            found.append((f"A cell {PLACE_NAMES[place]}", _cells(results.rows(place))))
            found += [*_unit(results, place), *_uffd(results, place)]
        else:
            why = without if place == "xen" and without else "No file with such rows was given"
            text = f"{why.rstrip('.')}. What needs such rows cannot be told."
            found.append((f"Nothing measured {PLACE_NAMES[place]}", text))
    found.append(
        (
            "Names",
            "The paper's PT is naive PT here: page tracking in its plainest form. pt is libhac's "
            "own; a statement about PT is asked of both.",
        )
    )
    found.append(
        (
            "Verdicts",
            f"“About n times” holds between n / {number(ABOUT)} and {number(ABOUT)} n; what is "
            f"called equal may be {number(100 * (NOISE - 1))} % apart; “most” is more than half.",
        )
    )
    return found
