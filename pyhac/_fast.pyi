# SPDX-License-Identifier: MIT
# The types of _fast.c, in the same extension as pyhac._ffi.
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from .context import Context
from .levels import Level
from .transaction import Transaction

class Gate:
    serial: int
    owner: int
    after: bool
    waiting: int
    @property
    def count(self) -> int: ...
    @property
    def open(self) -> Transaction | None: ...
    @property
    def taken(self) -> bool: ...
    @property
    def delta(self) -> int: ...
    def __init__(
        self,
        handle: int,
        inside: ContextVar[int],
        wake: Callable[[], object],
        kind: type[Transaction],
        /,
    ) -> None: ...
    def take(self) -> bool: ...
    def release(self) -> None: ...
    def is_inside(self) -> bool: ...
    def expire(self) -> None: ...
    def block(self, context: Context, /) -> Transaction: ...

class Block:
    _level: Level | None
    _state: int
    _odd: bool
    @property
    def _gate(self) -> Gate: ...
    @property
    def _context(self) -> Context: ...
    @property
    def _serial(self) -> int: ...
    @property
    def _epoch(self) -> int: ...
    def __enter__(self) -> Transaction: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...
    def _begin(self) -> Self: ...
    def _finish(self) -> int: ...
