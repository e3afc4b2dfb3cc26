# SPDX-License-Identifier: MIT
"""A hash table with quadratic probing: a key whose cell is taken tries 1, 4, 9, ... further.

    root ──► table: │ key, info │ key, info │ key, info │ ...

The table's size is prime and at most half of its cells are in use, so that a free cell is
always found. A deleted key's cell stays in use: those who went past it must go on doing so.
When too many are in use, the keys move to a new table.
"""

from collections.abc import Iterator

from .memory import LENGTH, OWN, ROOT, Log, Words, allocate, kernel, store
from .structure import Keys, operation, word

KEY, INFO, CELL = range(3)  # words of a cell, and how many they are

LEGITIMATE, EMPTY, DELETED = range(3)  # what a cell's info says

SIZE, LIMIT, USED = range(OWN, OWN + 3)
"""In the head: the table's cells; twice the number of them that may be in use; how many
are. The limit starts as the size, and both double, but a size goes on to the next prime."""

FIRST_SIZE = 13


@kernel
def next_prime(number: int) -> int:
    """The smallest odd prime that is not below the number."""
    candidate = max(3, number | 1)
    while True:
        divisor = 3
        while divisor * divisor <= candidate and candidate % divisor:
            divisor += 2
        if divisor * divisor > candidate:
            return candidate
        candidate += 2


@kernel
def _new_table(words: Words, head: Words, size: int, log: Log | None) -> None:
    table = allocate(words, head, CELL * size, log)
    for i in range(size):
        store(words, table + CELL * i + INFO, EMPTY, log)
    head[ROOT], head[SIZE], head[USED] = table, size, 0


@kernel
def _create(words: Words, head: Words, log: Log | None) -> None:
    _new_table(words, head, FIRST_SIZE, log)
    head[LIMIT] = FIRST_SIZE


@kernel
def _cell(words: Words, head: Words, key: int) -> int:
    """The cell with this key, or the free one where it belongs."""
    table, size = head[ROOT], head[SIZE]
    place, step = key % size, 1
    while True:
        cell = table + CELL * place
        if words[cell + INFO] == EMPTY or words[cell + KEY] == key:
            return int(cell)
        place += step  # the squares' differences: 1, 3, 5, ...
        step += 2
        while place >= size:
            place -= size


@kernel
def _put(words: Words, head: Words, key: int, log: Log | None) -> bool:
    cell = _cell(words, head, key)
    if words[cell + INFO] == LEGITIMATE:
        return False
    if words[cell + INFO] == EMPTY:
        head[USED] += 1
    store(words, cell + INFO, LEGITIMATE, log)
    store(words, cell + KEY, key, log)
    return True


@kernel
def _is_crowded(head: Words) -> bool:
    """Would more than half be in use with one more?"""
    return bool(head[USED] + 1 > head[LIMIT] // 2)


@kernel
def _next_size(head: Words) -> int:
    """The size of the table that follows: the same one, if most cells hold deleted keys."""
    if 2 * (head[LENGTH] + 1) <= head[LIMIT] // 2:
        return int(head[SIZE])
    return int(next_prime(2 * head[SIZE]))


@kernel
def _rehash(words: Words, head: Words, log: Log | None) -> None:
    table, size, new_size = head[ROOT], head[SIZE], _next_size(head)
    _new_table(words, head, new_size, log)
    if new_size != size:
        head[LIMIT] *= 2
    for i in range(size):
        cell = table + CELL * i
        if words[cell + INFO] == LEGITIMATE:
            _put(words, head, words[cell + KEY], log)


@kernel
def _insert(words: Words, head: Words, key: int, log: Log | None) -> bool:
    if not _put(words, head, key, log):
        return False
    if head[USED] > head[LIMIT] // 2:
        _rehash(words, head, log)
    head[LENGTH] += 1
    return True


@kernel
def _delete(words: Words, head: Words, key: int, log: Log | None) -> bool:
    cell = _cell(words, head, key)
    if words[cell + INFO] != LEGITIMATE:
        return False
    store(words, cell + INFO, DELETED, log)
    head[LENGTH] -= 1
    return True


class QuadraticHash(Keys):
    """Each key at most once, in O(1) on average."""

    def create(self, words: Words, head: Words) -> None:
        _create(words, head, self.log)

    @operation
    def insert(self, key: int) -> bool:
        if _is_crowded(self.head):
            self.room(CELL * _next_size(self.head))
        return _insert(self.words, self.head, word(key), self.log)

    @operation
    def delete(self, key: int) -> bool:
        return _delete(self.words, self.head, word(key), self.log)

    def find(self, key: int) -> bool:
        words = self.words
        return bool(
            len(self) > 0 and words[_cell(words, self.head, word(key)) + INFO] == LEGITIMATE
        )

    def _cells(self) -> list[list[int]]:
        """Key and info of each cell."""
        table, size = int(self.head[ROOT]), int(self.head[SIZE])
        cells: list[list[int]] = self.words[table : table + CELL * size].reshape(-1, CELL).tolist()
        return cells

    def __iter__(self) -> Iterator[int]:
        for key, info in self._cells():
            if info == LEGITIMATE:
                yield key

    def check(self) -> None:
        """The counts are right, and every key is found where its probes lead."""
        words, cells = self.words, self._cells()
        used = [key for key, info in cells if info != EMPTY]
        keys = list(self)
        assert len(keys) == len(set(keys)) == len(self), f"{len(keys)} keys, not {len(self)}"
        assert len(used) == self.head[USED], f"{len(used)} cells in use, not {self.head[USED]}"
        assert len(used) <= self.head[LIMIT] // 2 <= len(cells) // 2, "more than half is in use"
        for place, (key, info) in enumerate(cells):
            if info != EMPTY:
                found = (_cell(words, self.head, key) - int(self.head[ROOT])) // CELL
                assert found == place, f"{key} is in cell {place}, its probes lead to {found}"
