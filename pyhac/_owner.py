# SPDX-License-Identifier: MIT
"""Who may begin: at most one transaction of a context is open at a time.

It has the token of the context's gate (_fast.c). Who finds that taken comes
here. A waiter looks up now and then, so that an owner that will never
end (its thread is gone, the context was closed) is an error, not a hang.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _native  # noqa: F401 - makes pyhac._fast importable
from ._fast import Gate
from ._notify import warn
from .errors import TransactionError

if TYPE_CHECKING:
    from contextvars import ContextVar

    from .context import Context
    from .transaction import Transaction

_LOOK_UP = 0.05  # seconds between two looks at the owner
_PATIENCE = 10.0  # seconds of waiting before a warning says for what


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _pause(longest: float, deadline: float | None) -> float:
    if deadline is None:
        return longest
    return max(0.0, min(longest, deadline - time.monotonic()))


class Queue:
    """Those who wait for the token of a gate."""

    __slots__ = ("_waiters", "gate")

    def __init__(self, handle: int, inside: ContextVar[int], kind: type[Transaction]) -> None:
        self._waiters: deque[Callable[[], object]] = deque()
        # The bound method would tie queue and gate into a cycle.
        waiters = self._waiters
        self.gate = Gate(handle, inside, lambda: _wake(waiters), kind)

    def wake_all(self) -> None:
        for _ in range(len(self._waiters)):
            _wake(self._waiters)

    def _line_up(self, waiter: Callable[[], object]) -> None:
        self._waiters.append(waiter)
        self.gate.waiting += 1

    def _step_aside(self, waiter: Callable[[], object]) -> None:
        """Leave the line. Who was woken already hands its turn on."""
        self.gate.waiting -= 1
        try:
            self._waiters.remove(waiter)
        except ValueError:
            if not self.gate.taken:
                _wake(self._waiters)

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
            self._line_up(waiter)
            try:
                if self.gate.take():  # it became free before we were in line
                    return
                turn.acquire(timeout=_pause(_LOOK_UP, deadline))
                if self.gate.take():
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
            self._line_up(waiter)
            try:
                if self.gate.take():
                    return
                await asyncio.wait((turn,), timeout=_pause(4 * _LOOK_UP, deadline))
                if self.gate.take():
                    return
            finally:
                self._step_aside(waiter)
            if deadline is not None and time.monotonic() >= deadline:
                raise watch.too_late(timeout)


def _wake(waiters: deque[Callable[[], object]]) -> None:
    """Let one waiter try again; it may come too late, and lines up again."""
    while waiters:
        try:
            waiters.popleft()()
        except (IndexError, RuntimeError):  # somebody was faster; its loop is closed
            continue
        return


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
        context._refuse_if_unusable(self._queue.gate)
        context._abort_if_dropped()
        owner = self._queue.gate.owner
        if not owner:
            return
        if sleeping and owner == threading.get_ident():
            raise TransactionError(
                "this thread has a transaction of the context open outside this flow "
                "(in another task, or in a suspended generator): waiting for it would "
                "never end; use `async with`, or end the other transaction"
            )
        # Twice, since the owner may have ended between two of our looks.
        self._missing = 0 if owner in sys._current_frames() else self._missing + 1
        if self._missing > 1 and self._queue.gate.owner == owner:
            raise TransactionError(
                "the thread that began the context's open transaction has ended without "
                "ending it; leave its `with` block, or close the context, which aborts it"
            )
        if not self._warned and time.monotonic() - self._since > _PATIENCE:
            self._warned = True
            warn(
                f"has waited {_PATIENCE:.0f} s for a transaction that {_thread_name(owner)} "
                "has open; transaction(timeout=) limits the wait",
                RuntimeWarning,
            )

    def too_late(self, timeout: float | None) -> TransactionError:
        owner = self._queue.gate.owner
        who = "another thread" if not owner else _thread_name(owner)
        return TransactionError(
            f"{who} has had a transaction of the context open for longer than "
            f"timeout={timeout} s; nothing was begun"
        )


def _thread_name(ident: int) -> str:
    for thread in threading.enumerate():
        if thread.ident == ident:
            return f"thread {thread.name!r}"
    return f"thread {ident}"
