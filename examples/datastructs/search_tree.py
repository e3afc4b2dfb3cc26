# SPDX-License-Identifier: MIT
"""What the five search trees share: nodes, finding a key, walking in order, rotating.

A node begins with the words key, left, right. All that lies left of it is smaller, all
that lies right of it larger. An empty link leads to ``nil``: to NULL, or in trees that
have one to a sentinel, a node that stands for "no node" and spares them special cases.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from .memory import FREE, LENGTH, NULL, ROOT, Log, Words, inlined, kernel, store
from .structure import OrderedKeys, word

KEY, LEFT, RIGHT = range(3)
"""Words of every tree's node."""


@inlined
def opposite(side: int) -> int:
    return LEFT + RIGHT - side


@inlined
def side_of(words: Words, node: int, key: int) -> int:
    """Where to go on from a node that has another key."""
    return LEFT if key < words[node + KEY] else RIGHT


@kernel
def contains(words: Words, node: int, nil: int, key: int) -> bool:
    while node != nil and words[node + KEY] != key:
        node = words[node + side_of(words, node, key)]
    return node != nil


@kernel
def rotate(words: Words, node: int, side: int, log: Log | None) -> int:
    """Sink a node to one side; its child of the other side takes its place and is given
    back, for the link above to be changed. To the right::

              node            child
              /  \\            /  \\
          child   c    ──►    a   node
          /  \\                    /  \\
         a    b                  b    c
    """
    other = opposite(side)
    child = words[node + other]
    store(words, node + other, words[child + side], log)
    store(words, child + side, node, log)
    return int(child)


@kernel
def walk(words: Words, node: int, nil: int, free: int, nodes: Words) -> None:
    """Put the nodes below this one into ``nodes``, in order, which they must fill."""
    path = np.empty(len(nodes), np.int32)
    depth = count = 0
    while node != nil or depth > 0:
        while node != nil:
            assert 0 < node < free, "a link leads out of the area"
            assert count + depth < len(nodes), "there are more nodes than keys"
            path[depth] = node
            depth += 1
            node = words[node + LEFT]
        depth -= 1
        node = path[depth]
        nodes[count] = node
        count += 1
        node = words[node + RIGHT]
    assert count == len(nodes), "there are fewer nodes than keys"


class SearchTree(OrderedKeys):
    """Keys in ascending order."""

    nil: ClassVar[int] = NULL
    """Where empty links lead."""

    @property
    def root(self) -> int:
        """The topmost node. A standby that has not heard of the tree yet has zeros."""
        return int(self.head[ROOT]) or self.nil

    def find(self, key: int) -> bool:
        return contains(self.words, self.root, self.nil, word(key))

    def nodes(self) -> Words:
        """All nodes, in the order of their keys."""
        nodes = np.empty(len(self), np.int32)
        walk(self.words, self.root, self.nil, self.head[FREE], nodes)
        return nodes

    def __iter__(self) -> Iterator[int]:
        keys: list[int] = self.words[self.nodes() + KEY].tolist()
        return iter(keys)

    def check(self) -> None:
        """As many nodes as keys can be reached, and their keys ascend."""
        assert self.head[LENGTH] >= 0, f"the length is {self.head[LENGTH]}"
        keys = self.words[self.nodes() + KEY]
        assert (keys[1:] > keys[:-1]).all(), "the keys are out of order"
        if self.nil != NULL:
            links = self.words[[self.nil + LEFT, self.nil + RIGHT]]
            assert (links == self.nil).all(), "the sentinel has children"
