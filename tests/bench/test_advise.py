# SPDX-License-Identifier: MIT
"""`advise` tells what programs that know nothing of it do. Which engine is how fast is
not judged here: the engines are measured once, and only that there is a number counts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyhac
from microbench import advise_check
from microbench.__main__ import main
from microbench.advise_check import Check, loss, misordered
from microbench.cells import Cell
from microbench.program import ROOT
from tests.crash.compiled import compiled

HERE = Path(__file__).resolve().parent
EMUL = any(engine.name == "emul" and engine.available for engine in pyhac.engines())

PYTHON = """\
import sys
import pyhac

ctx = pyhac.open(engine={engine!r})
a = ctx.array("a", (64, 512), "u8", init=lambda a: a.fill(1))
for value in range(10):
    with ctx.transaction():
        for page in range(5):
            for word in range(3):
                a[page, word] = value + 100
{rest}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured once for all tests of this file."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled("advised", tmp_path_factory.mktemp("advised"), HERE)


def advise(cache: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), **more}
    return subprocess.run(
        [sys.executable, "-m", "microbench", "advise", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def contexts(done: "subprocess.CompletedProcess[str]", code: int = 0) -> list[dict[str, Any]]:
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    assert document["version"] == 1
    assert document["exit_code"] == code
    found: list[dict[str, Any]] = document["contexts"]
    for context in found:
        by_name = {estimate["engine"]: estimate for estimate in context["estimates"]}
        for engine in pyhac.engines():
            if engine.name == "auto":
                continue
            estimate = by_name[engine.name]
            assert (estimate["ns"] is not None) == engine.available
            assert estimate["reason"] == ("" if engine.available else engine.reason)
        costs = [e["ns"] for e in context["estimates"] if e["ns"] is not None]
        assert costs == sorted(costs)
        assert all(cost > 0 for cost in costs)
        assert context["engine"] == context["estimates"][0]["engine"]
    return found


def numbers(context: dict[str, Any]) -> tuple[float, ...]:
    w = context["workload"]
    return w["transactions"], w["ppt"], w["wpp"], w["words"], w["delta_bytes"], w["cda_bytes"]


needs_emul = pytest.mark.skipif(not EMUL, reason="emul is not available here")


@needs_emul
@pytest.mark.parametrize("how", ["", "threads", "leave"])
def test_a_program_in_c(cache: Path, program: str, how: str) -> None:
    done = advise(cache, "--json", "--", program, "5", "3", "20", *filter(None, [how]))
    (context,) = contexts(done)
    assert numbers(context) == (20, 5, 3, 10, 80, 64 * 4096)
    assert context["workload"]["counted"]
    assert context["workload"]["strays"] == 1
    assert context["path"] is None
    assert context["used"] in ("uffd", "compare", "pt", "ptxen")


@needs_emul
def test_several_contexts(cache: Path, program: str) -> None:
    one, two = contexts(advise(cache, "--json", "--", program, "4", "2", "5", "two"))
    assert numbers(one) == (5, 4, 2, 4, 32, 64 * 4096)
    assert numbers(two) == (10, 4, 2, 4, 32, 256 * 4096)


@needs_emul
def test_a_program_in_python(cache: Path) -> None:
    rest = "print('hello from the program')"
    code = PYTHON.format(engine="compare", rest=rest)
    done = advise(cache, "--json", "--", sys.executable, "-c", code)
    (context,) = contexts(done)
    assert numbers(context) == (10, 5, 3, 15, 120, 64 * 4096)
    assert context["used"] == "compare"
    assert "hello from the program" in done.stderr


@needs_emul
def test_stores_that_are_not_seen_are_said_to_be(cache: Path) -> None:
    """numpy's fill copies with wide stores or with one instruction: pages are opened."""
    rest = "with ctx.transaction() as t:\n    t.will_write(a[0])\n    a[0] = 7"
    code = PYTHON.format(engine="pt", rest=rest)
    (context,) = contexts(advise(cache, "--json", "--", sys.executable, "-c", code))
    w = context["workload"]
    assert w["transactions"] == 11
    assert w["fallbacks"] == pytest.approx(1 / 11)
    assert not w["counted"]
    assert w["writes"] == pytest.approx((150 + 512) / 11)


def test_own_engines_bound_wpp(cache: Path, program: str) -> None:
    done = advise(cache, "--json", "--keep-engines", "--", program, "5", "4", "3")
    (context,) = contexts(done)
    w = context["workload"]
    assert w["words"] == 10
    assert w["writes"] == 10
    assert not w["counted"]
    assert w["seen"] is None
    assert {e["engine"] for e in context["estimates"] if e["rough"]} <= {"emul", "emulxen"}


@needs_emul
def test_without_emul_it_says_so(cache: Path, program: str) -> None:
    done = advise(cache, "--", program, "5", "4", "3", HAC_DISABLE="emul")
    assert done.returncode == 0
    assert "not counted" in done.stderr
    assert "about 2.00" in done.stdout
    assert "not here: emul: disabled by HAC_DISABLE" in done.stdout


def test_a_table_for_people(cache: Path, program: str) -> None:
    done = advise(cache, "--", program, "4", "2", "5", "two")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if "FAVOURED" in line or "µs" in line] == [
        "CONTEXT",
        "EXPECTED,",
    ]
    assert len([line for line in lines if line.startswith("no image (pid ")]) == 4


def test_a_program_that_fails(cache: Path, program: str) -> None:
    done = advise(cache, "--json", "--", program, "4", "2", "5", "fail")
    (context,) = contexts(done, 7)
    assert context["workload"]["transactions"] == 5
    assert "ended with 7" in done.stderr


def test_a_program_that_is_killed(cache: Path, program: str) -> None:
    done = advise(cache, "--", program, "4", "2", "5", "killed")
    assert done.returncode == 128 + 9
    assert "killed" in done.stderr


def test_nothing_to_advise_on(cache: Path, program: str) -> None:
    done = advise(cache, "--", "true")
    assert done.returncode == 1
    assert "opened no context" in done.stderr
    done = advise(cache, "--", program, "4", "2", "0")
    assert done.returncode == 1
    assert "ended no transaction" in done.stderr


def test_wrong_usage(cache: Path) -> None:
    for words, complaint in (
        ([], "no COMMAND"),
        (["--"], "no COMMAND"),
        (["--engines", "nosuch", "--", "true"], "unknown engine 'nosuch'; there are: pt,"),
        (["--engines", "auto", "--", "true"], "unknown engine 'auto'"),
        (["--engines", ",", "--", "true"], "no engine is named"),
        (["--", "/no/such/program"], "/no/such/program: No such file"),
    ):
        done = advise(cache, *words)
        assert done.returncode == 2
        assert complaint in done.stderr


def test_an_engine_that_is_not_here(cache: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    done = advise(cache, "--engines", "uffd", "--", "touch", str(ran), HAC_DISABLE="uffd")
    assert done.returncode == 2
    assert "disabled by HAC_DISABLE" in done.stderr
    assert not ran.exists()


def test_chosen_engines_only(cache: Path, program: str) -> None:
    done = advise(cache, "--json", "--engines", "pt,compare", "--", program, "4", "2", "5")
    (context,) = json.loads(done.stdout)["contexts"]
    assert {e["engine"] for e in context["estimates"]} == {"pt", "compare"}


def test_help() -> None:
    done = advise(Path("/nonexistent"), "--help")
    assert done.returncode == 0
    assert "example:" in done.stdout


@pytest.fixture
def ctx(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pyhac.Context]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with pyhac.open() as opened:
        yield opened


def test_a_context_advises_itself(ctx: pyhac.Context, cache: Path) -> None:
    a = ctx.array("a", (16, 512), "u8")
    ctx.array("b", 10, "u8")
    for value in range(4):
        with ctx.transaction():
            a[:5, :3] = value + 1
    advice = ctx.advise()
    assert (cache / "hac" / "engines.json").exists()
    w = advice.workload
    assert (w.transactions, w.ppt, w.words, w.delta_bytes) == (4, 5, 15, 120)
    assert (w.areas, w.cda_bytes) == (2, 16 * 4096 + 80)
    assert (w.wpp, w.counted) == (3, False)
    assert advice.used == ctx.engine.name
    assert advice.engine == advice.estimates[0].engine
    text = str(advice)
    assert "5.00 pages a transaction" in text
    assert "about 3.00 writes a page" in text
    assert "expected to cost least" in text
    with pytest.raises(AttributeError):
        advice.engine = "pt"  # type: ignore[misc]


@needs_emul
def test_a_context_that_counts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with pyhac.open(engine="emul") as ctx:
        a = ctx.array("a", (16, 512), "u8")
        with ctx.transaction():
            for word in range(6):
                a[2, word // 2] = word + 1
        w = ctx.advise().workload
        assert (w.ppt, w.wpp, w.words, w.counted) == (1, 6, 3, True)


def test_without_a_twin(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with pyhac.open(engine="pt", twin=False) as ctx:
        a = ctx.array("a", (16, 512), "u8")
        with ctx.transaction():
            a[2, 0] = 1
        by_name = {estimate.engine: estimate for estimate in ctx.advise().estimates}
        assert by_name["compare"].ns is None
        assert "twin" in by_name["compare"].reason
        assert by_name["pt"].ns


def test_before_any_transaction(ctx: pyhac.Context, tmp_path: Path) -> None:
    with pytest.raises(pyhac.TransactionError, match="no transaction has ended yet"):
        ctx.advise()
    ctx.array("a", 10)[:] = 1
    with pytest.raises(pyhac.TransactionError, match="no transaction has ended yet"):
        ctx.advise()
    pyhac.open(tmp_path / "image").close()
    with (
        pyhac.open(tmp_path / "image", readonly=True) as reader,
        pytest.raises(pyhac.TransactionError, match="read-only"),
    ):
        reader.advise()
    ctx.close()
    with pytest.raises(pyhac.Closed):
        ctx.advise()


def test_expectations_are_held_against_measurements(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One cell of the grid; how near they are is not judged here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    cell = Cell(96 << 10, 3, 3)
    monkeypatch.setattr(advise_check, "grid", lambda: [cell])
    out = tmp_path / "check.json"
    assert main(["advise-check", "--rounds", "2", "--round-ms", "1", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["engine"] for row in rows} == {
        engine.name for engine in pyhac.engines() if engine.available and engine.name != "auto"
    }
    assert all(row["measured"] > 0 and row["expected"] > 0 for row in rows)
    assert " of 1 cells" in capsys.readouterr().out


def test_judging_an_order() -> None:
    def check(engine: str, expected: float, measured: float) -> Check:
        return Check(engine, 4096, 1, 1, expected, measured)

    right = [check("a", 1, 2), check("b", 5, 6), check("c", 6, 6.1)]
    assert loss(right) == 1
    assert misordered(right) == (0, 2)
    wrong = [check("a", 3, 2), check("b", 1, 6)]
    assert loss(wrong) == 3
    assert misordered(wrong) == (1, 1)
    assert wrong[0].factor == 1.5
    shapes = {(cell.cda_bytes, cell.ppt) for cell in advise_check.grid()}
    assert all(ppt * 4096 <= size for size, ppt in shapes)
