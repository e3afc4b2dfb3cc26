# SPDX-License-Identifier: MIT
"""A linked list: keys are appended at the tail.

    root ──► first node ──► node ──► node ──► NULL        a node: key, next
             (holds no key)            ▲
                               tail ───┘

The first node spares us a special case: whatever is deleted has a node before it.
"""

from collections.abc import Iterator

from .memory import FREE, LENGTH, NULL, OWN, ROOT, Log, Words, allocate, kernel, store
from .structure import Sequence, operation, word

KEY, NEXT, NODE = range(3)  # words of a node, and how many they are

TAIL = OWN  # in the head: the last node


@kernel
def _create(words: Words, head: Words, log: Log | None) -> None:
    first = allocate(words, head, NODE, log)
    store(words, first + NEXT, NULL, log)
    head[ROOT] = head[TAIL] = first


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> None:
    node = allocate(words, head, NODE, log)
    store(words, node + KEY, key, log)
    store(words, node + NEXT, NULL, log)
    store(words, head[TAIL] + NEXT, node, log)
    head[TAIL] = node
    head[LENGTH] += 1


@kernel
def _before(words: Words, head: Words, key: int) -> int:
    """The node before the first one with this key, or the last node."""
    node = head[ROOT]
    while words[node + NEXT] != NULL and words[words[node + NEXT] + KEY] != key:
        node = words[node + NEXT]
    return int(node)


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    before = _before(words, head, key)
    node = words[before + NEXT]
    if node == NULL:
        return False
    store(words, before + NEXT, words[node + NEXT], log)
    if head[TAIL] == node:
        head[TAIL] = before
    head[LENGTH] -= 1
    return True


class LinkedList(Sequence):
    """Keys in the order in which they were appended. Finding one takes O(n)."""

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self.log)

    @operation
    def insert(self, key: int) -> None:
        self.room(NODE)
        _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self, key: int) -> bool:
        return _delete(self.words, self.head, word(key), self.log)

    def find(self, key: int) -> bool:
        words = self.words
        return bool(words[_before(words, self.head, word(key)) + NEXT] != NULL)

    def __iter__(self) -> Iterator[int]:
        words = self.words
        node = words[self.head[ROOT] + NEXT]
        while node != NULL:
            yield int(words[node + KEY])
            node = words[node + NEXT]

    def check(self) -> None:
        """The links lead upwards through as many nodes as there are keys, to the tail."""
        words, last = self.words, int(self.head[ROOT])
        for _ in range(len(self)):
            node = int(words[last + NEXT])
            assert last < node < self.head[FREE], f"node {last} is followed by {node}"
            last = node
        assert words[last + NEXT] == NULL, f"the list goes on after {len(self)} keys"
        assert last == self.head[TAIL], f"the tail is {self.head[TAIL]}, not {last}"
