# SPDX-License-Identifier: MIT
"""A leftist heap: a tree whose right spines are short, so that two can be merged fast.

    node: key, left, right, null path length

The null path length of a node is the shortest way down from it to a missing child: 0 if
one of its own children is missing, one more than its right child's otherwise. A left child
has never less than the right one. Whatever is done is a merge along the right spines.
"""

from collections.abc import Iterator

from .memory import LENGTH, NULL, ROOT, Log, Words, allocate, kernel, link, store
from .structure import Heap, operation, word

KEY, LEFT, RIGHT, NPL, NODE = range(5)  # words of a node, and how many they are


@kernel
def _merge(words: Words, one: int, other: int, log: Log | None) -> int:
    """Make one heap of two; its root."""
    if one == NULL:
        return other
    if other == NULL:
        return one
    if words[one + KEY] >= words[other + KEY]:
        one, other = other, one
    if words[one + LEFT] == NULL:
        store(words, one + LEFT, other, log)
        return one
    store(words, one + RIGHT, _merge(words, link(words[one + RIGHT]), other, log), log)
    left, right = words[one + LEFT], words[one + RIGHT]
    if words[left + NPL] < words[right + NPL]:
        store(words, one + LEFT, right, log)
        store(words, one + RIGHT, left, log)
    store(words, one + NPL, words[words[one + RIGHT] + NPL] + 1, log)
    return one


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> None:
    node = allocate(words, head, NODE, log)
    store(words, node + KEY, key, log)
    store(words, node + NPL, 0, log)
    store(words, node + LEFT, NULL, log)
    store(words, node + RIGHT, NULL, log)
    head[ROOT] = _merge(words, node, link(head[ROOT]), log)
    head[LENGTH] += 1


@kernel
def _delete(words: Words, head: Words, log: Log | None) -> int:
    root = head[ROOT]
    head[ROOT] = _merge(words, link(words[root + LEFT]), link(words[root + RIGHT]), log)
    head[LENGTH] -= 1
    return int(words[root + KEY])


class LeftistHeap(Heap):
    """Keys of which the smallest comes out first, in O(log n)."""

    def create(self, words: Words, head: Words) -> None:
        """A zero root is an empty heap."""

    @operation
    def insert(self, key: int) -> None:
        self.room(NODE)
        _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self) -> int:
        self.refuse_empty()
        return _delete(self.words, self.head, self.log)

    def find(self) -> int:
        self.refuse_empty()
        return int(self.words[self.head[ROOT] + KEY])

    def _nodes(self) -> Iterator[list[int]]:
        """Each node's words, parents before their children."""
        words = self.words
        above = [int(self.head[ROOT])]
        while above:
            node = above.pop()
            if node != NULL:
                yield words[node : node + NODE].tolist()
                above += words[node + LEFT : node + NPL].tolist()

    def __iter__(self) -> Iterator[int]:
        for node in self._nodes():
            yield node[KEY]

    def check(self) -> None:
        """Heap order, null path lengths, left ones not below right ones, and the length."""
        words, count = self.words, 0
        for key, left, right, npl in self._nodes():
            count += 1
            assert count <= len(self), f"more nodes than the {len(self)} keys"
            for child in (left, right):
                assert child == NULL or words[child + KEY] >= key, f"a child of {key} is smaller"
            lengths = [words[child + NPL] if child != NULL else -1 for child in (left, right)]
            assert lengths[0] >= lengths[1], f"{key}'s right child has the longer null path"
            assert npl == lengths[1] + 1, f"{key}'s null path length is {npl}"
        assert count == len(self), f"{count} nodes for {len(self)} keys"
