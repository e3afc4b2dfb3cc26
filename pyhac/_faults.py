# SPDX-License-Identifier: MIT
"""Peace with faulthandler, the other owner of SIGSEGV.

libhac's handler passes every fault that is not its own on to the handler that
was there before, so it may sit in front of faulthandler's, never behind it:
faulthandler takes the first write to a protected page for a crash. Enabling
faulthandler late puts it in front, and disabling one that was enabled early
removes whatever came after it. So libhac claims the signal again after both.
"""

import faulthandler
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from . import _native

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _claiming(function: Callable[_P, _R], in_use: Callable[[], bool]) -> Callable[_P, _R]:
    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        finally:
            if in_use():
                _native.claim_faults()

    return wrapper


def watch(in_use: Callable[[], bool]) -> None:
    """Wrap faulthandler's switches; ``in_use`` tells whether a context is open."""
    for name in ("enable", "disable"):
        setattr(faulthandler, name, _claiming(getattr(faulthandler, name), in_use))
