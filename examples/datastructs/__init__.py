# SPDX-License-Identifier: MIT
"""Data structures in critical data areas: durable, transactional, restored as they were.

::

    ctx = pyhac.open("keys.hac")
    keys = LinkedList(ctx, "keys")  # made, or as the last transaction left it
    keys.insert(7)                  # a transaction
    with ctx.transaction():         # several in one
        keys.insert(8)
        keys.delete(7)

Begin reading with linked_list.py; memory.py and structure.py are what all share.
"""

from .aa_tree import AATree
from .avl_tree import AVLTree
from .binary_heap import BinaryHeap
from .binary_search_tree import BinarySearchTree
from .binomial_queue import BinomialQueue
from .chained_hash import ChainedHash
from .fifo_queue import FifoQueue
from .leftist_heap import LeftistHeap
from .linked_list import LinkedList
from .quadratic_hash import QuadraticHash
from .red_black_tree import RedBlackTree
from .skip_list import SkipList
from .splay_tree import SplayTree
from .structure import Heap, Keys, OrderedKeys, Queue, Sequence, Structure

__all__ = ["STRUCTURES", "Heap", "Keys", "OrderedKeys", "Queue", "Sequence", "Structure"]

STRUCTURES: dict[str, type[Structure]] = {
    "aa": AATree,
    "avl": AVLTree,
    "bin": BinomialQueue,
    "dsl": SkipList,
    "hashquad": QuadraticHash,
    "hashsepchain": ChainedHash,
    "leftheap": LeftistHeap,
    "heap": BinaryHeap,
    "list": LinkedList,
    "queue": FifoQueue,
    "rb": RedBlackTree,
    "splay": SplayTree,
    "tree": BinarySearchTree,
}
"""Every structure, by its name in table 2 of the paper."""
