# SPDX-License-Identifier: MIT
"""`run`: measures what the sweeps ask for, here or inside the patched Xen."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from microbench import jobs, machine, results, run_xen, sweeps, table2
from microbench.cells import NAIVE
from microbench.jobs import Reasons, Refused
from microbench.measuring import Job, interleaved, row
from microbench.program import Missing, ProgramFailed, build_folder, executable
from microbench.results import Results
from microbench.show import Progress, show_results
from microbench.sweeps import BadSweep, Sweep
from microbench.tracking import Log

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Tick = Callable[[str], None]

DESCRIPTION = """\
Measure sweeps: the parameters of the paper's figures and tables, in files of
microbench/sweeps, or one of your own. Every engine has a process of its own,
rounds are interleaved, and naive PT is always among them. With --xen the same is
done inside the patched Xen, in an emulator, and instructions are counted.

Of a pattern, Tcount transactions are what totals are scaled to; enough of them are
run for a steady median. Of a data structure's trace a sample of transactions is
run in each round, weighed so that it stands for all of them.
"""
EPILOG = f"""\
examples:
  python -m microbench run fig06 table2 --json /tmp/results.json
  python -m microbench run all --quick
  python -m microbench run fig08 --engines pt,uffd
  python -m microbench run all --xen

SWEEP is a sweep or a figure that is drawn from one ({", ".join(sweeps.names())}, ...),
a file NAME.toml, or all.

exit codes: 0 measured; 1 something could not be measured, the rest was and is
written; 2 refused, nothing was run; 130 interrupted, what was done is written.
What does not work in this place is no failure: it is in the file, with the reason.
"""


def _engines(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("no engine is named")
    return tuple(dict.fromkeys((NAIVE, *names)))


def add_command(commands: "Commands") -> None:
    parser = commands.add_parser(
        "run",
        help="measure the paper's figures and tables",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP", help="what to measure")
    parser.add_argument(
        "--engines",
        type=_engines,
        default=(),
        metavar="A,B",
        help="these engines in place of the sweeps'",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="where the results go ($HAC_BUILD/results/native.json, or xen.json)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of Tcount, and shorter and fewer rounds"
    )
    parser.add_argument("--xen", action="store_true", help="inside the patched Xen")
    parser.set_defaults(run=run)


def _empty(chosen: Sequence[Sweep], place: str, quick: bool) -> Results:
    import pyhac

    return {
        "version": results.VERSION,
        "place": place,
        "quick": quick,
        "complete": False,
        "machine": machine.describe(),
        "versions": {"libhac": pyhac.__version__},
        "sweeps": {sweep.name: jobs.parameters(sweep, place, quick) for sweep in chosen},
        "rows": [],
        "table2": [],
        "skipped": [],
        "failed": [],
    }


def _count_table2(found: Results, progress: Progress) -> None:
    try:
        found["table2"] = table2.measure(lambda what: progress(f"table2: {what}"))
    except ImportError as error:
        found["skipped"].append({"what": "table2", "reason": str(error)})


def _measure_here(planned: Sequence[Job], reasons: Reasons, found: Results, tick: Tick) -> None:
    effort = jobs.effort("native", found["quick"])
    here, skipped = jobs.sift(planned, reasons)
    found["skipped"] += skipped
    log = Log(found["skipped"], found["failed"])
    for job in here:
        what = f"{job.sweep}: {job.cell}"
        try:
            rounds = interleaved(job, effort, partial(tick, what), log)
        except ProgramFailed as error:
            log.failed.append({"what": what, "reason": str(error)})
            continue
        found["rows"] += [row(job, variant, "ns", each) for variant, each in rounds.items()]


def _measure(chosen: Sequence[Sweep], options: argparse.Namespace, reasons: Reasons) -> Results:
    """What was done when Ctrl-C came is kept."""
    place = "xen" if options.xen else "native"
    found = _empty(chosen, place, options.quick)
    tables = any(sweep.table for sweep in chosen)
    steps = jobs.steps(chosen, place, options.quick)
    progress = Progress(steps + tables * len(table2.PAPER))
    try:
        planned, skipped = jobs.plan(chosen, place, options.quick, options.engines, progress)
        found["skipped"] += skipped
        if options.xen:
            run_xen.measure(planned, options.engines, found, progress)
        else:
            _measure_here(planned, reasons, found, progress)
        if tables:
            _count_table2(found, progress)
        found["complete"] = True
    except KeyboardInterrupt:
        print("\ninterrupted; what is done is kept", file=sys.stderr)
    finally:
        progress.close()
    return found


def _prepare(options: argparse.Namespace) -> tuple[list[Sweep], Reasons]:
    """Refuse what is impossible, before anything runs."""
    chosen = sweeps.find(options.sweeps, table2.PAPER)
    for name in ("naive_pt", "engine_bench"):
        executable(name)
    reasons = jobs.here()
    jobs.check_names(chosen, options.engines, reasons)
    if options.xen:
        run_xen.check()
    else:
        jobs.check_available(options.engines, reasons)
    return chosen, reasons


def run(options: argparse.Namespace) -> int:
    try:
        chosen, reasons = _prepare(options)
        found = _measure(chosen, options, reasons)
    except (BadSweep, Missing, Refused) as error:
        print(f"run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    name = "xen.json" if options.xen else "native.json"
    out = options.json or build_folder() / "results" / name
    results.write(found, out)
    show_results(found)
    print(f"\nwritten to {out}")
    if not found["complete"]:
        return 130
    return 1 if found["failed"] else 0
