# SPDX-License-Identifier: MIT
"""A deterministic skip list (1-2-3): sorted lists in levels, each skipping nodes of the one
below.

    header ──► ∞                                     a node: key, right, down
               ▼
               30 ────────────► ∞ ──► tail           Each level ends with the key ∞.
               ▼                ▼
               10 ──► 20 ──► 30 ──► 40 ──► ∞ ──► tail
               ▼      ▼      ▼      ▼      ▼
               bottom

A node leads down to the first of a *group*, which ends with the node that has the same key.
Every group has two to four nodes, so each node skips a gap of one to three. Groups are
split, merged and filled up on the way down: an operation never has to go back up.
"""

from collections.abc import Iterator

from .memory import FREE, HEADER, LENGTH, ROOT, Log, Words, allocate, kernel, store
from .structure import OrderedKeys, operation, word

KEY, RIGHT, DOWN, NODE = range(4)  # words of a node, and how many they are

BOTTOM = HEADER  # below the lowest level; what is allocated first
TAIL = BOTTOM + NODE + HEADER  # right of every level
SMALLEST, INFINITY = -(2**31), 2**31 - 1


@kernel
def _create(words: Words, head: Words, log: Log | None) -> None:
    bottom = allocate(words, head, NODE, log)
    store(words, bottom + RIGHT, bottom, log)
    store(words, bottom + DOWN, bottom, log)
    tail = allocate(words, head, NODE, log)
    store(words, tail + KEY, INFINITY, log)
    store(words, tail + RIGHT, tail, log)
    header = allocate(words, head, NODE, log)
    store(words, header + KEY, INFINITY, log)
    store(words, header + RIGHT, tail, log)
    store(words, header + DOWN, bottom, log)
    head[ROOT] = header


@kernel
def _find(words: Words, head: Words, key: int) -> bool:
    node = head[ROOT]
    while node != BOTTOM and words[node + KEY] != key:
        node = words[node + (RIGHT if key > words[node + KEY] else DOWN)]
    return bool(node != BOTTOM)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if _find(words, head, key):
        return False
    store(words, BOTTOM + KEY, key, log)
    node = head[ROOT]
    while node != BOTTOM:
        while key > words[node + KEY]:
            node = words[node + RIGHT]
        second = words[words[node + DOWN] + RIGHT]
        third = words[second + RIGHT]
        if words[third + KEY] < words[node + KEY]:
            # There is a fourth: two for each half. On the lowest level all three are the
            # bottom, which has the new key, and the first half is the new node.
            half = allocate(words, head, NODE, log)
            store(words, half + RIGHT, words[node + RIGHT], log)
            store(words, half + DOWN, third, log)
            store(words, node + RIGHT, half, log)
            store(words, half + KEY, words[node + KEY], log)
            store(words, node + KEY, words[second + KEY], log)
        else:
            node = words[node + DOWN]
    if words[head[ROOT] + RIGHT] != TAIL:
        header = allocate(words, head, NODE, log)
        store(words, header + DOWN, head[ROOT], log)
        store(words, header + RIGHT, TAIL, log)
        store(words, header + KEY, INFINITY, log)
        head[ROOT] = header
    head[LENGTH] += 1
    return True


@kernel
def _spare(words: Words, node: int) -> bool:
    """Whether the group below has more than two nodes."""
    second = words[words[node + DOWN] + RIGHT]
    return bool(words[second + KEY] < words[node + KEY])


@kernel
def _absorb(words: Words, node: int, log: Log | None) -> None:
    """Cut off the next node; this one has its key, and its group, from now on."""
    following = words[node + RIGHT]
    store(words, node + KEY, words[following + KEY], log)
    store(words, node + RIGHT, words[following + RIGHT], log)


@kernel
def _fill(words: Words, before: int, node: int, last: bool, log: Log | None) -> int:
    """See that the group below a node has a node to spare, with the help of a neighbour:
    the next, or, for the last of a group, the one before. Gives the node to go down from."""
    if _spare(words, node):
        return node
    if not last:
        following = int(words[node + RIGHT])
        if _spare(words, following):  # its first node comes here
            first = words[following + DOWN]
            store(words, node + KEY, words[first + KEY], log)
            store(words, following + DOWN, words[first + RIGHT], log)
        else:
            _absorb(words, node, log)
        return node
    if _spare(words, before):  # its last node comes here
        third = words[before + DOWN]
        while words[words[third + RIGHT] + KEY] != words[before + KEY]:
            third = words[third + RIGHT]
        store(words, before + KEY, words[third + KEY], log)
        store(words, node + DOWN, words[third + RIGHT], log)
        return node
    _absorb(words, before, log)
    return before


