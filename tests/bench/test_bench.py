# SPDX-License-Identifier: MIT
"""The benchmarks run, count right and write what they promise. No time is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from microbench import rows, targets
from microbench.__main__ import main
from microbench.cells import MIB, NAIVE, QUICK, Cell, Variant
from microbench.program import ROOT, Program, ProgramFailed, Unavailable
from microbench.replication import LOADS
from microbench.rounds import Effort, Measure, calibrate, interleave, measure

CELLS = (
    Cell(64 << 10, 1, 1),
    Cell(64 << 10, 16, 512),
    Cell(MIB, 4, 4),
    Cell(MIB, 4, 4, "hot"),
    Cell(MIB, 5, 3, threads=2),
)


pytestmark = pytest.mark.usefixtures("built")


def start(cell: Cell, variant: Variant) -> Program:
    try:
        return Program(cell, variant)
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_naive_pt_counts_pages(cell: Cell) -> None:
    with start(cell, Variant(NAIVE, "pages", twin=False)) as program:
        program.run(50)
        program.run(20)
        assert program.pages == 70 * cell.ppt


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("engine", ["pt", "emul", "uffd", "compare", "auto"])
@pytest.mark.parametrize("loop", ["begin-end", "next"])
def test_engines_count_words(cell: Cell, engine: str, loop: str) -> None:
    with start(cell, Variant(engine, "words", twin=True, loop=loop)) as program:
        program.run(50)
        program.run(20)
        assert program.words == 70 * cell.ppt * cell.wpp
        assert program.pages >= 70 * cell.ppt
        if engine in ("pt", "compare"):
            assert program.pages == 70 * cell.ppt


def test_page_lists_without_twin() -> None:
    cell = Cell(MIB, 4, 4)
    with start(cell, Variant("pt", "pages", twin=False)) as program:
        program.run(50)
        assert program.pages == 50 * cell.ppt


def test_an_unknown_engine_fails() -> None:
    with pytest.raises(ProgramFailed, match="nosuch"):
        Program(QUICK[0], Variant("nosuch", "words", twin=True))


def test_the_command_writes_what_it_promises(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    words = ["bench", "--quick", "--rounds", "2", "--round-ms", "0.2", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "microbench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: rows.Document = json.loads(out.read_text())
    assert document["version"] == rows.VERSION
    assert document["machine"]["cores"]
    assert not document["failed"]
    for row in document["rows"]:
        assert set(row) == set(rows.Row.__annotations__)
        assert row["ns_per_txn"] > 0
        assert row["pages_per_txn"] >= row["ppt"]
        if row["delta"] == "words":
            assert row["words_per_txn"] == row["ppt"] * row["wpp"]
    naive = [row for row in document["rows"] if row["engine"] == NAIVE]
    assert len(naive) == len(QUICK)
    assert all(row["ratio_to_pt"] == 1 for row in naive)
    compared = [row for row in document["rows"] if row["engine"] == "compare"]
    assert len(compared) == 2 * len(QUICK)
    assert {row["face"] for row in document["empty"]} == {"C", "Python"}
    stores = {row["store"] for row in document["records"]}
    assert {"sqlite3 :memory:", "lmdb", "lmdb writemap", "pyhac column views"} <= stores
    names = [target["name"] for target in document["targets"]]
    assert sum("times as fast as naive PT" in name for name in names) >= 5
    assert len(document["endings"]) == 3
    assert all(row["memcpy_ns"] > 0 < row["shared_ns"] for row in document["endings"])
    if not any(skip["what"].startswith("small") for skip in document["skipped"]):
        assert [row["transactions_per_s"] > 0 for row in document["streams"]] == [True] * len(LOADS)
    assert all(name in done.stdout for name in names)


def test_wrong_usage() -> None:
    for words in (["bench", "--engines", ","], ["bench", "--round-ms", "0"], ["nosuch"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def test_programs_that_are_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HAC_BUILD", str(tmp_path))
    assert main(["bench"]) == 2
    assert "make build" in capsys.readouterr().err


def test_rounds_are_interleaved_and_rotated() -> None:
    ran: list[str] = []

    def run(name: str) -> int:
        ran.append(name)
        return 10**9

    runs = {"a": lambda count: run("a"), "b": lambda count: run("b")}
    found = interleave(runs, Effort(rounds=4, round_ms=1))
    assert ran[2:] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert found["a"] == Measure(10**9 / 4, 0)
    assert measure([1, 2, 3, 100]) == Measure(2.5, 1)
    assert calibrate(lambda count: count * 1000, 1) == 1000


def judged(*found: rows.Row) -> list[rows.Target]:
    return targets.judge(
        {
            "version": rows.VERSION,
            "machine": {},
            "quick": True,
            "rounds": 1,
            "round_ms": 1.0,
            "rows": list(found),
            "empty": [],
            "records": [],
            "endings": [],
            "streams": [],
            "disk_mb_per_s": 0.0,
            "stores": [],
            "targets": [],
            "skipped": [],
            "failed": [],
        }
    )


def test_targets_are_judged() -> None:
    row: rows.Row = {
        "engine": "uffd",
        "pattern": "random",
        "cda_bytes": MIB,
        "ppt": 4,
        "wpp": 4,
        "threads": 1,
        "delta": "words",
        "twin": True,
        "loop": "begin-end",
        "ns_per_txn": 1000.0,
        "spread": 1.0,
        "ratio_to_pt": 4.5,
        "pages_per_txn": 4.0,
        "words_per_txn": 16.0,
    }
    (met,) = judged(row)
    assert met["met"]
    assert met["wanted"] == 4
    row["ratio_to_pt"] = 3.5
    assert not judged(row)[0]["met"]
    row["threads"] = 2
    assert not judged(row)
