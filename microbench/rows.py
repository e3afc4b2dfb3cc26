# SPDX-License-Identifier: MIT
"""The document that `bench` writes."""

from typing import TypedDict

VERSION = 3


class Row(TypedDict):
    """One variant of one cell. Times are nanoseconds a transaction."""

    engine: str  # "naive-pt", the yardstick, or an engine of libhac
    pattern: str
    cda_bytes: int
    ppt: int
    wpp: int
    threads: int
    delta: str  # form: "words" or "pages"
    twin: bool
    loop: str  # "begin-end", or "next": transactions that follow each other by hac_next()
    ns_per_txn: float
    spread: float  # median absolute deviation
    ratio_to_pt: float  # naive PT's time / this one's, median of the rounds
    pages_per_txn: float  # dirty pages that were reported
    words_per_txn: float  # changed words that were reported


class Skip(TypedDict):
    what: str
    reason: str


class Empty(TypedDict):
    """An empty transaction."""

    face: str  # "C" or "Python"
    ns_per_txn: float
    spread: float


class Record(TypedDict):
    """Update four records of a table and commit, without durability."""

    store: str
    ns_per_txn: float
    spread: float
    ratio_to_best: float  # time of the better of sqlite and lmdb / this one's


class Ending(TypedDict):
    """What it adds to a transaction that its delta goes into the ring to a helper."""

    bytes: int  # of the delta
    memcpy_ns: float  # of so many bytes, to memory of one's own
    shared_ns: float  # the same to memory that another process reads
    none_ns: float  # begin and finish in a context without image
    ring_ns: float  # the same with image and helper, level RING
    added_ns: float
    allowed_ns: float  # 1.5 times the memcpy, and 500
    allowed_shared_ns: float  # 1.5 times the copy to shared memory, and 500


class Stream(TypedDict):
    """Transactions from C through one helper to a backup on this machine."""

    what: str
    place: str  # of both images: "disk" or "memory"
    rate: int  # transactions a second that were asked for; 0: as many as it takes
    bytes: int  # that each changes
    mode: str  # "stream", or "single": the next one begins when this is acknowledged
    transactions_per_s: float
    mb_per_s: float  # bytes of deltas
    lag_p50_ms: float  # from the end of a transaction to its acknowledgement
    lag_p99_ms: float


class Store(TypedDict):
    """One write after the other, each acknowledged."""

    store: str
    writes_per_s: float


class Target(TypedDict):
    name: str
    kind: str  # "target", or "aim": hoped for, not promised
    wanted: float
    got: float
    met: bool


class Document(TypedDict):
    version: int
    machine: dict[str, str | int]
    quick: bool
    rounds: int
    round_ms: float
    rows: list[Row]
    empty: list[Empty]
    records: list[Record]
    endings: list[Ending]
    streams: list[Stream]
    disk_mb_per_s: float  # 1 MiB written and synced, one after the other
    stores: list[Store]
    targets: list[Target]
    skipped: list[Skip]
    failed: list[Skip]
