# SPDX-License-Identifier: MIT
"""A queue in an array that is used as a ring.

    root ──► record: capacity, size, front, rear, array ──► keys
                                      │                     ▲   ▲
                                      └─────────────────────┴───┘ places in the array

When the array is full the keys move to one of twice the size.
"""

from collections.abc import Iterator

import pyhac

from .memory import HEADER, ROOT, Log, Words, allocate, kernel, store
from .structure import Queue, operation, word

CAPACITY, SIZE, FRONT, REAR, ARRAY, RECORD = range(6)  # words of the record, and how many


@kernel
def _create(words: Words, head: Words, capacity: int, log: Log | None) -> None:
    queue = allocate(words, head, RECORD, log)
    array = allocate(words, head, capacity, log)
    store(words, queue + CAPACITY, capacity, log)
    store(words, queue + SIZE, 0, log)
    store(words, queue + FRONT, 0, log)
    store(words, queue + REAR, capacity - 1, log)
    store(words, queue + ARRAY, array, log)
    head[ROOT] = queue


@kernel
def _next(words: Words, queue: int, place: int) -> int:
    """The place after this one, in the ring."""
    return 0 if place + 1 == words[queue + CAPACITY] else place + 1


@kernel
def _double(words: Words, head: Words, log: Log | None) -> None:
    queue = head[ROOT]
    old, size, place = words[queue + ARRAY], words[queue + SIZE], words[queue + FRONT]
    array = allocate(words, head, 2 * size, log)
    for i in range(size):
        store(words, array + i, words[old + place], log)
        place = _next(words, queue, place)
    store(words, queue + CAPACITY, 2 * size, log)
    store(words, queue + FRONT, 0, log)
    store(words, queue + REAR, size - 1, log)
    store(words, queue + ARRAY, array, log)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> None:
    queue = head[ROOT]
    if words[queue + SIZE] == words[queue + CAPACITY]:
        _double(words, head, log)
    rear = _next(words, queue, words[queue + REAR])
    store(words, queue + SIZE, words[queue + SIZE] + 1, log)
    store(words, queue + REAR, rear, log)
    store(words, words[queue + ARRAY] + rear, key, log)


@kernel
def _delete(words: Words, head: Words, log: Log | None) -> int:
    queue = head[ROOT]
    front = words[queue + FRONT]
    store(words, queue + SIZE, words[queue + SIZE] - 1, log)
    store(words, queue + FRONT, _next(words, queue, front), log)
    return int(words[words[queue + ARRAY] + front])


class FifoQueue(Queue):
    """Keys of which the oldest comes out first; both ends take O(1)."""

    def __init__(
        self, ctx: pyhac.Context, name: str, *, keys: int = 64, words: int = 1024, **area: int
    ) -> None:
        """``keys``: room in a new queue's first array; the rest is as for Structure."""
        if keys < 1:
            raise ValueError(f"keys must be at least 1, not {keys}")
        self._keys = keys
        super().__init__(ctx, name, words=max(words, RECORD + keys + 2 * HEADER), **area)

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self._keys, self.log)

    @operation
    def insert(self, key: int) -> None:
        key = word(key)
        if len(self) == self.words[self.head[ROOT] + CAPACITY]:
            self.room(2 * len(self))
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
        words, queue = self.words, int(self.head[ROOT])
        array, place = int(words[queue + ARRAY]), int(words[queue + FRONT])
        for _ in range(len(self)):
            yield int(words[array + place])
            place = _next(words, queue, place)

    def check(self) -> None:
        """From front to rear there are as many places as keys."""
        capacity, size, front, rear = self.words[self.head[ROOT] :][:ARRAY].tolist()
        assert 0 <= size <= capacity, f"{size} keys in {capacity} places"
        assert 0 <= front < capacity, f"the front is {front} of {capacity}"
        assert 0 <= rear < capacity, f"the rear is {rear} of {capacity}"
        assert (front + size) % capacity == (rear + 1) % capacity, f"{front}, {size}, {rear}"
