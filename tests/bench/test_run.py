# SPDX-License-Identifier: MIT
"""`run`: what it refuses, that it keeps what is done, and what its result file holds."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest

from microbench import jobs, results, sweeps, table2
from microbench.__main__ import main
from microbench.cells import NAIVE, Cell
from microbench.program import build_folder
from microbench.show import Progress

SMALL = """
title = "small"
figures = ["none"]
engines = ["pt", "emul", "ptxen"]
tcount = 500
[[cells]]
cda_bytes = [65536]
ppt = [1, 2]
wpp = [3]
"""


pytestmark = pytest.mark.usefixtures("built")


def sweep(folder: Path, text: str, name: str = "small") -> str:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ppt = [1, 2]", "ppt = [17]", "ppt has 17, more than the 16 pages"),
        ("ppt = [1, 2]", "ppt = [0]", "ppt has 0"),
        ("ppt = [1, 2]", "ppt = []", "ppt is missing or empty"),
        ("ppt = [1, 2]", 'ppt = ["1"]', "a list of int is wanted"),
        ("wpp = [3]", "wpp = [0]", "wpp has 0"),
        ("wpp = [3]", "wpp = [513]", "wpp has 513, more than the 512 words of a page"),
        ("wpp = [3]", "wpp = [3, 3]", "names something twice"),
        ("cda_bytes = [65536]", "cda_bytes = [65537]", "whole pages"),
        ("tcount = 500", "tcount = 0", "tcount is 0"),
        ("tcount = 500", "tcount = 1.5", "tcount is 1.5"),
        ("tcount = 500", "tcounts = 500", "tcounts is no such key"),
        ("tcount = 500", "tcount = ", "Invalid value"),
        ("tcount = 500", "xen = 3", "xen: is 3: a table is wanted"),
        ("tcount = 500", "xen = {ppt = [1]}", "xen: ppt is no such key"),
        ("tcount = 500", "quick = {engines = []}", "quick: engines is missing or empty"),
        ('title = "small"', "", "title is missing"),
        ('"pt", ', '"nosuch", ', "there is no engine 'nosuch'"),
        ("cda_bytes = [65536]", 'operations = ["aa insert"]\nopt = [1]', "is no such key"),
    ],
)
def test_impossible_parameters_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, reason: str
) -> None:
    out = tmp_path / "out.json"
    assert old in SMALL
    path = sweep(tmp_path, SMALL.replace(old, new, 1))
    assert main(["run", path, "--json", str(out)]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ('operations = ["aa insert"]\nopt = [0]', "opt has 0"),
        ('operations = ["aa insert"]\nopt = [10001]', "opt has 10001"),
        ('operations = ["nosuch insert"]\nopt = [1]', "the structure 'nosuch'"),
        ('operations = ["avl delete"]\nopt = [1]', "'avl delete'; there are avl insert"),
    ],
)
def test_impossible_workloads_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: str, reason: str
) -> None:
    text = f'title = "t"\nfigures = ["f"]\nengines = ["pt"]\n[[cells]]\n{cells}\n'
    assert main(["run", sweep(tmp_path, text)]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["run", "nosuch"], "no sweep or figure 'nosuch'"),
        (["run", "/nosuch/file.toml"], "No such file"),
        (["run", "fig06", "--engines", "nosuch"], "there is no engine 'nosuch'"),
        (["run", "fig06", "--engines", "pt,ptxen"], "engine ptxen is not available here: "),
    ],
)
def test_impossible_choices_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    if "ptxen" in words[-1] and not jobs.here()["ptxen"]:
        pytest.skip("it works here")
    assert main(words) == 2
    assert reason in capsys.readouterr().err


def test_wrong_usage() -> None:
    for words in (["run"], ["run", "fig06", "--engines", ","], ["compare", "a"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


def test_xen_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c").symlink_to(build_folder().resolve() / "c")
    monkeypatch.setenv("HAC_BUILD", str(tmp_path))
    assert main(["run", "fig06", "--xen"]) == 2
    assert "there is no Xen to run in: " in capsys.readouterr().err


def test_every_sweep_can_be_read() -> None:
    found = sweeps.find(["all"], table2.PAPER)
    figures = [figure for sweep in found for figure in sweep.figures]
    wanted = {f"fig{number:02}" for number in range(6, 19)} | {"table2", "scanline"}
    assert len(figures) == len(set(figures))
    assert set(figures) == wanted
    (of_figure,) = sweeps.find(["fig12"], table2.PAPER)
    assert of_figure.name == "fig11"
    for each in found:
        if not each.table:
            assert {part.engines[0] for part in each.parts.values()} == {NAIVE}
    jobs.check_names(found, (), jobs.here())


def test_a_result_file_holds_what_was_run(tmp_path: Path) -> None:
    out = tmp_path / "sub" / "out.json"
    assert main(["run", sweep(tmp_path, SMALL), "--quick", "--json", str(out)]) == 0
    found = results.read(out)
    assert (found["place"], found["quick"], found["complete"]) == ("native", True, True)
    assert found["sweeps"]["small"]["tcount"] == 50
    assert found["versions"]["libhac"]
    assert found["machine"]["kernel"]
    assert not found["failed"]
    absent = {skip["what"]: skip["reason"] for skip in found["skipped"]}
    working = [name for name in (NAIVE, "pt", "emul") if f"small: {name}" not in absent]
    assert absent["small: ptxen"]
    cells = {(row["ppt"], row["wpp"]) for row in found["rows"]}
    assert cells == {(1, 3), (2, 3)}
    assert [row["engine"] for row in found["rows"]] == working * 2
    for row in found["rows"]:
        ppt = row["ppt"] or 0
        assert row["per_txn"] > 0
        assert row["copy_per_txn"] > 0
        assert (row["unit"], row["tcount"], row["pages"]) == ("ns", 50, ppt)
        assert (row["opt"], row["structure"], row["words"]) == (None, None, None)
        assert row["writes"] == (3 * ppt if row["engine"] == "emul" else None)
        if row["engine"] != "emul":
            assert row["copy_bytes"] >= 4096 * ppt
        else:
            assert 8 * 3 * ppt < row["copy_bytes"] <= (16 + 8) * 3 * ppt


def test_engines_by_name_take_the_place_of_the_sweeps(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = ["run", sweep(tmp_path, SMALL), "--quick", "--engines", "compare", "--json", str(out)]
    assert main(words) == 0
    found = results.read(out)
    assert {row["engine"] for row in found["rows"]} == {NAIVE, "compare"}
    assert {row["words"] for row in found["rows"]} == {None, 3, 6}
    assert not found["skipped"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that starts the tests in the background has Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_what_is_done_before_ctrl_c_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The signal comes in the third cell."""
    ticks = list[str]()

    def tick(progress: Progress, what: str) -> None:
        ticks.append(what)
        if len(ticks) == 2 * jobs.NATIVE.rounds + 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "__call__", tick)
    out = tmp_path / "out.json"
    many = SMALL.replace("wpp = [3]", "wpp = [1, 2, 3, 4]")
    words = ["--engines", "compare", "--json", str(out)]
    assert main(["run", sweep(tmp_path, many), *words]) == 130
    found = results.read(out)
    assert not found["complete"]
    assert [(row["ppt"], row["wpp"]) for row in found["rows"]] == [(1, 1)] * 2 + [(2, 1)] * 2
    assert all(row["rounds"] == jobs.NATIVE.rounds for row in found["rows"])
    assert not psutil.Process().children(recursive=True)


