# SPDX-License-Identifier: MIT
"""Result documents of a machine on which all holds that the paper states.

Costs are made of a formula for each engine, so that what the report computes of
them is known beforehand. Tests bend them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from microbench import table2
from microbench.report import measured
from microbench.report.measured import Document, Measured, Row

KIB, MIB = 1 << 10, 1 << 20
PAGE = 4096
SIZES, PAGES = (64 * KIB, MIB, 4 * MIB, 16 * MIB), (1, 8, 32, 64)

# Cost of pages, stores and MB of a transaction: break-evens at 5 and 1.58, ptxen 11 times as fast.
Cost = Callable[[float, float, float], float]
USER: dict[str, Cost] = {
    "naive-pt": lambda pages, writes, mb: 100 + 10_000 * pages,
    "pt": lambda pages, writes, mb: 100 + 8_000 * pages,
    "emul": lambda pages, writes, mb: 100 + 2_000 * writes,
}
HYPERVISOR: dict[str, Cost] = {
    "ptxen": lambda pages, writes, mb: 9 + 900 * pages,
    "emulxen": lambda pages, writes, mb: 28 + 571 * writes,
    "scanxen": lambda pages, writes, mb: 670 * pages + 40_000 * mb,
}
OF_WRITES = ("emul", "emulxen")


def _raw(
    place: str, sweep: str, engine: str, cost: float, fields: dict[str, Any]
) -> dict[str, Any]:
    unit = "ns" if place == "native" else "instructions"
    row: dict[str, Any] = {"sweep": sweep, "engine": engine, "unit": unit, "cda_bytes": 4 * MIB}
    row |= dict.fromkeys(("ppt", "wpp", "opt", "structure", "operation"))
    row |= {"per_txn": cost, "spread": cost / 200, "transactions": 900, "tcount": 100_000}
    row |= {"rounds": 9, "words": None, "copy_bytes": 4096.0, "copy_per_txn": 100.0}
    return row | {"pages": 1.0, "writes": None} | fields


def _micro(place: str, engine: str, cost: Cost) -> Iterator[dict[str, Any]]:
    def row(sweep: str, ppt: int, wpp: int, size: int = 4 * MIB) -> dict[str, Any]:
        got = cost(ppt, ppt * wpp, size / MIB)
        return _raw(place, sweep, engine, got, {"ppt": ppt, "wpp": wpp, "cda_bytes": size})

    yield from (row("fig06", ppt, wpp) for ppt in PAGES for wpp in (4, 8, 16))
    yield from (row("fig07", p, w) for p, w in ((1, 4), (4, 1), (1, 16), (4, 4), (4, 16), (16, 4)))
    yield from (row("fig08", 8, wpp) for wpp in (1, 2, 3, 4, 6, 8))
    yield from (row("fig09", ppt, 1, size) for ppt in PAGES for size in SIZES)


def _works(place: str, engine: str, cost: Cost) -> Iterator[dict[str, Any]]:
    for (structure, operation), numbers in table2.PAPER.items():
        for opt, i in ((1, 0), (5, 2)):
            w, p = (float(each) for each in numbers.split()[i : i + 2])
            of_writes = engine in OF_WRITES
            fields: dict[str, Any]
            copied = {"ns": (2 * w, 1_000 * p), "instructions": (10 * w, 400 * p)}
            unit = "ns" if place == "native" else "instructions"
            fields = {"opt": opt, "structure": structure, "operation": operation}
            fields |= {"tcount": 10_000 // opt, "pages": p, "writes": w if of_writes else None}
            fields |= {"copy_bytes": 8 * w if of_writes else PAGE * p}
            fields |= {"copy_per_txn": copied[unit][0 if of_writes else 1]}
            yield _raw(place, f"fig{11 if opt == 1 else 13}", engine, cost(p, w, 4), fields)


def document(place: str, **changes: Any) -> dict[str, Any]:
    """A result file as JSON has it."""
    engines = USER if place == "native" else USER | HYPERVISOR
    rows = [
        row
        for engine, cost in engines.items()
        for make in (_micro, _works)
        for row in make(place, engine, cost)
    ]
    counts = [
        {"structure": s, "operation": o, "opt": opt, "writes": float(w), "pages": float(p)}
        for (s, o), numbers in table2.PAPER.items()
        for opt, w, p in zip((1, 5), numbers.split()[::2], numbers.split()[1::2], strict=True)
    ]
    skipped = [{"what": "uffd (fig6)", "reason": "this kernel has no asynchronous mode"}]
    return {
        "version": 1,
        "machine": {"cpu": "An <odd> CPU & more", "cores": 2, "kernel": "6.1.0-9-amd64"},
        "place": place,
        "quick": True,
        "complete": True,
        "versions": {"libhac": "0.1.0"},
        "failed": [],
        "sweeps": {
            "fig06": {"figures": ["fig06"], "cells": [{"ppt": list(PAGES)}]},
            "fig08": {"figures": ["fig08", "fig10"]},
        },
        "rows": rows,
        "skipped": skipped if place == "xen" else [],
        "table2": counts if place == "native" else [],
    } | changes


Bend = Callable[[Row], Row | None]


def results(*places: str, bend: Bend = lambda row: row) -> Measured:
    """Both places, or those named; each row bent, or dropped where that gives None."""
    documents: list[Document] = []
    for place in places or ("native", "xen"):
        read = measured.document(document(place), f"{place}.json")  # type: ignore[arg-type]
        kept = tuple(bent for row in read.rows if (bent := bend(row)))
        documents.append(replace(read, rows=kept))
    return Measured(documents)
