# SPDX-License-Identifier: MIT
# ruff: noqa: PT012, PT031 - what is in the block is what fails
"""What is left after closing, at exit, and in a forked child."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pyhac

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Opener, Runner


def mapped(address: int) -> bool:
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return True
    return False


def test_everything_raises_closed() -> None:
    ctx = pyhac.open()
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as txn:
        a[0] = 1
    ctx.close()
    calls: list[Callable[[], object]] = [
        lambda: ctx.array("b", 4),
        lambda: ctx.buffer("b", 4),
        lambda: ctx.resize("a", 5),
        lambda: ctx.drop("a"),
        lambda: ctx.adopt("b", bytearray(4)),
        lambda: ctx.adopt_object("libc.so.6"),
        lambda: ctx.transaction().__enter__(),
        lambda: ctx.copy("x"),
        ctx.compact,
        lambda: ctx.epoch,
        lambda: ctx.generation,
        lambda: ctx.restored,
        lambda: ctx.engine,
        lambda: ctx.areas,
        lambda: ctx.stats,
        lambda: ctx.handle,
        ctx.__enter__,
        ctx.transactional(lambda: None),
    ]
    for call in calls:
        with pytest.raises(pyhac.Closed):
            call()
    ctx.close()  # a second time does nothing
    assert txn.epoch
    assert a[0] == 1
    assert "closed" in repr(ctx)
    with pytest.raises(pyhac.Closed, match="not been opened"):
        _ = pyhac.Context().epoch


def test_memory_goes_with_the_last_view(engine: str) -> None:
    ctx = pyhac.open(engine=engine)
    a = ctx.array("a", 10_000, "<i8")
    b = ctx.buffer("b", 10_000)
    address, other = a.ctypes.data, np.frombuffer(b, np.uint8).ctypes.data
    with ctx.transaction():
        a[:] = 4
    part = a[100:200]
    del a, b
    gc.collect()
    assert mapped(other)  # while it is open, areas stay
    ctx.close()
    assert not mapped(other)
    assert mapped(address)
    assert part.sum() == 400
    del part
    gc.collect()
    assert not mapped(address)


def test_writing_after_close_names_the_area(run: Runner, engine: str) -> None:
    result = run(
        f"""
import pyhac
ctx = pyhac.open(engine={engine!r})
a = ctx.array("orders", 4)
ctx.close()
print(a[0], flush=True)
a[0] = 1
"""
    )
    assert result.stdout == "0.0\n"
    assert result.returncode < 0
    assert "orders" in result.stderr


def test_strict_close_refuses_while_views_live(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    b = ctx.buffer("b", 4)
    del b
    with pytest.raises(pyhac.TransactionError, match="'a'") as caught:
        ctx.close(strict=True)
    assert "'b'" not in str(caught.value)
    with ctx.transaction():
        a[0] = 1
    del a
    gc.collect()
    ctx.close(strict=True)


def test_closing_inside_a_transaction_aborts_it() -> None:
    ctx = pyhac.open()
    a = ctx.array("a", 4, "<i8")
    txn = ctx.transaction()
    with pytest.raises(pyhac.Closed, match="inside"), txn:
        a[0] = 1
        ctx.close()
    assert txn.status is pyhac.Status.ABORTED
    assert a[0] == 0


def test_closing_keeps_stray_writes_or_refuses(opened: Opener) -> None:
    ctx = opened(strict=True)
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction():
        a[0] = 1
    a[1] = 1
    with pytest.raises(pyhac.StrayWrite):
        ctx.close()
    a[1] = 0
    ctx.close()


def test_a_context_can_be_opened_again() -> None:
    ctx = pyhac.Context()
    for value in (1, 2):
        ctx.open()
        with pytest.raises(pyhac.TransactionError, match="open already"):
            ctx.open()
        a = ctx.array("a", 4, "<i8")
        with ctx.transaction():
            a[0] = value
        ctx.close()
        assert a[0] == value


def test_context_manager() -> None:
    with pyhac.open() as ctx:
        a = ctx.array("a", 4)
        assert ctx.epoch == 0
    with pytest.raises(pyhac.Closed):
        _ = ctx.epoch
    with pytest.raises(ZeroDivisionError), pyhac.open(strict=True) as ctx:
        a = ctx.array("a", 4)
        with ctx.transaction():
            pass
        a[0] = 1  # the exception matters more than this
        raise ZeroDivisionError
    a[0] = 0
    ctx.close()


def test_a_dropped_context_is_closed_with_a_warning() -> None:
    ctx = pyhac.open()
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction():
        a[0] = 3
    with pytest.warns(ResourceWarning, match="without being closed"):
        del ctx
        gc.collect()
    assert a[0] == 3


def test_exit_closes(run: Runner, image: Path) -> None:
    result = run(
        """
