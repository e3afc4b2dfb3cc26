# SPDX-License-Identifier: MIT
"""The boundary to libhac: the only module that knows cffi.

Above it everything is typed Python; below it are _cdef.h and the extension
that _build.py describes. Results of libhac become exceptions in
:func:`check`, nowhere else.
"""

import re
import struct
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from typing import Any, NewType, Protocol, cast

from . import _ffi as _extension
from .errors import error_for
from .info import (
    AreaInfo,
    ContextInfo,
    EngineChoice,
    EngineInfo,
    ImageCheck,
    LogRecord,
    Stats,
)
from .levels import Level, Role
from .options import Replication

_ffi, _lib = _extension.ffi, _extension.lib

Handle = NewType("Handle", object)
"""A ``hac *``."""
CDelta = NewType("CDelta", object)
"""A ``struct hac_delta *``."""
Owner = NewType("Owner", object)
"""Stands for mapped memory: lives as long as a view of it does."""

NO_TWIN, STRICT, READONLY, PARTIAL, JOIN_STRAYS = 0x01, 0x02, 0x04, 0x08, 0x20
POINTERS, NO_KERNEL_WRITES = 0x01, 0x02
_NOTHING_SEEN = 2**64 - 1
_ROLES = {Role.AUTO: 0, Role.PRIMARY: 1, Role.STANDBY: 2}
_ROLE_OF = {number: role for role, number in _ROLES.items() if number}


class Library(Protocol):
    """The calls whose bare result matters; below zero it is for :func:`error`."""

    def hac_abort(self, h: Handle, /) -> int: ...
    def hac_wait_primary(self, h: Handle, ms: int, /) -> int: ...
    def pyhac_wait(self, h: Handle, epoch: int, kind: int, count: int, ms: int, /) -> int: ...


lib = cast(Library, _lib)


def _load_fast() -> None:
    """Make pyhac._fast importable: it is in the same file as pyhac._ffi."""
    loader = ExtensionFileLoader("pyhac._fast", _extension.__file__)
    module = module_from_spec(ModuleSpec("pyhac._fast", loader, origin=loader.path))
    loader.exec_module(module)
    sys.modules["pyhac._fast"] = module


_load_fast()


def check(code: int, epochs: Sequence[int] = ()) -> int:
    """``code`` if libhac succeeded, else raise what it stands for."""
    if code < 0:
        raise error(code, epochs)
    return code


def error(code: int, epochs: Sequence[int] = ()) -> Exception:
    """The exception for ``code``, the last result in this thread."""
    return error_for(code, _text(_lib.hac_error_detail()) or "", epochs)


def _text(pointer: Any) -> str | None:
    if pointer == _ffi.NULL:
        return None
    return cast(bytes, _ffi.string(pointer)).decode("utf-8", "replace")


def _new(kind: str) -> Any:
    value = _ffi.new(f"struct {kind} *")
    value.size = _ffi.sizeof(f"struct {kind}")
    return value


# -- contexts ------------------------------------------------------------------


def _replication(given: Replication) -> tuple[Any, list[Any]]:
    """``struct hac_replication *``, and what has to live as long as it is used."""
    made = _new("hac_replication")
    made.role = _ROLES[given.role]
    kept: list[Any] = []
    for field, words in (("command", given.command), ("arguments", given.arguments)):
        if words is None:
            continue
        texts = [_ffi.new("char[]", word) for word in words]
        row = _ffi.new("char *[]", [*texts, _ffi.NULL])
        kept += [*texts, row]
        setattr(made, field, row)
    return made, kept


def open_context(
    path: bytes | None,
    *,
    flags: int,
    engine: str,
    level: Level | None,
    flush_ms: int,
    at: int,
    codec: int,
    key_file: bytes | None,
    replication: Replication | None,
) -> Handle:
    options = _new("hac_options")
    name = _ffi.new("char[]", engine.encode())
    options.flags = flags
    options.flush_ms = flush_ms
    options.engine = name
    if level is not None:
        options.level.kind, options.level.count = level.kind, level.count
    options.at = at
    options.codec = codec
    if key_file is not None:
        key = _ffi.new("char[]", key_file)
        options.key_file = key
    if replication is not None:
        made, _kept = _replication(replication)
        options.replication = made
    out = _ffi.new("hac **")
    check(_lib.hac_open(_ffi.NULL if path is None else path, options, out))
    return Handle(out[0])


