# SPDX-License-Identifier: MIT
"""A binary heap: a tree without links, row by row in an array.

    root ──► record: capacity, size, elements ──► sentinel | 1 | 2 | 3 | ...

The parent of element i is i/2. Element 0 is smaller than any key, so that a key which
rises stops there at the latest. When the array is full, a larger one takes its place.
"""

from collections.abc import Iterator

import pyhac

from .memory import HEADER, ROOT, Log, Words, allocate, kernel, store
from .structure import Heap, operation, word

CAPACITY, SIZE, ELEMENTS, RECORD = range(4)  # words of the record, and how many they are

SMALLEST = -(2**31)


@kernel
def _create(words: Words, head: Words, capacity: int, log: Log | None) -> None:
    heap = allocate(words, head, RECORD, log)
    elements = allocate(words, head, capacity + 1, log)
    store(words, heap + CAPACITY, capacity, log)
    store(words, heap + SIZE, 0, log)
    store(words, heap + ELEMENTS, elements, log)
    store(words, elements, SMALLEST, log)
    head[ROOT] = heap


@kernel
def _double(words: Words, head: Words, log: Log | None) -> None:
    heap = head[ROOT]
    old, size = words[heap + ELEMENTS], words[heap + SIZE]
    elements = allocate(words, head, 2 * size + 1, log)
    for i in range(size + 1):
        store(words, elements + i, words[old + i], log)
    store(words, heap + CAPACITY, 2 * size, log)
    store(words, heap + ELEMENTS, elements, log)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> None:
    heap = head[ROOT]
    if words[heap + SIZE] == words[heap + CAPACITY]:
        _double(words, head, log)
    elements = words[heap + ELEMENTS]
    hole = words[heap + SIZE] + 1
    store(words, heap + SIZE, hole, log)
    while words[elements + hole // 2] > key:
        store(words, elements + hole, words[elements + hole // 2], log)
        hole //= 2
    store(words, elements + hole, key, log)


@kernel
def _delete(words: Words, head: Words, log: Log | None) -> int:
    heap = head[ROOT]
    elements, size = words[heap + ELEMENTS], words[heap + SIZE]
    smallest, last = words[elements + 1], words[elements + size]
    size -= 1
    store(words, heap + SIZE, size, log)
    hole = 1
    while 2 * hole <= size:
        child = 2 * hole
        if child != size and words[elements + child + 1] < words[elements + child]:
            child += 1
        if last <= words[elements + child]:
            break
        store(words, elements + hole, words[elements + child], log)
        hole = child
    store(words, elements + hole, last, log)
    return int(smallest)


class BinaryHeap(Heap):
    """Keys of which the smallest comes out first, in O(log n)."""

    def __init__(
        self, ctx: pyhac.Context, name: str, *, keys: int = 64, words: int = 1024, **area: int
    ) -> None:
        """``keys``: room in a new heap's first array; the rest is as for Structure."""
        if keys < 1:
            raise ValueError(f"keys must be at least 1, not {keys}")
        self._keys = keys
        super().__init__(ctx, name, words=max(words, RECORD + keys + 1 + 2 * HEADER), **area)

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self._keys, self.log)

    @operation
    def insert(self, key: int) -> None:
        key = word(key)
        if len(self) == self.words[self.head[ROOT] + CAPACITY]:
            self.room(2 * len(self) + 1)
        _insert(self.words, self.head, key, self.log)

    @operation
    def delete(self) -> int:
        self.refuse_empty()
        return _delete(self.words, self.head, self.log)

    def find(self) -> int:
        self.refuse_empty()
        return next(iter(self))

    def __len__(self) -> int:
        return int(self.words[self.head[ROOT] + SIZE])

    def __iter__(self) -> Iterator[int]:
        words = self.words
        elements = int(words[self.head[ROOT] + ELEMENTS])
        for i in range(1, len(self) + 1):
            yield int(words[elements + i])

    def check(self) -> None:
        """No key is smaller than its parent's."""
        capacity, size, elements = self.words[self.head[ROOT] :][:RECORD].tolist()
        assert 0 <= size <= capacity, f"{size} keys in {capacity} places"
        keys = self.words[elements : elements + size + 1].tolist()
        assert keys[0] == SMALLEST, f"the sentinel is {keys[0]}"
        for i in range(2, size + 1):
            assert keys[i // 2] <= keys[i], f"element {i} is smaller than its parent"
