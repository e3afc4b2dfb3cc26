# SPDX-License-Identifier: MIT

"""Images: what comes back, how safe it is, and who is told when."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

import pyhac
from pyhac import Level, Status

if TYPE_CHECKING:
    from tests.conftest import Opener, Runner

RECORD = np.dtype([("id", "<u4"), ("qty", "<i8"), ("at", "<M8[s]")], align=True)


def test_areas_come_back(opened: Opener, image: Path, engine: str) -> None:
    with opened(image, engine=engine) as ctx:
        assert not ctx.restored
        assert ctx.generation == 1
        a = ctx.array("a", (1000, 3), RECORD, init=lambda new: new["id"].fill(9))
        b = ctx.buffer("b", 50)
        with ctx.transaction() as txn:
            a[500, 1] = (1, 2, np.datetime64(5, "s"))
            b[:5] = b"bytes"
        kept, epoch = a.tobytes(), txn.epoch
    with opened(image, engine=engine) as ctx:
        assert ctx.restored
        assert ctx.generation == 2
        assert ctx.epoch == epoch
        assert not ctx.areas["a"].claimed
        a = ctx.array("a", init=lambda new: pytest.fail("init ran"))
        b = ctx.buffer("b", 50)
        assert (a.shape, a.dtype) == ((1000, 3), RECORD)
        assert a.tobytes() == kept
        assert bytes(b[:6]) == b"bytes\0"
        assert ctx.areas["a"].restored
        with ctx.transaction() as txn:
            pass
        assert txn.epoch > epoch


def test_aborted_and_stray_writes(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        a = ctx.array("a", 8, "<i8")
        with ctx.transaction():
            a[0] = 1
        with ctx.transaction():
            a[1] = 1
            raise pyhac.Abort
        a[2] = 1  # closing takes it along
    with opened(image, readonly=True) as ctx:
        assert ctx.array("a").tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_readonly(opened: Opener, image: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pyhac.open(image, readonly=True)
    writer = opened(image)
    a = writer.array("a", 8, "<i8")
    with writer.transaction():
        a[0] = 1
    reader = opened(image, readonly=True)
    view = reader.array("a")
    assert view[0] == 1
    assert not view.flags.writeable
    with pytest.raises(pyhac.TransactionError), reader.transaction():
        pass
    with pytest.raises(OSError, match=r"[Rr]ead-only") as caught:
        reader.array("b", 3)
    assert not isinstance(caught.value, pyhac.Error)


def test_older_states(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        a = ctx.array("a", 4, "<i8")
        epochs = []
        for value in range(1, 6):
            with ctx.transaction() as txn:
                a[:] = value
            epochs.append(txn.epoch)
    for value, epoch in enumerate(epochs, 1):
        with opened(image, readonly=True, at=epoch) as ctx:
            assert ctx.epoch == epoch
            assert ctx.array("a")[0] == value
    with opened(image, at=epochs[1]) as ctx:
        a = ctx.array("a")
        assert a[0] == 2
        with ctx.transaction() as txn:
            a[0] = 100
        assert txn.epoch > epochs[-1]  # epochs never restart
    with opened(image, readonly=True) as ctx:
        assert ctx.array("a").tolist() == [100, 2, 2, 2]


def test_layouts_must_fit(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        ctx.array("a", (10, 3), "<i4")
        ctx.buffer("b", 10)
    ctx = opened(image)
    for shape, dtype in ((10, "<i4"), ((10, 3), "<u4"), ((10, 4), "<i4"), ((9, 3), "<f4")):
        with pytest.raises(pyhac.LayoutError) as caught:
            ctx.array("a", shape, dtype)
        assert "<i4[:,3]" in str(caught.value)
    with pytest.raises(pyhac.LayoutError):
        ctx.array("a", (20, 3), "<i4")
    with pytest.raises(pyhac.LayoutError):
        ctx.buffer("a", 120)
    with pytest.raises(pyhac.LayoutError, match="no array's type"):
        ctx.array("b")
    with pytest.raises(pyhac.LayoutError):
        ctx.array("a", dtype="<f4")
    assert ctx.array("a", dtype="<i4").shape == (10, 3)
    assert len(ctx.buffer("b", 10)) == 10


def test_unclaimed_areas_stop_the_first_begin(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        ctx.array("a", 4)
        ctx.array("b", 4)
    with opened(image) as ctx:
        ctx.array("a")
        with pytest.raises(pyhac.TransactionError, match="b"), ctx.transaction():
            pass
        ctx.array("b")
        with ctx.transaction():
            pass
    with opened(image, partial=True) as ctx:
        a = ctx.array("a")
        with ctx.transaction():
            a[0] = 1
    with opened(image) as ctx:
        assert ctx.array("a")[0] == 1
        ctx.drop("b")
        with ctx.transaction():
            pass
    with opened(image, readonly=True) as ctx:
        assert list(ctx.areas) == ["a"]


def test_growth_comes_back(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        a = ctx.array("a", (10, 2), "<i4", capacity=5000)
        a = ctx.resize("a", 3000)
        with ctx.transaction():
            a[2999] = 5
    with opened(image) as ctx:
        a = ctx.array("a", (10, 2), "<i4", capacity=5000)
        assert a.shape == (3000, 2)
        assert a[2999].tolist() == [5, 5]
    with opened(image, readonly=True) as ctx:
        assert ctx.array("a").shape == (3000, 2)


def test_adopted_memory_comes_back(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        first = np.arange(1000)
        ctx.adopt("numbers", first)
        with ctx.transaction():
            first[5] = 77
    with opened(image) as ctx:
        second = np.zeros(1000, int)
        ctx.adopt("numbers", second)
        np.testing.assert_array_equal(first, second)
    with opened(image) as ctx, pytest.raises(pyhac.LayoutError):
        ctx.adopt("numbers", np.zeros(1000))


def test_pointers_restore_at_the_same_address(run: Runner, image: Path) -> None:
    program = """
