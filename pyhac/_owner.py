# SPDX-License-Identifier: MIT
"""Who may begin: at most one transaction of a context is open at a time.

The token is taken with one test-and-set when nobody holds it. Everybody else
comes here. A waiter looks up now and then, so that an owner that will never
end (its thread is gone, the context was closed) is an error, not a hang.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import TransactionError

if TYPE_CHECKING:
    from .context import Context

_LOOK_UP = 0.05  # seconds between two looks at the owner
_PATIENCE = 10.0  # seconds of waiting before a warning says for what


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _pause(longest: float, deadline: float | None) -> float:
    if deadline is None:
        return longest
    return max(0.0, min(longest, deadline - time.monotonic()))


class Queue:
    """A token that its owner takes, and those who wait for it.

    ``take()`` is the test-and-set: IndexError if somebody else has the token.
    """

    __slots__ = ("_token", "take", "waiters")

    def __init__(self, refuse: Callable[[], None] | None = None) -> None:
        self._token: list[None] = [None]
        self.take: Callable[[], None] = refuse or self._token.pop
        self.waiters: deque[Callable[[], object]] = deque()

    def release(self) -> None:
        self._token.append(None)
        if self.waiters:
            self.wake()

    def wake(self) -> None:
        """Let one waiter try again; it may come too late, and lines up again."""
        while self.waiters:
            try:
                self.waiters.popleft()()
            except (IndexError, RuntimeError):  # somebody was faster; its loop is closed
                continue
            return

    def _step_aside(self, waiter: Callable[[], object]) -> None:
        """Leave the line. Who was woken already hands its turn on."""
        try:
            self.waiters.remove(waiter)
        except ValueError:
            if self._token:
                self.wake()

    def wait(self, context: Context, timeout: float | None) -> None:
        """Take the token in a thread that found it taken.

        Raises:
            TransactionError: waiting would never end, or ``timeout`` passed.
        """
        watch = _Watch(context, self)
        deadline = _deadline(timeout)
        while True:
            watch.look(sleeping=True)
            turn = threading.Lock()
            turn.acquire()
            waiter = turn.release
            self.waiters.append(waiter)
            try:
                if self._taken():  # it became free before we were in line
                    return
                turn.acquire(timeout=_pause(_LOOK_UP, deadline))
                if self._taken():
                    return
            finally:
                self._step_aside(waiter)
            if deadline is not None and time.monotonic() >= deadline:
                raise watch.too_late(timeout)

    async def wait_async(self, context: Context, timeout: float | None) -> None:
        """Take the token in a task that found it taken; other tasks go on."""
        watch = _Watch(context, self)
        deadline = _deadline(timeout)
        loop = asyncio.get_running_loop()
        while True:
            watch.look(sleeping=False)
            turn: asyncio.Future[None] = loop.create_future()
            waiter = functools.partial(loop.call_soon_threadsafe, _set, turn)
            self.waiters.append(waiter)
            try:
                if self._taken():
                    return
                await asyncio.wait((turn,), timeout=_pause(4 * _LOOK_UP, deadline))
                if self._taken():
                    return
            finally:
                self._step_aside(waiter)
            if deadline is not None and time.monotonic() >= deadline:
                raise watch.too_late(timeout)

    def _taken(self) -> bool:
        try:
            self.take()
        except IndexError:
            return False
        return True


def _set(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


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
        context._abort_if_dropped()
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
