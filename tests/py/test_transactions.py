# SPDX-License-Identifier: MIT
# ruff: noqa: PT012, PT031 - what is in the block is what fails
"""One transaction: begin, end, abort, status, callbacks."""

from __future__ import annotations

import gc
import inspect
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

import pyhac
from pyhac import Status

if TYPE_CHECKING:
    from tests.conftest import Opener


def test_block_ends_with_an_epoch(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 100, "<i8")
    with ctx.transaction() as txn:
        assert txn.status.value == "open"
        a[3] = 5
    assert txn.status is Status.ENDED
    assert txn.epoch == ctx.epoch
    assert a[3] == 5


def test_epochs_ascend_by_one_and_empty_ones_count(ctx: pyhac.Context) -> None:
    ctx.array("a", 4, "<i8")
    epochs = []
    for _ in range(5):
        with ctx.transaction() as txn:
            pass
        epochs.append(txn.epoch)
    assert epochs == list(range(epochs[0], epochs[0] + 5))


def test_exception_aborts_and_propagates(opened: Opener, engine: str) -> None:
    ctx = opened(engine=engine)
    a = ctx.array("a", 5000, "<i8", init=lambda new: new.fill(7))
    before = a.copy()
    with ctx.transaction():
        a[0] = 1
    before[0] = 1
    with pytest.raises(ZeroDivisionError), ctx.transaction() as txn:
        a[:] = 0
        raise ZeroDivisionError
    assert txn.status is Status.ABORTED
    np.testing.assert_array_equal(a, before)
    with ctx.transaction():
        a[1] = 2
    assert a[1] == 2


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exceptions_abort_and_propagate(
    ctx: pyhac.Context, failure: type[BaseException]
) -> None:
    a = ctx.array("a", 4, "<i8")
    with pytest.raises(failure), ctx.transaction():
        a[0] = 1
        raise failure
    assert a[0] == 0


