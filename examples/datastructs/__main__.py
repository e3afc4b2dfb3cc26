# SPDX-License-Identifier: MIT
"""Keep keys in a structure in an image: python -m examples.datastructs IMAGE STRUCTURE ..."""

import argparse
import sys
from itertools import islice
from typing import Any

import pyhac

from . import STRUCTURES, Heap, Queue

MOST_SHOWN = 20

EPILOG = """\
example:
  python -m examples.datastructs /tmp/keys.hac heap insert 5 3 8
  python -m examples.datastructs /tmp/keys.hac heap delete
  python -m examples.datastructs /tmp/keys.hac heap

exit codes: 0 done; 1 a key was not there (or was there already), or the image cannot
be used; 2 wrong usage.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.datastructs",
        description="Keep keys in a data structure that lives in an image. All keys of a call "
        "are one transaction: they are all inserted, or none.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", help="a directory, made if it is not there")
    parser.add_argument("structure", choices=list(STRUCTURES), metavar="STRUCTURE",
                        help=", ".join(STRUCTURES))  # fmt: skip
    parser.add_argument("operation", nargs="?", choices=["insert", "delete", "find"])
    parser.add_argument("keys", nargs="*", type=int, help="heaps and queues choose what to delete")
    options = parser.parse_args()
    try:
        # partial: the image may hold other structures, which stay as they are.
        with pyhac.open(options.image, partial=True) as ctx:
            structure = STRUCTURES[options.structure](ctx, options.structure)
            with ctx.transaction():
                answers = work(structure, options.operation, options.keys)
            if answers:
                print(*answers)
            shown = ", ".join(map(str, islice(structure, MOST_SHOWN)))
            more = ", ..." if len(structure) > MOST_SHOWN else ""
            print(f"{options.structure}: {len(structure)} keys: {shown}{more}")
    except (pyhac.Error, OSError, ValueError, LookupError, OverflowError, MemoryError) as why:
        print(f"{options.image}: {why}", file=sys.stderr)
        return 1
    return 1 if False in answers else 0


def work(structure: Any, operation: str | None, keys: list[int]) -> list[object]:
    """What the operation answered for each key, if it did."""
    if operation is None:
        return []
    method = getattr(structure, operation)
    if operation != "insert" and isinstance(structure, Heap | Queue):
        return [method()]
    return [answer for answer in map(method, keys) if answer is not None]


if __name__ == "__main__":
    sys.exit(main())
