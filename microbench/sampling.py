# SPDX-License-Identifier: MIT
"""Which transactions of a trace are measured, where not all of them are.

Transactions of a workload differ a thousandfold (a hash table that grows writes all of
itself), so neither the first ones nor a random few tell what all cost. They are ordered by
about what they cost and cut into parts of equal cost. A round measures one transaction of
each part, another one in each round, and weighs it with the part's size. So what is dear and
rare is always measured, and counts as often as it happens.
"""

import numpy as np
from numpy.typing import NDArray

from microbench.cells import Sample
from microbench.trace import PAGE, Trace

Numbers = NDArray[np.int64]

# A page that becomes dirty costs about as much as so many writes that are carried out.
PAGE_IN_WRITES = 4
ALIKE = 1.5  # how many times the least cost in a part the greatest may be
GOLDEN = 0.6180339887498949  # multiples of it fill [0, 1) evenly, however many there are


def counts(trace: Trace, opt: int) -> tuple[Numbers, Numbers]:
    """Writes and unique pages of each transaction."""
    transactions = trace.transactions(opt)
    of = np.repeat(np.arange(len(trace.counts)) // opt, trace.counts)
    pages = -(-len(trace.memory) // PAGE)
    dirty = np.unique(of * pages + trace.stores[:, 0] // PAGE) // pages
    return np.bincount(of, minlength=transactions), np.bincount(dirty, minlength=transactions)


def _parts(writes: Numbers, pages: Numbers, count: int) -> list[Numbers]:
    """Transactions in the order of their costs, cut into about so many parts; in each part
    in the order of their pages, so that a place in it means few pages or many."""
    cost = 1 + writes + PAGE_IN_WRITES * pages
    order = np.argsort(cost, kind="stable")
    share = cost.sum() / count
    cuts, first, total = list[int](), 0.0, 0.0
    for place, each in enumerate(cost[order]):
        if not place or total + each / 2 > share or each > ALIKE * first:
            cuts.append(place)
            first, total = each, 0.0
        total += each
    return [part[np.argsort(pages[part], kind="stable")] for part in np.split(order, cuts[1:])]


def choose(trace: Trace, opt: int, count: int, rounds: int) -> Sample:
    """About `count` transactions for each round."""
    writes, pages = counts(trace, opt)
    parts = _parts(writes, pages, count)
    chosen = []
    for turn in range(rounds):
        picks = []
        for number, part in enumerate(parts):
            # Not the same end of all parts in one round, and the other end in the next.
            place = (0.5 + (turn + number) * GOLDEN) % 1
            picks.append((int(part[int(place * len(part))]), len(part) / len(writes)))
        chosen.append(tuple(picks))
    return tuple(chosen)