def close_context(h: Handle) -> int:
    """The bare result: some failures close the context, others do not."""
    return int(_lib.hac_close(h))


def address_of(h: Handle) -> int:
    return int(_ffi.cast("intptr_t", h))


def context_info(h: Handle) -> ContextInfo:
    info = _new("hac_info")
    check(_lib.hac_get_info(h, info))
    return ContextInfo(
        epoch=info.epoch,
        generation=info.generation,
        parent=info.parent,
        branch_epoch=info.branch_epoch,
        durable=info.durable,
        dropped_bytes=info.dropped_bytes,
        dropped_epoch=info.dropped_epoch,
        areas=info.areas,
        unclaimed=info.unclaimed,
        role=_ROLE_OF.get(info.role),
        helper=info.helper,
        flags=info.flags,
        engine=EngineChoice(_text(info.engine) or "", _text(info.reason) or ""),
    )


def context_stats(h: Handle) -> Stats:
    stats = _new("hac_stats")
    check(_lib.hac_get_stats(h, stats))
    return Stats(
        transactions=stats.transactions,
        aborts=stats.aborts,
        strays=stats.strays,
        faults=stats.faults,
        dirty_pages=stats.dirty_pages,
        changed_words=stats.changed_words,
        delta_bytes=stats.delta_bytes,
        writes=None if stats.writes == _NOTHING_SEEN else stats.writes,
        fallbacks=stats.fallbacks,
        begin_ns=stats.begin_ns,
        end_ns=stats.end_ns,
    )


def copy_context(h: Handle, destination: bytes) -> None:
    check(_lib.hac_copy(h, destination))


def compact_context(h: Handle) -> None:
    check(_lib.hac_compact(h))


def advance_context(h: Handle) -> int:
    """The epoch that the areas show then."""
    epoch = _ffi.new("uint64_t *")
    check(_lib.hac_advance(h, epoch))
    return int(epoch[0])


def promote_context(h: Handle) -> None:
    check(_lib.hac_promote(h))


# -- areas ---------------------------------------------------------------------


def _area_options(
    kind: str,
    fingerprint: str | None,
    flags: int,
    engine: str | None,
    capacity: int,
) -> tuple[Any, list[Any]]:
    """The options, and what has to live as long as they are used."""
    options = _new("hac_area_options")
    kept = []
    for field, value in (("type", kind), ("fingerprint", fingerprint), ("engine", engine)):
        if value is not None:
            kept.append(_ffi.new("char[]", value.encode()))
            setattr(options, field, kept[-1])
    options.flags = flags
    options.capacity = capacity
    return options, kept


def map_area(
    h: Handle, name: bytes, size: int, *, kind: str, flags: int, engine: str | None, capacity: int
) -> int:
    """Map an area; its address."""
    options, _kept = _area_options(kind, None, flags, engine, capacity)
    address = _ffi.new("void **")
    check(_lib.hac_map(h, name, size, options, address))
    return int(_ffi.cast("uintptr_t", address[0]))


def adopt_area(
    h: Handle,
    name: bytes,
    address: int,
    size: int,
    *,
    kind: str,
    fingerprint: str | None,
    flags: int,
    engine: str | None,
) -> None:
    options, _kept = _area_options(kind, fingerprint, flags, engine, 0)
    check(_lib.hac_adopt(h, name, _ffi.cast("void *", address), size, options))


def grow_area(h: Handle, name: bytes, size: int) -> None:
    check(_lib.hac_grow(h, name, size))


def drop_area(h: Handle, name: bytes) -> None:
    check(_lib.hac_drop(h, name))


def area_restored(h: Handle, name: bytes) -> bool:
    return check(_lib.hac_restored(h, name)) > 0


