# SPDX-License-Identifier: MIT
"""Primary and standby as Python sees them; the network itself is tested in tests/replication."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyhac
from pyhac import Level, Role, _native


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Pair:
    """Addresses and images of two machines, which are this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.a, self.b = free_address(), free_address()
        self.contexts: list[pyhac.Context] = []

    def primary(self, **options: Any) -> pyhac.Context:
        return self._open("a", role="primary", listen=self.a, peers=[self.b], **options)

    def standby(self, **options: Any) -> pyhac.Context:
        return self._open("b", role="standby", listen=self.b, peers=[self.a], **options)

    def _open(self, name: str, **options: Any) -> pyhac.Context:
        options.setdefault("engine", "compare")
        context = pyhac.open(self.folder / name, helper_arguments=["--linger", "0.2"], **options)
        self.contexts.append(context)
        return context


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    for context in made.contexts:
        with contextlib.suppress(pyhac.Error, OSError):
            context.close()


def helper_of(context: pyhac.Context) -> int:
    return _native.context_info(_native.Handle(context._opening.handle)).helper


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def follow(context: pyhac.Context, epoch: int) -> None:
    until(lambda: context.advance() >= epoch)


# -- opening ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        ({"role": "leader"}, ValueError),
        ({"peers": "host:1"}, TypeError),
        ({"peers": [1]}, TypeError),
        ({"helper_arguments": ["a\0b"]}, ValueError),
        ({"codec": "gzip"}, ValueError),
        ({"role": "primary", "readonly": True}, ValueError),
        ({"role": "primary", "at": 3}, ValueError),
        ({"level": Level.BACKUP(1)}, ValueError),
        ({"role": "primary", "level": Level.BACKUP(17)}, ValueError),
    ],
)
def test_wrong_options(tmp_path: Path, options: Any, failure: type[Exception]) -> None:
    with pytest.raises(failure):
        pyhac.open(tmp_path / "image", **options)
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("options", [{"role": "auto"}, {"codec": "zstd"}, {"key_file": "k"}])
def test_without_path(options: Any) -> None:
    with pytest.raises(ValueError, match="needs an image"):
        pyhac.open(**options)


def test_helper_that_refuses(tmp_path: Path) -> None:
    with pytest.raises((OSError, pyhac.Error), match="helper"):
        pyhac.open(tmp_path / "image", role="primary", helper_arguments=["--no-such-thing"])


def test_alone(tmp_path: Path) -> None:
    with pyhac.open(tmp_path / "image", role="primary", engine="compare") as context:
        assert context.role is Role.PRIMARY
        assert str(context.role) == "primary"
        numbers = context.array("numbers", 10)
        with context.transaction() as txn:
            numbers[3] = 3
        txn.wait(Level.JOURNAL)
        context.wait_primary()
        asyncio.run(context.primary())
        with pytest.raises(pyhac.TransactionError):
            context.advance()
        with pytest.raises(pyhac.TransactionError):
            context.promote()
        pid = helper_of(context)
        assert pid
        assert pid != os.getpid()
        os.kill(pid, signal.SIGKILL)
        with context.transaction():
            numbers[4] = 4
        context.compact()
    with pyhac.open(tmp_path / "image") as context:
        assert context.role is None
        assert list(context.array("numbers")[3:5]) == [3, 4]
        with pytest.raises(pyhac.TransactionError):
            context.wait_primary()


# -- a pair ----------------------------------------------------------------------


def test_standby_follows(pair: Pair) -> None:
    context = pair.primary()
    numbers = context.array("numbers", 1000, capacity=2000)
    standby = pair.standby()
    assert standby.role is Role.STANDBY
    copy = standby.array("numbers", 1000, capacity=2000)
    late = standby.array("late", 10, np.int64)
    assert not copy.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        copy[0] = 1
    for i in range(20):
        with context.transaction() as txn:
            numbers[:] = i + 1
    txn.wait(Level.BACKUP(1))
    assert copy[0] == 0
    assert standby.advance() == context.epoch
    assert (copy == 20).all()
    with pytest.raises(pyhac.TransactionError, match="standby"), standby.transaction():
        pass
    with pytest.raises(pyhac.TransactionError, match="standby"):
        standby.resize("numbers", 1500)
    longer = context.resize("numbers", 1500)
    context.array("late", 10, np.int64, init=lambda a: a.fill(7))
    with context.transaction(level=Level.BACKUP(1)):
        longer[1499] = 9
    follow(standby, context.epoch)
    assert standby.resize("numbers", 1500)[1499] == 9
    assert (late == 7).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "message"), [(10, np.int32, "i8"), (5, np.int64, "capacity of 40")]
)
def test_layouts_differ(pair: Pair, shape: int, dtype: Any, message: str) -> None:
    context = pair.primary()
    standby = pair.standby()
    standby.array("numbers", shape, dtype)
    context.array("numbers", 10, np.int64)
    with context.transaction(level=Level.BACKUP(1)):
        pass
    with pytest.raises(pyhac.LayoutError, match=message):
        standby.advance()


