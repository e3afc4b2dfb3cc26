# SPDX-License-Identifier: MIT
"""A hash table with separate chaining: an array of linked lists.

    root ──► lists: │ 0 │ 1 │ 2 │ ...
                      │
                      └► first node ──► node ──► NULL        a node: key, next
                        (holds no key)

The number of lists stays as it was when the table was made.
"""

from collections.abc import Iterator

import pyhac

from .memory import HEADER, LENGTH, NULL, OWN, ROOT, Log, Words, allocate, kernel, store
from .structure import Keys, operation, word

KEY, NEXT, NODE = range(3)  # words of a node, and how many they are

LISTS = OWN  # in the head: how many lists there are


@kernel
def _create(words: Words, head: Words, lists: int, log: Log | None) -> None:
    table = allocate(words, head, lists, log)
    for i in range(lists):
        first = allocate(words, head, NODE, log)
        store(words, first + NEXT, NULL, log)
        store(words, table + i, first, log)
    head[ROOT], head[LISTS] = table, lists


@kernel
def _first(words: Words, head: Words, key: int) -> int:
    """The first node of the list where the key belongs."""
    return int(words[head[ROOT] + key % head[LISTS]])


@kernel
def _before(words: Words, head: Words, key: int) -> int:
    """The node before the one with this key, or the last one of its list."""
    node = _first(words, head, key)
    while words[node + NEXT] != NULL and words[words[node + NEXT] + KEY] != key:
        node = int(words[node + NEXT])
    return node


@kernel
def _find(words: Words, head: Words, key: int) -> bool:
    return bool(words[_before(words, head, key) + NEXT] != NULL)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if _find(words, head, key):
        return False
    node = allocate(words, head, NODE, log)
    first = _first(words, head, key)
    store(words, node + NEXT, words[first + NEXT], log)
    store(words, node + KEY, key, log)
    store(words, first + NEXT, node, log)
    head[LENGTH] += 1
    return True


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    before = _before(words, head, key)
    node = words[before + NEXT]
    if node == NULL:
        return False
    store(words, before + NEXT, words[node + NEXT], log)
    head[LENGTH] -= 1
    return True


class ChainedHash(Keys):
    """Each key at most once, in O(1) as long as there are about as many lists as keys."""

    def __init__(
        self, ctx: pyhac.Context, name: str, *, lists: int = 101, words: int = 1024, **area: int
    ) -> None:
        """``lists``: of a new table, best a prime; the rest is as for Structure."""
        if lists < 1:
            raise ValueError(f"lists must be at least 1, not {lists}")
        self._lists = lists
        needed = HEADER + lists + lists * (HEADER + NODE)
        super().__init__(ctx, name, words=max(words, needed), **area)

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self._lists, self.log)

    @operation
    def insert(self, key: int) -> bool:
        self.room(NODE)
        return _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self, key: int) -> bool:
        return _delete(self.words, self.head, word(key), self.log)

    def find(self, key: int) -> bool:
        return len(self) > 0 and _find(self.words, self.head, word(key))

    def _chain(self, index: int) -> Iterator[int]:
        words = self.words
        node = words[words[self.head[ROOT] + index] + NEXT]
        while node != NULL:
            yield int(words[node + KEY])
            node = words[node + NEXT]

    def __iter__(self) -> Iterator[int]:
        for index in range(self.head[LISTS]):
            yield from self._chain(index)

    def check(self) -> None:
        """Every key is in the list where it belongs, once, and they are as many as counted."""
        lists, count = int(self.head[LISTS]), 0
        for index in range(lists):
            seen = set()
            for key in self._chain(index):
                count += 1
                assert count <= len(self), f"more nodes than the {len(self)} keys"
                assert key % lists == index, f"{key} is in list {index} of {lists}"
                assert key not in seen, f"{key} is there twice"
                seen.add(key)
        assert count == len(self), f"{count} nodes for {len(self)} keys"
