# SPDX-License-Identifier: MIT
"""A lease in a stream's servers: who of several may be primary.

It is an entry of a key-value bucket that vanishes after two seconds unless it is
renewed. It gives liveness, and nothing else: two processes may both believe that they
hold it (one of them was stopped in between). Who writes is decided by the claim on the
stream alone, so a holder that is late does no harm.

A holder whose entry vanished, because no server answered for a while, may get it back
before anybody else does: others wait for a moment after they found it gone.
"""

import asyncio
import contextlib
import random
import secrets
import time

import nats.errors
import nats.js.errors
from nats.js import api
from nats.js.kv import KeyValue

from .jetstream import REPLICAS, Stream
from .tasks import stop

TTL_S = 2.0
_MARGIN = 0.25  # of the TTL: clocks, and the way of an answer


def _now() -> float:
    # Goes on while the machine sleeps.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The lease of a stream. One event loop's.

    Attributes:
        holder: who this is, for others to read.
        taken: somebody else has the lease, after this one had it.
        trouble: why it could not be renewed; "" if it was.
    """

    def __init__(self, stream: Stream, holder: str, *, ttl: float = TTL_S) -> None:
        self.holder = holder
        self.taken = asyncio.Event()
        self.trouble = ""
        self._stream = stream
        self._ttl = ttl
        # All that share a bucket share its TTL, so the TTL is in its name.
        self._bucket = f"hac-lease-{round(ttl * 1000)}"
        self._until = 0.0
        self._revision = 0
        self._value = f"{holder} {secrets.token_hex(8)}".encode()
        self._store: KeyValue | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """It is certain that nobody else has it."""
        return _now() < self._until

    async def who(self) -> str:
        """Its holder; "" if nobody has it. What another server says may be a little old."""
        try:
            store = await self._open()
            value = (await store.get(self._stream.name)).value or b""
            return value.rpartition(b" ")[0].decode(errors="replace") or "?"
        except nats.js.errors.KeyNotFoundError:
            return ""

    async def acquire(self) -> bool:
        """Try once; then renew it in the background until it is released or taken."""
        before = _now()
        try:
            store = await self._open()
            self._revision = await store.create(self._stream.name, self._value)
        except nats.js.errors.KeyWrongLastSequenceError:
            return False
        self._hold(before)
        self.taken.clear()
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep())
        return True

    async def wait(self) -> None:
        """Until it could be acquired. Whoever had it gets a chance to get it back."""
        while True:
            try:
                if not await self.who():
                    await asyncio.sleep(self._ttl * random.uniform(0.15, 0.4))
                    if await self.acquire():
                        return
                self.trouble = ""
            except (nats.errors.Error, OSError, TimeoutError) as failure:
                self.trouble = str(failure) or type(failure).__name__
                self._stream.check_open()
            await asyncio.sleep(self._ttl / 8)

    async def release(self) -> None:
        """Give it up, so that another one need not wait for its end."""
        await self._stop()
        held, self._until = self.held, 0.0
        if held:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                store = await self._open()
                await store.delete(self._stream.name, last=self._revision)

    async def abandon(self) -> None:
        """Renew it no more; it ends by itself."""
        await self._stop()
        self._until = 0.0

    async def _stop(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await stop(keeping)

    def _hold(self, before: float) -> None:
        # The servers count from when they stored it, which was later.
        self._until = before + self._ttl * (1 - _MARGIN)

    async def _open(self) -> KeyValue:
        if self._store is None:
            try:
                self._store = await self._stream.js.key_value(self._bucket)
            except nats.js.errors.BucketNotFoundError:
                self._store = await self._stream.js.create_key_value(
                    api.KeyValueConfig(self._bucket, ttl=self._ttl, replicas=REPLICAS)
                )
        return self._store

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._ttl / 3 if not self.trouble else self._ttl / 20)
            before = _now()
            try:
                async with asyncio.timeout(self._ttl / 2):
                    renewed = await self._renew()
                if not renewed:
                    self._until = 0.0
                    self.taken.set()
                    return
                self._hold(before)
                self.trouble = ""
            except (nats.errors.Error, OSError, TimeoutError) as failure:
                self.trouble = str(failure) or type(failure).__name__

    async def _renew(self) -> bool:
        """False: somebody else has it."""
        store = await self._open()
        key, value = self._stream.name, self._value
        try:
            self._revision = await store.update(key, value, last=self._revision)
            return True
        except nats.js.errors.KeyWrongLastSequenceError:
            pass
        # It vanished, or an answer was lost: then the entry is this one's own.
        try:
            self._revision = await store.create(key, value)
            return True
        except nats.js.errors.KeyWrongLastSequenceError:
            raw = await self._stream.js.get_msg(
                f"KV_{self._bucket}", subject=f"$KV.{self._bucket}.{key}"
            )
            if (raw.data or b"") != value:
                return False
            self._revision = raw.seq or 0
            return True
