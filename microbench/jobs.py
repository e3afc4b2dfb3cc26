# SPDX-License-Identifier: MIT
"""From sweeps to jobs: what is refused, what is left out, and how long is measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from microbench.cells import NAIVE, Cell, Replay, Variant, listing
from microbench.measuring import Effort, Job
from microbench.rows import Skip
from microbench.sweeps import Sweep, Workload

QUICK_SHARE = 10  # of Tcount

Reasons = Mapping[str, str | None]
"""For each engine of libhac why it does not work here; None: it does."""


class Refused(Exception):
    """What was asked for is impossible; the message says why. Nothing was run."""


NATIVE = Effort(rounds=9, round_ms=20, least=4, sampled=60, before=2)
NATIVE_QUICK = Effort(rounds=5, round_ms=8, least=4, sampled=25, before=2)
# At least 50 transactions in all; more rounds are run until they lie together. To warm up
# makes no difference to instructions.
XEN = Effort(rounds=5, round_ms=4, least=10, sampled=12, before=0)
XEN_QUICK = Effort(rounds=5, round_ms=2, least=10, sampled=10, before=0)
XEN_ROUNDS_MOST = 12


def effort(place: str, quick: bool) -> Effort:
    if place == "xen":
        return XEN_QUICK if quick else XEN
    return NATIVE_QUICK if quick else NATIVE


def tcount(sweep: Sweep, quick: bool) -> int:
    return max(1, sweep.tcount // QUICK_SHARE) if quick else sweep.tcount


def parameters(sweep: Sweep, place: str, quick: bool) -> dict[str, Any]:
    """As run."""
    found = sweep.parameters(place, quick)
    patterns = any(isinstance(cell, Cell) for cell in sweep.part(place, quick).cells)
    return found | ({"tcount": tcount(sweep, quick)} if patterns else {})


def here() -> Reasons:
    """The engines, as libhac finds them in this place."""
    import pyhac

    return {e.name: None if e.available else e.reason for e in pyhac.engines()}


def check_names(sweeps: Iterable[Sweep], named: Iterable[str], reasons: Reasons) -> None:
    """Every name is one of an engine."""
    known = (NAIVE, *reasons)
    asked = [("--engines", name) for name in named]
    for sweep in sweeps:
        asked += [(sweep.name, name) for part in sweep.parts.values() for name in part.engines]
    for where, name in asked:
        if name not in known:
            raise Refused(f"{where}: there is no engine {name!r}; there are {', '.join(known)}")


def check_available(named: Iterable[str], reasons: Reasons) -> None:
    """What was asked for by name has to work."""
    for name in named:
        if reason := reasons.get(name):
            raise Refused(f"engine {name} is not available here: {reason}")


def sift(planned: Iterable[Job], reasons: Reasons) -> tuple[list[Job], list[Skip]]:
    """The jobs without the engines that do not work here, and what that leaves out."""
    jobs, absent = list[Job](), dict[str, str]()
    for job in planned:
        working = []
        for variant in job.variants:
            if reason := reasons.get(variant.engine):
                absent[f"{job.sweep}: {variant.engine}"] = reason
            else:
                working.append(variant)
        jobs.append(replace(job, variants=tuple(working)))
    return jobs, [{"what": what, "reason": reason} for what, reason in absent.items()]


def _replays(
    sweep: Sweep,
    cells: Iterable[Workload],
    variants: tuple[Variant, ...],
    how: tuple[int, int],
    tick: Callable[[str], None],
) -> Iterator[Job]:
    opts: dict[tuple[str, str], list[int]] = {}
    for cell in cells:
        opts.setdefault((cell.structure, cell.operation), []).append(cell.opt)
    if not opts:
        return
    from microbench.sampling import choose  # for numpy, which patterns do without
    from microbench.trace import Trace
    from microbench.traces import recorded

    for name, path in recorded(opts, tick):
        trace = Trace.load(path)
        for opt in opts[name]:
            yield Job(
                sweep.name,
                Replay(*name, opt, path),
                variants,
                len(trace.memory),
                trace.transactions(opt),
                choose(trace, opt, *how),
            )


def plan(
    sweeps: Sequence[Sweep],
    place: str,
    quick: bool,
    named: Sequence[str],
    tick: Callable[[str], None] = lambda what: None,
) -> tuple[list[Job], list[Skip]]:
    """All cells of the sweeps, and what cannot be recorded here; `tick` is called before a
    trace is recorded or read."""
    jobs, skipped = list[Job](), list[Skip]()
    wanted = effort(place, quick)
    how = wanted.sampled, XEN_ROUNDS_MOST if place == "xen" else wanted.rounds
    for sweep in sweeps:
        part = sweep.part(place, quick)
        variants = tuple(map(listing, named or dict.fromkeys((NAIVE, *part.engines))))
        count = tcount(sweep, quick)
        for cell in part.cells:
            if isinstance(cell, Cell):
                jobs.append(Job(sweep.name, cell, variants, cell.cda_bytes, count))
        workloads = [cell for cell in part.cells if isinstance(cell, Workload)]
        try:
            jobs += _replays(sweep, workloads, variants, how, tick)
        except ImportError as error:
            skipped.append({"what": f"{sweep.name}: data structures", "reason": str(error)})
    return jobs, skipped


def steps(sweeps: Iterable[Sweep], place: str, quick: bool) -> int:
    """How many ticks plan() and the measuring of its jobs take."""
    cells = [cell for sweep in sweeps for cell in sweep.part(place, quick).cells]
    recorded = {(c.structure, c.operation) for c in cells if isinstance(c, Workload)}
    return len(recorded) + len(cells) * (1 if place == "xen" else effort(place, quick).rounds)
