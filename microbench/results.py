# SPDX-License-Identifier: MIT
"""Result files: what `run` writes, and `plot`, `report` and `compare` read.

The format has a version; a file of another one is refused. ARCHITECTURE.md says what is in it.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, cast, get_args, get_type_hints

from microbench import table2
from microbench.rows import Skip

VERSION = 1
PLACES = ("native", "xen")
UNITS = ("ns", "instructions")


class Row(TypedDict):
    """An engine in a cell. Costs are in `unit`, a transaction."""

    sweep: str
    engine: str
    unit: str
    cda_bytes: int
    ppt: int | None  # None in workloads
    wpp: int | None
    opt: int | None  # None in patterns
    structure: str | None
    operation: str | None
    per_txn: float  # median of the rounds
    spread: float  # their median absolute deviation
    transactions: int  # that were measured
    tcount: int  # what totals are scaled to
    rounds: int
    pages: float  # dirty pages that were reported
    words: float | None  # changed words of 8 bytes; None: the engine lists, it does not compare
    writes: float | None  # single writes; None: it does not see them
    copy_bytes: float  # that are copied for the helper
    copy_per_txn: float


class Results(TypedDict):
    version: int
    place: str  # "native" or "xen"
    quick: bool
    complete: bool  # False: interrupted, or the time was up; what is done is here
    machine: dict[str, str | int]
    versions: dict[str, str]  # of what was measured: libhac; inside Xen that, and what it offers
    sweeps: dict[str, dict[str, Any]]  # the parameters, as run
    rows: list[Row]
    table2: list[table2.Row]
    skipped: list[Skip]
    failed: list[Skip]


class BadResults(Exception):
    """A file is no result file of this version; the message says why."""


def key(row: Row) -> tuple[Any, ...]:
    """What makes two rows the same measurement."""
    place = row["sweep"], row["engine"], row["unit"]
    pattern = row["cda_bytes"], row["ppt"], row["wpp"]
    return *place, *pattern, row["opt"], row["structure"], row["operation"]


def write(results: Results, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps(results, indent=1) + "\n")
    new.replace(path)


def _check_rows(path: Path, name: str, rows: Any, kind: type) -> None:
    fields = get_type_hints(kind)
    if not isinstance(rows, list):
        raise BadResults(f"{path}: {name} is no list")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(fields):
            raise BadResults(f"{path}: {name}[{number}] has other fields than {', '.join(fields)}")
        for field, wanted in fields.items():
            kinds = get_args(wanted) or (wanted,)
            allowed = (*kinds, int) if float in kinds else kinds
            if not isinstance(row[field], allowed) or isinstance(row[field], bool):
                raise BadResults(f"{path}: {name}[{number}].{field} is {row[field]!r}")


def read(path: Path) -> Results:
    """Raises BadResults."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadResults(f"{path}: {error}") from error
    if not isinstance(document, dict) or "version" not in document or "place" not in document:
        raise BadResults(f"{path}: is no result file of `python -m microbench run`")
    if document["version"] != VERSION:
        raise BadResults(
            f"{path}: has version {document['version']!r}, this program reads {VERSION}; "
            "run it again, or use the program that wrote it"
        )
    if missing := set(Results.__annotations__) - set(document):
        raise BadResults(f"{path}: has no {', '.join(sorted(missing))}")
    if document["place"] not in PLACES:
        raise BadResults(f"{path}: place is {document['place']!r}, not one of {PLACES}")
    _check_rows(path, "rows", document["rows"], Row)
    _check_rows(path, "table2", document["table2"], table2.Row)
    _check_rows(path, "skipped", document["skipped"], Skip)
    _check_rows(path, "failed", document["failed"], Skip)
    units: Sequence[str] = [row["unit"] for row in document["rows"]]
    if strange := set(units) - set(UNITS):
        raise BadResults(f"{path}: unit {min(strange)!r} is none of {UNITS}")
    return cast(Results, document)