import sys, pyhac
ctx = pyhac.open(sys.argv[1])
a = ctx.array("a", 4, "<i8")
with ctx.transaction(level=pyhac.Level.RING) as txn:
    a[0] = 1
    txn.on_commit(lambda: print("committed"))
a[1] = 2
""",
        str(image),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "committed\n"
    with pyhac.open(image, readonly=True) as ctx:
        assert ctx.array("a").tolist() == [1, 2, 0, 0]


def in_child(function: Callable[[], object]) -> None:
    """Run in a forked child; fails if the child does."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_has_its_own_copy(opened: Opener, engine: str) -> None:
    ctx = opened(engine=engine)
    a = ctx.array("a", 10_000, "<i8")
    with ctx.transaction():
        a[:] = 1

    def child() -> None:
        assert a[5000] == 1
        a[5000] = 2
        a[:3] = 7
        assert a[5000] == 2
        calls: list[Callable[[], object]] = [
            lambda: ctx.transaction().__enter__(),
            lambda: ctx.array("b", 4),
            lambda: ctx.epoch,
            lambda: ctx.stats,
            ctx.close,
        ]
        for call in calls:
            with pytest.raises(pyhac.Forked):
                call()
        with pyhac.open() as own:
            b = own.array("b", 4, "<i8")
            with own.transaction():
                b[0] = 1
            with own.transaction():
                b[0] = 2
                raise pyhac.Abort
            assert b[0] == 1
            del b
        gc.collect()

    in_child(child)
    assert (a == 1).all()
    with ctx.transaction() as txn:
        a[5001] = 3
    assert len(txn.delta) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forking_inside_a_transaction(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    def child() -> None:
        with pytest.raises(pyhac.Forked), ctx.transaction():
            pass
        a[2] = 9

    with ctx.transaction():
        a[0] = 1
        in_child(child)
        a[1] = 1
    assert a.tolist() == [1, 1, 0, 0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_leaves_the_block(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    parent = os.getpid()

    class Leave(Exception):
        pass

    pid = 1
    code = 1
    with contextlib.suppress(Leave):
        try:
            with ctx.transaction():
                a[0] = 1
                pid = os.fork()
                if pid == 0:
                    raise Leave
        except Leave:
            code = 0  # its own exception, not Forked
            raise
        finally:
            if os.getpid() != parent:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert a[0] == 1


def square(i: int) -> int:
    return i * i


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_multiprocessing_beside_an_open_context(opened: Opener, engine: str) -> None:
    ctx = opened(engine=engine)
    a = ctx.array("a", 10_000, "<i8")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for i in range(3):
            with ctx.transaction():
                a[:5] = pool.map(square, range(5))
                a[100 + i] = i
    assert a[:5].tolist() == [0, 1, 4, 9, 16]


def test_exiting_children_are_harmless(run: Runner, image: Path) -> None:
    result = run(
        """
import os, sys, pyhac
ctx = pyhac.open(sys.argv[1])
a = ctx.array("a", 4, "<i8")
with ctx.transaction():
    a[0] = 1
pid = os.fork()
if pid == 0:
    a[0] = 5
    sys.exit(3)  # runs atexit and finalizers
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
with ctx.transaction():
    a[1] = 1
print(a.tolist())
""",
        str(image),
    )
    assert (result.stdout, result.stderr) == ("[1, 1, 0, 0]\n", "")
    with pyhac.open(image, readonly=True) as ctx:
        assert ctx.array("a").tolist() == [1, 1, 0, 0]


def test_interrupts_leave_the_context_usable(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    interrupts = 0

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for round_ in range(200):
            try:  # a busy machine may be slower than the timer
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + round_ * 1e-6)
                while True:
                    with ctx.transaction():
                        a[0] += 1
                        a[1] += 1
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupts == 200
    with ctx.transaction(timeout=5):
        assert a[0] == a[1]
