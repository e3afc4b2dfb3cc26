# SPDX-License-Identifier: MIT
"""Areas: memory under names, seen as numpy arrays and memoryviews."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _native
from .buffers import Buffer, contiguous
from .errors import LayoutError
from .info import AreaInfo
from .layout import (
    BYTES,
    Rows,
    Shape,
    checked_count,
    checked_dtype,
    checked_shape,
    parse,
    rows_of,
)

_T = TypeVar("_T")
_BYTE_ROWS = Rows(np.dtype(np.uint8), ())


class Memory:
    """Memory that hac_map() made. It stays mapped until its area is closed *and*
    the last view has died, whichever comes later.

    All views, and views of views, hold the same owner, whose end is theirs.
    """

    def __init__(self, address: int) -> None:
        self.address = address
        self.viewed = False
        self.closed = False
        self._pid = os.getpid()
        self._owner: Callable[[], _native.Owner | None] = lambda: None

    def view(self, size: int, *, readonly: bool) -> memoryview:
        owner = self._owner()
        if owner is None:
            owner = _native.own(self.address, self._released)
            self._owner = _native.weak(owner)
            self.viewed = True
        return _native.view(owner, size, readonly=readonly)

    def _released(self) -> None:
        self.viewed = self._owner() is not None
        if self.closed and not self.viewed:
            self._unmap()

    def close(self) -> None:
        """The area is no more."""
        self.closed = True
        if not self.viewed:
            self._unmap()

    def _unmap(self) -> None:
        # A forked child leaves its copy alone: it ends with the process.
        if os.getpid() == self._pid:
            _native.unmap_area(self.address)


class Areas:
    """The areas that one opening of a context has claimed."""

    def __init__(self, handle: _native.Handle, *, readonly: bool, standby: bool) -> None:
        self._h = handle
        self._readonly = readonly
        self._standby = standby
        self._waiting: dict[str, Callable[[], object]] = {}  # areas to fill in if primary
        self._shown: list[Callable[[], NDArray[Any] | None]] = []  # a standby's arrays
        self._again: set[str] = set()  # buffers of which there are only read-only views
        self._mapped: dict[str, tuple[Memory, Rows]] = {}
        self._adopted: dict[str, object] = {}
        self._names: dict[int, str] = {}

    # -- finding ---------------------------------------------------------------

    def all(self) -> dict[str, AreaInfo]:
        return {info.name: info for info in _native.areas(self._h)}

    def find(self, name: str) -> AreaInfo | None:
        return next((info for info in _native.areas(self._h) if info.name == name), None)

    def name_of(self, number: int) -> str:
        """The name of the area with this id."""
        if number not in self._names:
            self._names.update({info.id: info.name for info in _native.areas(self._h)})
        return self._names.get(number, f"area {number}")

    def viewed(self) -> list[str]:
        """The names of mapped areas of which views live."""
        return [name for name, (memory, _) in self._mapped.items() if memory.viewed]

    # -- mapping ---------------------------------------------------------------

    def array(
        self,
        name: str,
        shape: Shape | None,
        dtype: DTypeLike | None,
        *,
        init: Callable[[NDArray[Any]], object] | None,
        capacity: int | None,
        flags: int,
        engine: str | None,
    ) -> NDArray[Any]:
        encoded = checked_name(name)
        _check_init(init)
        stored = self.find(name) if shape is None or dtype is None else None
        rows, count = _wanted(name, shape, dtype, stored)
        size = rows.nbytes * count
        reserved = 0
        if capacity is not None:
            reserved = rows.nbytes * _checked_capacity(capacity, count, "rows", rows)
        self._map(encoded, name, size, rows, str(rows), reserved, flags, engine)
        return self._filled(name, encoded, init, lambda: self._array(name))

    def buffer(
        self,
        name: str,
        size: int,
        *,
        init: Callable[[memoryview], object] | None,
        capacity: int | None,
        flags: int,
        engine: str | None,
    ) -> memoryview:
        encoded = checked_name(name)
        _check_init(init)
        size = checked_count(size, "size")
        if not self._standby and name in self._again:
            self._again.discard(name)
            return self._view(name)
        reserved = 0
        if capacity is not None:
            reserved = _checked_capacity(capacity, size, "bytes", _BYTE_ROWS)
        self._map(encoded, name, size, _BYTE_ROWS, BYTES, reserved, flags, engine)
        return self._filled(name, encoded, init, lambda: self._view(name))

    def _map(
        self,
        encoded: bytes,
        name: str,
        size: int,
        rows: Rows,
        kind: str,
        capacity: int,
        flags: int,
        engine: str | None,
    ) -> None:
        address = _native.map_area(
            self._h,
            encoded,
            size,
            kind=kind,
            flags=flags,
            engine=checked_engine(engine),
            capacity=capacity,
        )
        self._mapped[name] = (Memory(address), rows)

    def _filled(
        self,
        name: str,
        encoded: bytes,
        init: Callable[[_T], object] | None,
        make: Callable[[], _T],
    ) -> _T:
        """A view of the area; filled by ``init`` if the area is a new one."""
        view = make()
        if init is None or _native.area_restored(self._h, encoded):
            return view
        if self._standby:
            # It may arrive yet.
            self._waiting[name] = lambda: self._filled(name, encoded, init, make)
            return view
        try:
            init(view)
        except BaseException as failure:
            del view
            try:
                self.drop(name)
            except Exception as refusal:
                failure.add_note(f"the area {name!r} could not be dropped again: {refusal}")
            raise
        return view

    def _memory(self, name: str, *, readonly: bool) -> memoryview:
        memory, _ = self._mapped[name]
        info = self.find(name)
        assert info is not None
        return memory.view(info.size, readonly=readonly)

    def _view(self, name: str) -> memoryview:
        if self._standby:
            self._again.add(name)
        return self._memory(name, readonly=self._readonly or self._standby)

    def _array(self, name: str) -> NDArray[Any]:
        # An array can become writable only over memory that numpy takes for it.
        view = self._memory(name, readonly=self._readonly)
        rows = self._mapped[name][1]
        array: NDArray[Any] = np.ndarray(rows.shape(view.nbytes), rows.dtype, buffer=view)
        if self._standby:
            array.flags.writeable = False
            self._shown = [known for known in self._shown if known() is not None]
            self._shown.append(weakref.ref(array))
        return array

    def become_primary(self) -> None:
        """libhac has made the memory writable. What never arrived is filled in; the
        first failure is raised when all of them had their turn."""
        self._standby = False
        for known in self._shown:
            array = known()
            if array is not None:
                array.flags.writeable = True
        waiting, self._shown, self._waiting = self._waiting, [], {}
        failure: BaseException | None = None
        for fill_in in waiting.values():
            try:
                fill_in()
            except BaseException as found:
                failure = failure or found
        if failure is not None:
            raise failure

    def resize(self, name: str, rows: int) -> NDArray[Any]:
        if name not in self._mapped:
            raise ValueError(
                f"no area {name!r} was mapped here; mapped: {', '.join(self._mapped) or 'none'}"
            )
        layout = self._mapped[name][1]
        if layout.trailing is None:
            raise ValueError(f"area {name!r} is a single item, without rows to add to")
        count = checked_count(rows, "rows")
        info = self.find(name) if self._standby else None
        if info is not None and info.size >= layout.nbytes * count:
            return self._array(name)  # the primary has done it
        _native.grow_area(self._h, checked_name(name), layout.nbytes * count)
        return self._array(name)

    # -- adopting --------------------------------------------------------------

    def adopt(
        self, name: str, buffer: Buffer, *, flags: int = 0, engine: str | None = None
    ) -> None:
        encoded = checked_name(name)
        kind = BYTES
        if isinstance(buffer, np.ndarray):
            kind = str(rows_of(checked_dtype(buffer.dtype), buffer.shape)[0])
        kept, address, size = contiguous(f"adopt({name!r})", buffer)
        if not size:
            raise ValueError(f"adopt({name!r}): the buffer is empty")
        self.adopt_range(name, encoded, address, size, kept, kind, None, flags, engine)

    def adopt_range(
        self,
        name: str,
        encoded: bytes,
        address: int,
        size: int,
        kept: object,
        kind: str = BYTES,
        fingerprint: str | None = None,
        flags: int = 0,
        engine: str | None = None,
    ) -> None:
        """Adopt memory that lasts as long as ``kept`` does."""
        _native.adopt_area(
            self._h,
            encoded,
            address,
            size,
            kind=kind,
            fingerprint=fingerprint,
            flags=flags,
            engine=checked_engine(engine),
        )
        self._adopted[name] = kept

    # -- the rest --------------------------------------------------------------

    def drop(self, name: str) -> None:
        encoded = checked_name(name)
        _native.drop_area(self._h, encoded)
        memory = self._mapped.pop(name, None)
        if memory is not None:
            memory[0].close()
        self._adopted.pop(name, None)

    def will_write(self, view: Buffer) -> None:
        _, address, size = contiguous("will_write", view)
        _native.will_write(self._h, address, size)

    def close(self) -> None:
        """The context is closed: unmap what nobody looks at, let adopted memory go."""
        for memory, _ in self._mapped.values():
            memory.close()
        self._mapped.clear()
        self._adopted.clear()
        self._waiting.clear()


def _wanted(
    name: str, shape: Shape | None, dtype: DTypeLike | None, stored: AreaInfo | None
) -> tuple[Rows, int]:
    """The rows of an array and their number; from the image where not given."""
    rows = None if stored is None else parse(stored.type)
    if shape is None:
        if stored is None:
            raise ValueError(f"area {name!r} is not in the image: give its shape")
        if rows is None:
            raise LayoutError(
                f"area {name!r} holds {stored.type!r} in the image, which is no array's type; "
                f"use ctx.buffer({name!r}, {stored.size})"
            )
        if dtype is not None:
            rows = Rows(checked_dtype(dtype), rows.trailing)
        return rows, max(1, stored.size // rows.nbytes)
    dimensions = checked_shape(shape)
    if dtype is None:
        dtype = np.dtype(np.float64) if rows is None else rows.dtype
    return rows_of(checked_dtype(dtype), dimensions)


def _checked_capacity(capacity: int, count: int, unit: str, rows: Rows) -> int:
    number = checked_count(capacity, "capacity")
    if rows.trailing is None:
        raise ValueError("capacity is for arrays with rows")
    if number < count:
        raise ValueError(f"capacity of {number} {unit} is less than the size, {count} {unit}")
    return number


def checked_name(name: object) -> bytes:
    """An area's name as libhac wants it; TypeError or ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"an area's name must be text, not {name!r}")
    encoded = name.encode()
    if not 1 <= len(encoded) <= 255 or b"\0" in encoded:
        raise ValueError(
            f"an area's name must have 1 to 255 bytes in UTF-8 and no NUL: {name[:80]!r}"
        )
    return encoded


def checked_engine(engine: object) -> str | None:
    """The name of an engine; TypeError or ValueError."""
    if engine is None:
        return None
    if not isinstance(engine, str):
        raise TypeError(f"engine must be a name from pyhac.engines(), not {engine!r}")
    if not engine or "\0" in engine:
        raise ValueError(f"engine must be a name from pyhac.engines(), not {engine!r}")
    return engine


def area_flags(*, pointers: bool, kernel_writes: bool) -> int:
    return (_native.POINTERS if pointers else 0) | (
        0 if kernel_writes else _native.NO_KERNEL_WRITES
    )


def _check_init(init: object) -> None:
    if init is not None and not callable(init):
        raise TypeError(f"init must be a function of the new array, not {init!r}")