import sys, pyhac
with pyhac.open(sys.argv[1]) as ctx:
    a = ctx.array("a", 1000, "<u8", pointers=True)
    with ctx.transaction():
        if not ctx.restored:
            a[0] = a.ctypes.data
    print(a[0] == a.ctypes.data)
"""
    for _ in range(3):
        assert run(program, str(image)).stdout == "True\n"


def test_levels_compare() -> None:
    assert Level.RING < Level.JOURNAL < Level.BACKUP(1) < Level.BACKUP(2)
    assert repr(Level.BACKUP(2)) == "Level.BACKUP(2)"
    assert repr(Level.JOURNAL) == "Level.JOURNAL"
    with pytest.raises(ValueError, match="at least one"):
        Level.BACKUP(0)


def test_wait(opened: Opener, image: Path) -> None:
    ctx = opened(image, level=Level.RING, flush_ms=50)
    a = ctx.array("a", 4)
    with ctx.transaction() as txn:
        a[0] = 1
        with pytest.raises(pyhac.TransactionError, match="not ended"):
            txn.wait()
    txn.wait()
    txn.wait(Level.JOURNAL)
    txn.wait(Level.JOURNAL, timeout=0)
    assert txn.status is Status.ENDED
    with pytest.raises(ValueError, match="backups"):
        txn.wait(Level.BACKUP(1))
    with pytest.raises(ValueError, match="backups"):
        ctx.transaction(level=Level.BACKUP(1))
    with pytest.raises(TypeError, match="level"):
        txn.wait("journal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        txn.wait(timeout=-1)
    with ctx.transaction() as txn:
        raise pyhac.Abort
    with pytest.raises(pyhac.TransactionError, match="aborted"):
        txn.wait()


def test_levels_need_an_image(ctx: pyhac.Context) -> None:
    with ctx.transaction() as txn:
        pass
    txn.wait()
    txn.wait(Level.RING)
    for use in (
        lambda: txn.wait(Level.JOURNAL),
        lambda: ctx.transaction(level=Level.JOURNAL),
        lambda: txn.on_commit(print, Level.JOURNAL),
    ):
        with pytest.raises(ValueError, match="needs an image"):
            use()


def test_the_next_transaction_begins_while_one_is_awaited(opened: Opener, image: Path) -> None:
    ctx = opened(image, flush_ms=300)
    a = ctx.array("a", 4, "<i8")
    with ctx.transaction(level=Level.RING):
        pass

    def slow() -> None:
        with ctx.transaction(level=Level.JOURNAL):
            a[0] += 1

    start = time.monotonic()
    threads = [threading.Thread(target=slow) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert a[0] == 10
    assert time.monotonic() - start < 2.5  # they shared their syncs


def test_callbacks_run_in_the_order_of_epochs(opened: Opener, image: Path) -> None:
    ctx = opened(image, level=Level.RING)
    ctx.array("a", 4)
    seen: list[int] = []
    threads: set[str] = set()
    done = threading.Event()

    def note(number: int) -> None:
        seen.append(number)
        threads.add(threading.current_thread().name)
        if number == 99:
            done.set()

    for number in range(100):
        with ctx.transaction() as txn:
            level = Level.JOURNAL if number % 3 else Level.RING
            txn.on_commit(functools.partial(note, number), level)
    assert done.wait(30)
    assert seen == list(range(100))
    assert len(threads) == 1
    late = threading.Event()
    txn.on_commit(late.set)
    assert late.wait(10)


def test_on_commit_is_not_called_after_abort(opened: Opener) -> None:
    ctx = opened()
    ctx.array("a", 4)
    seen: list[str] = []
    with ctx.transaction() as txn:
        txn.on_commit(lambda: seen.append("aborted"))
        raise pyhac.Abort
    with pytest.raises(pyhac.TransactionError):
        txn.on_commit(lambda: None)
    with ctx.transaction() as txn:
        txn.on_commit(lambda: seen.append("ended"))
        with pytest.raises(TypeError, match="function"):
            txn.on_commit(cast(Any, 5))
    ctx.close()  # delivers what is left
    assert seen == ["ended"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_callbacks_that_raise_do_not_stop_the_others(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = opened()
    ctx.array("a", 4)
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_value))
    seen: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    with ctx.transaction() as txn:
        txn.on_commit(fail)
        txn.on_commit(lambda: seen.append(1))
    with ctx.transaction() as txn:
        txn.on_abort(fail)
        txn.on_abort(lambda: seen.append(2))
        raise pyhac.Abort
    ctx.close()
    assert sorted(seen) == [1, 2]
    assert [type(failure) for failure in reported] == [ZeroDivisionError] * 2


def test_a_callback_may_use_the_context(opened: Opener, image: Path) -> None:
    ctx = opened(image)
    a = ctx.array("a", 4, "<i8")
    done = threading.Event()

    def follow() -> None:
        with ctx.transaction(level=Level.RING):
            a[1] = 1
        done.set()

    with ctx.transaction() as txn:
        a[0] = 1
        txn.on_commit(follow)
    assert done.wait(10)
    assert a[1] == 1


def test_committed(opened: Opener, image: Path) -> None:
    ctx = opened(image, level=Level.RING, flush_ms=20)
    a = ctx.array("a", 4, "<i8")

    async def work(i: int) -> int:
        async with ctx.transaction() as txn:
            a[i] += 1
        await txn.committed(Level.JOURNAL)
        await txn.committed()
        return txn.epoch

    async def durable() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        async with ctx.transaction(level=Level.JOURNAL):
            a[0] += 1
        assert ticks > 1  # the loop went on while the block waited
        ticker.cancel()

    async def main() -> list[int]:
        await durable()
        return await asyncio.gather(*(work(i % 4) for i in range(40)))

    epochs = asyncio.run(main())
    assert len(set(epochs)) == 40
    assert a.tolist() == [11, 10, 10, 10]

    async def not_ended() -> None:
        async with ctx.transaction() as txn:
            with pytest.raises(pyhac.TransactionError, match="not ended"):
                await txn.committed()

    asyncio.run(not_ended())


def test_a_level_not_reached_in_time_is_in_doubt(opened: Opener, image: Path) -> None:
    ctx = opened(image, level=Level.RING, flush_ms=400)
    a = ctx.array("a", 4)
    with ctx.transaction() as txn:
        a[0] += 1
    with pytest.raises(pyhac.InDoubt) as caught:
        txn.wait(Level.JOURNAL, timeout=0)
    assert caught.value.epochs == (txn.epoch,)
    assert txn.status.value == "in doubt"
    with pytest.raises(pyhac.InDoubt) as caught, ctx.transaction():
        pass
    assert caught.value.epochs == (txn.epoch,)
    assert a[0] == 1  # the state is kept
    txn.wait(Level.JOURNAL)
    assert txn.status is Status.ENDED
    with ctx.transaction():
        pass


def test_an_image_in_use_names_the_process(opened: Opener, image: Path) -> None:
    opened(image).array("a", 4)
    program = "import sys, pyhac; pyhac.open(sys.argv[1])"
    path = str(Path(pyhac.__file__).parent.parent)
    result = subprocess.run(
        [sys.executable, "-P", "-c", program, image],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ImageLocked" in result.stderr
    assert str(os.getpid()) in result.stderr
    with pytest.raises(pyhac.ImageLocked):
        pyhac.open(image)


def test_copy_and_compact(opened: Opener, image: Path, tmp_path: Path) -> None:
    ctx = opened(image)
    a = ctx.array("a", 10_000, "<i8")
    for value in range(20):
        with ctx.transaction():
            a[:] = value
    with ctx.transaction():
        for call in (ctx.compact, lambda: ctx.copy(tmp_path / "copy")):
            with pytest.raises(pyhac.TransactionError):
                call()
    ctx.copy(tmp_path / "copy")
    with pytest.raises(FileExistsError):
        ctx.copy(tmp_path / "copy")

    def size() -> int:
        return sum(file.stat().st_size for file in image.iterdir())

    before = size()
    ctx.compact()
    assert size() < before / 5
    with ctx.transaction():
        a[0] = 1
    ctx.close()
    with opened(tmp_path / "copy") as ctx:
        assert (ctx.array("a") == 19).all()
    with opened(image) as ctx:
        assert ctx.array("a")[:2].tolist() == [1, 19]


def test_a_cut_end_is_reported(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        a = ctx.array("a", 100, "<i8")
        for value in range(3):
            with ctx.transaction() as txn:
                a[:] = value
    segment = max(image.glob("journal.*"))
    with open(segment, "r+b") as file:
        file.truncate(segment.stat().st_size - 5)
    with pytest.warns(pyhac.ImageCut, match=f"from epoch {txn.epoch}") as found:
        ctx = pyhac.open(image)
    assert found[0].filename == __file__
    with ctx:
        assert ctx.array("a")[0] == 1


def test_damage_is_named(opened: Opener, image: Path) -> None:
    with opened(image) as ctx:
        a = ctx.array("a", 100, "<i8")
        for value in range(30):
            with ctx.transaction():
                a[:] = value
    segment = max(image.glob("journal.*"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    before = {file.name: file.read_bytes() for file in image.iterdir()}
    with pytest.raises(pyhac.ImageDamaged, match=segment.name):
        pyhac.open(image)
    assert {file.name: file.read_bytes() for file in image.iterdir()} == before


def test_kill_9_loses_nothing_acknowledged(image: Path, opened: Opener) -> None:
    program = """
