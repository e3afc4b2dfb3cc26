# SPDX-License-Identifier: MIT
"""A red-black tree, changed top down: in one pass from the root to a leaf.

                 20 black           a node: key, left, right, colour
               /    \\
        10 black    40 red          No red node has a red child. On every way down
                   /    \\           from the root there are as many black nodes.
            30 black    50 black

Insertion sees to it that no red node has a red sibling where it hangs in the new one, which
is red: it recolours and rotates on its way. Deletion makes every node on its way red before
it goes on, so that the one that is cut off in the end is red, which nobody misses.
"""

from typing import ClassVar

from .memory import HEADER, LENGTH, ROOT, Log, Words, allocate, kernel, store
from .search_tree import KEY, LEFT, RIGHT, SearchTree, contains, opposite, rotate, side_of
from .structure import operation, word

COLOUR, NODE = 3, 4  # the word after those of every tree; words of a node
RED, BLACK = range(2)

NIL = HEADER  # the sentinel, black: it is what is allocated first
TOP = NIL + NODE + HEADER  # the second: a node above the root, which is its right child
SMALLEST = -(2**31)

MOST_DEPTH = 64  # of a tree of 2**31 nodes: twice its black height


@kernel
def _create(words: Words, head: Words, log: Log | None) -> None:
    for _ in (NIL, TOP):
        node = allocate(words, head, NODE, log)
        store(words, node + KEY, SMALLEST, log)
        store(words, node + LEFT, NIL, log)
        store(words, node + RIGHT, NIL, log)
        store(words, node + COLOUR, BLACK, log)
    head[ROOT] = TOP


@kernel
def _red(words: Words, node: int) -> bool:
    return bool(words[node + COLOUR] == RED)


@kernel
def _sink(words: Words, parent: int, node: int, side: int, log: Log | None) -> int:
    """Rotate parent's child to one side; give the node that is parent's child now."""
    link = parent + (LEFT if words[parent + LEFT] == node else RIGHT)
    child = rotate(words, node, side, log)
    store(words, link, child, log)
    return child


@kernel
def _reorient(
    words: Words, node: int, parent: int, grand: int, great: int, key: int, log: Log | None
) -> tuple[int, int]:
    """Make a node red and its children black; if its parent is red, rotate. Gives the node
    from which the way to the key goes on, and its parent."""
    store(words, node + COLOUR, RED, log)
    store(words, words[node + LEFT] + COLOUR, BLACK, log)
    store(words, words[node + RIGHT] + COLOUR, BLACK, log)
    if _red(words, parent):
        store(words, grand + COLOUR, RED, log)
        side = side_of(words, grand, key)
        if side_of(words, parent, key) != side:
            parent = _sink(words, grand, parent, side, log)
        node = _sink(words, great, grand, opposite(side), log)
        store(words, node + COLOUR, BLACK, log)
    store(words, words[TOP + RIGHT] + COLOUR, BLACK, log)
    return node, parent


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    store(words, NIL + KEY, key, log)  # the way ends there at the latest
    node = parent = grand = great = int(head[ROOT])
    while True:
        great, grand, parent = grand, parent, node
        node = int(words[node + side_of(words, node, key)])
        if _red(words, words[node + LEFT]) and _red(words, words[node + RIGHT]):
            node, parent = _reorient(words, node, parent, grand, great, key, log)
        if words[node + KEY] == key:
            break
    if node != NIL:
        return False
    node = allocate(words, head, NODE, log)
    store(words, node + KEY, key, log)
    store(words, node + LEFT, NIL, log)
    store(words, node + RIGHT, NIL, log)
    store(words, parent + side_of(words, parent, key), node, log)
    _reorient(words, node, parent, grand, great, key, log)
    head[LENGTH] += 1
    return True


@kernel
def _redden(
    words: Words, grand: int, parent: int, node: int, side: int, log: Log | None
) -> tuple[int, int]:
    """Make a black node red whose parent is red, and whose child on this side is black.
    Gives its grandparent and its parent as they are then."""
    other = opposite(side)
    child = int(words[node + other])
    if _red(words, child):  # it takes the node's place and colour
        _sink(words, parent, node, side, log)
        store(words, child + COLOUR, BLACK, log)
        store(words, node + COLOUR, RED, log)
        return parent, child
    store(words, node + COLOUR, RED, log)
    if parent == TOP:  # the root: there is one black node less on every way
        return grand, parent
    side = LEFT if words[parent + LEFT] == node else RIGHT
    other = opposite(side)
    sibling = int(words[parent + other])
    if not _red(words, words[sibling + LEFT]) and not _red(words, words[sibling + RIGHT]):
        store(words, parent + COLOUR, BLACK, log)
        store(words, sibling + COLOUR, RED, log)
        return grand, parent
    if _red(words, words[sibling + side]):
        sibling = _sink(words, parent, sibling, other, log)
    # The sibling's side has a red node to spare: its top node moves above the parent.
    _sink(words, grand, parent, side, log)
    store(words, sibling + COLOUR, RED, log)
    store(words, words[sibling + LEFT] + COLOUR, BLACK, log)
    store(words, words[sibling + RIGHT] + COLOUR, BLACK, log)
    return sibling, parent


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if not contains(words, words[TOP + RIGHT], NIL, key):
        return False
    grand = parent = int(head[ROOT])
    node = found = int(words[parent + RIGHT])
    while True:
        # From the key's node on: one to the left, then to the right, to the next smaller key.
        side = RIGHT if key > words[node + KEY] else LEFT
        if key == words[node + KEY]:
            found = node
        if not _red(words, node) and not _red(words, words[node + side]):
            grand, parent = _redden(words, grand, parent, node, side, log)
        if words[node + side] == NIL:
            break
        grand, parent, node = parent, node, int(words[node + side])
    # This node is red and has no child. Its key takes the place of the deleted one.
    store(words, found + KEY, words[node + KEY], log)
    store(words, parent + (LEFT if words[parent + LEFT] == node else RIGHT), NIL, log)
    store(words, words[TOP + RIGHT] + COLOUR, BLACK, log)
    head[LENGTH] -= 1
    return True


@kernel
def _black_height(words: Words, node: int, depth: int) -> int:
    """Black nodes on each way down from here."""
    assert depth <= MOST_DEPTH, "the tree is too deep"
    if node == NIL:
        return 0
    left = _black_height(words, words[node + LEFT], depth + 1)
    right = _black_height(words, words[node + RIGHT], depth + 1)
    assert left == right, "there are more black nodes on one side than on the other"
    return left + (0 if _red(words, node) else 1)


class RedBlackTree(SearchTree):
    """Keys in ascending order. Every operation takes O(log n)."""

    nil: ClassVar[int] = NIL

    @property
    def root(self) -> int:
        return int(self.words[TOP + RIGHT]) or NIL

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
        """Also: no red node has a red child, and all ways have as many black nodes."""
        super().check()
        words, nodes = self.words, self.nodes()
        for node, what in ((NIL, "sentinel"), (TOP, "node at the top"), (self.root, "root")):
            assert words[node + COLOUR] == BLACK, f"the {what} is not black"
        assert words[TOP + LEFT] == NIL, "the node at the top has a left child"
        colours = words[nodes + COLOUR]
        assert ((colours == RED) | (colours == BLACK)).all(), "a node is neither red nor black"
        red = nodes[colours == RED]
        for side in (LEFT, RIGHT):
            children = words[red + side]
            assert (words[children + COLOUR] == BLACK).all(), "a red node has a red child"
        _black_height(words, words[TOP + RIGHT], 0)
