# SPDX-License-Identifier: MIT
"""What the project promises of its speed, beside what was measured."""

from collections.abc import Iterator, Sequence

from microbench.cells import KIB, MIB
from microbench.rows import Document, Empty, Ending, Record, Row, Stream, Target

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
SMALL_PER_S = 200_000.0  # small transactions through one helper to a backup
PAGES_MB_PER_S = 150.0
LAG_P99_MS = 50.0


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


def _at_most(name: str, wanted: float, got: float, kind: str = "target") -> Target:
    return {"name": name, "kind": kind, "wanted": wanted, "got": got, "met": got <= wanted}


def _of_endings(endings: Sequence[Ending]) -> Iterator[Target]:
    """The application is to pay for a copy into shared memory. Into memory of one's own a
    large copy is quicker than any into lines that another core has read."""
    for row in endings:
        name = f"ending {row['bytes']} bytes into the ring adds, ns: at most 1.5"
        own = f"{name} memcpys to memory of one's own and 500"
        yield _at_most(own, row["allowed_ns"], row["added_ns"], "aim")
        shared = f"{name} memcpys to memory that another process reads and 500"
        yield _at_most(shared, row["allowed_shared_ns"], row["added_ns"])


def _of_streams(streams: Sequence[Stream]) -> Iterator[Target]:
    for row in streams:
        small = row["bytes"] == 8
        if row["mode"] != "stream" or (row["place"] == "disk" and not small):
            continue  # that is the disk's speed
        if row["rate"]:
            # Faster than the backup, the lag is how much was let in beforehand.
            yield _at_most(f"{row['what']}: lag p99, ms: at most", LAG_P99_MS, row["lag_p99_ms"])
        elif small:
            yield _at_least(f"{row['what']}: a second", SMALL_PER_S, row["transactions_per_s"])
        else:
            yield _at_least(f"{row['what']}: MB/s", PAGES_MB_PER_S, row["mb_per_s"])


def judge(document: Document) -> list[Target]:
    return [
        *_of_rows(document["rows"]),
        *_of_empty(document["empty"]),
        *_of_records(document["records"]),
        *_of_endings(document["endings"]),
        *_of_streams(document["streams"]),
    ]
