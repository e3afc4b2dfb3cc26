# SPDX-License-Identifier: MIT
# ruff: noqa: PT012 - what is in the block is what fails
"""Who is inside a transaction, and who waits: threads, tasks, generators."""

import asyncio
import contextlib
import contextvars
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import pyhac
from pyhac import Status


def in_thread(function: Callable[[], object]) -> "threading.Thread":
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_another_thread_waits(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    order: list[str] = []
    begun = threading.Event()

    def other() -> None:
        begun.set()
        with ctx.transaction():
            order.append("other")
            a[1] = 1

    with ctx.transaction() as txn:
        thread = in_thread(other)
        begun.wait(10)
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]
    assert ctx.epoch == txn.epoch + 1


def test_many_threads_lose_nothing(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 1, "<i8")

    def work() -> None:
        for _ in range(200):
            with ctx.transaction():
                value = int(a[0])
                time.sleep(0)
                a[0] = value + 1

    threads = [in_thread(work) for _ in range(6)]
    for thread in threads:
        thread.join(60)
    assert a[0] == 1200


def test_timeout(ctx: pyhac.Context) -> None:
    failures: list[BaseException] = []

    def other() -> None:
        try:
            with ctx.transaction(timeout=0.05):
                pass
        except BaseException as failure:
            failures.append(failure)

    with ctx.transaction():
        in_thread(other).join(10)
    assert isinstance(failures[0], pyhac.TransactionError)
    assert "timeout=0.05" in str(failures[0])
    with ctx.transaction(timeout=0):
        pass
    with pytest.raises(ValueError, match="timeout"):
        ctx.transaction(timeout=-1)


