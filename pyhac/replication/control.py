# SPDX-License-Identifier: MIT
"""The talk with the context that started this helper: libhac/src/control.h."""

import asyncio
import contextlib
import enum
import errno
import socket
import struct
from typing import NamedTuple

from ._keeper import KeeperError, Place
from .roles import Role

_MESSAGE = struct.Struct("<IiII7Q512s")
_ROLES = (Role.AUTO, Role.PRIMARY, Role.STANDBY)


class Kind(enum.IntEnum):
    HELLO = 1
    PROMOTE = 2
    COMPACT = 3
    CLOSE = 4
    READY = 16
    PROMOTED = 17
    DONE = 18
    FAILED = 19


class Message(NamedTuple):
    kind: Kind
    role: Role
    generation: int


def error_number(failure: BaseException) -> int:
    """The positive errno that says best what happened."""
    if isinstance(failure, KeeperError):
        return failure.number
    if isinstance(failure, ValueError):
        return errno.EINVAL
    if isinstance(failure, OSError) and failure.errno:
        return failure.errno
    return errno.EIO


class Control:
    """One's end of the socket."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._socket.set_inheritable(False)

    async def receive(self) -> Message | None:
        """What the context says next; None: it closed its end."""
        loop = asyncio.get_running_loop()
        try:
            data = await loop.sock_recv(self._socket, _MESSAGE.size + 1)
        except ConnectionError:
            return None
        if not data:
            return None
        if len(data) != _MESSAGE.size:
            raise ValueError(f"the context sent a message of {len(data)} bytes")
        fields = _MESSAGE.unpack(data)
        if fields[2] >= len(_ROLES):
            raise ValueError(f"the context named an unknown role, {fields[2]}")
        return Message(Kind(fields[0]), _ROLES[fields[2]], fields[4])

    async def _send(
        self, kind: Kind, role: Role, place: Place | None, error: int, text: str
    ) -> None:
        at = (0,) * 8
        if place is not None:
            at = (
                place.next_area_id,
                place.generation,
                place.parent,
                place.branch_epoch,
                place.epoch,
                place.last_epoch,
                place.dropped_bytes,
                place.dropped_epoch,
            )
        # Room for the NUL that ends it, and no half character before it.
        said = text.encode()[:511].decode("utf-8", "ignore").encode()
        data = _MESSAGE.pack(kind, -error, _ROLES.index(role), *at, said)
        # If it is dead, whoever watches it will see.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def ready(self, role: Role, place: Place) -> None:
        await self._send(Kind.READY, role, place, 0, "")

    async def promoted(self, place: Place) -> None:
        await self._send(Kind.PROMOTED, Role.PRIMARY, place, 0, "")

    async def done(self, error: int = 0, text: str = "") -> None:
        await self._send(Kind.DONE, Role.AUTO, None, error, text)

    async def failed(self, error: int, text: str) -> None:
        await self._send(Kind.FAILED, Role.AUTO, None, error, text)

    def close(self) -> None:
        self._socket.close()
