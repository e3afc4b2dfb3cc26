# SPDX-License-Identifier: MIT
"""Sweeps: the parameters of an experiment, read from a file in sweeps/.

::

    title = "Page tracking against pages per transaction"
    figures = ["fig06"]  # what is drawn from its cells
    engines = ["naive-pt", "pt", "ptxen"]  # those that do not work in a place are skipped there
    tcount = 100_000  # what totals are scaled to

    [[cells]]  # every combination of these
    cda_bytes = [1_048_576]
    ppt = [1, 4, 16]
    wpp = [4, 8]

    [xen]  # what differs inside Xen: engines, cells
    engines = ["naive-pt", "ptxen"]

A cell may be a workload in place of a pattern: ``operations = ["aa insert"]`` and
``opt = [1, 5]``; its number of transactions follows from the workload. ``table = true``
is Table 2, which has no cells. Unknown keys are refused.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from microbench.cells import Cell

FOLDER = Path(__file__).resolve().parent / "sweeps"
PAGE, PAGE_WORDS = 4096, 512
CDA_MAX = 16 << 30
TCOUNT = 100_000
OPERATIONS = 10_000  # in a workload

# A part says what differs from another one; the first is the file's own.
PARTS = {"quick": "", "xen": "", "xen_quick": "xen"}
TOP = {"title", "figures", "engines", "tcount", "cells", "table", *PARTS}
IN_PART = {"engines", "cells"}
PATTERN = ("cda_bytes", "ppt", "wpp")
WORKLOAD = ("operations", "opt")


Known = Collection[tuple[str, str]]
"""Structures and operations that there are workloads of."""


class BadSweep(Exception):
    """A sweep cannot be run; the message says which, what and why."""


@dataclass(frozen=True)
class Workload:
    """Operations of a structure, `opt` of them a transaction."""

    structure: str
    operation: str
    opt: int


@dataclass(frozen=True)
class Part:
    """What a sweep measures in a place."""

    engines: tuple[str, ...]
    cells: tuple[Cell | Workload, ...]


@dataclass(frozen=True)
class Sweep:
    name: str
    title: str
    figures: tuple[str, ...]
    tcount: int
    table: bool
    parts: Mapping[str, Part]
    file: Mapping[str, Any]  # what stands in it

    def part(self, place: str, quick: bool) -> Part:
        return self.parts[_part(place, quick)]

    def parameters(self, place: str, quick: bool) -> dict[str, Any]:
        """Those of the file, as they hold there."""
        name = _part(place, quick)
        found = {key: value for key, value in self.file.items() if key not in PARTS}
        for part in (PARTS.get(name, ""), name):
            found.update(self.file.get(part, {}))
        return found


def _part(place: str, quick: bool) -> str:
    words = (["xen"] if place == "xen" else []) + (["quick"] if quick else [])
    return "_".join(words)


class _Reader:
    """Checks as it reads; `where` is the file, and the table in it."""

    def __init__(self, where: str, table: Mapping[str, Any], known: set[str]) -> None:
        self._where, self._table = where, table
        for key in table:
            if key not in known:
                known_ones = ", ".join(sorted(known))
                raise self.wrong(key, f"is no such key; there are {known_ones}")

    def wrong(self, key: str, reason: str) -> BadSweep:
        return BadSweep(f"{self._where}: {key} {reason}")

    def has(self, key: str) -> bool:
        return key in self._table

    def number(self, key: str, default: int) -> int:
        value = self._table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(key, f"is {value!r}: a whole number above 0 is wanted")
        return value

    def text(self, key: str) -> str:
        value = self._table.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "is missing: a text is wanted")
        return value

    def flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {value!r}: true or false is wanted")
        return value

    def _list(self, key: str, kind: type) -> list[Any]:
        value = self._table.get(key)
        if not isinstance(value, list) or not value:
            raise self.wrong(key, "is missing or empty: a list is wanted")
        if not all(isinstance(item, kind) and not isinstance(item, bool) for item in value):
            raise self.wrong(key, f"is {value!r}: a list of {kind.__name__} is wanted")
        if len(set(value)) != len(value):
            raise self.wrong(key, f"names something twice: {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self._list(key, str))

    def numbers(self, key: str) -> tuple[int, ...]:
        for value in (found := self._list(key, int)):
            if value < 1:
                raise self.wrong(key, f"has {value}: it must be 1 or more")
        return tuple(found)


def _patterns(reader: _Reader) -> Iterator[Cell]:
    sizes, ppts, wpps = (reader.numbers(key) for key in PATTERN)
    for size in sizes:
        if size % PAGE or size > CDA_MAX:
            raise reader.wrong("cda_bytes", f"has {size}: whole pages of {PAGE}, up to 16 GiB")
        for ppt in ppts:
            if ppt > size // PAGE:
                raise reader.wrong(
                    "ppt", f"has {ppt}, more than the {size // PAGE} pages of an area of {size}"
                )
    for wpp in wpps:
        if wpp > PAGE_WORDS:
            raise reader.wrong("wpp", f"has {wpp}, more than the {PAGE_WORDS} words of a page")
    for size, wpp, ppt in product(sizes, wpps, ppts):
        yield Cell(size, ppt, wpp)


def _workloads(reader: _Reader, known: Known) -> Iterator[Workload]:
    structures = list(dict.fromkeys(structure for structure, _ in known))
    for opt in reader.numbers("opt"):
        if opt > OPERATIONS:
            raise reader.wrong("opt", f"has {opt}, more than the {OPERATIONS} operations")
        for text in reader.texts("operations"):
            structure, _, operation = text.partition(" ")
            if structure not in structures:
                there = ", ".join(structures)
                raise reader.wrong(
                    "operations", f"has the structure {structure!r}; there are {there}"
                )
            if (structure, operation) not in known:
                there = ", ".join(f"{s} {o}" for s, o in known if s == structure)
                raise reader.wrong("operations", f"has {text!r}; there are {there}")
            yield Workload(structure, operation, opt)


def _cells(where: str, tables: Any, known: Known) -> tuple[Cell | Workload, ...]:
    found: list[Cell | Workload] = []
    if not isinstance(tables, list) or not tables:
        raise BadSweep(f"{where}: there are no [[cells]]")
    for number, table in enumerate(tables, 1):
        place = f"{where}, cells {number}"
        if not isinstance(table, dict):
            raise BadSweep(f"{place}: is {table!r}: a table [[cells]] is wanted")
        if "operations" in table:
            found += _workloads(_Reader(place, table, set(WORKLOAD)), known)
        else:
            found += _patterns(_Reader(place, table, set(PATTERN)))
    return tuple(dict.fromkeys(found))


def _parse(name: str, where: str, document: dict[str, Any], known: Known) -> Sweep:
    reader = _Reader(where, document, TOP)
    title, figures, table = reader.text("title"), reader.texts("figures"), reader.flag("table")
    tcount = reader.number("tcount", TCOUNT)
    parts = {"": Part((), ())}
    if table:
        if extra := (TOP - {"title", "figures", "table"}) & set(document):
            raise reader.wrong(min(extra), "does not go with table = true")
    else:
        parts = {"": Part(reader.texts("engines"), _cells(where, document.get("cells"), known))}
        if reader.has("tcount") and not any(isinstance(c, Cell) for c in parts[""].cells):
            raise reader.wrong("tcount", "is for patterns; that of a workload follows from it")
    for part, base in PARTS.items():
        parts[part] = _part_of(f"{where}, {part}", document.get(part, {}), parts[base], known)
    return Sweep(name, title, figures, tcount, table, parts, document)


def _part_of(where: str, table: Any, base: Part, known: Known) -> Part:
    """What differs from the base stands in the table."""
    if not isinstance(table, dict):
        raise BadSweep(f"{where}: is {table!r}: a table is wanted")
    reader = _Reader(where, table, IN_PART)
    return Part(
        reader.texts("engines") if reader.has("engines") else base.engines,
        _cells(where, table["cells"], known) if reader.has("cells") else base.cells,
    )


def read(path: Path, known: Known) -> Sweep:
    """One file; raises BadSweep."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSweep(f"{path}: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSweep(f"{path}: {error}") from error
    return _parse(path.stem, str(path), document, known)


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(words: Sequence[str], known: Known) -> list[Sweep]:
    """The sweeps of these names, figures or files; `all` are all there are."""
    ours = {name: read(FOLDER / f"{name}.toml", known) for name in names()}
    of_figure = {figure: sweep for sweep in ours.values() for figure in sweep.figures}
    found: dict[str, Sweep] = {}
    for word in words:
        if word == "all":
            found |= ours
        elif word.endswith(".toml"):
            sweep = read(Path(word), known)
            if found.get(sweep.name, sweep).file != sweep.file:
                raise BadSweep(f"{word}: there is another sweep {sweep.name!r} in this run")
            found[sweep.name] = sweep
        elif chosen := ours.get(word) or of_figure.get(word):
            found[chosen.name] = chosen
        else:
            raise BadSweep(
                f"there is no sweep or figure {word!r}; there are "
                f"{', '.join(sorted({*ours, *of_figure}))}, all, or a file NAME.toml"
            )
    return list(found.values())
