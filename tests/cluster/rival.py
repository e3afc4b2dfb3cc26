# SPDX-License-Identifier: MIT
"""A program that writes whenever it has the lease, and says what was acknowledged.

    python -m tests.cluster.rival ADDRESS TTL SEED

Lines: "claim GENERATION", "ack SEQUENCE CHECK", "fenced".
"""

import asyncio
import random
import sys

from pyhac.errors import Fenced
from pyhac.replication.jetstream import Stream, StreamAhead, connect
from pyhac.replication.stream_lease import Lease
from pyhac.replication.stream_reader import Reader
from pyhac.replication.stream_writer import Writer
from pyhac.replication.tasks import stop
from tests.cluster.frames import IMAGE, made


def say(*words: object) -> None:
    print(*words, flush=True)


class Rival:
    def __init__(self, stream: Stream, lease: Lease, seed: int) -> None:
        self.stream = stream
        self.lease = lease
        self.random = random.Random(seed)
        self.reader = Reader(stream, sequence=0)
        self.checks = {0: ""}  # of the frame before that number

    async def follow(self) -> None:
        async for frame in self.reader.frames():
            self.checks[frame.sequence + 1] = self.reader.check

    async def claim(self) -> Writer:
        while True:
            try:
                return await Writer.claim(
                    self.stream,
                    image=IMAGE,
                    generation=self.reader.generation + 1,
                    sequence=self.reader.sequence,
                    known=self.checks.get,
                )
            except (StreamAhead, Fenced):
                await asyncio.sleep(0.02)  # there is more to read

    async def write(self, writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.random.uniform(0.2, 1.5)
        while loop.time() < until and not self.lease.taken.is_set():
            payload = self.random.randbytes(self.random.choice((10, 300, 20_000)))
            await writer.append(made(writer.sequence, writer.generation, payload), writer.sequence)
            await asyncio.sleep(self.random.choice((0, 0.001)))
        await writer.wait(writer.sequence)

    async def report(self, writer: Writer) -> None:
        seen = writer.acknowledged
        while True:
            now = await writer.progress(seen)
            if now.sequence != seen.sequence:
                say("ack", now.sequence - 1, now.check)
            seen = now

    async def turn(self) -> None:
        await self.lease.wait()
        writer = await self.claim()
        say("claim", writer.generation)
        reporting = asyncio.create_task(self.report(writer))
        try:
            await self.write(writer)
            # Not everybody gives it back.
            if self.random.random() < 0.5:
                await self.lease.release()
        except Fenced:
            say("fenced")
        finally:
            await self.lease.abandon()
            await asyncio.sleep(0)
            await stop(reporting)
            await writer.close()


async def main() -> None:
    stream = await connect(sys.argv[1])
    lease = Lease(stream, "rival", ttl=float(sys.argv[2]))
    rival = Rival(stream, lease, int(sys.argv[3]))
    following = asyncio.create_task(rival.follow())
    while not following.done():
        await rival.turn()
    await following


if __name__ == "__main__":
    asyncio.run(main())
