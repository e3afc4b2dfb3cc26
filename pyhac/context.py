# SPDX-License-Identifier: MIT
"""Contexts: critical data areas, their transactions and their image."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from numpy.typing import DTypeLike, NDArray

from . import _living, _native
from ._fast import Gate
from ._notify import warn
from ._owner import Queue
from .adopt import adopt_object
from .area import area_flags, checked_engine, checked_name
from .buffers import Buffer
from .decorate import bracketed
from .errors import Closed, ImageCut, StrayWrite, TransactionError
from .info import AreaInfo, EngineChoice, Stats
from .layout import Shape
from .levels import Level, Role, checked_level
from .opening import Opening
from .options import (
    Path,
    checked_codec,
    checked_number,
    checked_replication,
    encoded_path,
    refuse_without_path,
)
from .transaction import IDLE, Transaction

if TYPE_CHECKING:
    from types import TracebackType

    from .adopt import Library
    from .advice import Advice

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LOOK = 0.01  # seconds between two looks of Context.primary()


class Context:
    """Critical data areas (areas, for short) with one transaction at a time.

    :func:`pyhac.open` makes one that is open. ``Context()`` makes one that
    :meth:`open` opens later, so that functions can be decorated with
    :meth:`transactional` before; one that was closed can be opened again.

    Threads: every method may be called from any thread. Fork: in a child,
    areas read and write as the child's own copies, and every method raises
    :class:`pyhac.Forked`. Closing: afterwards methods raise
    :class:`pyhac.Closed`; arrays stay readable as long as they live. A context
    is also a context manager that closes itself.

    Source: libhac/include/hac.h.
    """

    def __init__(self) -> None:
        # The serial number of the transaction that this flow is or was inside.
        self._inside: ContextVar[int] = ContextVar("pyhac transaction", default=0)
        self._queue = Queue(0, self._inside, Transaction)
        self._gate = self._queue.gate
        self._level = Level.RING
        self._check = False
        self._broken = ""  # why there can be no transaction any more
        self._mutex = threading.Lock()  # orders joins
        self._restored = False
        self._current: Opening | None = None
        self._finalizer: weakref.finalize[[Opening], Context] | None = None

    def open(
        self,
        path: Path | None = None,
        *,
        engine: str = "auto",
        level: Level | None = None,
        flush_ms: int | None = None,
        twin: bool = True,
        strict: bool = False,
        join_strays: bool = False,
        check: bool = False,
        readonly: bool = False,
        at: int | None = None,
        partial: bool = False,
        role: Role | str | None = None,
        listen: str | None = None,
        peers: Iterable[str] = (),
        tls: Path | None = None,
        codec: str | None = None,
        key_file: Path | None = None,
        helper_arguments: Iterable[str] = (),
    ) -> Self:
        """Open the image at ``path``; arguments and errors as :func:`pyhac.open`.

        Raises:
            TransactionError: this context is open.
        """
        if self._current is not None and not self._current.closed:
            raise TransactionError("the context is open already; close it first")
        encoded = encoded_path(path, "path")
        name = checked_engine(engine)
        level = checked_level(level)
        replication = checked_replication(role, listen, peers, tls, helper_arguments)
        if encoded is None:
            refuse_without_path(level, flush_ms, readonly, at, replication, codec, key_file)
        flags = (
            (0 if twin else _native.NO_TWIN)
            | (_native.STRICT if strict else 0)
            | (_native.JOIN_STRAYS if join_strays else 0)
            | (_native.READONLY if readonly else 0)
            | (_native.PARTIAL if partial else 0)
        )
        handle = _native.open_context(
            encoded,
            flags=flags,
            engine=name or "auto",
            level=level,
            flush_ms=checked_number(flush_ms, "flush_ms", 2**31),
            at=checked_number(at, "at", 2**64),
            codec=checked_codec(codec),
            key_file=encoded_path(key_file, "key_file"),
            replication=replication,
        )
        text = None if encoded is None else os.fsdecode(encoded)
        opening = Opening(handle, text, readonly=readonly)
        info = _native.context_info(handle)
        self._restored = info.unclaimed > 0
        self._level = level or (Level.RING if encoded is None else Level.JOURNAL)
        self._check = check
        self._adopt_opening(opening)
        if info.dropped_bytes:
            warn(
                f"{text}: the image's end was damaged or unfinished: {info.dropped_bytes} bytes "
                f"were cut, from epoch {info.dropped_epoch} on; the state is that of epoch "
                f"{info.epoch}",
                ImageCut,
            )
        return self

    def _adopt_opening(self, opening: Opening) -> None:
        self._current = opening
        self._broken = ""
        self._queue = Queue(_native.address_of(opening.handle), self._inside, Transaction)
        self._gate = self._queue.gate
        self._gate.after = self._check or self._level > Level.RING
        self._finalizer = weakref.finalize(self, Opening.abandon, opening)
        self._finalizer.atexit = False  # _living closes contexts then
        _living.add(self)

    def close(self, strict: bool = False) -> None:
        """Close the context; a second time does nothing.

        Writes made since the last transaction are ended as an epoch of their
        own, and an open transaction is aborted. Returns when the journal has
        everything, synced. Arrays and memoryviews of the areas stay readable
        while they live, but writing to one ends the process with a message;
        adopted memory is writable as ever.

        Args:
            strict: refuse while arrays or memoryviews of the areas live.

        Raises:
            TransactionError: ``strict``, and views live. Nothing was closed.
            StrayWrite: a strict context has changes outside a transaction.
                Nothing was closed.
            InDoubt, OSError: closed, but the journal did not take everything.
        """
        opening = self._current
        if opening is None or opening.closed:
            return
        opening.refuse_if_unusable()
        if strict:
            viewed = opening.areas.viewed()
            if viewed:
                raise TransactionError(
                    f"close(strict=True): views of {', '.join(map(repr, viewed))} live; "
                    "delete every array and memoryview of them first"
                )
        self._gate.expire()
        failure = opening.close()
        if opening.closed:
            if self._finalizer is not None:
                self._finalizer.detach()
            self._gate.serial = IDLE
            self._gate.release()
            self._queue.wake_all()
            _living.discard(self)
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        self._opening  # noqa: B018 - raises if there is nothing to close
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opening = self._current
        if opening is None or opening.pid != os.getpid():
            return  # a forked child has nothing of its own to close
        try:
            self.close()
        except StrayWrite:
            if failure is None:
                raise

    def __repr__(self) -> str:
        opening = self._current
        if opening is None:
            return "<Context, not opened>"
        state = "closed" if opening.closed else "open"
        return f"<Context {opening.path or 'without image'}, {state}>"

    # -- what it is ------------------------------------------------------------

    @property
    def _opening(self) -> Opening:
        """The opening, usable; Closed or Forked if there is none."""
        opening = self._current
        if opening is None:
            raise Closed("the context has not been opened: call open() first")
        opening.refuse_if_unusable()
        return opening

    @property
    def epoch(self) -> int:
        """The number of the last ended epoch; 0 before the first."""
        return _native.context_info(self._opening.handle).epoch

    @property
    def generation(self) -> int:
        """The number of this opening of the image, from 1 on; 0 without one."""
        return _native.context_info(self._opening.handle).generation

    @property
    def role(self) -> Role | None:
        """``Role.PRIMARY`` or ``Role.STANDBY``; None without replication. A standby
        that was promoted is one until :meth:`wait_primary` or :meth:`primary`."""
        opening = self._opening
        return opening.role

    @property
    def helper(self) -> int | None:
        """The helper's pid; None without one, and while it is being restarted."""
        return _native.context_info(self._opening.handle).helper or None

    @property
    def restored(self) -> bool:
        """The image existed and held areas when it was opened."""
        self._opening  # noqa: B018
        return self._restored

    @property
    def engine(self) -> EngineChoice:
        """Which engine tracks writes, and why that one."""
        return _native.context_info(self._opening.handle).engine

    @property
    def areas(self) -> Mapping[str, AreaInfo]:
        """By name: the areas that are claimed, then those of the image that are not."""
        return self._opening.areas.all()

    @property
    def stats(self) -> Stats:
        """What the context did since it was opened; two of them subtract."""
        return _native.context_stats(self._opening.handle)

    def advise(self) -> Advice:
        """The engine that suits what the transactions of this context did since it was
        opened, with what each engine is expected to cost; ``print()`` it.

        The engines are measured on this machine for that, once: a second or so each.
        How often a page is written only engines that see single writes know (open the
        context with ``engine="emul"``); otherwise the changed words stand for them.

        Raises:
            TransactionError: no transaction has ended yet, or the context is read-only
                or a standby, which have none.
            Error: the engines could not be measured.
        """
        from .advice import Workload, advise
        from .calibration import Manner

        opening = self._opening
        info = _native.context_info(opening.handle)
        if info.flags & _native.READONLY or opening.role is Role.STANDBY:
            raise TransactionError(
                "a context that is read-only or a standby has no transactions to advise on"
            )
        sizes = [area.size for area in opening.areas.all().values() if area.claimed]
        manner = Manner(
            twin=not info.flags & _native.NO_TWIN,
            join_strays=bool(info.flags & _native.JOIN_STRAYS),
        )
        return advise(Workload.of(self.stats, sizes), info.engine.name, manner)

    @property
    def handle(self) -> int:
        """The address of the ``hac``, for C and for numba (see :mod:`pyhac.jit`).
        Valid as long as the process lives; after closing, calls answer -EBADF."""
        return _native.address_of(self._opening.handle)

    # -- areas -----------------------------------------------------------------

    def array(
        self,
        name: str,
        shape: Shape | None = None,
        dtype: DTypeLike | None = None,
        *,
        init: Callable[[NDArray[Any]], object] | None = None,
        capacity: int | None = None,
        pointers: bool = False,
        kernel_writes: bool = True,
        engine: str | None = None,
    ) -> NDArray[Any]:
        """A numpy array that lives in a critical data area.

        New areas are zero; one that the image holds comes back as it was. Its
        first dimension may have grown (see :meth:`resize`); dtype and other
        dimensions must be those of the image.

        The memory belongs to the context and stays mapped while this array or
        any view of it lives. Read-only contexts give read-only arrays.

        Args:
            name: 1 to 255 bytes of UTF-8; once in a context.
            shape: rows, or a tuple; () is a single item. None: as in the image.
            dtype: without Python objects. None: as in the image, or float64.
            init: called with the array if the area is new; what it writes needs
                no transaction, and must not be inside one, whose abort would
                undo it. If it raises, the area is dropped again.
            capacity: rows to reserve address space for, so that the array can
                grow without moving.
            pointers: the area holds addresses of itself: restore it at the same
                address, or refuse.
            kernel_writes: choose an engine under which ``readinto`` and the like
                work without :meth:`Transaction.will_write`.
            engine: track this area with that engine; None: the context's.

        Raises:
            ValueError, TypeError: an argument is wrong.
            LayoutError: the image holds another layout; both are named.
            EngineUnavailable, TransactionError (the name is claimed already),
            MemoryError, OSError (EROFS: read-only, and not in the image).
        """
        areas = self._opening.areas
        flags = area_flags(pointers=pointers, kernel_writes=kernel_writes)
        with self._room_for(init):
            return areas.array(
                name, shape, dtype, init=init, capacity=capacity, flags=flags, engine=engine
            )

    def buffer(
        self,
        name: str,
        size: int,
        *,
        init: Callable[[memoryview], object] | None = None,
        capacity: int | None = None,
        pointers: bool = False,
        kernel_writes: bool = True,
        engine: str | None = None,
    ) -> memoryview:
        """``size`` bytes of a critical data area; the rest is as for :meth:`array`."""
        areas = self._opening.areas
        flags = area_flags(pointers=pointers, kernel_writes=kernel_writes)
        with self._room_for(init):
            return areas.buffer(
                name, size, init=init, capacity=capacity, flags=flags, engine=engine
            )

    def resize(self, name: str, rows: int) -> NDArray[Any]:
        """Grow an area to ``rows`` rows (a buffer: bytes), within its capacity.

        Returns a new array at the same address; older ones stay valid and keep
        their length. The new rows are zero. An abort does not undo it.

        In a standby it gives a new array once the primary's growth has arrived,
        and is a TransactionError before.

        Raises:
            ValueError: fewer rows than now, more than the capacity, or no
                mapped area of that name.
        """
        return self._opening.areas.resize(name, rows)

    def drop(self, name: str) -> None:
        """Forget an area, claimed or only in the image, from which the next epoch
        removes it. Views of it stay readable, and must not be written to.

        Raises:
            TransactionError: inside a transaction.
            ValueError: there is no such area.
        """
        areas = self._opening.areas
        checked_name(name)
        if areas.find(name) is None:
            known = ", ".join(areas.all()) or "none"
            raise ValueError(f"there is no area {name!r}; areas: {known}")
        with self._between_transactions():
            areas.drop(name)

    def adopt(
        self,
        name: str,
        buffer: Buffer,
        *,
        pointers: bool = False,
        kernel_writes: bool = True,
        engine: str | None = None,
    ) -> None:
        """Make memory that exists an area: any writable C-contiguous buffer
        (numpy array, bytearray, ctypes object, mmap, array.array).

        If the image holds the area, its bytes overwrite the buffer. The context
        keeps the buffer alive, and in place (a bytearray cannot be resized),
        until the area is dropped or the context closed.

        Raises:
            ValueError: read-only, not contiguous, empty, or overlapping
                another area.
            TypeError: no buffer. Others as for :meth:`array`.
        """
        flags = area_flags(pointers=pointers, kernel_writes=kernel_writes)
        self._opening.areas.adopt(name, buffer, flags=flags, engine=engine)

    def adopt_object(
        self,
        library: Library,
        *,
        section: str = "hac_cda",
        symbols: Sequence[str] | None = None,
    ) -> dict[str, memoryview]:
        """Make variables of a loaded shared library areas.

        Args:
            library: its path, a ctypes.CDLL, a cffi library or a module. It
                must be loaded, and stays so while the areas are adopted.
            section: the section to adopt, whole. C code puts a variable there
                with ``__attribute__((section("hac_cda")))``.
            symbols: adopt these variables instead of a section.

        Returns:
            The memory by area name, ``"<soname>:<section or symbol>"``. The
            build-id is stored with the areas: another build of the library is
            refused with LayoutError.

        Raises:
            ValueError: not loaded, no such section or symbol, or not writable.
            OSError: the file cannot be read. Others as for :meth:`adopt`.
                Either all is adopted or nothing.
        """
        return adopt_object(self._opening.areas, library, section, symbols)

    # -- transactions ----------------------------------------------------------

    def transaction(
        self, *, level: Level | None = None, timeout: float | None = None
    ) -> Transaction:
        """A new transaction, for ``with`` or ``async with``.

        Args:
            level: how safe it has to be when the block returns; None: the
                context's level. A joined block can only raise the whole's.
            timeout: seconds to wait for other transactions to end before this
                one begins; None: for ever.

        Raises, when the block begins:
            TransactionError: timeout, waiting would never end, the image holds
                areas that nobody claimed, or a read-only context.
            StrayWrite: a strict context has changes outside a transaction.
            InDoubt: an earlier transaction is; see Transaction.wait.

        Raises, when the block ends; the transaction has been aborted:
            TransactionError: an inner block failed, or is still open.
            RingFull, Fenced, OSError: the queue or the disk did not take it.

        Raises, when the block ends and the transaction, too:
            InDoubt: its level was not reached.
        """
        block = self._gate.block(self)
        if level is not None:
            block._level = self._checked(checked_level(level))
        if timeout is not None:
            if not timeout >= 0:
                raise ValueError(f"timeout must be at least 0 seconds: {timeout}")
            block._timeout = timeout
        return block

    def transactional(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Decorator: each call of the function or coroutine is a transaction, or
        joins the one it is called in. A call ended by :class:`pyhac.Abort`
        returns None. The context may be opened after decorating.

        Raises:
            TypeError: a generator, which would keep its transaction open
                between steps, or no function at all.
        """
        return bracketed(function, lambda arguments: self)

    def _checked(self, level: Level | None) -> Level | None:
        """``level``, if this context can have it; ValueError otherwise."""
        if level is not None and level > Level.RING and self._opening.path is None:
            raise ValueError(f"{level!r} needs an image, and this context has none")
        if level is not None and level > Level.JOURNAL and self._opening.role is None:
            raise ValueError(f"{level!r} needs backups, and this context has none")
        return level

    # -- replication -------------------------------------------------------------

    def advance(self) -> int:
        """Move a standby's areas to the newest transaction that is safe in this
        machine's journal, by whole transactions; the epoch that they show then.
        Until this call, :meth:`wait_primary` or :meth:`primary` they stay as they
        are. Nobody else may be reading them meanwhile. An array keeps its length
        when the primary grows it: see :meth:`resize`.

        Raises:
            TransactionError: not a standby.
            LayoutError: an area arrived whose layout differs from the one it was
                mapped with here, or that outgrew its capacity.
            ImageDamaged, OSError: the image cannot be read, or the helper is gone.
        """
        return _native.advance_context(self._opening.handle)

    def promote(self) -> None:
        """Ask for this standby to become primary; :meth:`wait_primary` waits for it.
        The old primary, should it live, is fenced.

        Raises:
            TransactionError: not a standby.
        """
        _native.promote_context(self._opening.handle)

    def wait_primary(self, timeout: float | None = None) -> None:
        """Wait until this context is primary, for at most ``timeout`` seconds (None:
        for ever); at once if it is.

        Then the areas hold the newest transaction, in a new generation; arrays
        that :meth:`array` gave have become writable, in this thread (views of them
        that were made before have not: take new ones). Memoryviews stay
        read-only: :meth:`buffer` of the same name gives a new one, once. The
        ``init`` of areas that never arrived has run.

        Raises:
            TimeoutError; TransactionError: without replication; Closed: meanwhile;
            and those of :meth:`advance`, and what an ``init`` raises.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds: {timeout}")
        self._opening.wait_primary(timeout)

    async def primary(self) -> None:
        """:meth:`wait_primary` for tasks: other tasks run meanwhile, and it can be
        cancelled. The areas move and become writable in the event loop's thread."""
        opening = self._opening
        while not opening.look_primary():
            await asyncio.sleep(_LOOK)

    # -- image -----------------------------------------------------------------

    def copy(self, destination: Path) -> None:
        """Write the state of the last epoch as a new image at ``destination``,
        with an identity of its own. Waits for other transactions to end.

        Raises:
            FileExistsError, OSError: a partial copy has been removed.
            TransactionError: inside a transaction.
        """
        opening = self._opening
        encoded = encoded_path(destination, "destination")
        if encoded is None:
            raise TypeError("destination must be a path")
        with self._between_transactions():
            _native.copy_context(opening.handle, encoded)

    def compact(self) -> None:
        """Replace base and journal of the image by a new base. A crash meanwhile
        leaves either. Waits for other transactions to end.

        Raises:
            TransactionError: inside a transaction, without an image, or
                without twin.
            OSError: the old base is still in place.
        """
        opening = self._opening
        with self._between_transactions():
            _native.compact_context(opening.handle)

    # -- ownership, as transaction.py and _owner.py need it -----------------------

    @contextmanager
    def _between_transactions(self) -> Iterator[None]:
        """Hold the place of a transaction without being one."""
        queue = self._queue
        gate = queue.gate
        if gate.is_inside():
            raise TransactionError("not inside a transaction: do it before or after the block")
        queue.hold(self)
        gate.owner = threading.get_ident()
        try:
            yield
        finally:
            gate.release()

    def _room_for(self, init: object) -> AbstractContextManager[None]:
        return nullcontext() if init is None else self._between_transactions()

    def _refuse_if_unusable(self, gate: Gate) -> None:
        self._opening  # noqa: B018
        if gate is not self._gate:
            raise Closed("the context has been closed since")

    @property
    def _opening_handle(self) -> _native.Handle:
        """For calls that libhac itself refuses if need be."""
        assert self._current is not None
        return self._current.handle

    def _begin_error(self, code: int) -> Exception:
        opening = self._current
        error = _native.error(code, sorted(opening.doubt) if opening is not None else ())
        if self._broken and isinstance(error, TransactionError):
            return TransactionError(self._broken)
        return error

    def _abort_if_dropped(self) -> None:
        """Abort an open transaction whose block's frame is gone."""
        gate = self._gate
        if not gate.disown():
            return
        code = _native.lib.hac_abort(self._opening_handle)
        gate.release()
        if code >= 0:
            warn(
                f"{self!r}: an open transaction was dropped, and has been aborted; use `with`",
                RuntimeWarning,
            )
