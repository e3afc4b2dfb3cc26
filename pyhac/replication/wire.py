# SPDX-License-Identifier: MIT
"""The bytes of a connection, each copied once between TLS and who reads them.

asyncio's streams make a buffer for each record of TLS, put it into another and take
slices out of that: more than a third of what a backup does under load. Here TLS writes
into one buffer, and who reads takes bytes out of it.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

BUFFER_BYTES = 512 << 10
"""So much may wait to be read; then nothing more is taken from the network."""


class Wire(asyncio.BufferedProtocol):
    """One end of a connection. One task takes, any may write. Loop-bound, as all of
    asyncio's."""

    def __init__(self, made: "Callable[[Wire], object] | None" = None) -> None:
        self._made = made
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._paused = self._eof = False
        self._failure: BaseException | None = None
        self._come: asyncio.Future[None] | None = None
        self._may_write, self._closed = asyncio.Event(), asyncio.Event()
        self._may_write.set()

    # -- what asyncio calls ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._made is not None:
            self._made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._end == BUFFER_BYTES and self._start:
            left = self._end - self._start
            self._buffer[:left] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, left
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        if self._end - self._start == BUFFER_BYTES:
            self._open.pause_reading()
            self._paused = True
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        # Without TLS one direction may end before the other.
        return self._open.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        self._failure = exc
        self._closed.set()
        self._may_write.set()
        self._wake()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    # -- taking ----------------------------------------------------------------------

    def _wake(self) -> None:
        if self._come is not None and not self._come.done():
            self._come.set_result(None)

    async def more(self) -> bool:
        """Wait until there is something to take; False: there never will be. OSError."""
        while self._start == self._end:
            if self._failure is not None:
                raise self._failure
            if self._eof:
                return False
            self._come = asyncio.get_running_loop().create_future()
            try:
                await self._come
            finally:
                self._come = None
        return True

    @property
    def waiting(self) -> int:
        """So many bytes have come and were not taken."""
        return self._end - self._start

    def take(self, most: int) -> bytes:
        """What is there, at most so much."""
        end = min(self._start + most, self._end)
        data = bytes(self._view[self._start : end])
        self._start = end
        if self._start == self._end:
            self._start = self._end = 0
        if self._paused:
            self._paused = False
            if not self._open.is_closing():
                self._open.resume_reading()
        return data

    # -- writing ---------------------------------------------------------------------

    @property
    def _open(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def write(self, parts: Iterable[bytes]) -> None:
        """All of them in one go. ConnectionResetError once it is closed."""
        if self._open.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._open.writelines(parts)

    async def drain(self) -> None:
        """Wait until the other side has read enough of it. OSError."""
        await self._may_write.wait()
        if self._closed.is_set():
            raise self._failure or ConnectionResetError("the connection was lost")

    def info(self, name: str) -> Any:
        return self._open.get_extra_info(name)

    def close(self) -> None:
        """Send what is left, and end."""
        self._open.close()

    def abort(self) -> None:
        """End at once: the peer may not be reading."""
        self._open.abort()

    async def wait_closed(self) -> None:
        await self._closed.wait()
