# SPDX-License-Identifier: MIT
"""The worker: replays the flights, one a transaction, from where the image is.

    python replay.py FOLDER/flights.npz IMAGE
    python replay.py FOLDER/flights.npz IMAGE --role standby --listen HOST:PORT --peer HOST:PORT

The same program runs on both machines: as a standby it waits until it is primary. It
prints a line of JSON for each event: "standby", "opened" (as primary), "at" (a few
each second while it works), "finished", or "fenced" (a newer primary exists: exit 3).
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from table import FIGURES, GROUPS, Ints, Table

import pyhac

REPORT_EVERY = 2000  # flights
FENCED = 3


def open_image(image: Path, engine: str = "auto", **options: Any) -> pyhac.Context:
    # RING: a transaction ends when it is in the queue to the journal. SIGKILL may
    # cost us the newest ones, but the cursor goes with them, so they are replayed.
    if not options.get("readonly"):
        options["level"] = pyhac.Level.RING
    return pyhac.open(image, engine=engine, **options)


def claim(ctx: pyhac.Context, sizes: Ints) -> tuple[list[Ints], Ints]:
    """The figures of each group, and the number of flights that are in them."""
    figures = [
        ctx.array(group, (int(size), len(FIGURES)), "i8")
        for group, size in zip(GROUPS, sizes, strict=True)
    ]
    return figures, ctx.array("cursor", 1, "i8")


def tell(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def replay(table: Table, ctx: pyhac.Context, last_level: pyhac.Level) -> None:
    (origins, dests, carriers, aircraft), cursor = claim(ctx, table.sizes)
    if ctx.role == "standby":
        tell("standby", epoch=ctx.epoch)
        ctx.wait_primary()

    @ctx.transactional
    def add(flight: int, figures: Ints, origin: int, dest: int, carrier: int, tail: int) -> None:
        origins[origin] += figures
        dests[dest] += figures
        carriers[carrier] += figures
        aircraft[tail] += figures
        cursor[0] = flight + 1

    start, first, before = time.perf_counter(), int(cursor[0]), ctx.stats

    def report(event: str, flight: int) -> None:
        stats = ctx.stats - before
        tell(
            event,
            flight=flight,
            first=first,
            epoch=ctx.epoch,
            generation=ctx.generation,
            engine=ctx.engine.name,
            reason=ctx.engine.reason,
            helper=ctx.helper,
            seconds=time.perf_counter() - start,
            delta_bytes=stats.delta_bytes,
            dirty_pages=stats.dirty_pages,
        )

    report("opened", first)
    with ctx.transaction(level=last_level):
        pass  # a standby has the image from here on, and could go on with it
    members = table.members.tolist()
    for flight in range(first, len(members)):
        add(flight, table.figures[flight], *members[flight])
        if flight % REPORT_EVERY == 0:
            report("at", flight + 1)
    with ctx.transaction(level=last_level):
        pass  # when this has ended, everything before has, too
    report("finished", len(members))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--role", choices=["auto", "primary", "standby"])
    parser.add_argument("--listen")
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--tls")
    parser.add_argument("--lease")
    return parser.parse_args()


def main() -> int:
    options = parse()
    table = Table.load(options.table)
    replication = {}
    level = pyhac.Level.JOURNAL
    if options.role:
        replication = {
            "role": options.role,
            "listen": options.listen,
            "peers": options.peer,
            "tls": options.tls,
            "helper_arguments": ["--lease", options.lease] if options.lease else [],
        }
        level = pyhac.Level.BACKUP(1)
    try:
        with open_image(options.image, options.engine, **replication) as ctx:
            replay(table, ctx, level)
    except pyhac.Fenced as why:
        tell("fenced", why=str(why))
        return FENCED
    return 0


if __name__ == "__main__":
    sys.exit(main())