def example(**changes: object) -> results.Results:
    row: results.Row = {
        "sweep": "s", "engine": "pt", "unit": "ns", "cda_bytes": 65536, "ppt": 1, "wpp": 1,
        "opt": None, "structure": None, "operation": None, "per_txn": 100.0, "spread": 2.0,
        "transactions": 10, "tcount": 100, "rounds": 3, "pages": 1.0, "words": None,
        "writes": None, "copy_bytes": 4112.0, "copy_per_txn": 50.0,
    }  # fmt: skip
    found: results.Results = {
        "version": results.VERSION, "place": "native", "quick": True, "complete": True,
        "machine": {}, "versions": {}, "sweeps": {},
        "rows": [cast(results.Row, {**row, **changes})],
        "table2": [], "skipped": [], "failed": [],
    }  # fmt: skip
    return found


def saved(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def compared(folder: Path, a: object, b: object) -> int:
    return main(["compare", saved(folder / "a", a), saved(folder / "b", b)])


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, example(), example(per_txn=103.9)) == 0
    assert "1 rows compared, 0 beyond the spread" in capsys.readouterr().out
    assert compared(tmp_path, example(), example(per_txn=150.0)) == 1
    assert "1.500x" in capsys.readouterr().out
    assert compared(tmp_path, example(), example(engine="emul")) == 2
    assert "no row in common" in capsys.readouterr().err


def test_compare_looks_at_table2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counted = {"structure": "aa", "operation": "insert", "opt": 1, "writes": 2.0, "pages": 1.0}
    a, b = example() | {"table2": [counted]}, example() | {"table2": [counted | {"pages": 3.0}]}
    assert compared(tmp_path, a, a) == 0
    capsys.readouterr()
    assert compared(tmp_path, a, b) == 1
    assert "aa insert, OPT 1: (2.0, 1.0) and (2.0, 3.0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 99}, "has version 99"),
        ({"rows": [{"sweep": "s"}]}, "rows[0] has other fields"),
        ({"rows": 3}, "rows is no list"),
        ({"place": "moon"}, "place is 'moon'"),
        ({"rows": [example()["rows"][0] | {"per_txn": "1"}]}, "rows[0].per_txn is '1'"),
    ],
)
def test_strange_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], reason: str
) -> None:
    assert compared(tmp_path, example(), example() | change) == 2
    assert reason in capsys.readouterr().err
    assert compared(tmp_path, [], example()) == 2
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "nosuch")]) == 2


def test_an_unfinished_file_is_never_left(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    results.write(example(), out)
    assert results.read(out) == example()
    assert os.listdir(tmp_path) == ["out.json"]


def test_cells_are_all_combinations() -> None:
    (fig06,) = sweeps.find(["fig06"], table2.PAPER)
    cells = fig06.part("native", False).cells
    assert len(set(cells)) == len(cells) == 7 * 3
    assert Cell(1 << 20, 64, 16) in cells


def test_a_part_says_what_differs(tmp_path: Path) -> None:
    more = (
        '[xen]\nengines = ["ptxen"]\n[[xen_quick.cells]]\ncda_bytes = [4096]\nppt = [1]\nwpp = [1]'
    )
    (found,) = sweeps.find([sweep(tmp_path, SMALL + more)], table2.PAPER)
    assert found.part("native", True) == found.part("native", False)
    assert found.part("xen", False).engines == found.part("xen", True).engines == ("ptxen",)
    assert found.part("xen", False).cells == found.part("native", False).cells
    assert found.part("xen", True).cells == (Cell(4096, 1, 1),)
    assert found.parameters("xen", True) == {
        "title": "small",
        "figures": ["none"],
        "engines": ["ptxen"],
        "tcount": 500,
        "cells": [{"cda_bytes": [4096], "ppt": [1], "wpp": [1]}],
    }