import sys, pyhac
ctx = pyhac.open(sys.argv[1])
a = ctx.array("a", 1000, "<i8")
while True:
    with ctx.transaction():
        a[:] += 1
    print(a[0], flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program, image],
        env={**os.environ, "PYTHONPATH": str(Path(pyhac.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    acknowledged = 0
    with process:
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged == 20:
                process.send_signal(signal.SIGKILL)
    with opened(image) as ctx:
        a = ctx.array("a")
        assert a[0] in (acknowledged, acknowledged + 1)
        assert (a == a[0]).all()


def test_a_full_disk_aborts(opened: Opener, tmp_path: Path, run: Runner) -> None:
    result = run(
        """
import resource, signal, sys, pyhac
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ctx = pyhac.open(sys.argv[1])
a = ctx.array("a", 100_000, "<i8")
with ctx.transaction():
    a[:] = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
failed = 0
for value in range(2, 20):
    before = a[0]
    try:
        with ctx.transaction():
            a[:] = value
    except OSError as failure:
        assert failure.errno in (27, 28), failure
        assert a[0] == before
        failed += 1
print(failed > 0, a[0] < 5 and (a[:] == a[0]).all())
""",
        str(tmp_path / "full.hac"),
    )
    assert result.stdout == "True True\n", result.stderr
    shutil.rmtree(tmp_path / "full.hac")
