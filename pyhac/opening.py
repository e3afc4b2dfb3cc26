# SPDX-License-Identifier: MIT
"""One opening of a context: what has to be closed even if the context is gone."""

import errno
import os
import threading
import time
import warnings

from . import _native
from ._notify import Answer, Notifier
from .area import Areas
from .errors import Closed, Forked, InDoubt
from .levels import Level, Role

_LOOK_UP_MS = 100  # how long a signal may go unnoticed


class Opening:
    """Refers to no Context, so that one that is dropped can be closed."""

    def __init__(self, handle: _native.Handle, path: str | None, *, readonly: bool) -> None:
        self.handle = handle
        self.path = path
        self.pid = os.getpid()
        self.closed = False
        self.role = _native.context_info(handle).role
        self.areas = Areas(handle, readonly=readonly, standby=self.role is Role.STANDBY)
        self.doubt: dict[int, Level] = {}
        self._notifier: Notifier | None = None
        self._mutex = threading.Lock()

    def refuse_if_unusable(self) -> None:
        if self.pid != os.getpid():
            raise Forked(
                f"the context {self.path or ''} belongs to process {self.pid}, which forked "
                "this one; open another in the child"
            )
        if self.closed:
            raise Closed(f"the context {self.path or ''} is closed")

    def reach(self, epoch: int, level: Level, ms: int) -> Exception | None:
        """Wait until the epoch has reached the level; why not, if it has not."""
        code = _native.lib.pyhac_wait(self.handle, epoch, level.kind, level.count, ms)
        if code >= 0:
            if self.doubt:
                self.doubt = {
                    other: wanted
                    for other, wanted in self.doubt.items()
                    if other > epoch or wanted > level
                }
            return None
        if code == -errno.EUCLEAN:
            self.doubt[epoch] = max(level, self.doubt.get(epoch, level))
        return _native.error(code, sorted(self.doubt))

    def notify(self, epoch: int, level: Level, answer: Answer) -> None:
        """Have ``answer`` called when the epoch has reached the level."""
        with self._mutex:
            self.refuse_if_unusable()  # in a forked child there is no thread
            if self._notifier is None:
                self._notifier = Notifier(
                    lambda epoch, level: self.reach(epoch, level, -1),
                    f"pyhac {self.path or 'notifier'}",
                )
        self._notifier.submit(epoch, level, answer)

    def look_primary(self, ms: int = 0) -> bool:
        """Is this context primary by now? Then its areas have become writable, in this
        thread. Errors as Context.wait_primary."""
        self.refuse_if_unusable()
        if self.role is Role.PRIMARY:
            return True
        code = _native.lib.hac_wait_primary(self.handle, ms)
        if code == -errno.ETIMEDOUT:
            return False
        _native.check(code)
        with self._mutex:
            first = self.role is Role.STANDBY
            self.role = Role.PRIMARY
        if first:
            self.areas.become_primary()
        return True

    def wait_primary(self, timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        ms = _LOOK_UP_MS
        while True:
            if end is not None:
                ms = min(_LOOK_UP_MS, max(0, round((end - time.monotonic()) * 1000)))
            if self.look_primary(ms):
                return
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"this standby has not become primary within {timeout} s"
                )

    def close(self) -> Exception | None:
        """Close; why not, or what was lost. ``closed`` tells which."""
        self.refuse_if_unusable()
        before = _native.context_info(self.handle)
        failure: Exception | None = None
        code = _native.close_context(self.handle)
        if code < 0:
            failure = _native.error(code, range(before.durable + 1, before.epoch + 1))
            try:
                _native.context_info(self.handle)
                return failure
            except Closed:
                pass
        self.closed = True
        self.areas.close()
        if self._notifier is not None:
            self._notifier.stop(lambda level: self._verdict(level, failure))
        return failure

    def _verdict(self, level: Level, failure: Exception | None) -> Exception | None:
        """What to tell those who wait for a level of a closed context: closing
        without an error has synced the journal."""
        if failure is not None:
            return InDoubt(str(failure), sorted(self.doubt))
        return None if level <= Level.JOURNAL else Closed("closed before the level was reached")

    def abandon(self) -> None:
        """The context was dropped without having been closed."""
        if self.closed or self.pid != os.getpid():
            return
        failure = self.close()
        warnings.warn(
            f"the context {self.path or ''} was dropped without being closed"
            + (f": {failure}" if failure else ""),
            ResourceWarning,
            stacklevel=2,
        )
