# SPDX-License-Identifier: MIT
"""Replays a year of flights through a transactional function on one machine, with a
standby on another; kills it with SIGKILL at random points and goes on from the image,
the last time on the standby; and compares every figure of both with pandas.

    make demo
    python examples/flights/demo.py --flights 20000 --kills 5 --seed 1
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import Cluster
from compare import Difference, compare, epoch_of
from machines import Line, Machine, Worker
from table import FIGURES, GROUPS, make_table, read_flights


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 every figure is right, 1 some are not, 2 usage",
    )
    parser.add_argument("--flights", type=int, metavar="N", help="the first N (all 336 776)")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="SIGKILLs (3)")
    parser.add_argument(
        "--no-standby",
        dest="standby",
        action="store_false",
        help="one machine only: after each kill it goes on from its own image",
    )
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="replicate by a stream on three NATS servers, one of which is killed, too",
    )
    parser.add_argument("--seed", type=int, help="of the points of the kills (random)")
    parser.add_argument("--image", type=Path, metavar="DIR", help="keep everything there")
    parser.add_argument("--engine", default="auto", help="see `hac engines` (auto)")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    options = parser.parse_args(arguments)
    if options.flights is not None and options.flights < 1:
        parser.error("--flights must be 1 or more")
    if options.kills < 0:
        parser.error("--kills must be 0 or more")
    return options


class Screen:
    """Lines for people; with --json, nothing but the result."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self.total = total
        self.quiet = quiet
        self.bar = sys.stdout.isatty() and not quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            print(("\r\x1b[K" if self.bar else "") + text, flush=True)

    def progress(self, line: Line) -> None:
        if not self.bar:
            return
        done = line["flight"] / self.total
        rate = (line["flight"] - line["first"]) / max(line["seconds"], 1e-9)
        filled = round(30 * done)
        print(
            f"\r\x1b[K[{'#' * filled}{'.' * (30 - filled)}] {done:4.0%}"
            f"  flight {line['flight']:,}  {rate:,.0f} transactions/s",
            end="",
            flush=True,
        )


def follow(
    worker: Worker,
    kill_at: int | None,
    screen: Screen,
    *,
    at: tuple[int, Callable[[], None]] | None = None,
    until_opened: bool = False,
) -> list[Line]:
    """What the worker says: to its end, until it is killed behind a flight, or until it is
    primary. ``at``: behind that flight, something happens."""
    seen: list[Line] = []
    for line in worker.lines():
        if line["event"] in ("standby", "fenced"):
            continue
        seen.append(line)
        if line["event"] == "opened":
            screen.say(
                f"generation {line['generation']}: the image is at epoch {line['epoch']}, "
                f"flight {line['flight']:,}; engine {line['engine']} ({line['reason']})"
            )
            if until_opened:
                return seen
        screen.progress(line)
        if at is not None and line["flight"] >= at[0]:
            at[1]()
            screen.say(f"SIGKILL for a server of the stream, behind flight {line['flight']:,}")
            at = None
        if kill_at is not None and line["flight"] >= kill_at:
            time.sleep(random.random() * 0.02)  # somewhere between two reports
            worker.kill()
            return seen
    code = worker.end()
    if not seen or code or kill_at is not None:
        raise SystemExit(f"the worker ended too soon, with exit code {code}")
    return seen


def wait_until_equal(a: Machine, b: Machine, seconds: float = 30) -> None:
    """The standby's image has got as far as the primary's."""
    end = time.monotonic() + seconds
    while epoch_of(a.image) < epoch_of(b.image):
        if time.monotonic() > end:
            raise SystemExit(f"machine {a.name} does not catch up")
        time.sleep(0.1)


class Tally:
    """What all lives of the worker did together."""

    def __init__(self) -> None:
        self.kills: list[dict[str, int]] = []
        self.lives: list[list[Line]] = []

    def add(self, seen: list[Line], killed: bool, screen: Screen) -> None:
        self.lives.append(seen)
        if self.kills and not self.kills[-1]["epoch"]:
            self.kills[-1]["found"] = seen[0]["flight"]
            self.kills[-1]["epoch"] = seen[0]["epoch"]
        if killed:
            screen.say(f"SIGKILL after the worker had reported flight {seen[-1]['flight']:,}")
            self.kills.append({"reported": seen[-1]["flight"], "found": 0, "epoch": 0})

    def result(self) -> dict[str, Any]:
        ends = [life[-1] for life in self.lives]
        transactions = sum(life[-1]["flight"] - life[0]["flight"] for life in self.lives)
        seconds = sum(end["seconds"] for end in ends)
        return {
            "kills": self.kills,
            "engine": ends[-1]["engine"],
            "reason": ends[-1]["reason"],
            "transactions_per_second": round(transactions / max(seconds, 1e-9)),
            "bytes_per_transaction": round(
                sum(end["delta_bytes"] for end in ends) / max(transactions, 1), 1
            ),
            "pages_per_transaction": round(
                sum(end["dirty_pages"] for end in ends) / max(transactions, 1), 2
            ),
            "epoch": ends[-1]["epoch"],
            "generation": ends[-1]["generation"],
        }


def replay_alone(a: Machine, points: list[int], screen: Screen) -> Tally:
    """One machine: killed, and started again on its own image."""
    tally = Tally()
    for kill_at in [*points, None]:
        tally.add(follow(a.start(), kill_at, screen), kill_at is not None, screen)
    return tally


