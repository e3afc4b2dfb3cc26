# SPDX-License-Identifier: MIT
"""Interleaved rounds: what disturbs the machine disturbs all that is compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

# Runs so many transactions; the nanoseconds that they took.
Run = Callable[[int], int]
Name = TypeVar("Name")


@dataclass(frozen=True)
class Effort:
    """How much is done for one number."""

    rounds: int
    round_ms: float


@dataclass(frozen=True)
class Measure:
    """Nanoseconds a transaction: the median of the rounds, and how far they lie
    from it (median absolute deviation)."""

    ns: float
    spread: float


def calibrate(run: Run, round_ms: float) -> int:
    """How many transactions fill a round. Warms up on the way."""
    count, wanted = 4, round_ms * 1e6
    while (elapsed := run(count)) < wanted / 4 and count < 1 << 30:
        count *= 4 if elapsed < wanted / 16 else 2
    return max(4, round(count * wanted / max(elapsed, 1)))


def measure(samples: list[float]) -> Measure:
    middle = median(samples)
    return Measure(middle, median(abs(sample - middle) for sample in samples))


def turns(
    names: Sequence[Name], rounds: int, tick: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, Name]]:
    """Every one once a round, with the round's number; who starts changes from round to round."""
    for turn in range(rounds):
        start = turn % max(len(names), 1)
        for name in [*names[start:], *names[:start]]:
            yield turn, name
        tick()


def sample(
    runs: Mapping[str, Run], effort: Effort, tick: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Nanoseconds a transaction in each round; `tick` is called after each round of all."""
    counts = {name: calibrate(run, effort.round_ms) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _, name in turns(list(runs), effort.rounds, tick):
        samples[name].append(runs[name](counts[name]) / counts[name])
    return samples


def interleave(
    runs: Mapping[str, Run], effort: Effort, tick: Callable[[], None] = lambda: None
) -> dict[str, Measure]:
    """Measure `runs` against each other."""
    return {name: measure(found) for name, found in sample(runs, effort, tick).items()}