def test_child_tasks_join(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    async def child(i: int) -> None:
        async with ctx.transaction():
            await asyncio.sleep(0)
            a[i] = 1
        with ctx.transaction():
            a[i] += 1

    async def main() -> int:
        async with ctx.transaction() as txn:
            await asyncio.gather(child(0), child(1), child(2))
            await asyncio.to_thread(in_worker)
        return txn.epoch

    def in_worker() -> None:
        with ctx.transaction():
            a[3] = 2

    before = ctx.epoch
    epoch = asyncio.run(main())
    assert a.tolist() == [2, 2, 2, 2]
    assert epoch - before <= 2  # the first takes the array's creation along


def test_unrelated_tasks_wait_in_async_with(ctx: pyhac.Context) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        async with ctx.transaction():
            order.append(f"{name} begins")
            await asyncio.sleep(0.02)
            order.append(f"{name} ends")

    async def main() -> None:
        await asyncio.gather(*(work(name) for name in "abcdef"))

    asyncio.run(main())
    assert len(order) == 12
    for begins, ends in zip(order[::2], order[1::2], strict=True):
        assert begins.split()[0] == ends.split()[0]


def test_unrelated_task_in_plain_with_is_refused(ctx: pyhac.Context) -> None:
    async def holder(entered: asyncio.Event, leave: asyncio.Event) -> None:
        async with ctx.transaction():
            entered.set()
            await leave.wait()

    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(holder(entered, leave))
        await entered.wait()
        with pytest.raises(pyhac.TransactionError, match="async with"), ctx.transaction():
            pass
        with pytest.raises(pyhac.TransactionError, match="timeout"):
            async with ctx.transaction(timeout=0.05):
                pass
        leave.set()
        await task
        async with ctx.transaction():
            pass

    asyncio.run(main())


def test_tasks_and_threads_take_turns(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 1, "<i8")

    def work() -> None:
        for _ in range(50):
            with ctx.transaction():
                value = int(a[0])
                time.sleep(0.0002)
                a[0] = value + 1

    async def work_async() -> None:
        for _ in range(50):
            async with ctx.transaction():
                value = int(a[0])
                await asyncio.sleep(0)
                a[0] = value + 1

    async def main() -> None:
        await asyncio.gather(*(work_async() for _ in range(3)))

    threads = [in_thread(work) for _ in range(2)]
    asyncio.run(main())
    for thread in threads:
        thread.join(60)
    assert a[0] == 250


def test_a_cancelled_waiter_hands_its_turn_on(ctx: pyhac.Context) -> None:
    async def work() -> None:
        async with ctx.transaction():
            pass

    async def main() -> None:
        async with ctx.transaction():
            context = contextvars.Context()
            tasks = [asyncio.create_task(work(), context=context.copy()) for _ in range(3)]
            await asyncio.sleep(0.01)
            tasks[0].cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [None, None]

    asyncio.run(main())


def test_cancelling_aborts(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    async def work() -> None:
        async with ctx.transaction():
            a[0] = 1
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert a[0] == 0


def test_ending_while_a_joined_task_is_open_fails(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    async def child(entered: asyncio.Event, leave: asyncio.Event) -> None:
        async with ctx.transaction():
            a[1] = 1
            entered.set()
            await leave.wait()

    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        with pytest.raises(pyhac.TransactionError, match="still open"):
            async with ctx.transaction() as txn:
                a[0] = 1
                task = asyncio.create_task(child(entered, leave))
                await entered.wait()
        assert txn.status is Status.ABORTED
        assert not a.any()
        async with ctx.transaction():
            a[2] = 1
        leave.set()
        with pytest.raises(pyhac.TransactionError, match="over before"):
            await task

    asyncio.run(main())
    assert a.tolist() == [0, 0, 1, 0]


def test_a_task_that_outlives_its_parents_transaction_is_on_its_own(ctx: pyhac.Context) -> None:
    async def child(go: asyncio.Event) -> int:
        await go.wait()
        async with ctx.transaction() as txn:
            pass
        return txn.epoch

    async def main() -> None:
        go = asyncio.Event()
        async with ctx.transaction() as txn:
            task = asyncio.create_task(child(go))
        go.set()
        assert await task == txn.epoch + 1

    asyncio.run(main())


def test_decorated_coroutines(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    @ctx.transactional
    async def put(i: int) -> int:
        a[i] = 1
        await asyncio.sleep(0)
        if i > 1:
            raise ValueError(i)
        return i

    async def main() -> None:
        assert await put(0) == 0
        with pytest.raises(ValueError, match="2"):
            await put(2)

    assert asyncio.iscoroutinefunction(put)
    asyncio.run(main())
    assert a.tolist() == [1, 0, 0, 0]


def test_a_suspended_generator_is_named_not_waited_for(ctx: pyhac.Context) -> None:
    def steps() -> Iterator[int]:
        with ctx.transaction():
            yield 1

    # In a flow of its own, so that the generator's block is none of ours.
    iterator = steps()
    contextvars.copy_context().run(next, iterator)
    with pytest.raises(pyhac.TransactionError, match="suspended generator"), ctx.transaction():
        pass
    iterator.close()  # type: ignore[attr-defined]
    with ctx.transaction():
        pass


def test_a_dead_owner_is_an_error(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    kept: list[pyhac.Transaction] = []

    def leak() -> None:
        kept.append(ctx.transaction().__enter__())
        a[0] = 1

    in_thread(leak).join(10)
    with ThreadPoolExecutor(1) as pool:
        failure = pool.submit(lambda: ctx.transaction().__enter__()).exception(30)
    assert isinstance(failure, pyhac.TransactionError)
    assert "ended" in str(failure) or "outside this flow" in str(failure)
    kept[0].__exit__(ValueError, ValueError(), None)  # anybody may leave it
    assert a[0] == 0
    with ctx.transaction():
        pass


def test_a_dropped_transaction_of_a_thread_frees_the_waiter(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")

    def leak() -> None:
        ctx.transaction().__enter__()
        a[0] = 1

    in_thread(leak).join(10)
    gc.collect()
    with pytest.warns(RuntimeWarning, match="dropped"), ctx.transaction():
        assert a[0] == 0


def test_closing_frees_the_waiter() -> None:
    ctx = pyhac.open()
    failures: list[BaseException] = []

    def other() -> None:
        try:
            with ctx.transaction():
                pass
        except BaseException as failure:
            failures.append(failure)

    with pytest.raises(pyhac.Closed), ctx.transaction():
        thread = in_thread(other)
        time.sleep(0.05)
        ctx.close()
        thread.join(10)
    assert isinstance(failures[0], pyhac.Closed)


def test_leaving_in_another_flow_works(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 4, "<i8")
    txn = contextvars.copy_context().run(lambda: ctx.transaction().__enter__())
    a[0] = 1
    txn.__exit__(None, None, None)
    assert txn.status is Status.ENDED
    with ctx.transaction():
        pass


def test_a_busy_thread_does_not_starve_the_others(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 2, "<i8")
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with ctx.transaction():
                a[0] += 1

    threads = [in_thread(busy) for _ in range(2)]
    start = time.monotonic()
    for _ in range(20):
        with ctx.transaction(timeout=20):
            a[1] += 1
    took = time.monotonic() - start
    stop.set()
    for thread in threads:
        thread.join(10)
    assert a[1] == 20
    assert took < 10


def test_a_busy_thread_does_not_starve_tasks(ctx: pyhac.Context) -> None:
    a = ctx.array("a", 2, "<i8")
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with ctx.transaction():
                a[0] += 1

    async def main() -> None:
        for _ in range(10):
            async with ctx.transaction(timeout=20):
                a[1] += 1

    thread = in_thread(busy)
    asyncio.run(main())
    stop.set()
    thread.join(10)
    assert a[1] == 10


def test_plain_blocks_pass_waiting_tasks_of_their_thread(ctx: pyhac.Context) -> None:
    async def work() -> None:
        async with ctx.transaction():
            pass

    async def main() -> None:
        async with ctx.transaction():
            tasks = [asyncio.create_task(work(), context=contextvars.Context()) for _ in range(3)]
            await asyncio.sleep(0.02)
        with ctx.transaction(timeout=0):  # the tasks are in line, and cannot go now
            pass
        await asyncio.gather(*tasks)

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:.*open transaction was dropped:RuntimeWarning")
def test_interrupted_waiting_leaves_the_context_usable(ctx: pyhac.Context) -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with ctx.transaction():
                pass

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    thread = in_thread(busy)
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for round_ in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.002 + round_ * 1e-5)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    with ctx.transaction():
                        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        stop.set()
    thread.join(10)
    assert not thread.is_alive()
    with ctx.transaction(timeout=5):
        pass
