# SPDX-License-Identifier: MIT
"""Functions and coroutines that are transactions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from .context import Context
    from .transaction import Transaction

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Find = Callable[[tuple[Any, ...]], "Context"]


class Decorator(Protocol):
    """Keeps the signature of what it decorates."""

    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


def bracketed(function: Callable[_P, _R], find: _Find) -> Callable[_P, _R]:
    """The function with a transaction around each call, in the context that
    ``find`` makes of the positional arguments."""
    _refuse_unsuitable(function)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            async with _transaction(find(args), function):
                return await function(*args, **kwargs)

        return cast(Callable[_P, _R], coroutine)

    @functools.wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _transaction(find(args), function):
            result = function(*args, **kwargs)
            if isinstance(result, _SUSPENDED):
                raise _suspended(function, type(result).__name__)
            return result
        return cast(_R, None)  # aborted quietly

    return wrapper


def transactional(attr: str) -> Decorator:
    """Decorator for methods: ``self.<attr>`` is the context. The rest is as for
    :meth:`pyhac.Context.transactional`.

    ::

        class Bank:
            def __init__(self, path):
                self.ctx = pyhac.open(path)

            @pyhac.transactional("ctx")
            def move(self, source, target, amount): ...
    """
    if not isinstance(attr, str) or not attr.isidentifier():
        raise TypeError(f"transactional() needs the name of an attribute of self, not {attr!r}")

    def find(arguments: tuple[Any, ...]) -> Context:
        if not arguments:
            raise TypeError(f'@transactional("{attr}") is for methods: there is no self')
        return cast("Context", getattr(arguments[0], attr))

    def decorate(function: Callable[_P, _R], /) -> Callable[_P, _R]:
        return bracketed(function, find)

    return decorate


def _transaction(context: Context, function: Callable[..., object]) -> Transaction:
    transaction = context.transaction()
    if context._check:
        transaction._where = function
    return transaction


_SUSPENDED = (GeneratorType, AsyncGeneratorType, CoroutineType)


def _refuse_unsuitable(function: object) -> None:
    if isinstance(function, (classmethod, staticmethod)):
        raise TypeError(f"put @{type(function).__name__} above transactional, not below")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"transactional decorates functions, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _suspended(function, "generator")


def _suspended(function: Callable[..., object], kind: str) -> TypeError:
    name = getattr(function, "__qualname__", repr(function))
    return TypeError(
        f"{name}: a {kind} runs after the call has returned, so its transaction would be over, "
        "or stay open between steps; put `with ctx.transaction():` inside it"
    )
