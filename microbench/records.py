# SPDX-License-Identifier: MIT
"""A table of 10 000 records of 24 bytes in Python: change a field of four random
ones, commit, without durability. pyhac against sqlite3 and lmdb, in one process.

Each store gets the same list of transactions, made beforehand, and is used in
the fastest way that we know of.
"""

import sqlite3
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from random import Random
from time import perf_counter_ns
from typing import Any

import numpy as np

import pyhac
from microbench.rounds import Effort, Measure, Run, interleave
from microbench.rows import Record, Skip
from pyhac.jit import hac_begin, hac_end, hac_next

RECORDS = 10_000
UPDATES = 4
TRANSACTIONS = 512  # prepared ones; they repeat
RECORD = np.dtype([("id", "i8"), ("open", "i8"), ("price", "f8")])
PACKED = struct.Struct("=qqd")

Transactions = list[list[tuple[int, int]]]  # (record, new value of "open")


def prepare() -> Transactions:
    """Random transactions, the same in every run."""
    random = Random(20110627)
    return [
        [(i, random.randrange(1 << 40)) for i in random.sample(range(RECORDS), UPDATES)]
        for _ in range(TRANSACTIONS)
    ]


def _timed(transactions: Transactions, commit: Callable[[list[tuple[int, int]]], None]) -> Run:
    """A loop over the prepared transactions, the call of `commit` included."""

    def run(count: int) -> int:
        start = perf_counter_ns()
        for i in range(count):
            commit(transactions[i % TRANSACTIONS])
        return perf_counter_ns() - start

    return run


def _book(stack: ExitStack, *, join_strays: bool = False) -> tuple[pyhac.Context, Any]:
    context = stack.enter_context(pyhac.open(join_strays=join_strays))
    book = context.array("book", RECORDS, RECORD)
    book["id"] = np.arange(RECORDS)
    return context, book


def with_structured(stack: ExitStack, transactions: Transactions, *, join_strays: bool) -> Run:
    context, book = _book(stack, join_strays=join_strays)

    def commit(updates: list[tuple[int, int]]) -> None:
        with context.transaction():
            for i, value in updates:
                book[i]["open"] = value

    return _timed(transactions, commit)


def with_columns(stack: ExitStack, transactions: Transactions, *, join_strays: bool) -> Run:
    context, book = _book(stack, join_strays=join_strays)
    column = book["open"]

    def commit(updates: list[tuple[int, int]]) -> None:
        with context.transaction():
            for i, value in updates:
                column[i] = value

    return _timed(transactions, commit)


def with_sqlite(stack: ExitStack, transactions: Transactions) -> Run:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    stack.callback(connection.close)
    connection.execute("CREATE TABLE book (id INTEGER PRIMARY KEY, open INTEGER, price REAL)")
    connection.executemany(
        "INSERT INTO book VALUES (?, ?, ?)", ((i, 0, 0.0) for i in range(RECORDS))
    )
    swapped = [[(value, i) for i, value in updates] for updates in transactions]
    execute, many = connection.execute, connection.executemany

    def commit(updates: list[tuple[int, int]]) -> None:
        execute("BEGIN")
        many("UPDATE book SET open = ? WHERE id = ?", updates)
        execute("COMMIT")

    return _timed(swapped, commit)


def with_lmdb(stack: ExitStack, transactions: Transactions, *, writemap: bool) -> Run:
    import lmdb

    folder = stack.enter_context(tempfile.TemporaryDirectory())
    environment = lmdb.open(folder, sync=False, writemap=writemap, map_size=64 << 20)
    stack.callback(environment.close)
    keys = [struct.pack(">I", i) for i in range(RECORDS)]
    pack, write = PACKED.pack, environment.begin
    with write(write=True) as transaction:
        for i, key in enumerate(keys):
            transaction.put(key, pack(i, 0, 0.0))

    def commit(updates: list[tuple[int, int]]) -> None:
        with write(write=True) as transaction:
            put = transaction.put
            for i, value in updates:
                put(keys[i], pack(i, value, 0.0))

    return _timed(transactions, commit)


def with_numba(stack: ExitStack, transactions: Transactions) -> Run:
    """A compiled loop that brackets its own transactions through the C library."""
    import numba

    context, book = _book(stack)
    handle = context.handle

    @numba.njit
    def loop(column: Any, rows: Any, values: Any, handle: int, count: int) -> int:
        error = hac_begin(handle)
        for t in range(count):
            for j in range(UPDATES):
                at = t % TRANSACTIONS, j
                column[rows[at]] = values[at]
            if error < 0:
                return int(error)
            last = t == count - 1
            error = hac_end(handle, 0, 0) if last else hac_next(handle, 0, 0)
        return int(error)

    rows = np.array([[i for i, _ in updates] for updates in transactions])
    values = np.array([[value for _, value in updates] for updates in transactions])

    def run(count: int) -> int:
        start = perf_counter_ns()
        error = loop(book["open"], rows, values, handle, count)
        elapsed = perf_counter_ns() - start
        if error:
            raise OSError(-error, "the numba loop")
        return elapsed

    run(1)  # compile
    return run


def _stores() -> Iterator[tuple[str, Callable[[ExitStack, Transactions], Run]]]:
    yield "sqlite3 :memory:", with_sqlite
    yield "lmdb", partial(with_lmdb, writemap=False)
    yield "lmdb writemap", partial(with_lmdb, writemap=True)
    for join in (False, True):
        option = " join_strays" if join else ""
        yield f"pyhac records{option}", partial(with_structured, join_strays=join)
        yield f"pyhac column views{option}", partial(with_columns, join_strays=join)
    yield "pyhac numba", with_numba


def _rows(found: dict[str, Measure]) -> list[Record]:
    best = min(m.ns for store, m in found.items() if not store.startswith("pyhac"))
    return [
        {
            "store": store,
            "ns_per_txn": round(m.ns, 1),
            "spread": round(m.spread, 1),
            "ratio_to_best": round(best / m.ns, 3),
        }
        for store, m in found.items()
    ]


def measure_records(
    effort: Effort, tick: Callable[[], None] = lambda: None
) -> tuple[list[Record], list[Skip]]:
    transactions, skipped = prepare(), list[Skip]()
    runs: dict[str, Run] = {}
    with ExitStack() as stack:
        for store, make in _stores():
            try:
                runs[store] = make(stack, transactions)
            except ImportError as error:
                skipped.append({"what": store, "reason": str(error)})
        return _rows(interleave(runs, effort, tick)), skipped