def test_promotion(pair: Pair) -> None:
    context = pair.primary(level=Level.BACKUP(1))
    numbers = context.array("numbers", 100)
    standby = pair.standby()
    calls: list[str] = []
    copy = standby.array("numbers", 100, init=lambda _: calls.append("numbers"))

    def fill(array: Any) -> None:
        calls.append("fresh")
        array.fill(2)

    fresh = standby.array("fresh", 5, init=fill)
    raw = standby.buffer("raw", 64)
    with context.transaction():
        numbers[:] = 5
    with pytest.raises(TimeoutError):
        standby.wait_primary(0.05)
    generation = context.generation
    context.close()
    standby.promote()
    standby.wait_primary(20)
    assert standby.role is Role.PRIMARY
    assert standby.generation > generation
    assert calls == ["fresh"]
    assert (copy == 5).all()
    assert copy.flags.writeable
    assert fresh.flags.writeable
    assert raw.readonly
    again = standby.buffer("raw", 64)
    assert not again.readonly
    with standby.transaction(level=Level.JOURNAL):
        copy[7] = 6
        fresh[1] = 3
        again[0] = 9
    with standby.transaction():
        copy[:] = 0
        raise pyhac.Abort
    assert copy[7] == 6
    standby.close()
    with pyhac.open(pair.folder / "b") as opened:
        assert opened.array("numbers")[7] == 6
        assert list(opened.array("fresh")) == [2, 3, 2, 2, 2]


def test_init_that_fails(pair: Pair) -> None:
    context = pair.primary(level=Level.BACKUP(1))
    context.array("numbers", 10)
    standby = pair.standby()
    standby.array("numbers", 10)

    def refuse(_: object) -> None:
        raise KeyError("no")

    standby.array("broken", 10, init=refuse)
    with context.transaction():
        pass
    context.close()
    standby.promote()
    with pytest.raises(KeyError):
        standby.wait_primary(20)
    standby.wait_primary()
    assert "broken" not in standby.areas
    with standby.transaction(level=Level.JOURNAL):
        pass


def test_primary_in_a_loop(pair: Pair) -> None:
    context = pair.primary(level=Level.BACKUP(1))
    numbers = context.array("numbers", 10)
    standby = pair.standby()
    copy = standby.array("numbers", 10)
    with context.transaction():
        numbers[:] = 1

    async def waits() -> int:
        ticks = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await standby.primary()
        waiting = asyncio.create_task(standby.primary())
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
            if ticks == 5:
                await asyncio.to_thread(context.close)
                standby.promote()
        await waiting
        async with standby.transaction(level=Level.JOURNAL):
            copy[1] = 2
        return ticks

    assert asyncio.run(waits()) > 5
    assert copy[1] == 2


def test_fenced(pair: Pair) -> None:
    context = pair.primary()
    numbers = context.array("numbers", 10)
    standby = pair.standby()
    copy = standby.array("numbers", 10)
    with context.transaction(level=Level.BACKUP(1)):
        numbers[0] = 1
    standby.promote()
    standby.wait_primary(20)
    before = numbers.copy()

    def refused() -> bool:
        nonlocal before
        before = numbers.copy()
        try:
            with context.transaction(level=Level.RING):
                numbers[1] += 1
        except pyhac.Fenced:
            return True
        time.sleep(0.01)
        return False

    until(refused)
    assert (numbers == before).all()
    with pytest.raises(pyhac.Fenced), context.transaction():
        pass
    with standby.transaction(level=Level.JOURNAL):
        copy[2] = 2
    assert copy[1] <= numbers[1]


def test_in_doubt(pair: Pair) -> None:
    context = pair.primary()
    numbers = context.array("numbers", 10)
    with context.transaction() as txn:
        numbers[0] = 1
    with pytest.raises(pyhac.InDoubt, match="BACKUP") as caught:
        txn.wait(Level.BACKUP(1), timeout=0.05)
    assert caught.value.epochs == (txn.epoch,)
    with pytest.raises(pyhac.InDoubt) as caught, context.transaction():
        pass
    assert caught.value.epochs == (txn.epoch,)
    standby = pair.standby()
    txn.wait(Level.BACKUP(1), timeout=20)
    with context.transaction(level=Level.BACKUP(1)):
        numbers[1] = 1
    follow(standby, context.epoch)


WRITER = """
import os, pyhac, sys
context = pyhac.open(sys.argv[1], role="primary", level=pyhac.Level.RING, engine="compare")
numbers = context.array("numbers", 100)
while True:
    with context.transaction() as txn:
        numbers[:] += 1
    os.write(1, b"%d\\n" % int(numbers[0]))
"""


def test_application_killed(tmp_path: Path) -> None:
    """What was in the ring is in the image that the next opening waits for."""
    image = tmp_path / "image"
    said = 0
    for i in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(image)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            for _ in range(100 + i):
                said = int(child.stdout.readline())
            child.kill()
            rest = child.stdout.read().split(b"\n")[:-1]
        said = int(rest[-1]) if rest else said
        with pyhac.open(image, role="primary") as context:
            numbers = context.array("numbers", 100)
            assert numbers[0] >= said
            assert (numbers == numbers[0]).all()


def test_child_of_the_application(pair: Pair) -> None:
    context = pair.primary()
    numbers = context.array("numbers", 10)
    pid = os.fork()
    if not pid:
        try:
            context.transaction().__enter__()
        except pyhac.Forked:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    with context.transaction(level=Level.JOURNAL):
        numbers[0] = 1
