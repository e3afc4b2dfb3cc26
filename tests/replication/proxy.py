# SPDX-License-Identifier: MIT
"""A network that misbehaves: between two ports, in a thread."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable

from nodes import free_port

Damage = Callable[[bytes], bytes | None]
"""Bytes on their way, and what arrives of them; None: the connection is cut."""


class Proxy:
    """Forwards to ``target``. ``damage`` applies to both directions; ``frozen`` swallows
    everything and closes nothing, like a cable that was pulled."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self.damage: Damage = lambda data: data
        self.delay = 0.0
        self.frozen = False
        self.carried = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        started = threading.Event()
        self._started = started
        self._thread.start()
        assert started.wait(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        self._started.set()
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.delay:
                    await asyncio.sleep(random.uniform(0, self.delay))
                while self.frozen:
                    await asyncio.sleep(0.02)
                damaged = self.damage(data)
                if damaged is None:
                    break
                self.carried += len(damaged)
                writer.write(damaged)
                await writer.drain()
        # A pulled cable tells nobody that the other end is gone.
        while self.frozen:
            await asyncio.sleep(0.02)
        writer.transport.abort()

    def cut(self) -> None:
        """Close every connection."""

        def close() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(close)
