# SPDX-License-Identifier: MIT
"""A cell of a sweep, measured: rounds of each engine, and the row that they make."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from microbench.cells import Cell, Replay, Sample, Variant
from microbench.program import Answer, Program
from microbench.results import Row
from microbench.rounds import calibrate, measure, turns
from microbench.tracking import Log, sets

# One in so many transactions is run once more, to copy its result.
COPIED = 8


@dataclass(frozen=True)
class Effort:
    """How much is done for a row."""

    rounds: int
    round_ms: float  # of a pattern; inside Xen in millions of instructions
    least: int  # transactions of a pattern in a round
    sampled: int  # transactions of a trace in a round, about
    before: int  # each of these is run, to warm up


@dataclass(frozen=True)
class Job:
    """A cell to measure, with these variants of engines."""

    sweep: str
    cell: Cell | Replay
    variants: tuple[Variant, ...]
    cda_bytes: int
    tcount: int
    sample: Sample = ()  # of a trace


@dataclass(frozen=True)
class Round:
    """What one round found; all but the first a transaction.

    Costs have a share for each part of a sample; a pattern is one part.
    """

    transactions: int
    costs: tuple[float, ...]
    pages: float
    words: float | None
    writes: float | None
    copy_costs: tuple[float, ...]
    copy_bytes: float

    @property
    def cost(self) -> float:
        return sum(self.costs)


Take = Callable[[int], Round]
"""Run a round, given its number."""


def _whole(answer: Answer, copied: Answer, transactions: int, copies: int) -> Round:
    return Round(
        transactions,
        (answer.ns / transactions,),
        answer.pages / transactions,
        None if answer.words < 0 else answer.words / transactions,
        None if answer.writes < 0 else answer.writes / transactions,
        (copied.copy_ns / copies,),
        copied.copy_bytes / copies,
    )


def _weighed(answers: Sequence[Answer], weights: Sequence[float]) -> Round:
    """Shares of what was measured; what is not looked at is -1 in every answer."""

    def all_of(values: Iterable[int]) -> float:
        return sum(w * v for w, v in zip(weights, values, strict=True))

    words, writes = all_of(a.words for a in answers), all_of(a.writes for a in answers)
    return Round(
        len(answers),
        tuple(w * a.ns for w, a in zip(weights, answers, strict=True)),
        all_of(a.pages for a in answers),
        None if words < 0 else words,
        None if writes < 0 else writes,
        tuple(w * a.copy_ns for w, a in zip(weights, answers, strict=True)),
        all_of(a.copy_bytes for a in answers),
    )


def taker(job: Job, program: Program, effort: Effort) -> Take:
    """How a round of this program is run: a stretch of a pattern, or a sample of a trace."""
    if isinstance(job.cell, Cell):
        count = max(effort.least, calibrate(program.run, effort.round_ms))
        copies = max(2, count // COPIED)
        return lambda turn: _whole(program.stretch(count), program.copy(copies), count, copies)
    program.sample([number for number, _ in job.sample[0]][:3], effort.before)  # to warm up

    def take(turn: int) -> Round:
        picks = sorted(enumerate(job.sample[turn]), key=lambda pick: pick[1])
        answers = program.sample([number for _, (number, _) in picks], effort.before)
        by_part = {part: answer for (part, _), answer in zip(picks, answers, strict=True)}
        weights = [weight for _, weight in job.sample[turn]]
        return _weighed([by_part[part] for part in range(len(weights))], weights)

    return take


def interleaved(
    job: Job, effort: Effort, tick: Callable[[], None], log: Log
) -> dict[Variant, list[Round]]:
    """Rounds of all engines in turn. Raises ProgramFailed when a program dies."""
    found: dict[Variant, list[Round]] = {}
    done = 0
    for share, programs in sets(job.cell, job.variants, effort.rounds, log):
        takes = {variant: taker(job, p, effort) for variant, p in programs.items()}
        for turn, variant in turns(list(takes), share, tick):
            found.setdefault(variant, []).append(takes[variant](done + turn))
        done += share
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _middle(rounds: Iterable[tuple[float, ...]], unit: str) -> float:
    """Of times medians, part by part, so that what disturbs a transaction now and then does
    not count. Nothing disturbs instructions, and their mean is nearer to that of all.
    """
    middle = mean if unit == "instructions" else median
    return sum((middle(part) for part in zip(*rounds, strict=True)), 0.0)


def row(job: Job, variant: Variant, unit: str, found: Sequence[Round]) -> Row:
    cell, spread = job.cell, measure([each.cost for each in found]).spread
    pattern = cell if isinstance(cell, Cell) else None
    replay = cell if isinstance(cell, Replay) else None
    return {
        "sweep": job.sweep,
        "engine": variant.engine,
        "unit": unit,
        "cda_bytes": job.cda_bytes,
        "ppt": pattern.ppt if pattern else None,
        "wpp": pattern.wpp if pattern else None,
        "opt": replay.opt if replay else None,
        "structure": replay.structure if replay else None,
        "operation": replay.operation if replay else None,
        "per_txn": round(_middle((each.costs for each in found), unit), 1),
        "spread": round(spread, 1),
        "transactions": sum(each.transactions for each in found),
        "tcount": job.tcount,
        "rounds": len(found),
        "pages": _mean(each.pages for each in found) or 0.0,
        "words": _mean(each.words for each in found),
        "writes": _mean(each.writes for each in found),
        "copy_bytes": _mean(each.copy_bytes for each in found) or 0.0,
        "copy_per_txn": round(_middle((each.copy_costs for each in found), unit), 1),
    }


# -- jobs as a file, for another process ------------------------------------------


def save(jobs: Sequence[Job], path: Path) -> None:
    path.write_text(json.dumps([asdict(job) for job in jobs], default=str))


def _cell(fields: dict[str, Any]) -> Cell | Replay:
    if "trace" not in fields:
        return Cell(**fields)
    return Replay(**{**fields, "trace": Path(fields["trace"])})


def load(path: Path) -> list[Job]:
    """What save() wrote."""
    return [
        Job(
            fields["sweep"],
            _cell(fields["cell"]),
            tuple(Variant(**variant) for variant in fields["variants"]),
            fields["cda_bytes"],
            fields["tcount"],
            tuple(tuple((pick, weight) for pick, weight in turn) for turn in fields["sample"]),
        )
        for fields in json.loads(path.read_text())
    ]
