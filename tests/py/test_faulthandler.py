# SPDX-License-Identifier: MIT
"""faulthandler beside the engines that live on SIGSEGV."""

from __future__ import annotations

import faulthandler
import inspect
from typing import TYPE_CHECKING

import pytest

import pyhac

if TYPE_CHECKING:
    from tests.conftest import Runner

PREPARE = """
import ctypes, faulthandler, pyhac
def use(ctx, rounds=3):
    for i in range(rounds):
        with ctx.transaction() as txn:
            a[i * 600 % a.size] += 1
        assert len(txn.delta) == 1, list(txn.delta)
def crash():
    ctypes.string_at(8)
"""
ORDERS = {
    "before": """
faulthandler.enable()
ctx = pyhac.open(engine=ENGINE); a = ctx.array("a", 5000, "<i8")
use(ctx)
""",
    "after": """
ctx = pyhac.open(engine=ENGINE); a = ctx.array("a", 5000, "<i8")
use(ctx)
faulthandler.enable()
a[3] = 1
use(ctx)
""",
    "in between": """
ctx = pyhac.open(engine=ENGINE); a = ctx.array("a", 5000, "<i8")
with ctx.transaction():
    faulthandler.enable()
    a[3] = 1
with ctx.transaction():
    faulthandler.disable()
    a[700] = 1
    faulthandler.enable()
use(ctx)
""",
    "again": """
faulthandler.enable()
ctx = pyhac.open(engine=ENGINE); a = ctx.array("a", 5000, "<i8")
use(ctx)
faulthandler.disable()
a[3] = 1
use(ctx)
faulthandler.enable()
a[4] = 1
use(ctx)
""",
}


@pytest.mark.parametrize("order", ORDERS)
def test_crashes_still_print_their_traceback(run: Runner, engine: str, order: str) -> None:
    program = PREPARE + ORDERS[order].replace("ENGINE", repr(engine))
    result = run(program + "print('alive', flush=True)\ncrash()\n")
    assert result.stdout == "alive\n", result.stderr
    assert result.returncode == -11
    assert "Fatal Python error: Segmentation fault" in result.stderr
    assert "in crash" in result.stderr


def test_disabled_for_good(run: Runner, engine: str) -> None:
    program = PREPARE + ORDERS["before"].replace("ENGINE", repr(engine))
    result = run(program + "faulthandler.disable()\na[3] = 1\nuse(ctx)\nprint('alive')\ncrash()\n")
    assert result.returncode == -11
    assert "Fatal Python error" not in result.stderr


def test_switches_keep_their_signatures() -> None:
    assert faulthandler.enable.__name__ == "enable"
    assert faulthandler.disable.__name__ == "disable"
    for switch in (faulthandler.enable, faulthandler.disable):
        assert inspect.unwrap(switch) is not switch
    with pytest.raises(TypeError):
        faulthandler.enable(nonsense=1)  # type: ignore[call-arg]
    assert pyhac.engines()
