# SPDX-License-Identifier: MIT
"""Data structures in critical data areas: durable, transactional, restored as they were.

::

    ctx = pyhac.open("keys.hac")
    keys = LinkedList(ctx, "keys")  # made, or as the last transaction left it
    keys.insert(7)  # a transaction
    with ctx.transaction():  # several in one
        keys.insert(8)
        keys.delete(7)

Begin reading with linked_list.py; memory.py and structure.py are what all share.
"""

from .binary_heap import BinaryHeap
from .binomial_queue import BinomialQueue
from .chained_hash import ChainedHash
from .fifo_queue import FifoQueue
from .leftist_heap import LeftistHeap
from .linked_list import LinkedList
from .quadratic_hash import QuadraticHash
from .structure import Heap, Keys, OrderedKeys, Queue, Sequence, Structure

__all__ = ["STRUCTURES", "Heap", "Keys", "OrderedKeys", "Queue", "Sequence", "Structure"]

STRUCTURES: dict[str, type[Structure]] = {
    "bin": BinomialQueue,
    "hashquad": QuadraticHash,
    "hashsepchain": ChainedHash,
    "leftheap": LeftistHeap,
    "heap": BinaryHeap,
    "list": LinkedList,
    "queue": FifoQueue,
}
"""Every structure, by its name in table 2 of the paper."""