def replay_with_standby(
    a: Machine, b: Machine, points: list[int], screen: Screen
) -> tuple[Tally, str]:
    """Two machines: at the last kill everything of the first is gone, and the second
    goes on. Returns what the first was told when it came back, too."""
    tally = Tally()
    standby = b.start("standby")
    worker = a.start("primary")
    for kill_at in points:
        tally.add(follow(worker, kill_at, screen), True, screen)
        if kill_at != points[-1]:
            worker = a.start("primary")
    screen.say(f"machine {a.name} is gone; promoting {b.name}")
    b.promote()
    # The old primary does not know yet.
    returned = a.start("primary")
    why = str(returned.wait_for("fenced", "opened").get("why", ""))
    if not why:
        returned.kill()
        raise SystemExit(f"the old primary {a.name} came back and was not fenced")
    returned.end()
    screen.say(f"the old primary {a.name} comes back and is fenced: {why}")
    rejoined = a.start("standby")
    tally.add(follow(standby, None, screen), False, screen)
    rejoined.stop()
    return tally, why


def replay_on_cluster(a: Machine, b: Machine, flights: int, screen: Screen) -> tuple[Tally, str]:
    """Two machines and a stream on three servers: one of these dies, then the primary's
    machine; the standby gets the lease, and goes on."""
    tally = Tally()
    with Cluster(a.image.parent.parent / "nats") as cluster:
        for machine in (a, b):
            machine.join_stream(cluster.address("flights"))
        worker = a.start("primary")
        standby = b.start("standby")
        node_at, kill_at = points_of(2, flights)
        seen = follow(worker, kill_at, screen, at=(node_at, lambda: cluster.kill(0)))
        tally.add(seen, True, screen)
        screen.say(f"machine {a.name} is gone; {b.name} waits for the lease")
        ends = follow(standby, None, screen, until_opened=True)
        returned = a.start("primary")
        why = str(returned.wait_for("fenced", "opened").get("why", ""))
        if not why:
            returned.kill()
            raise SystemExit(f"the old primary {a.name} came back and was not fenced")
        returned.end()
        screen.say(f"the old primary {a.name} comes back and is fenced: {why}")
        rejoined = a.start("standby")
        tally.add(ends + follow(standby, None, screen), False, screen)
        wait_until_equal(a, b)
        rejoined.stop()
    return tally, why


def show(result: dict[str, Any], differences: list[Difference], screen: Screen) -> None:
    screen.say(
        f"{result['transactions_per_second']:,} transactions/s, "
        f"{result['bytes_per_transaction']} bytes and {result['pages_per_transaction']} dirty "
        f"pages a transaction; engine {result['engine']}"
    )
    for group, count in result["compared"].items():
        wrong = sum(d.group == group for d in differences)
        screen.say(
            f"  {group:8} {count:6,} figures  {'all equal' if not wrong else f'{wrong} WRONG'}"
        )
    for d in differences[:20]:
        screen.say(f"  {d.group} {d.name} {d.figure}: image {d.image}, pandas {d.pandas}")
    where = "of both machines" if result["images"] > 1 else "of the image"
    screen.say(
        f"every figure {where} equals what pandas computes" if not differences else "NOT EQUAL"
    )


def points_of(kills: int, flights: int) -> list[int]:
    return sorted(random.randrange(flights) for _ in range(kills))


def run(options: argparse.Namespace, folder: Path) -> int:
    random.seed(options.seed if options.seed is not None else os.urandom(8))
    flights = read_flights(options.flights)
    table, names = make_table(flights)
    table.save(folder / "flights.npz")
    screen = Screen(len(flights), quiet=options.json)
    points = points_of(options.kills, len(flights))
    screen.say(f"{len(flights):,} flights, {options.kills} kills to come")
    a = Machine("a", folder / "a", folder / "flights.npz", options.engine)
    images, fenced = [a.image], ""
    if options.cluster:
        b = Machine("b", folder / "b", folder / "flights.npz", options.engine)
        tally, fenced = replay_on_cluster(a, b, len(flights), screen)
        images = [b.image, a.image]
    elif options.standby and points:
        b = Machine("b", folder / "b", folder / "flights.npz", options.engine)
        a.join(b, folder / "keys")
        b.join(a, folder / "keys")
        tally, fenced = replay_with_standby(a, b, points, screen)
        images = [b.image, a.image]
    else:
        tally = replay_alone(a, points, screen)
    result = tally.result()
    differences = [d for image in images for d in compare(image, flights, names, table.sizes)]
    result["flights"] = len(flights)
    result["images"] = len(images)
    result["fenced"] = fenced
    result["compared"] = {
        group: len(members) * len(FIGURES) for group, members in zip(GROUPS, names, strict=True)
    }
    result["differences"] = [vars(d) for d in differences]
    if options.json:
        print(json.dumps(result, indent=2))
    show(result, differences, screen)
    return 1 if differences else 0


def main() -> int:
    options = parse()
    if options.image is not None:
        options.image.mkdir(parents=True, exist_ok=True)
        return run(options, options.image)
    with tempfile.TemporaryDirectory(prefix="flights-") as folder:
        return run(options, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
