# SPDX-License-Identifier: MIT
"""Where a structure lives: 32-bit words in one critical data area, its head in another.

A node is a few words that lie side by side; a link is the index of a node's first word.
Words and head are plain numpy arrays of int32, which numba compiles well::

    words   0        1                 index
            header | key | next | header | key | next | ...
    head    root, length, next free word, and what else a structure wants to keep

Every write to ``words`` goes through :func:`store`, so that it can be counted. The head
is what a C program would keep in variables; its writes are not counted.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

try:
    import numba
except ImportError as failure:
    raise ImportError(
        "the structures are compiled by numba: pip install 'hac-checkpoint[numba]'"
    ) from failure

Words = npt.NDArray[np.int32]
Log = npt.NDArray[np.uint32]

WORD = 4
"""Bytes of a word."""

NULL = 0
"""The link to nowhere. Word 0 is a header, so no node begins there."""

link = cast(Callable[[Any], int], np.int64)
"""The kind of number that kernels give each other as a link. What is read from words has 32
bits, and a recursive kernel would be compiled for each mixture of the two."""

ROOT, LENGTH, FREE, OWN = range(4)
"""Words of the head: the first node, the number of keys, the first word that was never
allocated. From OWN on a structure keeps what it wants."""

HEAD_WORDS = 16

HEADER = 1
"""Words before each allocation."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function, *signatures: Any, **options: bool) -> _Function:
    compile_it = cast(Any, numba).njit(*signatures, **options)
    compiled: _Function = compile_it(function)  # numba keeps the face of a function
    return compiled


def kernel(function: _Function) -> _Function:
    """Decorator: compiled at the first call, once for each kind of arguments."""
    return _compiled(function, nogil=True)


def inlined(function: _Function) -> _Function:
    """Decorator: a kernel that becomes part of the kernels that call it."""
    return _compiled(function, nogil=True, forceinline=True)


def accessor(signature: str) -> Callable[[_Function], _Function]:
    """Decorator: inlined, and compiled just twice, for no log and for one; not for each kind
    of integers that it may be called with."""
    signatures = [signature.format(log=log) for log in ("none", "uint32[:, ::1]")]

    def decorate(function: _Function) -> _Function:
        return _compiled(function, signatures, nogil=True, forceinline=True)

    return decorate


@accessor("void(int32[::1], int64, int64, {log})")
def store(words: Words, index: int, value: int, log: Log | None) -> None:
    """``words[index] = value``. A log notes it before it happens; None costs nothing:
    numba compiles a kernel for each type of its arguments, and drops the branch."""
    if log is not None:
        count = log[0, 0] + 1
        if count >= len(log):
            raise IndexError("the log is full")
        log[0, 0] = count
        log[count, 0] = index * WORD
        log[count, 1] = value
    words[index] = value


@accessor("int64(int32[::1], int32[::1], int64, {log})")
def allocate(words: Words, head: Words, size: int, log: Log | None) -> int:
    """The first of ``size`` words that are yours. What comes next is always the next free
    words: nothing is ever given back, so freeing needs no code."""
    header = head[FREE]
    if header + HEADER + size > len(words):
        raise MemoryError("the area is full")
    head[FREE] = header + HEADER + size
    store(words, header, size, log)
    return int(header + HEADER)


def new_log(stores: int) -> Log:
    """An empty log with room for so many stores."""
    return np.zeros((stores + 1, 2), np.uint32)


def logged(log: Log) -> Log:
    """The stores in a log, in order: (offset in bytes, value) each."""
    return log[1 : 1 + log[0, 0]]


def forget(log: Log) -> None:
    """Empty a log."""
    log[0, 0] = 0
