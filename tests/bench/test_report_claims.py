# SPDX-License-Identifier: MIT
"""Each statement of the paper: a machine where it holds, one where it differs, one without rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from microbench import table2
from microbench.report import paper
from microbench.report.claims import Answer, Finding, Verdict, judge
from microbench.report.measured import Measured, Row
from microbench.report.statements import CLAIMS
from tests.bench.paper_rows import MIB, Bend, results

BY_KEY = {claim.key: claim for claim in CLAIMS}


def dearer(engine: str, factor: Callable[[Row], float], sweep: str = "") -> Bend:
    """The engine's costs times a factor."""

    def bend(row: Row) -> Row:
        if row.engine != engine or sweep not in row.sweep:
            return row
        return replace(row, per_txn=row.per_txn * factor(row))

    return bend


def by(number: float) -> Callable[[Row], float]:
    return lambda row: number


def copies(engine: str, factor: float) -> Bend:
    """The engine copies so many times as much, for so many times the cost."""

    def bend(row: Row) -> Row:
        if row.engine != engine or row.copy_bytes is None or row.copy_per_txn is None:
            return row
        much, cost = row.copy_bytes * factor, row.copy_per_txn * factor
        return replace(row, copy_bytes=much, copy_per_txn=cost)

    return bend


def ppt(row: Row) -> float:
    return row.ppt or 1


def wpp(row: Row) -> float:
    return row.wpp or 1


def opt(row: Row) -> float:
    return row.opt or 1


def per_operation(row: Row) -> float:
    return 5.0 if row.opt == 5 else 1.0


def insert_free(row: Row) -> float:
    return 0.01 if row.operation == "insert" else 1.0


def of_pages(row: Row) -> float:
    """What makes a cost of writes one of pages."""
    return (row.pages or 1) / (row.writes or 1) * 5


def pages_dominate(row: Row) -> float:
    """Scanxen, with pages that cost a hundred times as much."""
    pages, size = 670 * ppt(row), 40_000 * row.cda_bytes / MIB
    return (100 * pages + size) / (pages + size)


BENDS: dict[str, Bend] = {
    "pt-linear": dearer("naive-pt", ppt, "fig06"),
    "ptxen-linear": dearer("ptxen", ppt, "fig06"),
    "pt-wpp": dearer("naive-pt", wpp, "fig06"),
    "ptxen-wpp": dearer("ptxen", wpp, "fig06"),
    "ptxen-faster": dearer("ptxen", by(3), "fig06"),
    "emul-tsize": dearer("emul", ppt, "fig07"),
    "emulxen-tsize": dearer("emulxen", ppt, "fig07"),
    "emulxen-faster": dearer("emulxen", by(0.3), "fig07"),
    "user-sides": dearer("emul", by(0.1), "fig08"),
    "user-break-even": dearer("emul", by(2), "fig08"),
    "xen-sides": dearer("emulxen", by(3), "fig08"),
    "xen-break-even": dearer("emulxen", by(0.5), "fig08"),
    "lower-in-xen": dearer("emulxen", by(0.2), "fig08"),
    "scan-linear": dearer("scanxen", ppt, "fig09"),
    "scan-line": dearer("scanxen", lambda row: 9 if row.cda_bytes < MIB else 1, "fig09"),
    "scan-static": dearer("scanxen", pages_dominate, "fig09"),
    "scan-beats-pt": dearer("scanxen", by(50), "fig09"),
    "scan-ptxen": dearer("scanxen", by(0.05), "fig09"),
    "emul-beats-pt": dearer("emul", by(2), "fig08"),
    "ptxen-beats-emulxen": dearer("ptxen", by(4), "fig08"),
    "overall": dearer("emulxen", by(2), "fig08"),
    "usual-order": dearer("emul", by(9), "fig1"),
    "named-order": dearer("emulxen", by(9), "fig1"),
    "ptxen-best": dearer("ptxen", by(20), "fig1"),
    "emul-ahead": dearer("emul", by(9), "fig1"),
    "emul-dearer": dearer("emul", by(0.1), "fig1"),
    "emul-list": dearer("emul", insert_free, "fig1"),
    "emulxen-list": dearer("emulxen", insert_free, "fig1"),
    "emul-writes": dearer("emul", of_pages, "fig1"),
    "emulxen-writes": dearer("emulxen", of_pages, "fig1"),
    "emulxen-1": dearer("emulxen", by(0.2), "fig1"),
    "ptxen-1": dearer("ptxen", by(0.2), "fig1"),
    "pt-ahead": dearer("emul", by(0.1), "fig1"),
    "pt-gain": dearer("naive-pt", per_operation, "fig1"),
    "ptxen-gain": dearer("ptxen", per_operation, "fig1"),
    "emul-gain": dearer("emul", lambda row: 0.2 if row.opt == 5 else 1.0, "fig1"),
    "emulxen-gain": dearer("emulxen", lambda row: 0.2 if row.opt == 5 else 1.0, "fig1"),
    "emulxen-5": dearer("emulxen", by(3), "fig1"),
    "ptxen-5": dearer("ptxen", by(3), "fig1"),
    "pt-volume": copies("naive-pt", 0.1),
    "ptxen-volume": copies("ptxen", 30),
    "emul-volume": copies("emul", 8),
    "emulxen-volume": copies("emulxen", 0.1),
    "emul-copy": copies("emul", 20),
    "page-copy": copies("naive-pt", 0.05),
    "best-with-copy": copies("ptxen", 100),
    "net-ptxen": copies("ptxen", 20),
    "net-emulxen": copies("emulxen", 100),
    "net-lower-ptxen": copies("naive-pt", 30),
    "net-lower-emulxen": copies("emul", 400),
}
# Counted, not measured; and what needs one unit in both places: tests of their own below.
APART = {"table2-writes", "table2-pages", "writes-fivefold", "pages-stay", "mprotect"}


