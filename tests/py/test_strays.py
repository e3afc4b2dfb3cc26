# SPDX-License-Identifier: MIT
"""Writes outside a transaction: an epoch of their own, an error, or joined."""

from pathlib import Path

import numpy as np
import pytest

import pyhac


def test_strays_take_an_epoch_of_their_own_and_survive_an_abort(engine: str) -> None:
    with pyhac.open(engine=engine) as ctx:
        a = ctx.array("a", 1000, "i8")
        with ctx.transaction():
            a[0] = 1
        epoch = ctx.epoch
        a[1] = 2
        with ctx.transaction():
            a[2] = 3
            raise pyhac.Abort
        assert ctx.epoch == epoch + 1
        assert a[:3].tolist() == [1, 2, 0]


def test_joined_strays_end_with_the_next_transaction(engine: str) -> None:
    with pyhac.open(engine=engine, join_strays=True) as ctx:
        a = ctx.array("a", 1000, "i8")
        with ctx.transaction():
            a[0] = 1
        epoch = ctx.epoch
        a[1] = 2
        with ctx.transaction() as txn:
            a[2] = 3
        assert ctx.epoch == epoch + 1
        assert [(run.offset, bytes(run.data)) for run in txn.delta] == [
            (8, np.array([2, 3], "i8").tobytes())
        ]


def test_joined_strays_are_undone_by_an_abort(engine: str) -> None:
    with pyhac.open(engine=engine, join_strays=True) as ctx:
        a = ctx.array("a", 1000, "i8")
        with ctx.transaction():
            a[0] = 1
        a[1] = 2
        with ctx.transaction():
            a[2] = 3
            raise pyhac.Abort
        assert a[:3].tolist() == [1, 0, 0]
        with ctx.transaction() as txn:
            a[3] = 4
        assert [run.offset for run in txn.delta] == [24]


def test_closing_ends_joined_strays(tmp_path: Path) -> None:
    with pyhac.open(tmp_path / "image", join_strays=True) as ctx:
        a = ctx.array("a", 1000, "i8")
        with ctx.transaction():
            a[0] = 1
        a[1] = 2
    with pyhac.open(tmp_path / "image", readonly=True) as ctx:
        assert ctx.array("a", 1000, "i8")[:2].tolist() == [1, 2]


def test_areas_made_meanwhile_are_announced_before_joining(tmp_path: Path) -> None:
    with pyhac.open(tmp_path / "image", join_strays=True) as ctx:
        ctx.array("a", 10, "i8", init=lambda a: a.fill(7))
        with ctx.transaction():
            raise pyhac.Abort
    with pyhac.open(tmp_path / "image") as ctx:
        a = ctx.array("a", 10, "i8")
        assert ctx.restored
        assert a.tolist() == [7] * 10


def test_strict_and_joined_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="join_strays"):
        pyhac.open(strict=True, join_strays=True)
