# SPDX-License-Identifier: MIT
"""An AVL tree: below every node, left and right differ by at most one in height.

           40 (2)            a node: key, left, right, height
          /      \\
       20 (1)    50 (0)      The height of a leaf is 0, and that of nothing -1.
       /
    10 (0)

An insertion or deletion changes heights along its way. Where the difference becomes two,
one rotation mends it, or two if the child leans to the inner side.
"""

import numpy as np

from .memory import LENGTH, NULL, ROOT, Log, Words, allocate, kernel, store
from .search_tree import KEY, LEFT, RIGHT, SearchTree, contains, opposite, rotate, side_of
from .structure import operation, word

HEIGHT, NODE = 3, 4  # the word after those of every tree; words of a node


@kernel
def _height(words: Words, node: int) -> int:
    return int(words[node + HEIGHT]) if node != NULL else -1


@kernel
def _measure(words: Words, node: int, log: Log | None) -> None:
    left, right = _height(words, words[node + LEFT]), _height(words, words[node + RIGHT])
    store(words, node + HEIGHT, max(left, right) + 1, log)


@kernel
def _sink(words: Words, node: int, side: int, log: Log | None) -> int:
    """Rotate a node to one side; give the child that is above it now."""
    child = rotate(words, node, side, log)
    _measure(words, node, log)
    _measure(words, child, log)
    return child


@kernel
def _raise(words: Words, node: int, side: int, log: Log | None) -> int:
    """The child on this side is too high: bring it, or its inner child, above node."""
    child, other = int(words[node + side]), opposite(side)
    if _height(words, words[child + other]) > _height(words, words[child + side]):
        store(words, node + side, _sink(words, child, side, log), log)
    return _sink(words, node, other, log)


@kernel
def _balance(words: Words, node: int, log: Log | None) -> int:
    """Mend what one insertion or deletion below node has done; give who is there now."""
    left, right = _height(words, words[node + LEFT]), _height(words, words[node + RIGHT])
    if abs(left - right) > 1:
        node = _raise(words, node, LEFT if left > right else RIGHT, log)
    _measure(words, node, log)
    return node


@kernel
def _insert_below(words: Words, head: Words, node: int, key: int, log: Log | None) -> int:
    if node == NULL:
        leaf = allocate(words, head, NODE, log)
        store(words, leaf + KEY, key, log)
        store(words, leaf + HEIGHT, 0, log)
        store(words, leaf + LEFT, NULL, log)
        store(words, leaf + RIGHT, NULL, log)
        return _balance(words, leaf, log)  # as every node on the way back
    side = side_of(words, node, key)
    child = _insert_below(words, head, int(words[node + side]), key, log)
    store(words, node + side, child, log)
    return _balance(words, node, log)


@kernel
def _delete_below(words: Words, node: int, key: int, log: Log | None) -> int:
    if key == words[node + KEY]:
        if words[node + LEFT] == NULL or words[node + RIGHT] == NULL:
            return int(words[node + (LEFT if words[node + LEFT] != NULL else RIGHT)])
        # The node stays. It takes the next larger key, whose node goes.
        lowest = words[node + RIGHT]
        while words[lowest + LEFT] != NULL:
            lowest = words[lowest + LEFT]
        key = int(words[lowest + KEY])
        store(words, node + KEY, key, log)
    side = side_of(words, node, key)
    store(words, node + side, _delete_below(words, int(words[node + side]), key, log), log)
    return _balance(words, node, log)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if contains(words, head[ROOT], NULL, key):
        return False
    head[ROOT] = _insert_below(words, head, int(head[ROOT]), key, log)
    head[LENGTH] += 1
    return True


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if not contains(words, head[ROOT], NULL, key):
        return False
    head[ROOT] = _delete_below(words, int(head[ROOT]), key, log)
    head[LENGTH] -= 1
    return True


class AVLTree(SearchTree):
    """Keys in ascending order. Every operation takes O(log n)."""

    def create(self, words: Words, head: Words) -> None:
        head[ROOT] = NULL

    @operation
    def insert(self, key: int) -> bool:
        self.room(NODE)
        return _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self, key: int) -> bool:
        return _delete(self.words, self.head, word(key), self.log)

    def check(self) -> None:
        """Also: every height is right, and no two sides differ by more than one."""
        super().check()
        words, nodes = self.words, self.nodes()
        left, right = (
            np.where(words[nodes + side] == NULL, -1, words[words[nodes + side] + HEIGHT])
            for side in (LEFT, RIGHT)
        )
        assert (abs(left - right) <= 1).all(), "the tree is out of balance"
        heights = words[nodes + HEIGHT]
        assert (heights == np.maximum(left, right) + 1).all(), "a height is wrong"
