# SPDX-License-Identifier: MIT
"""What the paper states, as questions to the rows: holds, differs, or cannot be told."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from microbench import table2
from microbench.report.measured import Measured, Row
from microbench.report.wording import times

# The paper's names and ours. Its PT is the plain one, and so is naive PT.
NAMES = {
    "PT": "naive-pt",
    "Emul": "emul",
    "PTxen": "ptxen",
    "Emulxen": "emulxen",
    "Scanxen": "scanxen",
}
PLACE_NAMES = {"native": "natively", "xen": "inside Xen", "counted": "by counting"}
ABOUT = 1.5  # "about n times": between n / 1.5 and 1.5 n
_WORD = re.compile(r"[\w-]+")
NOISE = 1.15  # what is called equal may be so many times apart


class Verdict(Enum):
    HOLDS = "holds"
    DIFFERS = "differs"
    UNKNOWN = "cannot be told"


class Unknown(Exception):
    """Rows that a question needs are missing; the message says which."""


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    number: str  # in a word
    measured: str  # in a sentence
    reason: str = ""  # why it differs

    def __post_init__(self) -> None:
        assert self.reason or self.verdict is not Verdict.DIFFERS


def found(holds: bool, number: str, measured: str, reason: str) -> Finding:
    """The reason is said only of what differs."""
    if holds:
        return Finding(Verdict.HOLDS, number, measured)
    return Finding(Verdict.DIFFERS, number, measured, reason)


class View:
    """The rows of one place under the paper's names."""

    def __init__(self, results: Measured, place: str, names: Mapping[str, str] = NAMES) -> None:
        self.results, self.place, self.names = results, place, names

    def name(self, engine: str) -> str:
        return self.names[engine]

    @property
    def unit(self) -> str:
        rows = self.results.rows(self.place)
        return rows[0].unit if rows else ""

    def _missing(self, engine: str, where: str) -> Unknown:
        name = self.name(engine)
        reasons = [
            s["reason"]
            for s in self.results.skipped(self.place)
            if name in _WORD.findall(s["what"])
        ]
        why = f" ({reasons[0]})" if reasons else ""
        return Unknown(f"rows missing: {name} in {where} {PLACE_NAMES[self.place]}{why}")

    def rows(self, figure: int, engine: str) -> list[Row]:
        """Of a microbenchmark, in order of size, PPT and WPP."""
        rows = [
            row
            for row in self.results.rows(self.place)
            if f"fig{figure:02}" in row.figures
            and row.engine == self.name(engine)
            and row.structure is None
        ]
        if not rows or any(row.ppt is None or row.wpp is None for row in rows):
            raise self._missing(engine, f"figure {figure}")
        return sorted(rows, key=lambda row: (row.cda_bytes, row.ppt or 0, row.wpp or 0))

    def works(self, engine: str, opt: int) -> dict[str, Row]:
        """Of the data structures, by "structure operation"."""
        rows = {
            row.work: row
            for row in self.results.rows(self.place)
            if row.structure and row.opt == opt and row.engine == self.name(engine)
        }
        if not rows:
            raise self._missing(engine, f"the data structures at OPT {opt}")
        return rows

    def paired(self, first: str, second: str, opt: int) -> dict[str, tuple[Row, Row]]:
        """Both engines' rows of each work that both have."""
        ours, theirs = self.works(first, opt), self.works(second, opt)
        pairs = {work: (ours[work], theirs[work]) for work in ours if work in theirs}
        if not pairs:
            raise self._missing(second, f"the works of {self.name(first)} at OPT {opt}")
        return pairs

    def counts(self) -> dict[str, dict[int, table2.Row]]:
        """Table 2 by work and OPT."""
        table: dict[str, dict[int, table2.Row]] = {}
        for row in self.results.table2:
            table.setdefault(f"{row['structure']} {row['operation']}", {})[row["opt"]] = row
        if not table:
            raise Unknown("rows missing: no file has Table 2 (python -m microbench run table2)")
        return table

    @property
    def caution(self) -> str:
        """What to bear in mind of the unit."""
        if self.unit != "instructions":
            return ""
        return (
            " Instructions are work, not time: what traps and flushes take beyond them is left out."
        )


@dataclass(frozen=True)
class Claim:
    """A statement of the paper and the check of it."""

    key: str
    figure: str  # "6" to "18", or "table 2"
    states: str
    paper: str  # its number, in a word
    check: Callable[[View], Finding]
    places: Sequence[str] = ("native", "xen")
    tracks_pages: bool = True  # speaks of PT: asked of naive PT and of pt


@dataclass(frozen=True)
class Answer:
    place: str
    engine: str  # which PT, where that matters
    finding: Finding


@dataclass(frozen=True)
class Judged:
    claim: Claim
    answers: list[Answer] = field(default_factory=list)


def ask(claim: Claim, view: View) -> Finding:
    try:
        return claim.check(view)
    except Unknown as unknown:
        return Finding(Verdict.UNKNOWN, "–", str(unknown))


def _answers(claim: Claim, results: Measured) -> Iterator[Answer]:
    for place in claim.places:
        if place == "counted":
            yield Answer(place, "", ask(claim, View(results, "native")))
            continue
        if place not in results.places:
            missing = f"there is no result file with rows measured {PLACE_NAMES[place]}"
            yield Answer(place, "", Finding(Verdict.UNKNOWN, "–", missing))
            continue
        yield Answer(place, "", ask(claim, View(results, place)))
        if claim.tracks_pages:
            ours = ask(claim, View(results, place, NAMES | {"PT": "pt"}))
            if ours.verdict is not Verdict.UNKNOWN:
                yield Answer(place, "pt", ours)


def judge(claims: Sequence[Claim], results: Measured) -> list[Judged]:
    return [Judged(claim, list(_answers(claim, results))) for claim in claims]


def about(measured: float, wanted: float) -> bool:
    return wanted / ABOUT <= measured <= wanted * ABOUT


def beside(measured: float, wanted: float) -> str:
    """How a number lies to the paper's."""
    side = "above" if measured > wanted else "below"
    return f"{times(measured)} is {side} the paper's {times(wanted)}"


def middle(values: Sequence[float]) -> float:
    return float(median(values))
