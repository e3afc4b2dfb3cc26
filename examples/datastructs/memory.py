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
from typing import Any, TypeVar

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

ROOT, LENGTH, FREE, OWN = range(4)
"""Words of the head: the first node, the number of keys, the first word that was never
allocated. From OWN on a structure keeps what it wants."""

HEAD_WORDS = 16

HEADER = 1
"""Words before each allocation."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Decorator: compiled at the first call, once for each kind of arguments."""
    compiled: _Function = numba.njit(nogil=True)(function)
    return compiled


def inlined(function: _Function) -> _Function:
    """Decorator: a kernel that becomes part of the kernels that call it."""
    compiled: _Function = numba.njit(nogil=True, forceinline=True)(function)
    return compiled


@inlined
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


@inlined
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
