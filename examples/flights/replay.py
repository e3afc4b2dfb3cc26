# SPDX-License-Identifier: MIT
"""The worker: replays the flights, one a transaction, from where the image is.

    python replay.py FOLDER

FOLDER holds flights.npz; the image is FOLDER/flights.hac. Prints a line of JSON
when it has opened the image, a few each second while it works, and one at the end.
"""

import json
import sys
import time
from pathlib import Path

from table import FIGURES, GROUPS, Ints, Table

import pyhac

REPORT_EVERY = 2000  # flights


def open_image(folder: Path, engine: str = "auto", *, readonly: bool = False) -> pyhac.Context:
    # RING: a transaction ends when it is in the queue to the journal. SIGKILL may
    # cost us the newest ones, but the cursor goes with them, so they are replayed.
    return pyhac.open(
        folder / "flights.hac",
        engine=engine,
        level=None if readonly else pyhac.Level.RING,
        readonly=readonly,
    )


def claim(ctx: pyhac.Context, sizes: Ints) -> tuple[list[Ints], Ints]:
    """The figures of each group, and the number of flights that are in them."""
    figures = [
        ctx.array(group, (int(size), len(FIGURES)), "i8")
        for group, size in zip(GROUPS, sizes, strict=True)
    ]
    return figures, ctx.array("cursor", 1, "i8")


def replay(folder: Path, engine: str) -> None:
    table = Table.load(folder)
    with open_image(folder, engine) as ctx:
        (origins, dests, carriers, aircraft), cursor = claim(ctx, table.sizes)

        @ctx.transactional
        def add(
            flight: int, figures: Ints, origin: int, dest: int, carrier: int, tail: int
        ) -> None:
            origins[origin] += figures
            dests[dest] += figures
            carriers[carrier] += figures
            aircraft[tail] += figures
            cursor[0] = flight + 1

        start, first, before = time.perf_counter(), int(cursor[0]), ctx.stats

        def report(event: str, flight: int) -> None:
            stats = ctx.stats - before
            line = {
                "event": event,
                "flight": flight,
                "first": first,
                "epoch": ctx.epoch,
                "generation": ctx.generation,
                "engine": ctx.engine.name,
                "reason": ctx.engine.reason,
                "seconds": time.perf_counter() - start,
                "delta_bytes": stats.delta_bytes,
                "dirty_pages": stats.dirty_pages,
            }
            print(json.dumps(line), flush=True)

        report("opened", first)
        members = table.members.tolist()
        for flight in range(first, len(members)):
            add(flight, table.figures[flight], *members[flight])
            if flight % REPORT_EVERY == 0:
                report("at", flight + 1)
        report("finished", len(members))


if __name__ == "__main__":
    replay(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "auto")
