# SPDX-License-Identifier: MIT
"""Transactions: all of the writes in a block, or none of them."""

from __future__ import annotations

import asyncio
import errno
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import FunctionType, TracebackType

from . import _native
from ._fast import Block
from ._notify import report, warn
from .buffers import Buffer
from .delta import Delta, lent_delta
from .errors import Abort, Closed, Forked, InDoubt, NothingChanged, TransactionError
from .levels import Level, Status, checked_level

_STATUS = tuple(Status)
_NEW, _OPEN, _ENDED, _ABORTED, _IN_DOUBT = range(5)  # enum state in _fast.c

IDLE = -1
"""``Gate.serial`` while no transaction is open."""


class _Extras:
    """What few transactions have."""

    __slots__ = ("on_abort", "on_commit")

    def __init__(self) -> None:
        self.on_commit: list[tuple[Callable[[], object], Level | None]] = []
        self.on_abort: list[Callable[[], object]] = []


class Transaction(Block):
    """A transaction of a context; made by ``ctx.transaction()``, used once.

    ``with`` or ``async with`` begins it, and ends it when the block is left
    normally. Any exception aborts it and propagates; :class:`pyhac.Abort`
    aborts it quietly. It covers every byte of the context's areas, whoever
    writes: writers finish before it ends.

    A block inside a transaction of the same context joins it and is all of a
    piece with it: an exception that leaves the inner block dooms the whole,
    even when it is caught. Child tasks and ``asyncio.to_thread`` are inside,
    too. Another thread waits for its turn, as does an unrelated task of the
    same thread in ``async with``; in plain ``with`` that task gets
    TransactionError, since its waiting would stop the thread.

    The block returns when the transaction has reached its level; the next one
    may begin before that. Under plain ``with`` this wait is not interrupted by
    signals, and stops the event loop; ``async with`` lets other tasks run.
    """

    __slots__ = ("_doom", "_extras", "_joined", "_root", "_timeout", "_where")

    # Few transactions have these; but for the last two, they are set with _odd.
    _joined: int  # blocks inside that have not been left
    _doom: BaseException | None  # what left one of them
    _extras: _Extras | None
    _root: Transaction | None  # the transaction that this block joined
    _timeout: float
    _where: Callable[..., object]

    def _become_odd(self) -> None:
        """Leave the short way; called with the context's mutex held."""
        if not self._odd:
            self._joined = 0
            self._doom = None
            self._extras = None
            self._root = None
            self._odd = True

    @property
    def _whole(self) -> Transaction:
        """The transaction that this one is part of, or itself."""
        return (self._root or self) if self._odd else self

    def __repr__(self) -> str:
        root = self._whole
        number = f" of epoch {root._epoch}" if root._epoch else ""
        return f"<Transaction{number}, {root.status.value}>"

    # -- begin: the ways that _fast.c leaves to Python ---------------------------

    def _enter(self) -> Transaction:
        root = self._join()
        if root is not None:
            return root
        self._context._queue.enter(self, getattr(self, "_timeout", None))
        return self

    async def __aenter__(self) -> Transaction:
        root = self._join()
        if root is not None:
            return root
        await self._context._queue.enter_async(self, getattr(self, "_timeout", None))
        return self

    def _begin_failed(self, code: int) -> None:
        raise self._context._begin_error(code)

    def _join(self) -> Transaction | None:
        """Become a part of the transaction that is open in this flow, if it
        still is: the block counts itself in and then looks whether the end has
        begun; the end does it the other way round."""
        if self._state != _NEW:
            raise TransactionError(
                "a transaction object is used once; call ctx.transaction() for each block"
            )
        context = self._context
        context._refuse_if_unusable(self._gate)
        if not self._gate.is_inside():
            return None
        context._abort_if_dropped()
        root = self._gate.open
        if root is None:
            return None
        with context._mutex:
            root._become_odd()
            root._joined += 1
        if self._gate.serial != root._serial:
            with context._mutex:
                root._joined -= 1
            return None
        if self._level is not None:
            root._level = max(self._level, root._level or context._level)
        self._become_odd()
        self._root = root
        self._state = _OPEN
        return root

    # -- end -------------------------------------------------------------------

    def _exit(self, failure: BaseException | None) -> bool | None:
        if failure is not None:
            return self._fail(failure)
        if self._end():
            self._after_end()
        return None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if failure is not None:
            return self._fail(failure)
        if self._end():
            if self._context._check:
                self._warn_if_unchanged()
            await self.committed(self._level)
        return None

    def _end(self) -> bool:
        """Leave the block normally. False if the transaction goes on without it."""
        if self._odd and self._root is not None:
            self._leave_joined(self._root)
            return False
        if not self._is_open():
            raise Closed("the context was closed inside this transaction, which aborted it")
        gate = self._gate
        gate.serial = IDLE  # from here on nobody joins
        if self._odd and (self._joined or self._doom is not None):
            self._roll_back(self._why_not())
        code = self._finish()
        if code < 0:
            self._finish_failed(code)
        try:
            if self._odd and self._extras is not None:
                # Before anybody else can end: callbacks run in the order of epochs.
                for callback, level in self._extras.on_commit:
                    self._notify(callback, level)
        finally:
            gate.release()
        return True

    def _finish_failed(self, code: int) -> None:
        self._roll_back(_native.error(code))

    def _after_end(self) -> None:
        """What follows once the next transaction may begin."""
        if self._context._check:
            self._warn_if_unchanged()
        self._reach(self._level, None)

    def _fail(self, failure: BaseException) -> bool:
        """Leave the block with an exception. True: swallow it."""
        if self._odd and self._root is not None:
            if self._root._doom is None:
                self._root._doom = failure
            self._leave_joined(self._root, failure)
            return False
        if self._is_open():
            self._gate.serial = IDLE
            self._roll_back(None, failure)
        return isinstance(failure, Abort)

    def _is_open(self) -> bool:
        """True, or False if the context was closed meanwhile."""
        if self._state == _NEW:
            raise TransactionError("the transaction has not been entered: use `with`")
        if self._state != _OPEN:
            raise TransactionError(f"the transaction is over: {self.status.value}")
        if self._gate.serial == self._serial:
            return True
        self._state = _ABORTED
        return False

    def _why_not(self) -> TransactionError:
        if self._doom is None:
            return TransactionError(
                f"{self._joined} block(s) that joined this transaction are still open in "
                "other tasks or threads; it was aborted: wait for them before it ends"
            )
        error = TransactionError(
            f"a block inside this transaction failed ({self._doom!r}), which aborted all of "
            "it, though the exception was caught"
        )
        error.__cause__ = self._doom
        return error

    def _leave_joined(self, root: Transaction, failure: BaseException | None = None) -> None:
        if self._state != _OPEN:
            raise TransactionError("the block has been left already")
        self._state = _ENDED
        with self._context._mutex:
            root._joined -= 1
        if failure is None and self._gate.serial != root._serial:
            raise TransactionError(
                "the transaction that this block joined was over before the block"
            )

    def _roll_back(self, error: Exception | None, failure: BaseException | None = None) -> None:
        """Put every byte back and release the context; raise ``error``, if any.
        ``failure`` is the exception on its way out of the block."""
        context = self._context
        code = _native.lib.hac_abort(context._opening_handle)
        refusal = _native.error(code) if code < 0 else None
        if code == -errno.EOPNOTSUPP:
            context._broken = (
                "a transaction failed in this context, which was opened with twin=False and "
                "cannot roll back: the areas hold part of its writes; close the context and "
                "open it again"
            )
        self._state = _ABORTED
        self._gate.release()
        if self._odd:
            self._doom = None  # it holds frames, and those hold us
            for callback in self._extras.on_abort if self._extras is not None else ():
                try:
                    callback()
                except Exception:
                    report(callback)
        if code == -errno.EOPNOTSUPP:
            raise TransactionError(context._broken) from failure or error
        if error is not None:
            raise error
        # Closed and forked are no news to a block that fails anyway.
        if refusal is not None and not isinstance(refusal, (Closed, Forked)):
            raise refusal from failure

    def _warn_if_unchanged(self) -> None:
        if _native.delta_counts(_native.delta_at(self._gate.delta))[0]:
            return
        where = getattr(self, "_where", None)
        hint = "nothing in the areas was changed; was `x = x + 1` meant to be `x[:] = x + 1`?"
        if where is None:
            warn(f"transaction: {hint}", NothingChanged)
            return
        message = f"{where.__qualname__}(): {hint}"
        if isinstance(where, FunctionType):
            code = where.__code__
            warnings.warn_explicit(message, NothingChanged, code.co_filename, code.co_firstlineno)
        else:
            warn(message, NothingChanged)

    # -- levels ----------------------------------------------------------------

    def _ended(self) -> Transaction:
        """The transaction that has ended; TransactionError if it has not."""
        root = self._whole
        if not root._epoch:
            raise TransactionError(
                "the transaction was aborted"
                if root._state == _ABORTED
                else "the transaction has not ended yet"
            )
        return root

    def _target(self, level: Level | None) -> Level:
        return level or self._level or self._context._level

    def _reach(self, level: Level | None, timeout: float | None) -> None:
        target = self._target(level)
        if target.kind < 2 and self._state == _ENDED:
            return  # it is in the ring since it ended
        ms = -1 if timeout is None else max(0, round(timeout * 1000 + 0.5))
        self._settle(self._context._opening.reach(self._epoch, target, ms))

    def _settle(self, failure: Exception | None) -> None:
        if failure is None:
            self._state = _ENDED
            return
        if isinstance(failure, InDoubt):
            self._state = _IN_DOUBT
        raise failure

    def wait(self, level: Level | None = None, timeout: float | None = None) -> None:
        """Wait until the ended transaction has reached a level.

        Args:
            level: None: the transaction's own.
            timeout: in seconds; None: for ever.

        Raises:
            InDoubt: not reached in time, or the drainer failed. The context
                begins nothing until a later wait succeeds.
            TransactionError: it has not ended, or was aborted.
            ValueError: the context has no such level.
        """
        root = self._ended()
        level = root._context._checked(checked_level(level))
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout must not be negative: {timeout}")
        root._reach(level, timeout)

    async def committed(self, level: Level | None = None) -> None:
        """``wait`` for tasks: other tasks run meanwhile. Errors are the same."""
        root = self._ended()
        target = root._target(root._context._checked(checked_level(level)))
        if target.kind < 2 and root._state == _ENDED:
            return
        loop = asyncio.get_running_loop()
        reached: asyncio.Future[Exception | None] = loop.create_future()

        def answer(failure: Exception | None) -> None:
            def settle() -> None:
                if not reached.done():
                    reached.set_result(failure)

            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        root._context._opening.notify(root._epoch, target, answer)
        root._settle(await reached)

    # -- callbacks -------------------------------------------------------------

    def on_commit(self, callback: Callable[[], object], level: Level | None = None) -> None:
        """Call ``callback()`` once the transaction has reached ``level`` (None:
        its own).

        Callbacks of a context run one after the other in the order of epochs,
        in a thread of the context; hand over to an event loop with
        ``loop.call_soon_threadsafe``. If the level is not reached the callback
        is not called, and the reason goes to ``sys.unraisablehook``, as do
        exceptions that it raises.

        Raises:
            TransactionError: the transaction was aborted, or not begun.
            ValueError: the context has no such level.
        """
        root = self._whole
        level = root._context._checked(checked_level(level))
        if not callable(callback):
            raise TypeError(f"on_commit needs a function, not {callback!r}")
        if root._epoch:
            root._notify(callback, level)
            return
        self._open_extras().on_commit.append((callback, level))

    def on_abort(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` if the transaction is aborted: after every byte has
        been put back, in the thread that aborts. Exceptions that it raises go to
        ``sys.unraisablehook``. Errors: as :meth:`on_commit`."""
        if not callable(callback):
            raise TypeError(f"on_abort needs a function, not {callback!r}")
        self._open_extras().on_abort.append(callback)

    def _open_extras(self) -> _Extras:
        root = self._whole
        if root._state != _OPEN:
            raise TransactionError(f"the transaction is not open but {root.status.value}")
        with root._context._mutex:
            root._become_odd()
            if root._extras is None:
                root._extras = _Extras()
        return root._extras

    def _notify(self, callback: Callable[[], object], level: Level | None) -> None:
        def answer(failure: Exception | None) -> None:
            try:
                if failure is not None:
                    raise failure
                callback()
            except Exception:
                report(callback)

        self._context._opening.notify(self._epoch, self._target(level), answer)

    # -- the rest --------------------------------------------------------------

    def will_write(self, view: Buffer) -> None:
        """Announce that the kernel will write into ``view`` on the program's
        behalf: ``readinto``, ``recv_into``, ``os.preadv``, ...

        Needed before each such call in a transaction under the engines "pt"
        and "emul", which otherwise make it fail with EFAULT, and "scanxen", which
        may miss it; harmless under the others. The view must lie in one area.

        Raises:
            ValueError: it is not within one area, or not contiguous.
            TransactionError: the transaction is not open.
        """
        root = self._whole
        if root._state != _OPEN:
            raise TransactionError(f"the transaction is not open but {root.status.value}")
        self._context._opening.areas.will_write(view)

    @property
    def status(self) -> Status:
        """What has become of it. A joined block has the whole's."""
        return _STATUS[self._whole._state]

    @property
    def epoch(self) -> int:
        """The number it got when it ended; TransactionError before, and if aborted."""
        return self._ended()._epoch

    @property
    def delta(self) -> Delta:
        """What it changed, once it has ended; lent until the context's next
        transaction begins (``delta.copy()`` keeps it). A transaction that C or
        numba code begins through the handle takes it back unnoticed.

        Raises:
            TransactionError: not ended, aborted, or taken back.
        """
        root = self._ended()
        gate, serial = root._gate, root._serial

        def check() -> None:
            if gate.count != serial:
                raise TransactionError(
                    "the delta was lent until the context's next transaction began; "
                    "keep one with txn.delta.copy() right after the block"
                )

        check()
        name_of = root._context._opening.areas.name_of
        return lent_delta(_native.delta_at(gate.delta), name_of, check)
