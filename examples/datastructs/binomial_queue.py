# SPDX-License-Identifier: MIT
"""A binomial queue: a forest with at most one heap of each size 1, 2, 4, 8, ...

    root ──► record: size, tree of 1, tree of 2, tree of 4, ...      a node: key, left child,
                                         │                                   next sibling
                                         ▼
                                        node
                                        ▼
                                        node ► node
                                        ▼
                                        node

Two queues are merged like two binary numbers are added: two trees of a size make one of
the next, with the smaller root on top. Inserting merges with a queue of one key; deleting
merges with the children of the root that was taken.
"""

from collections.abc import Iterator

import pyhac

from .memory import NULL, OWN, ROOT, Log, Words, allocate, inlined, kernel, store
from .structure import Heap, operation, word

KEY, CHILD, SIBLING, NODE = range(4)  # words of a node, and how many they are

SIZE, TREES = range(2)  # words of the record: the number of keys, the first tree

COUNT = OWN  # in the head: how many trees a record has


@kernel
def _new_record(words: Words, head: Words, log: Log | None) -> int:
    queue = allocate(words, head, TREES + head[COUNT], log)
    store(words, queue + SIZE, 0, log)
    for i in range(head[COUNT]):
        store(words, queue + TREES + i, NULL, log)
    return queue


@kernel
def _create(words: Words, head: Words, count: int, log: Log | None) -> None:
    head[COUNT] = count
    head[ROOT] = _new_record(words, head, log)


@inlined
def _combine(words: Words, one: int, other: int, log: Log | None) -> int:
    """Make a tree of two of the same size."""
    if words[one + KEY] > words[other + KEY]:
        one, other = other, one
    store(words, other + SIBLING, words[one + CHILD], log)
    store(words, one + CHILD, other, log)
    return one


@kernel
def _merge(words: Words, queue: int, other: int, log: Log | None) -> None:
    """Move the trees of the other queue into this one."""
    size = words[queue + SIZE] + words[other + SIZE]
    store(words, queue + SIZE, size, log)
    carry = NULL
    i = TREES
    while 1 << (i - TREES) <= size:
        mine, its = int(words[queue + i]), int(words[other + i])
        if mine == NULL and its == NULL:
            if carry != NULL:
                store(words, queue + i, carry, log)
                carry = NULL
        elif its == NULL:
            if carry != NULL:
                carry = _combine(words, mine, carry, log)
                store(words, queue + i, NULL, log)
        elif mine == NULL:
            if carry == NULL:
                store(words, queue + i, its, log)
            else:
                carry = _combine(words, its, carry, log)
            store(words, other + i, NULL, log)
        else:
            store(words, queue + i, carry, log)  # perhaps NULL
            carry = _combine(words, mine, its, log)
            store(words, other + i, NULL, log)
        i += 1


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> None:
    single = _new_record(words, head, log)
    node = allocate(words, head, NODE, log)
    store(words, node + CHILD, NULL, log)
    store(words, node + SIBLING, NULL, log)
    store(words, node + KEY, key, log)
    store(words, single + SIZE, 1, log)
    store(words, single + TREES, node, log)
    _merge(words, int(head[ROOT]), single, log)


@kernel
def _smallest(words: Words, head: Words) -> int:
    """Where in the record the tree is that has the smallest key on top."""
    queue, smallest = head[ROOT], 0
    for i in range(TREES, TREES + head[COUNT]):
        tree = words[queue + i]
        if tree != NULL and (
            smallest == 0 or words[tree + KEY] < words[words[queue + smallest] + KEY]
        ):
            smallest = i
    return smallest


@kernel
def _delete(words: Words, head: Words, log: Log | None) -> int:
    queue = int(head[ROOT])
    place = _smallest(words, head)
    root = words[queue + place]
    children = _new_record(words, head, log)
    size = (1 << (place - TREES)) - 1
    store(words, children + SIZE, size, log)
    tree = words[root + CHILD]
    for i in range(place - 1, TREES - 1, -1):
        sibling = words[tree + SIBLING]
        store(words, children + i, tree, log)
        store(words, tree + SIBLING, NULL, log)
        tree = sibling
    store(words, queue + place, NULL, log)
    store(words, queue + SIZE, words[queue + SIZE] - size - 1, log)
    _merge(words, queue, children, log)
    return int(words[root + KEY])


class BinomialQueue(Heap):
    """Keys of which the smallest comes out first; insertion takes O(1) on average."""

    def __init__(
        self, ctx: pyhac.Context, name: str, *, trees: int = 14, words: int = 1024, **area: int
    ) -> None:
        """``trees``: a new queue holds less than 2**trees keys; the rest is as for Structure."""
        if not 1 <= trees <= 31:
            raise ValueError(f"trees must be from 1 to 31, not {trees}")
        self._trees = trees
        super().__init__(ctx, name, words=words, **area)

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self._trees, self.log)

    @operation
    def insert(self, key: int) -> None:
        trees = int(self.head[COUNT])
        if len(self) + 1 == 1 << trees:
            raise OverflowError(
                f"{self.name!r} has {trees} trees, which hold {len(self)} keys at most; "
                "move them to a queue that was made with more trees"
            )
        self.room(TREES + trees, NODE)
        _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self) -> int:
        self.refuse_empty()
        self.room(TREES + int(self.head[COUNT]))
        return _delete(self.words, self.head, self.log)

    def find(self) -> int:
        self.refuse_empty()
        words = self.words
        tree = words[self.head[ROOT] + _smallest(words, self.head)]
        return int(words[tree + KEY])

    def __len__(self) -> int:
        return int(self.words[self.head[ROOT] + SIZE])

    def _trees_of_record(self) -> list[int]:
        first = int(self.head[ROOT]) + TREES
        trees: list[int] = self.words[first : first + int(self.head[COUNT])].tolist()
        return trees

    def __iter__(self) -> Iterator[int]:
        words = self.words
        todo = self._trees_of_record()
        while todo:
            node = todo.pop()
            if node != NULL:
                key, child, sibling = words[node : node + NODE].tolist()
                yield key
                todo += child, sibling

    def check(self) -> None:
        """Which trees there are says the size; each is a heap and has the binomial shape."""
        words, size = self.words, len(self)
        for rank, tree in enumerate(self._trees_of_record()):
            assert (tree != NULL) == bool(size >> rank & 1), f"{size} keys, and tree {rank} wrong"
            todo = [(tree, rank)] if tree != NULL else []
            while todo:
                node, its_rank = todo.pop()
                key, child, _ = words[node : node + NODE].tolist()
                # The children's ranks go down from the parent's to 0.
                for child_rank in range(its_rank - 1, -1, -1):
                    assert child != NULL, f"{key}'s child of rank {child_rank} is missing"
                    assert words[child + KEY] >= key, f"a child of {key} is smaller"
                    todo.append((child, child_rank))
                    child = int(words[child + SIBLING])
                assert child == NULL, f"{key} of rank {its_rank} has too many children"
