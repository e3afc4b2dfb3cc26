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
from contextlib import suppress
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
_FAIR = 0.005  # seconds after which the first in line goes first
_HOLD = 0.001  # seconds between two tries of those outside the line
_PATIENCE = 10.0  # seconds of waiting before a warning says for what


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _pause(longest: float, deadline: float | None) -> float:
    if deadline is None:
        return longest
    return max(0.0, min(longest, deadline - time.monotonic()))


class _Waiter:
    """Somebody who waits: how to wake them, and since when they do."""

    __slots__ = ("since", "thread", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.thread = threading.get_ident()
        self.since = time.monotonic()


class Queue:
    """Those who wait for the token of a gate, in line.

    Whoever is awake may take the token before those in line do: a thread that
    comes and goes need not stop for each of the others. But once the first in
    line has waited for _FAIR seconds the others let it pass, for a while.
    """

    __slots__ = ("_line", "gate")

    def __init__(self, handle: int, inside: ContextVar[int], kind: type[Transaction]) -> None:
        self._line: deque[_Waiter] = deque()
        line = self._line  # a bound method would tie queue and gate into a cycle
        self.gate = Gate(handle, inside, line, lambda: _wake_first(line), kind)

    def wake_all(self) -> None:
        for waiter in list(self._line):
            with suppress(RuntimeError):
                waiter.wake()

    def _may_go(self, me: _Waiter | None) -> bool:
        """Is it not for others to take the token first?"""
        try:
            first = self._line[0]
        except IndexError:
            return True
        if first is me or first.thread == threading.get_ident():
            return True  # tasks of this thread cannot go while we stand here
        waited = time.monotonic() - first.since
        return not _FAIR < waited < _FAIR + _LOOK_UP

    def enter(self, block: Transaction, timeout: float | None) -> None:
        """Take the token and begin, in a thread.

        Raises:
            TransactionError: waiting would never end, or ``timeout`` passed.
        """
        if self._may_go(None) and block._try_begin():
            return
        turn = threading.Lock()
        turn.acquire()

        def wake() -> None:
            with suppress(RuntimeError):  # woken already
                turn.release()

        watch = _Watch(block._context, self)
        deadline = _deadline(timeout)
        me = _Waiter(wake)
        self._line.append(me)
        try:
            while True:
                watch.look(sleeping=True)
                if self._may_go(me) and block._try_begin():
                    return
                if deadline is not None and time.monotonic() >= deadline:
                    raise watch.too_late(timeout)
                turn.acquire(timeout=_pause(_LOOK_UP, deadline))
        finally:
            self._step_aside(me)

    async def enter_async(self, block: Transaction, timeout: float | None) -> None:
        """Take the token and begin, in a task; other tasks go on meanwhile."""
        if self._may_go(None) and block._try_begin():
            return
        loop = asyncio.get_running_loop()
        turn = asyncio.Event()
        watch = _Watch(block._context, self)
        deadline = _deadline(timeout)
        me = _Waiter(functools.partial(loop.call_soon_threadsafe, turn.set))
        self._line.append(me)
        try:
            while True:
                watch.look(sleeping=False)
                if self._may_go(me) and block._try_begin():
                    return
                if deadline is not None and time.monotonic() >= deadline:
                    raise watch.too_late(timeout)
                turn.clear()
                if not self.gate.taken and self._line[0] is me:
                    continue  # it came back while we looked
                with suppress(TimeoutError):
                    async with asyncio.timeout(_pause(4 * _LOOK_UP, deadline)):
                        await turn.wait()
        finally:
            self._step_aside(me)

    def hold(self, context: Context) -> None:
        """Take the token without beginning, in a thread."""
        watch = _Watch(context, self)
        while not self.gate.take():
            watch.look(sleeping=True)
            time.sleep(_HOLD)

    def _step_aside(self, me: _Waiter) -> None:
        """Leave the line; the next one may have been waiting for that."""
        self._line.remove(me)
        if not self.gate.taken:
            _wake_first(self._line)


def _wake_first(line: deque[_Waiter]) -> None:
    while line:
        try:
            first = line[0]
            first.wake()
        except IndexError:  # it has left meanwhile
            continue
        except RuntimeError:  # its event loop is closed
            with suppress(ValueError):
                line.remove(first)
            continue
        return


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
