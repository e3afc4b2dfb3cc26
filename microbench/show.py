# SPDX-License-Identifier: MIT
"""Results for the eye: tables on standard output, a progress bar on a terminal."""

import sys
from collections.abc import Sequence

from microbench import results, table2
from microbench.cells import NAIVE, Cell, Variant
from microbench.rows import Document, Row, Skip
from microbench.targets import wanted_ratio


class Progress:
    """A bar on standard error; silent where that is no terminal."""

    WIDTH = 30

    def __init__(self, steps: int) -> None:
        self._steps, self._done = max(steps, 1), 0
        self._shown = sys.stderr.isatty()

    def __call__(self, what: str) -> None:
        self._done += 1
        if self._shown:
            full = min(self.WIDTH, self.WIDTH * self._done // self._steps)
            bar = "#" * full + "." * (self.WIDTH - full)
            print(f"\r[{bar}] {what:60.60}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._shown:
            print("\r" + " " * (self.WIDTH + 64) + "\r", end="", file=sys.stderr, flush=True)


def _time(ns: float) -> str:
    return f"{ns / 1000:10.3f} µs"


def _cell(row: Row) -> Cell:
    return Cell(row["cda_bytes"], row["ppt"], row["wpp"], row["pattern"], row["threads"])


def _mark(row: Row) -> str:
    wanted = wanted_ratio(row)
    if wanted is None:
        return ""
    return f"  {'met' if row['ratio_to_pt'] >= wanted else 'MISSED'}: wanted {wanted:g}x"


def _show_rows(rows: Sequence[Row]) -> None:
    shown = None
    for row in rows:
        if (cell := _cell(row)) != shown:
            shown = cell
            print(f"\n{cell}")
        name = str(Variant(row["engine"], row["delta"], row["twin"], row["loop"]))
        spread = 100 * row["spread"] / row["ns_per_txn"]
        print(
            f"  {name:24}{_time(row['ns_per_txn'])} ±{spread:3.0f} %"
            f" {row['ratio_to_pt']:9.2f}x{_mark(row)}"
        )


def _show_python(document: Document) -> None:
    if document["empty"]:
        print("\nan empty transaction")
    for empty in document["empty"]:
        print(f"  {empty['face']:24}{_time(empty['ns_per_txn'])}")
    if document["records"]:
        print("\nfour records of a table updated and committed, from Python, nothing durable")
    for record in document["records"]:
        ratio = f"{record['ratio_to_best']:9.2f}x"
        print(f"  {record['store']:24}{_time(record['ns_per_txn'])}       {ratio}")


def _show_replication(document: Document) -> None:
    if document["endings"]:
        print("\nending a transaction into the ring to a helper, beside a memcpy of its delta")
    for ending in document["endings"]:
        print(
            f"  {ending['bytes']:6} bytes  adds {_time(ending['added_ns'])}"
            f"   memcpy {_time(ending['memcpy_ns'])}"
            f"   to shared memory {_time(ending['shared_ns'])}"
        )
    if document["streams"] or document["stores"]:
        print("\nto a backup on this machine, over TLS, synced on both sides; and other stores")
    for stream in document["streams"]:
        print(
            f"  {stream['what']:63}{stream['transactions_per_s']:10,.0f}/s"
            f"{stream['mb_per_s']:8.1f} MB/s  lag p50 {stream['lag_p50_ms']:.2f} ms,"
            f" p99 {stream['lag_p99_ms']:.2f} ms"
        )
    if document["disk_mb_per_s"]:
        print(
            f"  this disk, 1 MiB written and synced at a time{document['disk_mb_per_s']:37.1f} MB/s"
        )
    for store in document["stores"]:
        what = f"{store['store']}: one write after the other"
        print(f"  {what:63}{store['writes_per_s']:10,.0f}/s")


def _show_list(title: str, entries: Sequence[Skip]) -> None:
    reasons = dict.fromkeys((e["what"].split(" (")[0], e["reason"]) for e in entries)
    if reasons:
        print(f"\n{title}")
    for what, reason in reasons:
        print(f"  {what}: {reason}")


def show(document: Document) -> None:
    machine = document["machine"]
    print(
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, huge pages "
        f"{machine['thp']}\nMedian time of a transaction, median deviation, and how many times "
        "as fast as naive PT.\nWords and a twin, where nothing else is said."
    )
    _show_rows(document["rows"])
    _show_python(document)
    _show_replication(document)
    print("\ntargets")
    for target in document["targets"]:
        verdict = "met" if target["met"] else "MISSED"
        if target["kind"] == "aim":
            verdict = "reached" if target["met"] else "not yet"
        print(f"  {verdict:8}{target['name']} {target['wanted']:g}; got {target['got']:.2f}")
    _show_list("not measured", document["skipped"])
    _show_list("FAILED", document["failed"])


def cell_of(row: results.Row) -> str:
    """What a row of a result file measures, for the eye."""
    if row["structure"] is not None:
        return f"{row['structure']} {row['operation']}, OPT {row['opt']}"
    assert row["ppt"] is not None
    assert row["wpp"] is not None
    return str(Cell(row["cda_bytes"], row["ppt"], row["wpp"]))


def show_results(found: results.Results) -> None:
    """What `run` has found."""
    shown, naive = "", 0.0
    for row in found["rows"]:
        if (cell := f"{row['sweep']}: {cell_of(row)}") != shown:
            shown, naive = cell, row["per_txn"] if row["engine"] == NAIVE else 0.0
            print(f"\n{cell}")
        spread = 100 * row["spread"] / max(row["per_txn"], 1e-9)
        print(
            f"  {row['engine']:10}{row['per_txn']:14,.1f} {row['unit']} ±{spread:3.0f} %"
            f"{naive / max(row['per_txn'], 1e-9):9.2f}x   copy {row['copy_per_txn']:,.1f}"
        )
    if found["table2"]:
        print(f"\n{table2.show(found['table2'])}")
    _show_list("not measured", found["skipped"])
    _show_list("FAILED", found["failed"])
