# SPDX-License-Identifier: MIT
"""The workloads of the paper's section VI: which keys the structures of table 2 meet.

Each structure gets N keys, in an order of its own, and the measured operation is either
these insertions or the deletions that follow them. Keys and orders are those of the test
programs that come with Weiss, *Data Structures and Algorithm Analysis in C*, whose
algorithms the structures are; with them table 2 comes out as it is in the paper.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

import pyhac
from examples.datastructs import STRUCTURES, Heap, Queue, Structure
from examples.datastructs.memory import FREE, WORD, Log, forget, logged, new_log
from microbench.trace import PAGE, Trace

N = 10_000

MOST_STORES = 1 << 17
"""Of one operation: a hash table's move to a larger one makes the most."""

Keys = range | list[int]


def stride(step: int, start: int = 0) -> Callable[[int], Keys]:
    """Every key below n once: start, start + step, ..., modulo n."""
    return lambda n: [(start * n // N + step * i) % n for i in range(n)]


def ascending(n: int) -> Keys:
    return range(n)


def multiples(factor: int) -> Callable[[int], Keys]:
    return lambda n: range(0, factor * n, factor)


@dataclass(frozen=True)
class Workload:
    """What is done with a structure; keys are given for the number of them."""

    inserts: Callable[[int], Keys]
    deletes: Callable[[int], Keys] = ascending  # heaps and queues choose the key themselves
    finds: Callable[[int], Keys] | None = None  # between insertions and deletions
    room: str | None = None  # the argument that tells how many keys the structure is made for
    arguments: Mapping[str, int] = field(default_factory=dict)
    operations: tuple[str, ...] = ("insert", "delete")  # those of table 2


WORKLOADS = {
    "aa": Workload(stride(7)),
    "avl": Workload(stride(7), operations=("insert",)),
    "bin": Workload(stride(7), operations=("insert",)),
    "dsl": Workload(stride(7), operations=("insert",)),
    "hashquad": Workload(multiples(71), operations=("insert",)),
    "hashsepchain": Workload(multiples(71), arguments={"lists": 13}, operations=("insert",)),
    "leftheap": Workload(stride(17, start=N // 2)),
    "heap": Workload(stride(71, start=N // 2), room="keys"),
    "list": Workload(stride(7), deletes=stride(7)),
    "queue": Workload(ascending, room="keys"),
    "rb": Workload(stride(7), operations=("insert",)),
    "splay": Workload(stride(7), finds=ascending),
    "tree": Workload(stride(7)),
}
"""By the structure's name in table 2."""

ROWS = [(name, operation) for name, load in WORKLOADS.items() for operation in load.operations]
"""Structure and operation of each row of table 2, in its order."""


def record(name: str, operation: str, n: int = N) -> Trace:
    """Run a workload with n keys: the stores of the measured operation, one by one."""
    load = WORKLOADS[name]
    keys = {"insert": load.inserts(n), "delete": load.deletes(n)}
    arguments = dict(load.arguments)
    if load.room is not None:
        arguments[load.room] = n
    with pyhac.open() as ctx:
        structure = STRUCTURES[name](ctx, name, **arguments)
        # Noted from the start: kernels are then compiled once, for a log.
        structure.log = new_log(MOST_STORES)
        if operation == "delete":
            _stores(structure, "insert", keys["insert"])
            _stores(structure, "find", load.finds(n) if load.finds is not None else ())
        before = structure.words.tobytes()
        stores = _stores(structure, operation, keys[operation])
        size = -(-int(structure.head[FREE]) * WORD // PAGE) * PAGE
    return Trace(
        before[:size].ljust(size, b"\0"),
        np.array([len(made) for made in stores], np.uint32),
        np.concatenate(stores),
    )


def _stores(structure: Structure, operation: str, keys: Iterable[int]) -> list[Log]:
    """Call the operation with each key; the stores of each call."""
    assert structure.log is not None
    method = getattr(structure, operation)
    keyless = operation == "delete" and isinstance(structure, Heap | Queue)
    found = []
    for key in keys:
        forget(structure.log)
        method(*() if keyless else (key,))
        found.append(logged(structure.log).copy())
    return found