def unmap_area(address: int) -> int:
    """The bare result: who calls this is in no position to raise."""
    return int(_lib.hac_unmap(_ffi.cast("void *", address)))


def areas(h: Handle) -> Iterator[AreaInfo]:
    info = _new("hac_area_info")
    index = 0
    while True:
        code = _lib.hac_get_area(h, index, info)
        if code == -_ENOENT:
            return
        check(code)
        yield AreaInfo(
            name=_text(info.name) or "",
            id=info.id,
            size=info.bytes,
            capacity=info.capacity,
            type=_text(info.type) or "bytes",
            engine=_text(info.engine),
            address=int(_ffi.cast("uintptr_t", info.address)) or None,
            claimed=bool(info.claimed),
            restored=bool(info.restored),
            adopted=bool(info.adopted),
            pointers=bool(info.flags & POINTERS),
            kernel_writes=not info.flags & NO_KERNEL_WRITES,
            fingerprint=_text(info.fingerprint),
        )
        index += 1


_ENOENT = 2


# -- memory --------------------------------------------------------------------


def own(address: int, released: Callable[[], None]) -> Owner:
    """What every view of the memory at ``address`` holds on to; ``released`` is
    called when the last of them is gone."""
    return Owner(_ffi.gc(_ffi.cast("char *", address), lambda _: released()))


def weak(owner: Owner) -> Callable[[], Owner | None]:
    """A weak reference to it."""
    return cast(Callable[[], Owner | None], weakref.ref(owner))


def view(owner: Owner, size: int, *, readonly: bool = False) -> memoryview:
    """The memory, as bytes."""
    exported = memoryview(_ffi.buffer(owner, size))
    return exported.toreadonly() if readonly else exported


def view_address(address: int, size: int) -> memoryview:
    """Memory that somebody else keeps mapped, as bytes."""
    return memoryview(_ffi.buffer(_ffi.cast("char *", address), size))


def buffer_range(buffer: object, *, writable: bool = True) -> tuple[object, int, int]:
    """What keeps a contiguous buffer exported and in place, its address and its
    size. TypeError or ValueError (BufferError) from cffi if it is not one."""
    exported = _ffi.from_buffer("char[]", buffer, require_writable=writable)
    return exported, int(_ffi.cast("uintptr_t", exported)), len(exported)


def will_write(h: Handle, address: int, size: int) -> None:
    check(_lib.hac_will_write(h, _ffi.cast("void *", address), size))


def track(handle: int, area: object, words: object, writes: int, count: int, value: int) -> int:
    """Run ``count`` transactions of the context at ``handle`` in C; the nanoseconds that
    they took.

    The i-th writes ``value + i`` to the 8-byte words of ``area`` whose indices are the next
    ``writes`` ones of ``words`` (32-bit unsigned), from the start again at its end.
    """
    indices = _ffi.from_buffer("uint32_t[]", words)
    memory = _ffi.from_buffer("uint64_t[]", area, require_writable=True)
    taken = _lib.pyhac_track(
        _ffi.cast("hac *", handle), memory, indices, len(indices) // writes, writes, count, value
    )
    if taken < 0:
        raise error(taken)
    return int(taken)


# -- deltas --------------------------------------------------------------------

_RUN = struct.Struct("=QII")


def delta_at(address: int) -> CDelta:
    """A ``struct hac_delta`` that somebody else keeps."""
    return CDelta(_ffi.cast("struct hac_delta *", address))


def delta_counts(delta: CDelta) -> tuple[int, int]:
    """How many runs, and how many bytes in them."""
    raw = cast(Any, delta)
    return raw.runs_count, raw.bytes_count


def delta_runs(delta: CDelta) -> list[tuple[int, int, int]]:
    """(offset, length, area id) of every run."""
    raw = cast(Any, delta)
    if not raw.runs_count:
        return []
    return list(_RUN.iter_unpack(_ffi.buffer(raw.runs, raw.runs_count * _RUN.size)))


