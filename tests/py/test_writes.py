# SPDX-License-Identifier: MIT
"""Every way in which Python programs write memory is seen, under every engine."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pyhac

if TYPE_CHECKING:
    from tests.conftest import Opener

RECORD = np.dtype([("id", "<i4"), ("n", "<i2"), ("x", "<f8"), ("name", "S10")])
ROWS = 4000

Records = NDArray[Any]


def by_memoryview(a: Records) -> None:
    view = a.view(np.uint8).data
    view[100] = 7
    view[5000:5003] = b"abc"


def by_scalar(a: Records) -> None:
    numbers = a.view("<i8")
    numbers[10] = 1
    numbers[2000] += 5


def by_slice(a: Records) -> None:
    a.view("<i8")[1000:3000:3] = 4


def by_ufunc(a: Records) -> None:
    numbers = a.view("<i8")
    np.add(numbers[:900], 3, out=numbers[500:1400])
    numbers[3000:] ^= 0x55


def by_structured(a: Records) -> None:
    a[7] = (1, 2, 3.5, b"seven")
    a["x"][::100] = 1.25
    a[9]["name"] = b"nine"


def by_fancy(a: Records) -> None:
    numbers = a.view("<i8")
    numbers[[5, 1500, 3333]] = [1, 2, 3]
    numbers[numbers == 0] = 9
    np.put(numbers, [17, 18], 4)


def by_sort(a: Records) -> None:
    numbers = a.view("<i8")
    numbers[:100] = np.arange(100, 0, -1)
    numbers[:2000].sort()


def by_memmove(a: Records) -> None:
    source = ctypes.create_string_buffer(b"x" * 9000)
    ctypes.memmove(a.ctypes.data + 4001, source, 9000)
    ctypes.memset(a.ctypes.data + 20_000, 3, 17)


def by_second_thread(a: Records) -> None:
    thread = threading.Thread(target=by_slice, args=(a,))
    thread.start()
    a.view("<i8")[0] = 1
    thread.join()


def by_ctypes(a: Records) -> None:
    numbers = (ctypes.c_int * 100).from_address(a.ctypes.data + 8192 - 4)
    for i in range(0, 100, 7):
        numbers[i] = i


def by_njit(a: Records) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    def kernel(numbers: Any) -> None:
        for i in range(0, numbers.size, 37):
            numbers[i] += i

    numba.njit(kernel)(a.view("<i8"))


def by_njit_records(a: Records) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    def kernel(records: Any) -> None:
        for i in range(0, records.size, 11):
            records[i].n = i % 100
            records[i].x += 0.5

    numba.njit(kernel)(a)


def by_nogil(a: Records) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    def kernel(numbers: Any, start: int) -> None:
        for i in range(start, numbers.size, 50):
            numbers[i] = i

    compiled = numba.njit(nogil=True)(kernel)
    numbers = a.view("<i8")
    compiled(numbers[:0], 0)
    threads = [threading.Thread(target=compiled, args=(numbers, k)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def by_prange(a: Records) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    def kernel(numbers: Any) -> None:
        for i in numba.prange(numbers.size // 9):
            numbers[i * 9] += 1

    numba.njit(parallel=True)(kernel)(a.view("<i8"))


def by_cfunc(a: Records) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    from numba import types

    kinds: Any = types
    signature = kinds.void(kinds.CPointer(kinds.int64), kinds.int64)

    def kernel(pointer: Any, size: Any) -> None:
        numbers = numba.carray(pointer, size)
        for i in range(0, size, 101):
            numbers[i] = -i

    compiled = numba.cfunc(signature)(kernel)
    compiled.ctypes(
        ctypes.cast(a.ctypes.data, ctypes.POINTER(ctypes.c_int64)), ctypes.c_int64(a.nbytes // 8)
    )


WRITES = [
    by_memoryview,
    by_scalar,
    by_slice,
    by_ufunc,
    by_structured,
    by_fancy,
    by_sort,
    by_memmove,
    by_second_thread,
    by_ctypes,
    by_njit,
    by_njit_records,
    by_nogil,
    by_prange,
    by_cfunc,
]


@pytest.mark.parametrize("write", WRITES)
def test_every_kind_of_write(opened: Opener, engine: str, write: Callable[[Records], None]) -> None:
    ctx = opened(engine=engine)
    a = ctx.array("a", ROWS, RECORD)
    plain = np.zeros(ROWS, RECORD)
    replica = bytearray(a.nbytes)
    for _ in range(2):  # the second time pages are in another state
        with ctx.transaction() as txn:
            write(a)
        write(plain)
        assert a.tobytes() == plain.tobytes()
        txn.delta.apply({"a": replica})
        assert replica == a.tobytes()
    with ctx.transaction():
        a.view("<i8")[::5] = 77
        write(a)
        raise pyhac.Abort
    assert a.tobytes() == plain.tobytes()
    with ctx.transaction() as txn:
        pass
    assert len(txn.delta) == 0


def test_kernels_bracket_their_own_transactions(opened: Opener, engine: str) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    from pyhac.jit import hac_abort, hac_begin, hac_end, hac_next

    ctx = opened(engine=engine)
    counters = ctx.array("counters", 1000, "<i8")
    with ctx.transaction() as before:
        pass

    def kernel(handle: int, counters: Any, rounds: int) -> int:
        for i in range(rounds):
            if hac_begin(handle) < 0:
                return -1
            counters[i % counters.size] += 1
            if i % 10 == 9:
                hac_abort(handle)
            elif hac_end(handle, 0, 0) < 0:
                return -2
        return rounds

    compiled = numba.njit(kernel)
    assert compiled(ctx.handle, counters, 500) == 500
    assert counters.sum() == 450
    assert counters[9] == 0
    assert ctx.epoch == before.epoch + 450

    def loop(handle: int, counters: Any, rounds: int) -> int:
        code = hac_begin(handle)
        for i in range(rounds):
            counters[i % counters.size] += 1
            if code >= 0:
                code = hac_next(handle, 0, 0)
        hac_abort(handle)
        return int(code)

    assert numba.njit(loop)(ctx.handle, counters, 50) >= 0
    assert counters.sum() == 500
    assert ctx.epoch == before.epoch + 500
    with ctx.transaction():
        assert compiled(ctx.handle, counters, 1) == -1
        raise pyhac.Abort
    assert counters.sum() == 500
