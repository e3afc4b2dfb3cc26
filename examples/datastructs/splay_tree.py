# SPDX-License-Identifier: MIT
"""A splay tree: whatever key was used last is at the root.

    root ──► 30               a node: key, left, right
            /  \\
          10    50            There is no balance to keep. Bringing a node up shortens
            \\                 the way that led to it, so that on average it is short.
             20

Splaying goes top down. It takes the tree apart on its way: what is smaller than the key
is hung into one tree, what is larger into another; in the end both become the children of
the node where the way ends. Two steps to the same side are taken with a rotation between.

So even ``find`` writes, and is a transaction. ``key in tree`` only reads, and leaves the
tree as it is: for a standby, and for contexts that are open for reading.
"""

from typing import ClassVar

from .memory import HEADER, LENGTH, ROOT, Log, Words, allocate, kernel, store
from .search_tree import KEY, LEFT, RIGHT, SearchTree, contains, rotate
from .structure import operation, word

NODE = 3  # words of a node

NIL = HEADER  # the sentinel: it is what is allocated first


@kernel
def _create(words: Words, head: Words, log: Log | None) -> None:
    sentinel = allocate(words, head, NODE, log)
    store(words, sentinel + LEFT, sentinel, log)
    store(words, sentinel + RIGHT, sentinel, log)
    head[ROOT] = sentinel


@kernel
def _splay(words: Words, node: int, key: int, log: Log | None) -> int:
    """Bring the node with this key, or one that is next to it in order, to the top of the
    tree below ``node``, which has nodes; give it."""
    store(words, NIL + KEY, key, log)  # neither smaller nor larger: no special case for it
    smaller = larger = NIL  # roots of the two trees
    last_smaller = last_larger = NIL  # the nodes at which they grow
    while words[node + KEY] != key:
        if key < words[node + KEY]:
            if key < words[words[node + LEFT] + KEY]:
                node = rotate(words, node, RIGHT, log)
            if words[node + LEFT] == NIL:
                break
            if last_larger == NIL:
                larger = node
            else:
                store(words, last_larger + LEFT, node, log)
            last_larger = node
            node = int(words[node + LEFT])
        else:
            if key > words[words[node + RIGHT] + KEY]:
                node = rotate(words, node, LEFT, log)
            if words[node + RIGHT] == NIL:
                break
            if last_smaller == NIL:
                smaller = node
            else:
                store(words, last_smaller + RIGHT, node, log)
            last_smaller = node
            node = int(words[node + RIGHT])
    if last_smaller == NIL:
        smaller = words[node + LEFT]
    else:
        store(words, last_smaller + RIGHT, words[node + LEFT], log)
    if last_larger == NIL:
        larger = words[node + RIGHT]
    else:
        store(words, last_larger + LEFT, words[node + RIGHT], log)
    store(words, node + LEFT, smaller, log)
    store(words, node + RIGHT, larger, log)
    return node


@kernel
def _find(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if head[ROOT] == NIL:
        return False
    head[ROOT] = _splay(words, int(head[ROOT]), key, log)
    return bool(words[head[ROOT] + KEY] == key)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if _find(words, head, key, log):
        return False
    root = head[ROOT]
    node = allocate(words, head, NODE, log)
    store(words, node + KEY, key, log)
    if root == NIL:
        store(words, node + LEFT, NIL, log)
        store(words, node + RIGHT, NIL, log)
    elif key < words[root + KEY]:
        store(words, node + LEFT, words[root + LEFT], log)
        store(words, node + RIGHT, root, log)
        store(words, root + LEFT, NIL, log)
    else:
        store(words, node + LEFT, root, log)
        store(words, node + RIGHT, words[root + RIGHT], log)
        store(words, root + RIGHT, NIL, log)
    head[ROOT] = node
    head[LENGTH] += 1
    return True


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if not _find(words, head, key, log):
        return False
    left, right = words[head[ROOT] + LEFT], words[head[ROOT] + RIGHT]
    if left == NIL:
        head[ROOT] = right
    else:
        # All keys on the left are smaller: the largest comes up, with nothing to its right.
        root = _splay(words, int(left), key, log)
        store(words, root + RIGHT, right, log)
        head[ROOT] = root
    head[LENGTH] -= 1
    return True


class SplayTree(SearchTree):
    """Keys in ascending order. Many operations take O(log n) each on average, and less
    when some keys are used more than others; a single one may take O(n)."""

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

    @operation
    def find(self, key: int) -> bool:
        """Also bring the key, or one next to it, to the root."""
        return _find(self.words, self.head, word(key), self.log)

    def __contains__(self, key: int) -> bool:
        return contains(self.words, self.root, NIL, word(key))