def answers(key: str, of: Measured) -> list[Answer]:
    (judged,) = judge([BY_KEY[key]], of)
    return [answer for answer in judged.answers if not answer.engine]


def verdicts(key: str, of: Measured) -> set[Verdict]:
    return {answer.finding.verdict for answer in answers(key, of)}


def test_every_statement_is_bent() -> None:
    assert set(BENDS) | APART == set(BY_KEY)
    assert len(BY_KEY) == len(CLAIMS)


@pytest.mark.parametrize("key", BENDS)
def test_holds(key: str) -> None:
    assert verdicts(key, results()) == {Verdict.HOLDS}


@pytest.mark.parametrize("key", BENDS)
def test_differs_and_says_why(key: str) -> None:
    bent = answers(key, results(bend=BENDS[key]))
    differing = [a.finding for a in bent if a.finding.verdict is Verdict.DIFFERS]
    assert differing
    assert all(len(finding.reason) > 20 for finding in differing)


@pytest.mark.parametrize("key", sorted(set(BENDS) | {"mprotect"}))
def test_without_rows_nothing_is_told(key: str) -> None:
    """Only an engine that the paper does not know was measured."""
    alone = results(bend=lambda row: replace(row, engine="uffd") if row.engine == "pt" else None)
    found = answers(key, alone)
    assert {a.finding.verdict for a in found} == {Verdict.UNKNOWN}
    assert all("missing" in a.finding.measured or "units" in a.finding.measured for a in found)


@pytest.mark.parametrize("key", [claim.key for claim in CLAIMS if claim.places == ("xen",)])
def test_native_results_alone_say_what_is_missing(key: str) -> None:
    (answer,) = answers(key, results("native"))
    assert answer.finding.verdict is Verdict.UNKNOWN
    assert "inside Xen" in answer.finding.measured


def test_a_missing_engine_is_named_with_the_reason_why_it_was_skipped() -> None:
    xen = results("xen", bend=lambda row: None if row.engine == "scanxen" else row)
    (answer,) = answers("scan-line", xen)
    assert "scanxen in figure 9" in answer.finding.measured


def test_a_difference_needs_a_reason() -> None:
    with pytest.raises(AssertionError):
        Finding(Verdict.DIFFERS, "1", "one")


def test_both_page_trackers_are_asked() -> None:
    (judged,) = judge([BY_KEY["ptxen-faster"]], results())
    assert [(a.place, a.engine) for a in judged.answers] == [("xen", ""), ("xen", "pt")]


def test_numbers_are_those_of_the_formulas() -> None:
    def of(key: str, place: str) -> str:
        return next(a.finding.number for a in answers(key, results()) if a.place == place)

    # 100 + 8 * 10 000 = 100 + 8 * 2 000 WPP; 9 + 8 * 900 = 28 + 8 * 571 WPP.
    assert of("user-break-even", "native") == "WPP 5"
    assert of("xen-break-even", "xen") == "WPP 1.57"
    native, _ = answers("user-break-even", results())
    assert "emul is the cheaper one at WPP 1, 2, 3 and 4." in native.finding.measured
    assert of("scan-line", "xen") == "a = 670, b = 40\u202f000"
    assert of("emulxen-faster", "xen") == "3.5×"
    assert of("emul-volume", "native") == "57.7 MB"


def test_mprotect_is_compared_in_one_unit_only() -> None:
    (answer,) = answers("mprotect", results())
    assert answer.finding.verdict is Verdict.UNKNOWN
    assert "ns natively and instructions" in answer.finding.measured
    assert "costs 5.01 writes of emul natively" in answer.finding.measured

    for factor, verdict in ((4, Verdict.HOLDS), (1, Verdict.DIFFERS)):
        places = [results("native"), results("xen", bend=dearer("naive-pt", by(factor)))]
        joined = Measured(
            [
                replace(d, rows=tuple(replace(row, unit="ns") for row in d.rows))
                for each in places
                for d in each.documents
            ]
        )
        assert verdicts("mprotect", joined) == {verdict}


@pytest.mark.parametrize(
    ("key", "column", "change"),
    [
        ("table2-writes", "writes", lambda value: value + 0.1),
        ("table2-pages", "pages", lambda value: value * 1.5),
        ("writes-fivefold", "writes", lambda value: value * 2),
        ("pages-stay", "pages", lambda value: value * 3),
    ],
)
def test_counts(key: str, column: str, change: Callable[[float], float]) -> None:
    assert verdicts(key, results()) == {Verdict.HOLDS}
    (native,) = results("native").documents
    counts: list[Any] = list(native.raw["table2"])
    bent: list[Any] = [c | {column: change(c[column])} if c["opt"] == 5 else c for c in counts]
    for table, verdict in ((bent, Verdict.DIFFERS), ([], Verdict.UNKNOWN)):
        raw: Any = {**native.raw, "table2": table}
        assert verdicts(key, Measured([replace(native, raw=raw)])) == {verdict}


def test_the_paper_s_own_lists_name_rows_of_table_2() -> None:
    works = {f"{structure} {operation}" for structure, operation in table2.PAPER}
    assert set(paper.EMUL_DEARER) <= works
    assert set(paper.USUAL) <= {structure for structure, _ in table2.PAPER}