def test_abort_is_quiet_and_no_error(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as txn:
        a[0] = 1
        raise pyhac.Abort
    assert a[0] == 0
    assert txn.status is Status.ABORTED
    assert not issubclass(pyhac.Abort, pyhac.Error)


def test_aborts_take_no_epoch(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as first:
        pass
    with ctx.transaction():
        a[0] = 1
        raise pyhac.Abort
    with ctx.transaction() as second:
        pass
    assert second.epoch == first.epoch + 1
    assert ctx.stats.aborts == 1


def test_writes_outside_are_an_epoch_that_abort_keeps(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as first:
        pass
    a[2] = 9
    with ctx.transaction():
        a[2] = 10
        raise pyhac.Abort
    assert a[2] == 9
    assert ctx.epoch == first.epoch + 1


def test_a_transaction_is_used_once(ctx: pyhac.Context) -> None:
    txn = ctx.transaction()
    assert txn.status is Status.NEW
    with txn:
        pass
    with pytest.raises(pyhac.TransactionError, match="used once"), txn:
        pass
    with pytest.raises(pyhac.TransactionError, match="over"):
        txn.__exit__(None, None, None)
    with pytest.raises(pyhac.TransactionError, match="not been entered"):
        ctx.transaction().__exit__(None, None, None)


def test_epoch_needs_an_end(ctx: pyhac.Context) -> None:
    with ctx.transaction() as txn:
        with pytest.raises(pyhac.TransactionError, match="not ended"):
            _ = txn.epoch
        raise pyhac.Abort
    with pytest.raises(pyhac.TransactionError, match="aborted"):
        _ = txn.epoch


def test_decorated_function(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    @ctx.transactional
    def put(i: int, *, value: int = 3) -> str:
        "Puts."
        a[i] = value
        if value < 0:
            raise ValueError(value)
        return f"{i}={value}"

    assert put(1) == "1=3"
    with pytest.raises(ValueError, match="-1"):
        put(1, value=-1)
    assert a[1] == 3
    assert put.__doc__ == "Puts."
    assert list(inspect.signature(put).parameters) == ["i", "value"]


def test_decorated_function_aborted_returns_none(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    @ctx.transactional
    def fail() -> int:
        a[0] = 1
        raise pyhac.Abort

    assert fail() is None
    assert a[0] == 0


def test_decorating_before_opening() -> None:
    ctx = pyhac.Context()

    @ctx.transactional
    def put(i: int) -> None:
        a[i] = 1

    with pytest.raises(pyhac.Closed, match="not been opened"):
        put(0)
    with ctx.open():
        a = ctx.array("a", 4, "<i8")
        put(2)
        assert a[2] == 1


def test_decorated_method_finds_the_context() -> None:
    class Bank:
        def __init__(self) -> None:
            self.ctx = pyhac.open()
            self.accounts = self.ctx.array("accounts", 2, "<i8", init=lambda new: new.fill(10))

        @pyhac.transactional("ctx")
        def move(self, amount: int) -> int:
            self.accounts[0] -= amount
            if self.accounts[0] < 0:
                raise ValueError("not enough")
            self.accounts[1] += amount
            return amount

    bank = Bank()
    assert bank.move(4) == 4
    with pytest.raises(ValueError, match="not enough"):
        bank.move(7)
    assert bank.accounts.tolist() == [6, 14]
    bank.ctx.close()


def test_generators_are_refused(ctx: pyhac.Context) -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def async_generator():  # type: ignore[no-untyped-def]
        yield 1

    for function in (generator, async_generator):
        with pytest.raises(TypeError, match="generator"):
            ctx.transactional(function)
    with pytest.raises(TypeError, match="generator"):
        ctx.transactional(lambda: generator())()
    others: list[Any] = [3, int, staticmethod(len), classmethod(cast(Any, len))]
    for other in others:
        with pytest.raises(TypeError):
            ctx.transactional(other)
    with pytest.raises(TypeError, match="name of an attribute"):
        pyhac.transactional(ctx)  # type: ignore[arg-type]
    with ctx.transaction():
        pass


def test_check_warns_where_nothing_changed(opened: Opener) -> None:
    ctx = opened(check=True)
    u = ctx.array("u", 4)
    with pytest.warns(pyhac.NothingChanged) as found, ctx.transaction():
        u = u + 1  # the trap
    assert found[0].filename == __file__

    @ctx.transactional
    def step() -> None:
        pass

    with pytest.warns(pyhac.NothingChanged, match="step") as found:
        step()
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        v = ctx.array("v", 4)
        with ctx.transaction():
            v += 1
        with ctx.transaction():
            raise pyhac.Abort


def test_on_abort_runs_when_all_is_back(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    seen: list[int] = []
    with ctx.transaction() as txn:
        txn.on_abort(lambda: seen.append(int(a[0])))
        a[0] = 4
        raise pyhac.Abort
    assert seen == [0]
    with ctx.transaction() as txn:
        txn.on_abort(lambda: seen.append(1))
    assert seen == [0]
    with pytest.raises(pyhac.TransactionError, match="not open"):
        txn.on_abort(lambda: None)


def test_on_abort_may_begin_the_next(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    @ctx.transactional
    def note() -> None:
        a[1] += 1

    with ctx.transaction() as txn:
        txn.on_abort(note)
        raise pyhac.Abort
    assert a[1] == 1


def test_twinless_contexts_cannot_abort(opened: Opener) -> None:
    ctx = opened(twin=False)
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as txn:
        a[0] = 1
    assert len(txn.delta) == 1
    with pytest.raises(pyhac.TransactionError, match="twin=False") as caught, ctx.transaction():
        a[0] = 2
        raise ZeroDivisionError
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(pyhac.TransactionError, match="open it again"), ctx.transaction():
        pass
    ctx.close()
    ctx.open()
    with ctx.transaction():
        pass


def test_strict_contexts_refuse_stray_writes(opened: Opener) -> None:
    ctx = opened(strict=True)
    a = ctx.array("a", 4, "<i8")
    a[0] = 1  # still being filled in
    with ctx.transaction():
        a[0] = 2
    a[1] = 5
    with pytest.raises(pyhac.StrayWrite), ctx.transaction():
        pass
    assert a[1] == 5
    a[1] = 0
    with ctx.transaction():
        pass


def test_dropped_transactions_are_aborted_with_a_warning(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    ctx.transaction().__enter__()
    a[0] = 1
    gc.collect()
    with pytest.warns(RuntimeWarning, match="dropped"), ctx.transaction():
        assert a[0] == 0
        a[1] = 1
    assert a[:2].tolist() == [0, 1]


def test_a_generator_that_is_dropped_aborts(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    def steps() -> Iterator[int]:
        with ctx.transaction():
            a[0] = 1
            yield 1

    iterator = steps()
    next(iterator)
    del iterator
    gc.collect()
    assert a[0] == 0
    with ctx.transaction():
        pass


def test_stats_subtract(opened: Opener) -> None:
    ctx = opened(engine="compare")
    a = ctx.array("a", 4096, "<i8")
    with ctx.transaction():
        a[0] = 1
    before = ctx.stats
    with ctx.transaction():
        a[1:3] = 1
    did = ctx.stats - before
    assert did.transactions == 1
    assert did.changed_words == 2
    assert did.delta_bytes == 16
    assert did.writes is None
    assert did.wpp is None
    assert did.ppt == did.dirty_pages
    assert (ctx.stats - ctx.stats).ppt is None


def test_repr_tells_the_state(ctx: pyhac.Context) -> None:
    txn = ctx.transaction()
    assert "new" in repr(txn)
    with txn:
        assert "open" in repr(txn)
    assert f"epoch {txn.epoch}" in repr(txn)
    assert "open" in repr(ctx)
    assert "not opened" in repr(pyhac.Context())
