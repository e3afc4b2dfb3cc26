# SPDX-License-Identifier: MIT
"""What the project promises of its speed, beside what was measured."""

from collections.abc import Iterator, Sequence

from microbench.cells import KIB, MIB
from microbench.rows import Empty, Record, Row, Target

# Over naive PT, random pages, one thread, words and twin on:
# engine, area, PPT, WPP (None: any), at least so many times as fast.
RATIOS: tuple[tuple[str, int, int, int | None, float], ...] = (
    ("uffd", MIB, 4, None, 4.0),
    ("uffd", MIB, 16, None, 6.0),
    ("compare", 64 * KIB, 4, None, 15.0),
    ("emul", MIB, 4, 1, 2.5),
)
PT_PAGES = 0.95  # libhac's pt without diffing: as fast as naive PT, noise apart
PYTHON_NS = 1500.0  # what Python may add to an empty transaction
RECORDS = 0.5  # of the speed of the better of sqlite and lmdb
RECORDS_AIM = 2.0
RECORDS_NUMBA = 10.0


def wanted_ratio(row: Row) -> float | None:
    """The target for ratio_to_pt of a row, if there is one."""
    if row["pattern"] != "random" or row["threads"] != 1:
        return None
    if (row["engine"], row["delta"], row["twin"]) == ("pt", "pages", False):
        return PT_PAGES
    if row["delta"] != "words" or not row["twin"]:
        return None
    for engine, size, ppt, wpp, ratio in RATIOS:
        if (engine, size, ppt) == (row["engine"], row["cda_bytes"], row["ppt"]) and wpp in (
            None,
            row["wpp"],
        ):
            return ratio
    return None


def _at_least(name: str, wanted: float, got: float, kind: str = "target") -> Target:
    return {"name": name, "kind": kind, "wanted": wanted, "got": got, "met": got >= wanted}


def _of_rows(rows: Sequence[Row]) -> Iterator[Target]:
    for row in rows:
        wanted = wanted_ratio(row)
        if wanted is not None:
            where = f"{row['cda_bytes'] // KIB} KiB, PPT {row['ppt']}, WPP {row['wpp']}"
            form = "words" if row["twin"] else "pages without twin"
            form += ", hac_next" if row["loop"] == "next" else ""
            name = f"{row['engine']}, {where}, {form}: times as fast as naive PT"
            yield _at_least(name, wanted, row["ratio_to_pt"])


def _of_empty(empty: Sequence[Empty]) -> Iterator[Target]:
    by_face = {row["face"]: row["ns_per_txn"] for row in empty}
    if {"C", "Python"} <= set(by_face):
        added = by_face["Python"] - by_face["C"]
        yield {
            "name": "what Python adds to an empty transaction, ns: at most",
            "kind": "target",
            "wanted": PYTHON_NS,
            "got": round(added, 1),
            "met": added <= PYTHON_NS,
        }


def _of_records(records: Sequence[Record]) -> Iterator[Target]:
    for row in records:
        if not row["store"].startswith("pyhac"):
            continue
        name = f"{row['store']}: times as fast as the better of sqlite and lmdb"
        if "numba" in row["store"]:
            yield _at_least(name, RECORDS_NUMBA, row["ratio_to_best"], "aim")
        elif "column" in row["store"]:
            yield _at_least(name, RECORDS, row["ratio_to_best"])
            yield _at_least(name, RECORDS_AIM, row["ratio_to_best"], "aim")
        else:
            yield _at_least(name, RECORDS, row["ratio_to_best"])


def judge(rows: Sequence[Row], empty: Sequence[Empty], records: Sequence[Record]) -> list[Target]:
    return [*_of_rows(rows), *_of_empty(empty), *_of_records(records)]