@kernel
def _rename(words: Words, head: Words, key: int, new: int, log: Log | None) -> None:
    """Give the nodes above the lowest level that have a key another one."""
    node = head[ROOT]
    while words[node + DOWN] != BOTTOM:
        while key > words[node + KEY]:
            node = words[node + RIGHT]
        if words[node + KEY] == key:
            store(words, node + KEY, new, log)
        node = words[node + DOWN]


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if not _find(words, head, key):
        return False
    above = int(head[ROOT])
    while True:
        before = node = int(words[above + DOWN])
        while key > words[node + KEY]:
            before, node = node, int(words[node + RIGHT])
        last = words[node + KEY] == words[above + KEY]
        if words[node + DOWN] == BOTTOM:
            break
        above = _fill(words, before, node, last, log)
    if last:
        store(words, before + RIGHT, words[node + RIGHT], log)
        _rename(words, head, key, words[before + KEY], log)
    else:
        _absorb(words, node, log)
    below = words[head[ROOT] + DOWN]
    if words[below + RIGHT] == TAIL:  # one node on a level is enough
        head[ROOT] = below
    head[LENGTH] -= 1
    return True


@kernel
def _lowest(words: Words, head: Words) -> int:
    node = head[ROOT]
    while words[node + DOWN] != BOTTOM:
        node = words[node + DOWN]
    return int(node)


@kernel
def _check_level(words: Words, free: int, above: int, most: int) -> int:
    """Check the level below this one, whose first node is ``above``; give its length."""
    node, length, last = words[above + DOWN], 0, SMALLEST - 1
    while above != TAIL:
        assert node == words[above + DOWN], "a node leads down to the middle of a group"
        group = 0
        while last != words[above + KEY]:
            assert TAIL < node < free, "a link leads out of its level"
            assert last < words[node + KEY] <= words[above + KEY], "the keys are out of order"
            last = words[node + KEY]
            node = words[node + RIGHT]
            group += 1
            assert group <= 4, "a gap has more than three nodes"
        assert group >= 2, "a gap is empty"
        length += group
        assert length <= most, "there are more nodes than keys"
        above = words[above + RIGHT]
    assert node == TAIL, "a level goes on behind the last group"
    return length


class SkipList(OrderedKeys):
    """Keys in ascending order, up to 2**31 - 2. Every operation takes O(log n)."""

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self.log)

    @operation
    def insert(self, key: int) -> bool:
        if word(key) == INFINITY:
            raise ValueError(f"a key of a skip list is below {INFINITY}, which ends its levels")
        # A node, one for each level (every second of a level below is on it), a header.
        self.room(*[NODE] * (len(self).bit_length() + 2))
        return _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self, key: int) -> bool:
        return key != INFINITY and _delete(self.words, self.head, word(key), self.log)

    def find(self, key: int) -> bool:
        # A standby that has not heard of the list yet has zeros, and no levels.
        return key != INFINITY and len(self) > 0 and _find(self.words, self.head, word(key))

    def __iter__(self) -> Iterator[int]:
        words = self.words
        node = _lowest(words, self.head) if len(self) else TAIL
        for _ in range(len(self)):
            yield int(words[node + KEY])
            node = words[node + RIGHT]

    def check(self) -> None:
        """Keys ascend on every level, and every gap has one to three nodes."""
        words, head = self.words, self.head
        for node, links in ((BOTTOM, (RIGHT, DOWN)), (TAIL, (RIGHT,))):
            for link in links:
                assert words[node + link] == node, f"sentinel {node} leads to {words[node + link]}"
        first, length = int(head[ROOT]), 1
        assert words[first + KEY] == INFINITY, "the highest level does not end"
        assert words[first + RIGHT] == TAIL, "the highest level has more than one node"
        while words[first + DOWN] != BOTTOM:
            length = _check_level(words, head[FREE], first, len(self) + 1)
            first = int(words[first + DOWN])
        assert length == len(self) + 1, f"{length - 1} nodes on the lowest level"
