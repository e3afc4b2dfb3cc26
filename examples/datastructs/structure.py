# SPDX-License-Identifier: MIT
"""What all structures share: their two areas, their length, and room to grow."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

import pyhac

from .memory import FREE, HEAD_WORDS, HEADER, LENGTH, WORD, Log, Words

operation = pyhac.transactional("ctx")
"""Decorator for methods: each call is a transaction of the structure's context, or joins
the one it is called in. An exception inside leaves the structure as it was."""


class AreaFull(MemoryError):
    """The area has no room for what an operation allocates, and cannot grow."""


class Structure(ABC):
    """A structure of 32-bit keys in two areas of a context, NAME and NAME.CLASS (the head).

    It is made if the image does not hold it, else it is the one of the last epoch. On a
    standby it can be read, and shows what ``ctx.advance()`` last brought.

    A class of its own provides (see linked_list.py):

    - ``create(words, head)``: make it empty, in areas that are zero, with a kernel;
    - ``insert`` and ``delete``, each an :data:`operation`, ``find`` and ``__iter__``, as
      :class:`Keys`, :class:`OrderedKeys`, :class:`Sequence`, :class:`Heap` or :class:`Queue`
      says. An insertion calls ``room()`` first; kernels get ``self.words, self.head, ...,
      self.log``, keep ``head[LENGTH]`` and write to words through ``store()`` only;
    - ``check()``: AssertionError if anything is wrong with what it finds in memory;
    - a line in the table STRUCTURES of __init__.py, from which tests and benchmarks take it.
    """

    def __init__(
        self, ctx: pyhac.Context, name: str, *, words: int = 1024, capacity: int = 1 << 26
    ) -> None:
        """
        Args:
            words: size of a new area. It doubles whenever it is full.
            capacity: words up to which it can grow: addresses, not memory.
        """
        self.ctx = ctx
        self.name = name
        self.log: Log | None = None
        """Where stores are noted; see memory.py."""
        head = f"{name}.{type(self).__name__}"
        stored = ctx.areas.get(name)
        if stored is not None and head not in ctx.areas:
            raise pyhac.LayoutError(
                f"area {name!r} exists and is no {type(self).__name__}; the areas are "
                f"{', '.join(ctx.areas)}: open it as what it is, or take another name"
            )
        size = words if stored is None else stored.size // WORD
        self._words: Words = ctx.array(name, size, np.int32, capacity=max(capacity, size))
        self.head: Words = ctx.array(
            head, HEAD_WORDS, np.int32, init=lambda new: self.create(self._words, new)
        )

    @property
    def words(self) -> Words:
        """The area; all of it, also where a primary has grown it since it was mapped."""
        if self.head[FREE] > self._words.size:
            self._words = self.ctx.resize(self.name, self.ctx.areas[self.name].size // WORD)
        return self._words

    def room(self, *sizes: int) -> None:
        """See that there is room for allocations of so many words each."""
        needed = int(self.head[FREE]) + sum(sizes) + HEADER * len(sizes)
        if needed <= self.words.size:
            return
        capacity = self.ctx.areas[self.name].capacity // WORD
        if needed > capacity:
            raise AreaFull(
                f"area {self.name!r} is full: {needed} words are needed and its capacity is "
                f"{capacity}; nothing is freed, so copy the keys to one with more capacity"
            )
        self._words = self.ctx.resize(self.name, min(capacity, max(needed, 2 * self.words.size)))

    def refuse_empty(self) -> None:
        """For operations that need a key to take: IndexError if there is none."""
        if not len(self):
            raise IndexError(f"{self.name!r} is empty")

    def __len__(self) -> int:
        return int(self.head[LENGTH])

    @abstractmethod
    def __iter__(self) -> Iterator[int]: ...

    @abstractmethod
    def create(self, words: Words, head: Words) -> None: ...

    @abstractmethod
    def check(self) -> None: ...


class Keys(Structure):
    """Every key at most once."""

    @abstractmethod
    def insert(self, key: int) -> bool:
        """False: it was there already."""

    @abstractmethod
    def delete(self, key: int) -> bool:
        """False: it was not there."""

    @abstractmethod
    def find(self, key: int) -> bool: ...

    def __contains__(self, key: int) -> bool:
        return self.find(key)


class OrderedKeys(Keys):
    """Every key at most once; iteration is in ascending order."""


class Sequence(Structure):
    """Keys in the order in which they came, some perhaps more than once."""

    @abstractmethod
    def insert(self, key: int) -> None:
        """Append it."""

    @abstractmethod
    def delete(self, key: int) -> bool:
        """Delete the first that is equal. False: there was none."""

    @abstractmethod
    def find(self, key: int) -> bool: ...

    def __contains__(self, key: int) -> bool:
        return self.find(key)


class Heap(Structure):
    """Keys of which the smallest comes out first; iteration has no order."""

    @abstractmethod
    def insert(self, key: int) -> None: ...

    @abstractmethod
    def delete(self) -> int:
        """Take the smallest key out. IndexError: there is none."""

    @abstractmethod
    def find(self) -> int:
        """The smallest key. IndexError: there is none."""


class Queue(Structure):
    """Keys of which the oldest comes out first."""

    @abstractmethod
    def insert(self, key: int) -> None: ...

    @abstractmethod
    def delete(self) -> int:
        """Take the oldest key out. IndexError: there is none."""

    @abstractmethod
    def find(self) -> int:
        """The oldest key. IndexError: there is none."""


def word(key: int) -> int:
    """The key, if it fits a word; TypeError or ValueError otherwise."""
    number = operator.index(key)
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"a key has 32 bits, from {-(2**31)} to {2**31 - 1}; not {number}")
    return number
