# SPDX-License-Identifier: MIT
"""A user's program is clean under mypy --strict, and its mistakes are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyhac

PROGRAM = """
import asyncio
from typing import Any

import numpy as np
import pyhac
from numpy.typing import NDArray

ctx = pyhac.open("orders.hac", level=pyhac.Level.BACKUP(2), flush_ms=5)
book: NDArray[Any] = ctx.array("book", (10, 2), np.float64, init=lambda new: new.fill(1))
raw: memoryview = ctx.buffer("raw", 100)
later = pyhac.Context()


@ctx.transactional
def fill(i: int, quantity: float = 1.0) -> str:
    book[i] -= quantity
    return "done"


@later.transactional
async def move(i: int) -> int:
    return i


class Bank:
    def __init__(self) -> None:
        self.ctx = pyhac.open()

    @pyhac.transactional("ctx")
    def pay(self, amount: int) -> bool:
        return amount > 0


def one() -> int:
    with ctx.transaction(level=pyhac.Level.RING, timeout=1.5) as txn:
        txn.on_commit(lambda: print("committed"))
        txn.on_abort(lambda: None)
        txn.will_write(book)
        txn.will_write(raw)
        return 1


async def two() -> None:
    async with ctx.transaction() as txn:
        number: int = await move(3)
    await txn.committed(pyhac.Level.JOURNAL)
    print(number, txn.epoch, txn.status is pyhac.Status.ENDED)
    for run in txn.delta:
        area: str = run.area
        data: bytes = run.data
        print(area, run.offset, data)
    txn.delta.copy().apply({"book": np.zeros(20), "raw": bytearray(100)})


text: str = fill(3, quantity=2)
paid: bool = Bank().pay(3)
ctx.adopt("more", np.zeros(3))
views: dict[str, memoryview] = ctx.adopt_object("libthing.so", symbols=["counter"])
wpp: float | None = (ctx.stats - ctx.stats).wpp
names: list[str] = [engine.name for engine in pyhac.engines() if engine.available]
print(ctx.engine.reason, ctx.areas["book"].size, ctx.handle + 1, ctx.resize("book", 20).shape)
asyncio.run(two())
try:
    ctx.close(strict=True)
except pyhac.InDoubt as doubt:
    print(doubt.epochs)
"""
MISTAKES = [
    ("fill('3')", "arg-type"),
    ("ctx.transaction(level='journal')", "arg-type"),
    ("ctx.adopt('x', 5)", "arg-type"),
    ("ctx.epoch = 3", "misc"),
    ("x: int = fill(3)", "assignment"),
]


def check(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy", reason="mypy is not installed")
    file = folder / "program.py"
    file.write_text(program)
    package = Path(pyhac.__file__).parent.parent
    sources = "" if "site-packages" in package.parts else str(package)
    mypy = [sys.executable, "-P", "-m", "mypy", "--strict", "--config-file", os.devnull]
    return subprocess.run(
        [*mypy, "--cache-dir", folder / "cache", file],
        env={"PATH": "/usr/bin", "MYPYPATH": sources},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_users_program(tmp_path: Path) -> None:
    result = check(PROGRAM, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_mistakes_are_found(tmp_path: Path) -> None:
    result = check(PROGRAM + "\n".join(line for line, _ in MISTAKES), tmp_path)
    first = PROGRAM.count("\n") + 1
    for number, (line, code) in enumerate(MISTAKES):
        assert f"program.py:{first + number}: error" in result.stdout, (line, result.stdout)
        assert f"[{code}]" in result.stdout
