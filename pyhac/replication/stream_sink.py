# SPDX-License-Identifier: MIT
"""The sink that is a stream: bases and the journal's frames into it."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import nats.errors

from pyhac.errors import Fenced

from ._keeper import KeeperError
from .follower import Assembler
from .frame_header import frame_header
from .frames import Gone, Reader, bytes_between, locate, written
from .jetstream import StreamAhead, StreamError
from .outgoing import Outgoing
from .protocol import DATA_MAX
from .sink import Acknowledged, Lag, Sink
from .stream_writer import FencedBy, Writer
from .tasks import stop

if TYPE_CHECKING:
    from .stream_link import StreamLink

BASE_AFTER = 256 * 1024 * 1024
"""So many bytes of journal, and four times the base, make a new base worth while."""


class StreamSink(Sink):
    def __init__(self, link: "StreamLink", index: int) -> None:
        node = link.node
        self.name = str(node.options.stream)
        self._link = link
        self._node = node
        self._index = index
        self._task: asyncio.Task[None] | None = None
        self._position: Acknowledged | None = None
        # (frame, epoch): before this frame the journal holds this epoch, whole.
        self._whole: deque[tuple[int, int]] = deque(maxlen=4096)
        self._read = written(node.place)
        self._since_base = self._base_bytes = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    @property
    def position(self) -> Acknowledged | None:
        return self._position

    def lag(self) -> Lag:
        node, writer = self._node, self._link.writer
        epoch = self._position.epoch if self._position else 0
        behind = bytes_between(node.options.image, self._read, written(node.place))
        return Lag(
            transactions=max(0, node.place.epoch - epoch),
            bytes=behind + (writer.outstanding[1] if writer else 0),
            seconds=node.ages.age(time.monotonic(), epoch, node.place.epoch),
        )

    async def close(self, seconds: float) -> None:
        task, self._task = self._task, None
        if task is None or task is asyncio.current_task():
            return
        end = time.monotonic() + seconds
        while not task.done() and time.monotonic() < end and not self._finished():
            await asyncio.sleep(0.005)
        await stop(task)

    def _finished(self) -> bool:
        return self._position is not None and (self._position.sequence >= self._node.place.sequence)

    # -- running ---------------------------------------------------------------

    async def _run(self) -> None:
        node = self._node
        while True:
            writer = self._link.writer
            assert writer is not None
            try:
                await self._serve(writer)
            except Fenced as failure:
                by = failure.generation if isinstance(failure, FencedBy) else 0
                await node.fence(max(by, node.place.generation + 1), str(failure))
                return
            except (StreamError, KeeperError, Gone, OSError, nats.errors.Error) as failure:
                self.failures += 1
                if str(failure) != self.trouble:
                    self.trouble = str(failure)
                    node.log("sink", sink=self.name, connected=False, why=self.trouble)
            finally:
                self.connected = False
            await asyncio.sleep(0.5)
            if writer.failure is not None and not await self._again(writer):
                return

    async def _again(self, writer: Writer) -> bool:
        """Own the stream anew. False: fenced."""
        await writer.close()
        try:
            await self._link.reclaim()
            return True
        except (Fenced, StreamAhead) as failure:
            await self._node.fence(self._node.place.generation + 1, str(failure))
            return False
        except (StreamError, nats.errors.Error, OSError, TimeoutError) as failure:
            self.trouble = str(failure)
            return True  # the closed writer fails at once, and all this comes again

    async def _serve(self, writer: Writer) -> None:
        self.connected, self.trouble = True, ""
        self._node.log("sink", sink=self.name, connected=True, sequence=writer.sequence)
        tasks = [
            asyncio.create_task(work)
            for work in (self._send(writer), self._acknowledge(writer), self._bases(writer))
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await stop(*tasks)

    async def _send(self, writer: Writer) -> None:
        """The journal's frames, from the one that the stream wants."""
        node = self._node
        image = node.options.image
        if await writer.stream.retry(writer.stream.newest_base, 60) is None:
            await self._send_base(writer)
        while True:
            try:
                start, _ = await node.question(locate, image, node.place, writer.sequence)
                await self._send_from(writer, Reader(image, start))
            except Gone as why:
                # The journal begins behind it: a base holds what is missing.
                node.log("base", sink=self.name, why=str(why))
                await self._send_base(writer)

    async def _send_from(self, writer: Writer, reader: Reader) -> None:
        node, assembler = self._node, Assembler()
        try:
            while True:
                place = node.place
                self._whole.append((place.sequence, place.epoch))
                limit = written(place)
                data = await node.question(reader.read, limit, DATA_MAX)
                if not data:
                    if limit == written(node.place):
                        await node.moved.wait()
                    continue
                for frame in assembler.feed(data):
                    await writer.append(frame, self._epoch_at(frame_header(frame).sequence + 1))
                    self.sent_bytes += len(frame)
                    self._since_base += len(frame)
                self._read = reader.position
        finally:
            reader.close()

    def _epoch_at(self, sequence: int) -> int:
        """The last epoch that is certainly whole before this frame."""
        epoch = 0
        while self._whole and self._whole[0][0] <= sequence:
            epoch = self._whole.popleft()[1]
        return epoch

    async def _acknowledge(self, writer: Writer) -> None:
        node, mark = self._node, writer.acknowledged
        while True:
            # Epochs and sequences are those of this journal, as the claim has verified.
            epoch = min(mark.epoch, node.place.epoch)
            await node.question(node.keeper.acknowledge, self._index, epoch)
            self._position = Acknowledged(writer.generation, mark.sequence, epoch)
            self.trouble = writer.trouble
            mark = await writer.progress(mark)

    # -- bases -----------------------------------------------------------------

    async def _bases(self, writer: Writer) -> None:
        """A new base now and then, so that the stream does not grow for ever."""
        while True:
            await asyncio.sleep(1)
            self.trouble = writer.trouble
            if self._since_base > max(BASE_AFTER, 4 * self._base_bytes):
                await self._node.compact()
                await self._send_base(writer)

    async def _send_base(self, writer: Writer) -> None:
        node = self._node
        async with node.compacting:
            outgoing = await node.question(Outgoing.of, node)
        try:
            self._since_base, self._base_bytes = 0, outgoing.total
            place, begun = outgoing.place, time.monotonic()
            await writer.publish_base(
                outgoing.files, _pieces(outgoing), sequence=place.sequence, epoch=place.epoch
            )
            self.sent_bytes += outgoing.total
            node.log(
                "based",
                sink=self.name,
                bytes=outgoing.total,
                seconds=round(time.monotonic() - begun, 3),
            )
        finally:
            outgoing.close()


def _pieces(outgoing: Outgoing) -> Iterator[bytes]:
    for _ in outgoing.files:
        while data := outgoing.read(DATA_MAX):
            yield data
