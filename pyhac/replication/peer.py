# SPDX-License-Identifier: MIT
"""The sink that is a peer: a standby, or ``hac backup serve``.

It connects, compares, sends a base if it has to, and then the journal as it grows.
"""

import asyncio
import random
import time
from typing import TYPE_CHECKING

from . import lease
from .address import Address
from .frames import Gone, Position, Reader, bytes_between, locate, written
from .outgoing import Outgoing
from .pace import Pace
from .protocol import (
    DATA_MAX,
    Body,
    Channel,
    Kind,
    ProtocolError,
    Refused,
    connect,
    number,
    text,
)
from .sink import Acknowledged, Lag, Sink

if TYPE_CHECKING:
    from .node import Node

FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0
CHUNK = 256 << 10  # TLS and asyncio are quicker with this than with more


class _Fenced(Exception):
    """The peer knows a newer generation."""


class PeerSink(Sink):
    def __init__(self, node: "Node", index: int, address: Address) -> None:
        self.name = str(address)
        self._node = node
        self._index = index
        self._address = address
        self._task: asyncio.Task[None] | None = None
        self._position: Acknowledged | None = None
        # Of the session: the journal up to `_sent` was sent, in so many bytes, of
        # which so many are acknowledged.
        self._sent = Position(node.place.first_segment, 0)
        self._stream = self._stream_acknowledged = 0
        self._pace = Pace()
        self._beats: dict[int, float] = {}
        self._beat = 0
        self._wait = FIRST_WAIT

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    @property
    def position(self) -> Acknowledged | None:
        return self._position

    def lag(self) -> Lag:
        place = self._node.place
        epoch = self._position.epoch if self._position else 0
        behind = bytes_between(self._node.options.image, self._sent, written(place))
        return Lag(
            transactions=max(0, place.epoch - epoch),
            bytes=behind + self._stream - self._stream_acknowledged,
            seconds=self._node.ages.age(time.monotonic(), epoch, place.epoch),
        )

    async def close(self, seconds: float) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        end = time.monotonic() + seconds
        while not task.done() and time.monotonic() < end and not self._finished():
            # One that answers is waited for; one that was never tried gets its chance.
            if not self.connected and self.failures:
                break
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])

    def _finished(self) -> bool:
        return self._position is not None and (
            self.connected and self._position.sequence >= self._node.place.sequence
        )

    # -- connecting ------------------------------------------------------------

    async def _run(self) -> None:
        node = self._node
        while True:
            try:
                await self._session()
            except _Fenced:
                return
            except (OSError, TimeoutError, ProtocolError, Refused, Gone) as failure:
                self.failures += 1
                trouble = f"{type(failure).__name__}: {failure}"
                if trouble != self.trouble or self.connected:
                    node.log("sink", sink=self.name, connected=False, why=trouble)
                self.trouble = trouble
            finally:
                self.connected = False
                node.keep_pace()
            await asyncio.sleep(self._wait * random.uniform(0.5, 1.0))
            self._wait = min(self._wait * 2, LONGEST_WAIT)

    async def _session(self) -> None:
        node = self._node
        channel = await connect(self._address, node.options.security, node.options.silence)
        try:
            greeting: Body = {**node.view()._asdict(), "lease": node.options.lease}
            sent = lease.now()
            await channel.send(Kind.LEAD, greeting)
            start = await self._agree(channel)
            node.renewal.renew(sent)
            self.connected, self.trouble, self._wait = True, "", FIRST_WAIT
            node.log("sink", sink=self.name, connected=True, segment=start.segment)
            await self._stream_from(channel, start)
        finally:
            channel.abort()

    async def _answer(self, channel: Channel, kind: Kind) -> Body:
        """The answer of this kind; the peer's heartbeats may come before it."""
        while True:
            got, body = await channel.expect(
                kind, Kind.FENCED, Kind.HEARTBEAT, silence=self._node.options.silence
            )
            if got is Kind.FENCED:
                await self._fenced(body)
            if got is kind:
                return body

    async def _fenced(self, body: Body) -> None:
        generation = number(body, "generation")
        if generation < self._node.place.generation:
            raise ProtocolError(f"it says FENCED by generation {generation}, an older one")
        why = (
            f"{self.name} has generation {generation} at epoch {number(body, 'epoch')}: "
            f"{text(body, 'why')}"
        )
        await self._node.fence(generation, why)
        raise _Fenced

    async def _agree(self, channel: Channel) -> Position:
        """Find what the peer has; after a base if need be. Where to go on."""
        node, image = self._node, self._node.options.image
        body = await self._answer(channel, Kind.POSITION)
        try:
            start = await node.question(self._compare, body)
        except Gone as why:
            node.log("base", sink=self.name, why=str(why), epoch=number(body, "epoch"))
            body = await self._send_base(channel)
            # These are our own files: only where they end can be another place.
            start = (await node.question(locate, image, node.place, number(body, "sequence")))[0]
        self._acknowledge(body)
        self._sent, self._stream, self._stream_acknowledged = start, 0, 0
        self._pace, self.pace = Pace(), 0.0
        await channel.send(Kind.JOURNAL, {"sequence": number(body, "sequence")})
        return start

    def _compare(self, body: Body) -> Position:
        """The place in our journal where the peer's ends; Gone if it is not the same."""
        node, check = self._node, text(body, "check", 16)
        if body.get("blank") is not False or body.get("uuid") != node.place.uuid:
            raise Gone("it holds no image yet")
        sequence = number(body, "sequence")
        start, own = locate(node.options.image, node.place, sequence)
        if not own or own != check:
            raise Gone(f"it holds another frame {sequence - 1}, or it cannot be compared")
        return start

    async def _send_base(self, channel: Channel) -> Body:
        node = self._node
        async with node.compacting:
            outgoing = await node.question(Outgoing.of, node)
        try:
            begun = time.monotonic()
            await channel.send(Kind.BASE, {"uuid": node.place.uuid, "bytes": outgoing.total})
            for name, size in outgoing.files:
                await channel.send(Kind.FILE, {"name": name, "size": size})
                while data := await node.question(outgoing.read, DATA_MAX):
                    await channel.send_data(data)
                    self.sent_bytes += len(data)
            await channel.send(Kind.PLACE, {"crc": outgoing.crc})
            body = await self._answer(channel, Kind.POSITION)
            node.log(
                "based",
                sink=self.name,
                bytes=outgoing.total,
                seconds=round(time.monotonic() - begun, 3),
            )
            return body
        finally:
            outgoing.close()

    # -- the stream ------------------------------------------------------------

    async def _stream_from(self, channel: Channel, start: Position) -> None:
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._push(channel, start),
                self._hear(channel),
                self._heartbeats(channel),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _push(self, channel: Channel, start: Position) -> None:
        node = self._node
        reader = Reader(node.options.image, start)
        try:
            while True:
                limit = written(node.place)
                # What was written just now is in memory: no thread is needed for it.
                if limit.segment == reader.position.segment:
                    data = reader.read(limit, CHUNK)
                else:
                    data = await node.question(reader.read, limit, CHUNK)
                if not data:
                    if limit == written(node.place):
                        await node.moved.wait()
                    continue
                self._sent = reader.position
                self._stream += len(data)
                self.sent_bytes += len(data)
                await channel.send_data(data)
        finally:
            reader.close()

    async def _hear(self, channel: Channel) -> None:
        while True:
            kind, body = await channel.expect(
                Kind.ACK, Kind.HEARTBEAT, Kind.FENCED, silence=self._node.options.silence
            )
            if kind is Kind.FENCED:
                await self._fenced(body)
            elif kind is Kind.HEARTBEAT:
                beat = number(body, "n")
                if beat in self._beats:
                    self._node.renewal.renew(self._beats[beat])
                    for older in [each for each in self._beats if each <= beat]:
                        del self._beats[older]
            else:
                self._stream_acknowledged = min(number(body, "bytes"), self._stream)
                self._acknowledge(body)
                # An older one does not say.
                self._keep_pace(number(body, "waiting") if "waiting" in body else 0)

    def _keep_pace(self, waiting: int) -> None:
        # What it missed while it was away came as fast as it can be read.
        behind = bytes_between(self._node.options.image, self._sent, written(self._node.place))
        if behind < CHUNK:
            self._pace.waits(waiting)
            self.pace = self._pace.seconds
            self._node.keep_pace()

    def _acknowledge(self, body: Body) -> None:
        node = self._node
        position = Acknowledged(
            number(body, "generation"), number(body, "sequence"), number(body, "epoch")
        )
        place = node.place
        if position.sequence > place.sequence or position.epoch > place.last_epoch:
            raise ProtocolError(f"it acknowledges what it was not sent: {position}")
        # In this thread: it takes no lock.
        node.keeper.acknowledge(self._index, position.epoch)
        self._position = position

    async def _heartbeats(self, channel: Channel) -> None:
        self._beats.clear()
        while True:
            self._beat += 1
            self._beats[self._beat] = lease.now()
            channel.put(Kind.HEARTBEAT, {"n": self._beat})
            await asyncio.sleep(self._node.options.heartbeat)
