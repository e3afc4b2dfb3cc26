# SPDX-License-Identifier: MIT
# ruff: noqa: PT012 - what is in the block is what fails
"""Blocks inside blocks are one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pyhac
from pyhac import Status

if TYPE_CHECKING:
    from tests.conftest import Opener


def test_inner_blocks_take_no_epoch(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as outer:
        a[0] = 1
        block = ctx.transaction()
        with block as inner:
            assert inner is outer
            a[1] = 1
        assert block.status.value == "open"
    assert block.status is Status.ENDED
    assert block.epoch == outer.epoch
    assert block.delta == outer.delta
    assert outer.epoch == ctx.epoch


def test_outer_failure_takes_the_inner_along(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with pytest.raises(ZeroDivisionError), ctx.transaction():
        with ctx.transaction():
            a[1] = 1
        raise ZeroDivisionError
    assert a[1] == 0


def test_inner_failure_dooms_the_whole_even_when_caught(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    txn = ctx.transaction()
    with pytest.raises(pyhac.TransactionError, match="inside this transaction") as caught, txn:
        a[0] = 1
        with pytest.raises(ZeroDivisionError), ctx.transaction():
            raise ZeroDivisionError
        a[1] = 1
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert txn.status is Status.ABORTED
    assert not a.any()
    with ctx.transaction():
        a[0] = 1


def test_inner_failure_propagates(ctx: pyhac.Context) -> None:
    with pytest.raises(ZeroDivisionError), ctx.transaction(), ctx.transaction():
        raise ZeroDivisionError


def test_abort_is_quiet_at_the_outermost_block(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    after_inner = False
    with ctx.transaction():
        a[0] = 1
        with ctx.transaction():
            raise pyhac.Abort
        after_inner = True
    assert not after_inner
    assert a[0] == 0


def test_an_abort_that_was_caught_is_told(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with pytest.raises(pyhac.TransactionError) as caught, ctx.transaction():
        a[0] = 1
        with pytest.raises(pyhac.Abort), ctx.transaction():
            raise pyhac.Abort
    assert isinstance(caught.value.__cause__, pyhac.Abort)
    assert a[0] == 0


def test_decorated_functions_join(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    @ctx.transactional
    def one() -> None:
        a[0] += 1

    @ctx.transactional
    def three() -> None:
        one()
        one()
        one()

    three()
    epoch = ctx.epoch
    three()
    assert ctx.epoch == epoch + 1
    assert a[0] == 6


def test_contexts_do_not_join_each_other(opened: Opener) -> None:
    one, other = opened(), opened()
    a, b = one.array("a", 4, "<i8"), other.array("b", 4, "<i8")
    with one.transaction() as outer:
        a[0] = 1
        with other.transaction() as inner:
            b[0] = 1
            with one.transaction() as joined:
                assert joined is outer
        assert inner.status is Status.ENDED
        raise pyhac.Abort
    assert a[0] == 0
    assert b[0] == 1


def test_callbacks_of_inner_blocks_belong_to_the_whole(ctx: pyhac.Context) -> None:
    seen = []
    with ctx.transaction():
        with ctx.transaction() as inner:
            inner.on_abort(lambda: seen.append("aborted"))
        assert seen == []
        raise pyhac.Abort
    assert seen == ["aborted"]


def test_depth(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    def dive(depth: int) -> None:
        with ctx.transaction():
            a[0] += 1
            if depth:
                dive(depth - 1)

    dive(100)
    assert a[0] == 101
