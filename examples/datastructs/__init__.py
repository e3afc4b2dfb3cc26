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

from .linked_list import LinkedList
from .structure import Structure

STRUCTURES: dict[str, type[Structure]] = {
    "list": LinkedList,
}
"""Every structure, by its name in table 2 of the paper."""