def delta_bytes(delta: CDelta, start: int, end: int) -> bytes:
    """A copy of the delta's bytes [start, end)."""
    raw = cast(Any, delta)
    return bytes(_ffi.buffer(raw.bytes + start, end - start)) if end > start else b""


# -- engines, images, the rest -------------------------------------------------


def engines() -> tuple[EngineInfo, ...]:
    found: list[EngineInfo] = []
    info = _new("hac_engine_info")
    while True:
        code = _lib.hac_get_engine(len(found), info)
        if code == -_ENOENT:
            return tuple(found)
        check(code)
        found.append(
            EngineInfo(
                name=_text(info.name) or "",
                available=bool(info.available),
                reason=_text(info.reason) or "",
                words=bool(info.words),
                kernel_writes=bool(info.kernel_writes),
            )
        )


def check_image(path: bytes) -> ImageCheck:
    """Damage is in the answer; whatever keeps the image from being read raises."""
    found = _new("hac_check")
    code = _lib.hac_check_image(path, found)
    damaged = code == -_EBADMSG
    if not damaged:
        check(code)
    return ImageCheck(
        sound=not damaged,
        detail=(_text(_lib.hac_error_detail()) or "") if damaged else "",
        uuid=_text(found.uuid) or "",
        file=_text(found.file) or "",
        offset=found.offset,
        damage_epoch=found.damage_epoch,
        dropped_bytes=found.dropped_bytes,
        epoch=found.epoch,
        base_epoch=found.base_epoch,
        generation=found.generation,
        frames=found.frames,
        transactions=found.transactions,
        journal_bytes=found.journal_bytes,
        base_bytes=found.base_bytes,
        areas=found.areas,
        segments=found.segments,
        locked_by=found.locked_by,
    )


_EBADMSG = 74


class _Reader:
    """A call of :func:`read_log` under way, as its C callback sees it."""

    def __init__(self, each: Callable[[LogRecord], None]) -> None:
        self.each = each
        self.failure: BaseException | None = None


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def pyhac_each_record(argument: Any, record: Any) -> int:
    reader = cast(_Reader, _ffi.from_handle(argument))
    try:
        reader.each(
            LogRecord(
                kind=_text(record.kind) or "",
                file=_text(record.file) or "",
                offset=record.offset,
                generation=record.generation,
                epoch=record.epoch,
                parent=record.parent,
                branch_epoch=record.branch_epoch,
                time_ns=record.time_ns,
                runs=record.runs,
                bytes=record.bytes,
                area=record.area,
                partial=bool(record.partial),
                name=_text(record.name),
                type=_text(record.type),
            )
        )
    except BaseException as failure:  # it must not pass through C
        reader.failure = failure
        return 1
    return 0


def read_log(path: bytes, each: Callable[[LogRecord], None]) -> None:
    """Call ``each`` for every record of the image, in order."""
    reader = _Reader(each)
    argument = _ffi.new_handle(reader)
    code = _lib.hac_log_image(path, _lib.pyhac_each_record, argument)
    if reader.failure is not None:
        raise reader.failure
    check(code)


def compact_image(path: bytes) -> None:
    check(_lib.hac_compact_image(path))


def claim_faults() -> None:
    check(_lib.hac_claim_faults())


def library_version() -> str:
    number = _lib.hac_version()
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def library_file(library: object) -> str | None:
    """The file of a library object of cffi, whose repr alone knows; or None."""
    closing = getattr(type(library), "__cffi_close__", None)
    cells = getattr(closing, "__closure__", None) or ()
    for known in (library, *(cell.cell_contents for cell in cells)):
        found = re.match(r"<(clibrary|Lib object for) '([^']+)'", repr(known))
        if found is not None and found[1] == "clibrary":
            return found[2]
        if found is not None:
            return getattr(sys.modules.get(found[2]), "__file__", None)
    return None


def function_address(name: str) -> int:
    """Of a function of libhac, for those who call it without Python."""
    return int(_ffi.cast("uintptr_t", _ffi.addressof(_lib, name)))
