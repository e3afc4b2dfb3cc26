# SPDX-License-Identifier: MIT
"""The open contexts of this process: what exit, fork and faulthandler need."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

from . import _faults
from ._notify import report

if TYPE_CHECKING:
    from .context import Context

_contexts: weakref.WeakSet[Context] = weakref.WeakSet()


def add(context: Context) -> None:
    _contexts.add(context)


def discard(context: Context) -> None:
    _contexts.discard(context)


def _after_fork() -> None:
    _contexts.clear()  # the child has none of its own


def _close_all() -> None:
    for context in list(_contexts):
        try:
            context.close()
        except Exception:
            report(context, "pyhac could not close a context at exit")


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
_faults.watch(lambda: len(_contexts) > 0)
