# SPDX-License-Identifier: MIT
"""`bench`: what libhac promises of its speed, on this machine."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from microbench import machine
from microbench.cells import ENGINES, FULL, QUICK
from microbench.program import Missing, Unavailable, build_folder, executable
from microbench.replication import STEPS as REPLICATION_STEPS
from microbench.replication import measure_disk, measure_replication
from microbench.rounds import Effort
from microbench.rows import VERSION, Document
from microbench.show import Progress, show
from microbench.targets import judge
from microbench.tracking import measure_cells

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

ROUNDS, ROUND_MS = 9, 60.0
QUICK_ROUNDS, QUICK_ROUND_MS = 7, 40.0

DESCRIPTION = """\
Measure the engines against naive PT, an empty transaction from C and from
Python, a table in Python against sqlite3 and lmdb, and what replication costs
beside redis and etcd. Rounds of all that is compared are interleaved. A target
that is missed is marked; it is no error.
"""
EPILOG = """\
example:
  python -m microbench bench --quick --engines uffd,compare --json /tmp/bench.json

exit codes: 0 measured, whatever the targets say; 1 a program failed, the rest
was measured and written; 2 wrong usage, or the C programs are not built.
The programs are looked for in $HAC_BUILD/c/microbench (HAC_BUILD: build).
"""


def _engines(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("no engine is named")
    return names


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def add_command(commands: "Commands") -> None:
    parser = commands.add_parser(
        "bench",
        help="measure what libhac promises",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer cells and shorter rounds")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the numbers go ($HAC_BUILD/bench.json)"
    )
    parser.add_argument(
        "--engines",
        type=_engines,
        default=ENGINES,
        metavar="A,B",
        help=f"which engines ({','.join(ENGINES)})",
    )
    parser.add_argument(
        "--no-replication",
        dest="replication",
        action="store_false",
        help="leave out helpers, backups and other stores",
    )
    parser.add_argument("--rounds", type=int, help=f"rounds ({ROUNDS}; quick: {QUICK_ROUNDS})")
    parser.add_argument(
        "--round-ms",
        type=_positive,
        help=f"length of a round ({ROUND_MS:g}; quick: {QUICK_ROUND_MS:g})",
    )
    parser.set_defaults(run=run)


def _measure(options: argparse.Namespace) -> Document:
    cells = QUICK if options.quick else FULL
    effort = Effort(
        options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
        options.round_ms or (QUICK_ROUND_MS if options.quick else ROUND_MS),
    )
    progress = Progress((len(cells) + 2) * effort.rounds + REPLICATION_STEPS)
    try:
        rows, skipped, failed = measure_cells(cells, options.engines, effort, progress)
        document: Document = {
            "version": VERSION,
            "machine": machine.describe(),
            "quick": options.quick,
            "rounds": effort.rounds,
            "round_ms": effort.round_ms,
            "rows": rows,
            "empty": [],
            "records": [],
            "endings": [],
            "streams": [],
            "disk_mb_per_s": 0.0,
            "stores": [],
            "targets": [],
            "skipped": skipped,
            "failed": failed,
        }
        _measure_python(document, effort, progress)
        if options.replication:
            _measure_replication(document, effort, progress)
    finally:
        progress.close()
    document["targets"] = judge(document)
    return document


def _measure_python(document: Document, effort: Effort, progress: Progress) -> None:
    """Needs pyhac; what goes wrong here must not lose what has been measured in C."""
    what = "an empty transaction"
    try:
        from microbench.empty import measure_empty
        from microbench.records import measure_records

        document["empty"] = measure_empty(effort, lambda: progress("an empty transaction"))
        what = "records of a table"
        records, skipped = measure_records(effort, lambda: progress("records of a table"))
        document["records"] = records
        document["skipped"] += skipped
    except (ImportError, Unavailable) as error:
        document["skipped"].append({"what": f"{what} from Python", "reason": str(error)})
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        document["failed"].append({"what": f"{what} from Python", "reason": reason})


def _measure_replication(document: Document, effort: Effort, progress: Progress) -> None:
    try:
        endings, streams, stores, skipped = measure_replication(effort, document["quick"], progress)
        document["endings"], document["streams"] = endings, streams
        document["disk_mb_per_s"] = measure_disk()
        document["stores"] = stores
        document["skipped"] += skipped
    except (Missing, Unavailable) as error:
        document["skipped"].append({"what": "replication", "reason": str(error)})
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        document["failed"].append({"what": "replication", "reason": reason})


def run(options: argparse.Namespace) -> int:
    try:
        for name in ("naive_pt", "engine_bench"):
            executable(name)
    except Missing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    document = _measure(options)
    out = options.json or build_folder() / "bench.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    show(document)
    print(f"\nwritten to {out}")
    return 1 if document["failed"] else 0
