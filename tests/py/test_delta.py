# SPDX-License-Identifier: MIT
"""What txn.delta tells, how long, and how it is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pyhac

if TYPE_CHECKING:
    from tests.conftest import Opener


def test_runs(opened: Opener, engine: str) -> None:
    ctx = opened(engine=engine)
    a = ctx.array("a", 10_000, "<i8")
    b = ctx.buffer("b", 100)
    with ctx.transaction():
        pass
    with ctx.transaction() as txn:
        a[5] = 1
        a[6] = 2
        a[9_000] = 3
        b[50] = 7
        a[7] = 0  # as it was
    runs = list(txn.delta)
    assert [(run.area, run.offset) for run in runs] == [("a", 40), ("a", 72_000), ("b", 48)]
    assert runs[0].data == a[5:7].tobytes()
    assert runs[1].data == a[9_000:9_001].tobytes()
    assert runs[2].data == bytes(b[48:56])
    delta = txn.delta
    assert len(delta) == 3
    assert delta.nbytes == 32
    assert delta[1] == runs[1]
    assert delta[-1] == runs[2]
    assert list(delta[:2]) == runs[:2]
    assert "3 runs, 32 bytes" in repr(delta)
    with pytest.raises(IndexError):
        delta[3]


def test_an_empty_delta(ctx: pyhac.Context) -> None:
    ctx.array("a", 4)
    with ctx.transaction():
        pass
    with ctx.transaction() as txn:
        pass
    assert len(txn.delta) == 0
    assert list(txn.delta) == []
    assert txn.delta.nbytes == 0


def test_lent_until_the_next_begin(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as txn:
        a[0] = 1
    delta, kept = txn.delta, txn.delta.copy()
    run = delta[0]
    with ctx.transaction():
        for use in (len, list, repr):
            if use is repr:
                assert "expired" in repr(delta)
                continue
            with pytest.raises(pyhac.TransactionError, match="copy"):
                use(delta)
        with pytest.raises(pyhac.TransactionError, match="lent"):
            _ = txn.delta
    assert run.data == a[:1].tobytes()
    assert list(kept) == [run]
    assert kept.nbytes == 8
    assert kept.copy() == kept


def test_closing_takes_it_back(opened: Opener) -> None:
    ctx = opened()
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction() as txn:
        a[0] = 1
    delta = txn.delta
    ctx.close()
    with pytest.raises(pyhac.TransactionError):
        len(delta)


def test_none_before_the_end_nor_after_abort(ctx: pyhac.Context) -> None:
    with ctx.transaction() as txn:
        with pytest.raises(pyhac.TransactionError, match="not ended"):
            _ = txn.delta
        raise pyhac.Abort
    with pytest.raises(pyhac.TransactionError, match="aborted"):
        _ = txn.delta


def test_apply_makes_copies_equal(opened: Opener, engine: str) -> None:
    ctx = opened(engine=engine)
    rng = np.random.default_rng(1)
    a = ctx.array("a", 5_000, "<i4")
    b = ctx.array("b", (50, 3), "<f8")
    plain, raw = np.zeros(5_000, "<i4"), bytearray(b.nbytes)
    replica: dict[str, Any] = {"a": plain, "b": raw}
    for _ in range(30):
        with ctx.transaction() as txn:
            for _ in range(int(rng.integers(1, 40))):
                a[rng.integers(a.size)] = rng.integers(1000)
            b[rng.integers(50)] = rng.random(3)
        txn.delta.apply(replica)
        txn.delta.apply(replica)  # twice is harmless
        np.testing.assert_array_equal(plain, a)
        assert raw == b.tobytes()


def test_apply_checks_before_it_writes(ctx: pyhac.Context) -> None:
    a, b = ctx.array("a", 4, "<i8"), ctx.array("b", 4, "<i8")
    with ctx.transaction() as txn:
        a[0] = 1
        b[3] = 1
    target = bytearray(32)
    with pytest.raises(ValueError, match="'b', which target lacks"):
        txn.delta.apply({"a": target})
    with pytest.raises(ValueError, match=r"target\['b'\] has 8 bytes"):
        txn.delta.apply({"a": target, "b": bytearray(8)})
    with pytest.raises(ValueError, match="writable"):
        txn.delta.apply({"a": target, "b": bytes(32)})
    assert target == bytearray(32)


def test_deltas_of_ever_larger_transactions(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 200_000, "<i8")
    for rows in (1, 100, 10_000, 200_000):
        with ctx.transaction() as txn:
            a[:rows] += 1
        assert txn.delta.nbytes == rows * 8
        assert txn.delta[0].data == a[:rows].tobytes()
    with ctx.transaction() as txn:
        a[::2] += 1
    assert len(txn.delta) == 100_000
    assert sum(len(run.data) for run in txn.delta) == 800_000
