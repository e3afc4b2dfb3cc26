# SPDX-License-Identifier: MIT
"""Who may begin: at most one transaction of a context is open at a time.

The lock is taken with one test-and-set when nobody holds it. Everybody else
comes here. A waiter looks up now and then, so that an owner that will never
end (its thread is gone, the context was closed) is an error, not a hang.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import warnings
from collections import deque
from typing import TYPE_CHECKING

from .errors import TransactionError

if TYPE_CHECKING:
    from .context import Context

_LOOK_UP = 0.05  # seconds between two looks at the owner
_PATIENCE = 10.0  # seconds of waiting before a warning says for what

_Waiters = deque[tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]]


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


class Queue:
    """The lock of a context and those that wait for it."""

    __slots__ = ("_lock", "acquire", "waiters")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acquire = self._lock.acquire
        self.waiters: _Waiters = deque()

    def release(self) -> None:
        self._lock.release()
        if self.waiters:
            self.wake()

    def wake(self) -> None:
        """Let one waiting task try again."""
        while self.waiters:
            loop, future = self.waiters.popleft()
            try:
                loop.call_soon_threadsafe(_set, future)
            except RuntimeError:  # its loop is closed
                continue
            return

    def wait(self, context: Context, timeout: float | None) -> None:
        """Acquire in a thread that found the lock taken.

        Raises:
            TransactionError: waiting would never end, or ``timeout`` passed.
        """
        watch = _Watch(context, self)
        deadline = _deadline(timeout)
        while True:
            watch.look(sleeping=True)
            pause = _LOOK_UP
            if deadline is not None:
                pause = max(0.0, min(pause, deadline - time.monotonic()))
            if self.acquire(timeout=pause):
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise watch.too_late(timeout)

    async def wait_async(self, context: Context, timeout: float | None) -> None:
        """Acquire in a task that found the lock taken; other tasks go on."""
        watch = _Watch(context, self)
        deadline = _deadline(timeout)
        loop = asyncio.get_running_loop()
        while True:
            watch.look(sleeping=False)
            future = loop.create_future()
            entry = (loop, future)
            self.waiters.append(entry)
            try:
                if self.acquire(False):  # it became free before we were in line
                    return
                pause = _LOOK_UP * 4
                if deadline is not None:
                    pause = max(0.0, min(pause, deadline - time.monotonic()))
                await asyncio.wait((future,), timeout=pause)
            except BaseException:
                if future.done() and not self._lock.locked():
                    self.wake()  # it was our turn; it is the next one's now
                raise
            finally:
                if entry in self.waiters:
                    self.waiters.remove(entry)
            if self.acquire(False):
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise watch.too_late(timeout)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Watch:
    """A waiter's look at whoever owns the context."""

    def __init__(self, context: Context, queue: Queue) -> None:
        self._context = context
        self._queue = queue
        self._since = time.monotonic()
        self._warned = False
        self._missing = 0

    def look(self, *, sleeping: bool) -> None:
        """Raise if waiting is vain. ``sleeping``: this thread would stop."""
        context = self._context
        context._refuse_if_unusable(self._queue)
        owner = context._owner_thread
        if owner is None:
            return
        if sleeping and owner == threading.get_ident():
            raise TransactionError(
                "this thread has a transaction of the context open outside this flow "
                "(in another task, or in a suspended generator): waiting for it would "
                "never end; use `async with`, or end the other transaction"
            )
        # Twice, since the owner may have ended between two of our looks.
        self._missing = 0 if owner in sys._current_frames() else self._missing + 1
        if self._missing > 1 and context._owner_thread == owner:
            raise TransactionError(
                "the thread that began the context's open transaction has ended without "
                "ending it; leave its `with` block, or close the context, which aborts it"
            )
        if not self._warned and time.monotonic() - self._since > _PATIENCE:
            self._warned = True
            warnings.warn(
                f"has waited {_PATIENCE:.0f} s for a transaction that {_thread_name(owner)} "
                "has open; transaction(timeout=) limits the wait",
                RuntimeWarning,
                stacklevel=5,
            )

    def too_late(self, timeout: float | None) -> TransactionError:
        owner = self._context._owner_thread
        who = "another thread" if owner is None else _thread_name(owner)
        return TransactionError(
            f"{who} has had a transaction of the context open for longer than "
            f"timeout={timeout} s; nothing was begun"
        )


def _thread_name(ident: int) -> str:
    for thread in threading.enumerate():
        if thread.ident == ident:
            return f"thread {thread.name!r}"
    return f"thread {ident}"
