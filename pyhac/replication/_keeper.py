# SPDX-License-Identifier: MIT
"""The boundary to hac_helper.h: the only module here that knows its functions.

Calls block, some for as long as a disk takes to sync; none holds Python's lock
meanwhile. A failure is a :class:`KeeperError`, which keeps the number: the helper
hands it on to its context.
"""

import os
from typing import Any, NamedTuple

from .. import _ffi as _extension

_ffi: Any = _extension.ffi
_lib: Any = _extension.lib

BACKUPS_MAX = 16
FRAME_HEAD = 128
"""So many bytes of a frame suffice to know its size."""
CREATE, RESUME = 0x1, 0x2
CODECS = {"none": 0, "zstd": 1, "lz4": 2}


class KeeperError(Exception):
    """What a keeper refused; ``number`` is a positive errno."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text or os.strerror(number))
        self.number = number


class Place(NamedTuple):
    """struct hac_place: what an image and its journal have come to."""

    uuid: str
    next_area_id: int
    generation: int
    parent: int
    branch_epoch: int
    epoch: int
    last_epoch: int
    base_epoch: int
    first_sequence: int
    first_segment: int
    sequence: int
    segment: int
    offset: int
    dropped_bytes: int
    dropped_epoch: int
    durable: int
    synced_segment: int
    synced_offset: int
    pushed_bytes: int

    @property
    def blank(self) -> bool:
        """Nobody ever led this image: its UUID means nothing yet."""
        return self.generation == 0


def _check(code: int) -> int:
    if code < 0:
        # The detail is the calling thread's, so it is read here and now.
        detail = _ffi.string(_lib.hac_error_detail()).decode("utf-8", "replace")
        raise KeeperError(-code, detail)
    return code


def frame_size(head: bytes | bytearray | memoryview) -> int:
    """The whole size of the frame that begins so."""
    return _check(_lib.hac_frame_size(_ffi.from_buffer(head), len(head)))


class Keeper:
    """A ``hac_keeper *``. Any thread may call; the calls are serialised inside."""

    def __init__(
        self,
        path: str,
        *,
        flags: int = CREATE,
        codec: str = "none",
        key_file: str | None = None,
        ring: int = -1,
        flush_ms: int = 0,
    ) -> None:
        options = _ffi.new("struct hac_keeper_options *")
        options.size = _ffi.sizeof("struct hac_keeper_options")
        options.flags = flags
        options.codec = CODECS[codec]
        key = _ffi.new("char[]", os.fsencode(key_file)) if key_file is not None else _ffi.NULL
        options.key_file = key
        options.ring = ring
        options.flush_ms = flush_ms
        out = _ffi.new("hac_keeper **")
        _check(_lib.hac_keeper_open(os.fsencode(path), options, out))
        self.path = path
        self._keeper = out[0]

    def close(self) -> None:
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            _lib.hac_keeper_close(keeper)

    def place(self) -> Place:
        place = _ffi.new("struct hac_place *")
        place.size = _ffi.sizeof("struct hac_place")
        _check(_lib.hac_keeper_place(self._open, place))
        uuid = _ffi.string(place.uuid).decode("ascii", "replace")
        return Place(uuid, *(int(getattr(place, name)) for name in Place._fields[1:]))

    def lead(self, event: int, *, promoted: bool = False) -> None:
        _check(_lib.hac_keeper_lead(self._open, event, 1 if promoted else 0))

    def branch(self) -> None:
        _check(_lib.hac_keeper_branch(self._open))

    def acknowledge(self, index: int, epoch: int) -> None:
        _check(_lib.hac_keeper_acknowledge(self._open, index, epoch))

    def pace(self, seconds: float) -> None:
        _check(_lib.hac_keeper_pace(self._open, round(seconds * 1e6)))

    def fence(self, generation: int, why: str) -> None:
        _check(_lib.hac_keeper_fence(self._open, generation, why.encode()))

    def drain(self) -> None:
        _check(_lib.hac_keeper_drain(self._open))

    def compact(self) -> None:
        _check(_lib.hac_keeper_compact(self._open))

    def append(self, frame: bytes | bytearray | memoryview) -> None:
        _check(_lib.hac_keeper_append(self._open, _ffi.from_buffer(frame), len(frame)))

    def replace(self, incoming: str) -> None:
        _check(_lib.hac_keeper_replace(self._open, os.fsencode(incoming)))

    @property
    def _open(self) -> Any:
        if self._keeper is None:
            raise KeeperError(9, "the keeper is closed")
        return self._keeper
