# SPDX-License-Identifier: MIT
"""Replays a year of flights through a transactional function, kills it with SIGKILL
at random points, goes on from the image, and compares every figure with pandas.

    make demo
    python examples/flights/demo.py --flights 20000 --kills 5 --seed 1
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare import Difference, compare
from table import FIGURES, GROUPS, make_table, read_flights

HERE = Path(__file__).resolve().parent
Line = dict[str, Any]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 every figure is right, 1 some are not, 2 usage",
    )
    parser.add_argument("--flights", type=int, metavar="N", help="the first N (all 336 776)")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="SIGKILLs (3)")
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


def lines_of(worker: "subprocess.Popen[str]") -> Iterator[Line]:
    assert worker.stdout
    for text in worker.stdout:
        yield json.loads(text)


def run_worker(folder: Path, engine: str, kill_at: int | None, screen: Screen) -> list[Line]:
    """One life of the worker, to the end or until it is killed behind a flight."""
    command = [sys.executable, str(HERE / "replay.py"), str(folder), engine]
    seen: list[Line] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        for line in lines_of(worker):
            seen.append(line)
            if line["event"] == "opened":
                screen.say(
                    f"generation {line['generation']}: the image is at epoch {line['epoch']}, "
                    f"flight {line['flight']:,}; engine {line['engine']} ({line['reason']})"
                )
            screen.progress(line)
            if kill_at is not None and line["flight"] >= kill_at:
                time.sleep(random.random() * 0.02)  # somewhere between two reports
                worker.kill()
                break
        worker.wait()
    if kill_at is None and worker.returncode:
        raise SystemExit(f"the worker failed with exit code {worker.returncode}")
    return seen


def replay_all(folder: Path, options: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    points = sorted(random.randrange(screen.total) for _ in range(options.kills))
    kills: list[dict[str, int]] = []
    last: list[Line] = []
    transactions, seconds, delta_bytes, dirty_pages = 0, 0.0, 0, 0
    for kill_at in [*points, None]:
        last = run_worker(folder, options.engine, kill_at, screen)
        if not last:
            raise SystemExit("the worker ended before it had opened the image")
        if kills:
            kills[-1]["found"] = last[0]["flight"]
            kills[-1]["epoch"] = last[0]["epoch"]
        transactions += last[-1]["flight"] - last[0]["flight"]
        seconds += last[-1]["seconds"]
        delta_bytes += last[-1]["delta_bytes"]
        dirty_pages += last[-1]["dirty_pages"]
        if kill_at is not None:
            screen.say(f"SIGKILL after the worker had reported flight {last[-1]['flight']:,}")
            kills.append({"reported": last[-1]["flight"], "found": 0, "epoch": 0})
    end = last[-1]
    return {
        "kills": kills,
        "engine": end["engine"],
        "reason": end["reason"],
        "transactions_per_second": round(transactions / max(seconds, 1e-9)),
        "bytes_per_transaction": round(delta_bytes / max(transactions, 1), 1),
        "pages_per_transaction": round(dirty_pages / max(transactions, 1), 2),
        "epoch": end["epoch"],
    }


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
    screen.say("every figure equals what pandas computes" if not differences else "NOT EQUAL")


def run(options: argparse.Namespace, folder: Path) -> int:
    random.seed(options.seed if options.seed is not None else os.urandom(8))
    flights = read_flights(options.flights)
    table, names = make_table(flights)
    table.save(folder)
    screen = Screen(len(flights), quiet=options.json)
    screen.say(f"{len(flights):,} flights, {options.kills} kills to come")
    result = replay_all(folder, options, screen)
    differences = compare(folder, flights, names, table.sizes)
    result["flights"] = len(flights)
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
