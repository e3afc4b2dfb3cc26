# SPDX-License-Identifier: MIT
"""An AA tree (Arne Andersson's): a red-black tree in which only right children may be red,
with levels in the place of colours.

    level 2        20 ─────► 40          a node: key, left, right, level
                  /         /  \\
    level 1     10        30    50 ─► 60

Level 1 are the leaves. A left child is one level lower than its parent. A right child may
be on the same level, but not the right child of a right child. Two operations see to it:

- skew: a left child of the same level is rotated up, and so becomes the parent;
- split: of three in a row to the right, the middle one is rotated up, one level higher.
"""

from typing import ClassVar

from .memory import HEADER, LENGTH, ROOT, Log, Words, allocate, kernel, store
from .search_tree import KEY, LEFT, RIGHT, SearchTree, contains, rotate, side_of
from .structure import operation, word

LEVEL, NODE = 3, 4  # the word after those of every tree; words of a node

NIL = HEADER  # the sentinel, of level 0: it is what is allocated first


@kernel
def _create(words: Words, head: Words, log: Log | None) -> None:
    sentinel = allocate(words, head, NODE, log)
    store(words, sentinel + LEFT, sentinel, log)
    store(words, sentinel + RIGHT, sentinel, log)
    store(words, sentinel + LEVEL, 0, log)
    head[ROOT] = sentinel


@kernel
def _skew(words: Words, node: int, log: Log | None) -> int:
    if words[words[node + LEFT] + LEVEL] == words[node + LEVEL]:
        node = rotate(words, node, RIGHT, log)
    return node


@kernel
def _split(words: Words, node: int, log: Log | None) -> int:
    if words[words[words[node + RIGHT] + RIGHT] + LEVEL] == words[node + LEVEL]:
        node = rotate(words, node, LEFT, log)
        store(words, node + LEVEL, words[node + LEVEL] + 1, log)
    return node


@kernel
def _insert_below(words: Words, head: Words, node: int, key: int, log: Log | None) -> int:
    if node == NIL:
        leaf = allocate(words, head, NODE, log)
        store(words, leaf + KEY, key, log)
        store(words, leaf + LEVEL, 1, log)
        store(words, leaf + LEFT, NIL, log)
        store(words, leaf + RIGHT, NIL, log)
        return leaf
    side = side_of(words, node, key)
    child = _insert_below(words, head, int(words[node + side]), key, log)
    store(words, node + side, child, log)
    return _split(words, _skew(words, node, log), log)


@kernel
def _lower(words: Words, node: int, log: Log | None) -> int:
    """A child of this node is two levels below: bring the node down by one. Three skews and
    two splits put in order what may lie in a row then."""
    level = words[node + LEVEL] - 1
    store(words, node + LEVEL, level, log)
    if words[words[node + RIGHT] + LEVEL] > level:
        store(words, words[node + RIGHT] + LEVEL, level, log)
    node = _skew(words, node, log)
    right = _skew(words, int(words[node + RIGHT]), log)
    store(words, node + RIGHT, right, log)
    store(words, right + RIGHT, _skew(words, int(words[right + RIGHT]), log), log)
    node = _split(words, node, log)
    store(words, node + RIGHT, _split(words, int(words[node + RIGHT]), log), log)
    return node


@kernel
def _delete_below(words: Words, node: int, found: int, key: int, log: Log | None) -> int:
    """``found``: where the way last turned right, so in the end the node that has the key."""
    if node == NIL:
        return NIL
    side = side_of(words, node, key)
    if side == RIGHT:
        found = node
    child = int(words[node + side])
    store(words, node + side, _delete_below(words, child, found, key, log), log)
    if child == NIL:
        # The lowest node of the way. Its key, the next one, takes the place of the deleted.
        store(words, found + KEY, words[node + KEY], log)
        return int(words[node + RIGHT])
    lowest = min(words[words[node + LEFT] + LEVEL], words[words[node + RIGHT] + LEVEL])
    if lowest < words[node + LEVEL] - 1:
        node = _lower(words, node, log)
    return node


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if contains(words, head[ROOT], NIL, key):
        return False
    head[ROOT] = _insert_below(words, head, int(head[ROOT]), key, log)
    head[LENGTH] += 1
    return True


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if not contains(words, head[ROOT], NIL, key):
        return False
    head[ROOT] = _delete_below(words, int(head[ROOT]), int(head[ROOT]), key, log)
    head[LENGTH] -= 1
    return True


class AATree(SearchTree):
    """Keys in ascending order. Every operation takes O(log n)."""

    nil: ClassVar[int] = NIL

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self.log)

    @operation
    def insert(self, key: int) -> bool:
        self.room(NODE)
        return _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self, key: int) -> bool:
        return _delete(self.words, self.head, word(key), self.log)

    def check(self) -> None:
        """Also: the levels are as described above."""
        super().check()
        words, nodes = self.words, self.nodes()
        level = words[nodes + LEVEL]
        left, right = (words[words[nodes + side] + LEVEL] for side in (LEFT, RIGHT))
        second = words[words[words[nodes + RIGHT] + RIGHT] + LEVEL]
        assert words[NIL + LEVEL] == 0, f"the sentinel's level is {words[NIL + LEVEL]}"
        assert (left == level - 1).all(), "a left child is not one level lower"
        assert ((right == level) | (right == level - 1)).all(), "a right child's level is wrong"
        assert (second < level).all(), "three nodes of one level are in a row"
