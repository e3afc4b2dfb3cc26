# SPDX-License-Identifier: MIT
"""All result files of a report together, rows by place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microbench import results, table2
from microbench.rows import Skip


class Unusable(Exception):
    """Files do not fit together; the message says which and why."""


@dataclass(frozen=True)
class Row:
    """results.Row, and the figures that are drawn from it: "fig06"."""

    figures: frozenset[str]
    sweep: str
    engine: str
    unit: str
    cda_bytes: int
    ppt: int | None
    wpp: int | None
    opt: int | None
    structure: str | None
    operation: str | None
    per_txn: float
    spread: float
    transactions: int
    tcount: int
    rounds: int
    pages: float
    words: float | None
    writes: float | None
    copy_bytes: float
    copy_per_txn: float

    @property
    def total(self) -> float:
        """What all transactions of the paper's experiment cost."""
        return self.per_txn * self.tcount

    @property
    def copied_total(self) -> float:
        """That, with the copy to the helper."""
        return (self.per_txn + self.copy_per_txn) * self.tcount

    @property
    def work(self) -> str:
        return f"{self.structure} {self.operation}"


@dataclass(frozen=True)
class Document:
    """One file."""

    path: str
    raw: results.Results
    rows: tuple[Row, ...]

    @property
    def place(self) -> str:
        return self.raw["place"]

    @property
    def skipped(self) -> list[Skip]:
        """And what failed: either way it is not there."""
        return [*self.raw["skipped"], *self.raw["failed"]]


def document(raw: results.Results, path: object) -> Document:
    def figures(sweep: str) -> frozenset[str]:
        parameters: Mapping[str, Any] = raw["sweeps"].get(sweep, {})
        return frozenset(parameters.get("figures", [sweep]))

    for row in raw["rows"]:
        if row["per_txn"] <= 0 or row["tcount"] <= 0:
            what = f"{row['engine']} in {row['sweep']}"
            raise Unusable(
                f"{path}: {what} has a cost or a count that is not above 0: run it again"
            )
    rows = (Row(figures=figures(row["sweep"]), **row) for row in raw["rows"])
    return Document(str(path), raw, tuple(rows))


def read(paths: Iterable[Path]) -> "Measured":
    """Raises results.BadResults or Unusable."""
    return Measured([document(results.read(path), path) for path in paths])


class Measured:
    """What a report is made of. A cell that a place has twice is refused."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = tuple(documents)
        self._rows: dict[str, tuple[Row, ...]] = {}
        for place in results.PLACES:
            self._refuse_twins(place)
            self._rows[place] = tuple(row for each in self._of(place) for row in each.rows)

    def _of(self, place: str) -> Iterable[Document]:
        return (each for each in self.documents if each.place == place)

    def _refuse_twins(self, place: str) -> None:
        seen: dict[object, str] = {}
        for each in self._of(place):
            for row in each.raw["rows"]:
                other = seen.setdefault(results.key(row), each.path)
                if other != each.path:
                    raise Unusable(
                        f"{other} and {each.path} both have {row['engine']} in {row['sweep']} "
                        f"({place}): give one of the two"
                    )

    @property
    def places(self) -> tuple[str, ...]:
        """Where something was measured."""
        return tuple(place for place in results.PLACES if self._rows[place])

    def rows(self, place: str) -> tuple[Row, ...]:
        return self._rows[place]

    def skipped(self, place: str) -> list[Skip]:
        return [skip for each in self._of(place) for skip in each.skipped]

    @property
    def table2(self) -> list[table2.Row]:
        """Counts are the same everywhere: those of the first file that has them."""
        return next((each.raw["table2"] for each in self.documents if each.raw["table2"]), [])
