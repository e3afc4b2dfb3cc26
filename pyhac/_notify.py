# SPDX-License-Identifier: MIT
"""The thread that tells who asked when a transaction has reached a level.

One per context, started when first needed. It serves requests in the order of
their epochs, and waits for each before it looks at the next.
"""

import heapq
import itertools
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import cast

from .errors import Closed
from .levels import Level

Answer = Callable[[Exception | None], None]
"""Called with None when the level is reached, or with why it is not."""
Wait = Callable[[int, Level], Exception | None]


class Notifier:
    def __init__(self, wait: Wait, name: str) -> None:
        self._wait = wait
        self._requests: list[tuple[int, int, Level, Answer]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._verdict: Callable[[Level], Exception | None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, epoch: int, level: Level, answer: Answer) -> None:
        with self._changed:
            if self._verdict is None:
                heapq.heappush(self._requests, (epoch, next(self._order), level, answer))
                self._changed.notify_all()
                return
        self._give(answer, self._verdict(level))

    def stop(self, verdict: Callable[[Level], Exception | None]) -> None:
        """The context is closed: answer what is left with ``verdict``, and end."""
        with self._changed:
            self._verdict = verdict
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._requests or self._verdict)
                if not self._requests:
                    return
                epoch, _, level, answer = heapq.heappop(self._requests)
            failure = self._wait(epoch, level)
            if isinstance(failure, Closed):
                # Closed under our hands; whoever closes knows how that went.
                with self._changed:
                    self._changed.wait_for(lambda: self._verdict)
                assert self._verdict is not None
                failure = self._verdict(level)
            self._give(answer, failure)
            del answer

    @staticmethod
    def _give(answer: Answer, failure: Exception | None) -> None:
        try:
            answer(failure)
        except Exception:
            report(answer)


def warn(message: str, category: type[Warning]) -> None:
    """Warn about the line of the program that called pyhac."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        frame = frame.f_back
    if frame is None:
        warnings.warn(message, category, stacklevel=2)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__", "<unknown>")
    warnings.warn_explicit(
        message, category, frame.f_code.co_filename, frame.f_lineno, module, registry
    )


def report(source: object, message: str = "Exception ignored in a callback of pyhac") -> None:
    """Show the exception being handled, which nobody is there to receive."""
    kind, failure, traceback = sys.exc_info()
    assert kind is not None
    sys.unraisablehook(
        cast(
            "sys.UnraisableHookArgs",
            SimpleNamespace(
                exc_type=kind,
                exc_value=failure,
                exc_traceback=traceback,
                err_msg=message,
                object=source,
            ),
        )
    )
