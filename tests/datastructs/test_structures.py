# SPDX-License-Identifier: MIT
"""Every structure of the examples against its model: mixed operations, aborts at random
points, restoring, failover. HAC_STRUCTURE_OPERATIONS=1000000 runs that many of each, and
a hundredth of it as aborts."""

import copy
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyhac
from tests.conftest import Opener
from tests.py.test_replication import Pair, follow

pytest.importorskip("numba", reason="numba is not installed")

from examples.datastructs import STRUCTURES, Heap, Keys, Queue
from examples.datastructs.linked_list import LinkedList
from examples.datastructs.memory import FREE, new_log
from examples.datastructs.structure import AreaFull
from tests.datastructs.models import Modelled

OPERATIONS = int(os.environ.get("HAC_STRUCTURE_OPERATIONS", "5000"))
ABORTS = max(100, OPERATIONS // 100)

pytestmark = pytest.mark.timeout(300 + OPERATIONS // 500)

every = pytest.mark.parametrize("name", list(STRUCTURES))


@every
def test_mixed_operations(ctx: pyhac.Context, name: str) -> None:
    """Single transactions, and several operations in one."""
    dice = random.Random(f"mixed {name}")
    it = Modelled(name, ctx, dice)
    done = 0
    while done < OPERATIONS:
        count = dice.choice((1, 1, 5, 100))
        if count == 1:
            it.step()
        else:
            with ctx.transaction():
                for _ in range(count):
                    it.step()
        done += count
        if dice.random() < 0.01:
            it.same()
    it.same()


class Interrupted(Exception):
    pass


@every
def test_aborts_at_random_points(ctx: pyhac.Context, name: str) -> None:
    """An exception between two operations, or between two stores of one of them (when a
    log is full), leaves everything as it was."""
    dice = random.Random(f"abort {name}")
    it = Modelled(name, ctx, dice)
    between_stores = 0
    for _ in range(ABORTS):
        it.structure.log = None
        for _ in range(dice.randrange(6)):
            it.step()
        before = memory(it)
        model = copy.copy(it.model)
        if dice.random() < 0.6:
            it.structure.log = new_log(dice.randrange(12))
        with pytest.raises((Interrupted, IndexError), match=r"^here$|log is full") as failure:
            fail(ctx, it, model)
        between_stores += failure.type is IndexError
        assert memory(it) == before
        it.same()
    assert between_stores > ABORTS // 20


def fail(ctx: pyhac.Context, it: Modelled, model: Any) -> None:
    """A transaction of some operations that fails, at the latest after the last of them."""
    with ctx.transaction():
        for _ in range(it.dice.randrange(1, 12)):
            it.step(model)
        raise Interrupted("here")


def memory(it: Modelled) -> bytes:
    """Every byte of a structure; what was never allocated is zero, and may have grown."""
    structure = it.structure
    free = structure.head[FREE]
    assert not structure.words[free:].any()
    return bytes(structure.head.tobytes() + structure.words[:free].tobytes())


@every
def test_a_failed_operation_alone_changes_nothing(ctx: pyhac.Context, name: str) -> None:
    it = Modelled(name, ctx, random.Random(1))
    structure = it.structure
    for key in range(20):
        structure.insert(key)
    before = memory(it)
    structure.log = new_log(0)
    with pytest.raises(IndexError, match="log is full"):
        structure.insert(100)
    assert memory(it) == before
    structure.log = None
    for wrong in (2**31, -(2**31) - 1):
        with pytest.raises(ValueError, match="32 bits"):
            structure.insert(wrong)
    with pytest.raises(TypeError):
        structure.insert(1.5)
    assert memory(it) == before
    structure.check()


@every
def test_deleting_what_is_not_there(ctx: pyhac.Context, name: str) -> None:
    structure = Modelled(name, ctx, random.Random(1)).structure
    if isinstance(structure, Heap | Queue):
        with pytest.raises(IndexError, match=f"'{name}' is empty"):
            structure.delete()
    else:
        assert not structure.delete(1)
        structure.insert(2)
        assert not structure.delete(1)
    structure.check()


@every
def test_the_smallest_and_the_largest_key(ctx: pyhac.Context, name: str) -> None:
    structure = Modelled(name, ctx, random.Random(1)).structure
    largest = 2**31 - (2 if name == "dsl" else 1)  # the skip list's levels end with one more
    keys = [0, -(2**31), largest, -1]
    for key in keys:
        structure.insert(key)
    structure.check()
    assert sorted(structure) == sorted(keys)
    for key in sorted(keys) if isinstance(structure, Heap) else keys:
        if isinstance(structure, Heap | Queue):
            assert structure.delete() == key
        else:
            assert key in structure
            assert structure.delete(key)
        structure.check()
    assert len(structure) == 0
    assert list(structure) == []


@every
def test_a_restored_area_is_a_working_structure(opened: Opener, image: Path, name: str) -> None:
    dice = random.Random(f"restore {name}")
    with pyhac.open(image, level=pyhac.Level.RING) as ctx:
        it = Modelled(name, ctx, dice)
        for _ in range(700):
            it.step()
    for _ in range(3):
        with pyhac.open(image, level=pyhac.Level.RING) as ctx:
            assert ctx.restored
            it.adopt(STRUCTURES[name](ctx, name))
            for _ in range(100):
                it.step()
            it.same()
    with pyhac.open(image, readonly=True) as ctx:
        it.adopt(STRUCTURES[name](ctx, name))
        del it.structure


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    for context in made.contexts:
        context.close()


def test_failover(pair: Pair) -> None:
    """What a standby shows is what the primary did; promoted, it goes on with it."""
    primary, standby = pair.primary(engine="auto"), pair.standby(engine="auto")
    dice = random.Random("failover")
    both = [Modelled(name, primary, dice) for name in STRUCTURES]
    followers = [STRUCTURES[name](standby, name) for name in STRUCTURES]
    for follower in followers:
        assert len(follower) == 0
        assert list(follower) == []
    for _ in range(5):
        for it in both:
            with primary.transaction():
                for _ in range(200):
                    it.step()
        with primary.transaction(level=pyhac.Level.BACKUP(1)) as txn:
            pass
        follow(standby, txn.epoch)
        for it, follower in zip(both, followers, strict=True):
            ours, it.structure = it.structure, follower
            it.same()
            it.structure = ours
    standby.promote()
    standby.wait_primary(20)
    for it, follower in zip(both, followers, strict=True):
        it.adopt(follower)
        for _ in range(200):
            it.step()
        it.same()


def test_a_standby_that_never_heard_of_it_makes_its_own(pair: Pair) -> None:
    pair.primary()
    standby = pair.standby()
    structures = {name: STRUCTURES[name](standby, name) for name in STRUCTURES}
    standby.promote()
    standby.wait_primary(20)
    for structure in structures.values():
        structure.check()
        if isinstance(structure, Keys):
            assert structure.insert(3)
            assert 3 in structure
            structure.check()


def test_growing(ctx: pyhac.Context) -> None:
    """Areas grow up to their capacity, also in transactions that are aborted."""
    keys = LinkedList(ctx, "keys", words=16, capacity=400)

    def fill(count: int) -> None:
        for key in range(count):
            keys.insert(key)
        raise Interrupted

    with pytest.raises(Interrupted), ctx.transaction():
        fill(50)
    assert list(keys) == []
    with pytest.raises(AreaFull, match=r"'keys' is full: .* capacity is 400"):
        fill(1000)
    keys.check()
    assert list(keys) == list(range(132))
    assert ctx.areas["keys"].size == 1600
    keys.delete(0)
    assert len(keys) == 131


def test_another_structure_is_refused(ctx: pyhac.Context) -> None:
    LinkedList(ctx, "list").insert(1)
    ctx.array("numbers", 5)
    for name in ("list", "numbers"):
        with pytest.raises(pyhac.LayoutError, match=name):
            STRUCTURES["leftheap"](ctx, name)
    assert set(ctx.areas) == {"list", "list.LinkedList", "numbers"}


def test_several_structures_in_one_transaction(ctx: pyhac.Context) -> None:
    one, other = LinkedList(ctx, "one"), STRUCTURES["queue"](ctx, "other")
    assert isinstance(other, Queue)
    one.insert(1)

    @ctx.transactional
    def move(key: int) -> None:
        one.delete(key)
        one.insert(other.delete())

    with pytest.raises(IndexError, match="'other' is empty"):
        move(1)
    assert list(one) == [1]
