# SPDX-License-Identifier: MIT
"""`advise`: which engine suits a program, from what its transactions did."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyhac
from pyhac.advice import Workload, advise, bytes_text, checked_engines, wpp_text
from pyhac.calibration import Manner
from pyhac.info import EngineInfo, Stats

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

NO_TWIN, JOIN_STRAYS = 0x01, 0x20  # HAC_NO_TWIN and HAC_JOIN_STRAYS of hac.h
NOTHING, USAGE = 1, 2

DESCRIPTION = """\
Run COMMAND, a program that uses libhac or pyhac, as it is, and say for each of
its contexts what the transactions did (CDA: bytes of all areas; PPT: pages a
transaction; WPP: writes a page), and which engine these favour, with what
each is expected to cost. The costs are of tracking alone, in one thread; where
others run at the same time, all engines but compare cost more.

COMMAND runs once. Whatever engines it asks for, it gets one that sees single
writes, so that they can be counted: that is slow, and under emul read(2) into
an area fails unless it is announced. --keep-engines leaves it its own; for the
writes, which then nobody counts, stand the words that changed.
"""
EPILOG = """\
example:
  python -m microbench advise -- python bank.py --accounts 1000
  python -m microbench advise --json --engines uffd,compare -- ./counters

The engines are measured once on a machine, which takes some seconds; the numbers
are kept in $XDG_CACHE_HOME/hac/engines.json (~/.cache), for this kernel and libhac.

exit codes: COMMAND's, if it is not 0 (128 + N: killed by signal N); 0 advised;
1 it opened no context or ended no transaction; 2 wrong usage, COMMAND could not
be started, or the engines could not be measured.
"""


@dataclass(frozen=True)
class Context:
    """One line that libhac wrote: a context of the program."""

    pid: int
    path: str | None
    used: str
    workload: Workload | None  # None: it ended no transaction
    manner: Manner

    @classmethod
    def read(cls, line: str) -> "Context":
        found: dict[str, Any] = json.loads(line)
        areas, stats = found["areas"], Stats(**found["stats"])
        own = dict.fromkeys(area["own_engine"] for area in areas)
        workload = None
        if stats.transactions > stats.strays:
            workload = Workload.of(stats, [area["bytes"] for area in areas])
        manner = Manner(
            twin=not found["flags"] & NO_TWIN, join_strays=bool(found["flags"] & JOIN_STRAYS)
        )
        return cls(found["pid"], found["path"], ",".join(own) or "none", workload, manner)

    def __str__(self) -> str:
        return f"{self.path or 'no image'} (pid {self.pid})"


def _counting_engine(engines: Sequence[EngineInfo]) -> str | None:
    """One that sees single writes; rather one under which the kernel may write."""
    able = [engine for engine in engines if engine.available and engine.words]
    able.sort(key=lambda engine: not engine.kernel_writes)
    return able[0].name if able else None


def _run(command: Sequence[str], report: Path, engine: str | None, quiet: bool) -> int:
    """The command's exit code as a shell has it."""
    environment = {**os.environ, "HAC_ADVISE": str(report)}
    if engine is not None:
        environment["HAC_ENGINE"] = engine
    # An interrupt is for the command: what it did until then is worth a report.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=sys.stderr if quiet else None,
            preexec_fn=lambda: signal.signal(signal.SIGINT, before),
        )
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _contexts(report: Path) -> Iterator[Context]:
    for line in report.read_text(errors="replace").splitlines():
        yield Context.read(line)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        first, *others = (
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())
    print()


