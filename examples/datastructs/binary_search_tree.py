# SPDX-License-Identifier: MIT
"""A binary search tree, without any balance: the plainest of the trees.

    root ──► 40              a node: key, left, right
            /  \\
          20    50           Keys that come in order make it a list, and slow.
         /  \\
       10    30

The textbook inserts by recursion: ``node.left = insert(key, node.left)``. On its way back
this assigns every link that it came along, though only the last one is new. The tree keeps
to it, with a loop (a tree that became a list would be too deep for recursion): it makes
"tree insert" the row of table 2 with the most writes by far, nearly all to few pages. An
engine that tracks pages pays once for each page, one that tracks stores for each of them.
"""

import numpy as np

from .memory import LENGTH, NULL, ROOT, Log, Words, allocate, kernel, store
from .search_tree import KEY, LEFT, RIGHT, SearchTree, contains, side_of
from .structure import operation, word

NODE = 3  # words of a node


@kernel
def _way(words: Words, head: Words, key: int) -> Words:
    """The links (indices of words) from the root to the key's node, or to the empty link
    where it belongs."""
    length = 0
    node = head[ROOT]
    while node != NULL and words[node + KEY] != key:
        node = words[node + side_of(words, node, key)]
        length += 1
    way = np.empty(length, np.int32)
    node = head[ROOT]
    for i in range(length):
        way[i] = node + side_of(words, node, key)
        node = words[way[i]]
    return way


@kernel
def _assign(words: Words, head: Words, way: Words, node: int, log: Log | None) -> None:
    """Let the way's last link lead to node; then assign the others again, upwards."""
    if len(way) == 0:
        head[ROOT] = node
        return
    store(words, way[-1], node, log)
    for link in way[-2::-1]:
        store(words, link, words[link], log)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if contains(words, head[ROOT], NULL, key):
        return False
    way = _way(words, head, key)
    node = allocate(words, head, NODE, log)
    store(words, node + KEY, key, log)
    store(words, node + LEFT, NULL, log)
    store(words, node + RIGHT, NULL, log)
    _assign(words, head, way, node, log)
    head[LENGTH] += 1
    return True


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if not contains(words, head[ROOT], NULL, key):
        return False
    way = _way(words, head, key)
    node = words[way[-1]] if len(way) > 0 else head[ROOT]
    if words[node + LEFT] != NULL and words[node + RIGHT] != NULL:
        # It takes the key of the next larger node, which has no left child, and goes for it.
        lowest = words[node + RIGHT]
        while words[lowest + LEFT] != NULL:
            lowest = words[lowest + LEFT]
        way = _way(words, head, int(words[lowest + KEY]))
        store(words, node + KEY, words[lowest + KEY], log)
        node = lowest
    child = words[node + LEFT] if words[node + LEFT] != NULL else words[node + RIGHT]
    _assign(words, head, way, int(child), log)
    head[LENGTH] -= 1
    return True


class BinarySearchTree(SearchTree):
    """Keys in ascending order. Each operation takes as long as the tree is deep: O(log n)
    when the keys come at random, O(n) when they come in order."""

    def create(self, words: Words, head: Words) -> None:
        head[ROOT] = NULL

    @operation
    def insert(self, key: int) -> bool:
        self.room(NODE)
        return _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self, key: int) -> bool:
        return _delete(self.words, self.head, word(key), self.log)
