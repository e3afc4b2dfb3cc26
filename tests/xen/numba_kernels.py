# SPDX-License-Identifier: MIT
"""Compiled kernels write to areas under every engine over Xen: numba_kernels.py compile|run

Compiled on the host for any processor and kept in NUMBA_CACHE_DIR, for the
emulated machine has none of the host's vector instructions and is slow.
"""

import sys
import warnings
from typing import Any

import numba
import numpy as np

import pyhac

ROWS = 20_000
ACCOUNT = np.dtype([("balance", "<i8"), ("rate", "<f8"), ("moves", "<i4"), ("flag", "u1")])
ENGINES = ("ptxen", "emulxen", "scanxen")


@numba.njit(cache=True)
def transfer(book: Any, seed: int, count: int) -> int:
    """Random updates of single fields, by scalar stores."""
    state = np.uint64(seed)
    for _ in range(count):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        i = int(state >> np.uint64(33)) % len(book)
        book[i]["balance"] += i
        book[i]["moves"] = book[i]["moves"] + 1
        book[i]["flag"] ^= 1
    return int(state >> np.uint64(32))


@numba.njit(cache=True)
def scale(column: Any, factor: float, start: int, count: int) -> None:
    """A loop that the compiler turns into vector stores."""
    for i in range(start, start + count):
        column[i] = column[i] * factor + 1.0


@numba.njit(cache=True)
def fill(column: Any, value: float) -> None:
    column[:] = value


KERNELS = (transfer, scale, fill)


def work(book: Any, column: Any, turn: int) -> None:
    if turn % 7 == 6:
        fill(column, float(turn))
    if turn % 3 == 0:
        scale(column, 1.5, turn * 10, 700)
    transfer(book, turn + 1, 60)


def compile_all() -> None:
    book, column = np.zeros(ROWS, ACCOUNT), np.zeros(ROWS)
    for turn in range(7):
        work(book, column, turn)


def run(engine: str) -> None:
    """The deltas alone give what plain memory has."""
    plain = np.zeros(ROWS, ACCOUNT), np.zeros(ROWS)
    replica = {"book": bytearray(ROWS * ACCOUNT.itemsize), "column": bytearray(ROWS * 8)}
    with pyhac.open(engine=engine) as context:
        book, column = context.array("book", ROWS, ACCOUNT), context.array("column", ROWS)
        for turn in range(28):
            with context.transaction() as transaction:
                work(book, column, turn)
                if turn % 5 == 4:
                    raise pyhac.Abort
            if turn % 5 == 4:
                continue
            work(*plain, turn)
            transaction.delta.apply(replica)
            assert book.tobytes() == plain[0].tobytes() == replica["book"], f"{engine} {turn}"
            assert column.tobytes() == plain[1].tobytes() == replica["column"], f"{engine} {turn}"
        stats = context.stats
    assert stats.faults == 0
    print(f"{engine}: {stats.dirty_pages} pages, {stats.writes} single writes seen")


def main() -> int:
    warnings.simplefilter("error")
    if sys.argv[1] == "compile":
        compile_all()
        return 0
    for engine in ENGINES:
        run(engine)
    for kernel in KERNELS:
        if not sum(kernel.stats.cache_hits.values()):
            print(f"{kernel} was compiled anew")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