def _show(advised: Sequence[tuple[Context, pyhac.Advice]]) -> None:
    """A line for each context: what it did, and what that costs."""
    did, cost = [], []
    for context, advice in advised:
        w = advice.workload
        did.append(
            (
                str(context),
                f"{w.transactions:,}",
                str(w.areas),
                bytes_text(w.cda_bytes),
                f"{w.ppt:.2f}",
                wpp_text(w),
                f"{w.words:.1f}",
                f"{w.delta_bytes:.0f} B",
                context.used,
                advice.engine,
            )
        )
        by_name = {estimate.engine: estimate for estimate in advice.estimates}
        cost.append((str(context), by_name))
    _table(
        ("CONTEXT", "TXNS", "AREAS", "CDA", "PPT", "WPP", "WORDS", "DELTA", "USES", "FAVOURED"),
        did,
    )
    names = [estimate.engine for estimate in advised[0][1].estimates]
    here = [name for name in names if any(found[name].ns is not None for _, found in cost)]
    rows = []
    for title, found in cost:
        cells = []
        for name in here:
            estimate = found[name]
            text = "-" if estimate.ns is None else f"{estimate.ns / 1000:.2f}"
            cells.append(f"~{text}" if estimate.rough else text)
        rows.append((title, *cells))
    _table(("EXPECTED, µs A TRANSACTION", *here), rows)
    _notes(advised)


def _notes(advised: Sequence[tuple[Context, pyhac.Advice]]) -> None:
    estimates = advised[0][1].estimates
    for estimate in estimates:
        if estimate.ns is None:
            print(f"not here: {estimate.engine}: {estimate.reason}")
    announced = [e.engine for e in estimates if e.ns is not None and not e.kernel_writes]
    if announced:
        print(f"read(2) into an area has to be announced under {', '.join(announced)}")
    if not all(advice.workload.counted for _, advice in advised):
        print("about, ~: not all writes were seen; the words that changed stand for them")


def _complain(text: str) -> None:
    print(f"advise: {text}", file=sys.stderr)


def _advise_all(
    contexts: Sequence[Context], options: argparse.Namespace
) -> list[tuple[Context, pyhac.Advice]]:
    found, anew = [], options.measure
    for context in contexts:
        if context.workload is None:
            _complain(f"{context}: no transaction ended in it, so it is left out")
            continue
        advice = advise(
            context.workload, context.used, context.manner, engines=options.engines, anew=anew
        )
        found.append((context, advice))
        anew = False
    return found


def _print_json(advised: Sequence[tuple[Context, pyhac.Advice]], code: int) -> None:
    contexts = [
        {"pid": context.pid, "path": context.path, **advice.to_json()}
        for context, advice in advised
    ]
    print(json.dumps({"version": 1, "exit_code": code, "contexts": contexts}, indent=1))


def _report(report: Path, code: int, options: argparse.Namespace) -> int:
    contexts = list(_contexts(report)) if report.exists() else []
    advised = _advise_all(contexts, options)
    if advised:
        if options.json:
            _print_json(advised, code)
        else:
            print()
            _show(advised)
    elif contexts:
        _complain("the program ended no transaction: there is nothing to advise on")
    elif code > 128:
        _complain("the program was killed before it could say what its contexts did")
    else:
        _complain(
            "the program opened no context for writing, or ended without exit(3): "
            "there is nothing to advise on"
        )
    if code:
        _complain(f"the program ended with {code}")
    return code or (0 if advised else NOTHING)


def run(options: argparse.Namespace) -> int:
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        _complain("no COMMAND is given: advise -- COMMAND")
        return USAGE
    try:
        checked_engines(options.engines)
    except (ValueError, pyhac.EngineUnavailable) as error:
        _complain(str(error))
        return USAGE
    counting = None if options.keep_engines else _counting_engine(pyhac.engines())
    if counting is None and not options.keep_engines:
        _complain("no engine here sees single writes, so they are not counted")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "contexts"
        try:
            code = _run(command, report, counting, options.json)
        except OSError as error:
            _complain(f"{command[0]}: {error.strerror}")
            return USAGE
        try:
            return _report(report, code, options)
        except pyhac.Error as error:
            _complain(str(error))
            return USAGE


def _engines(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("no engine is named")
    return names


def add_command(commands: "Commands") -> None:
    parser = commands.add_parser(
        "advise",
        help="run a program and say which engine suits it",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] [--json] [--engines A,B] [--keep-engines] [--measure] -- COMMAND",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON; COMMAND's output goes to standard error"
    )
    parser.add_argument(
        "--engines", type=_engines, metavar="A,B", help="look at these engines only"
    )
    parser.add_argument(
        "--keep-engines", action="store_true", help="let COMMAND have its own engines"
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure the engines again, whatever is kept"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    parser.set_defaults(run=run)
