# SPDX-License-Identifier: MIT
"""A node whose peer is a stream: its role, following, and the claim that makes it primary.

The stream alone decides who writes (jetstream.py). Who tries is decided here: the node
that is told to, by its role or by a command; the first one, where the stream is empty;
and with --lease the one that gets the lease when nobody renews it.
"""

import asyncio
import contextlib
import errno
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import nats.errors

from pyhac.errors import Fenced, ImageDamaged

from ._keeper import KeeperError, Place
from .frames import Gone, last_check, locate
from .jetstream import Diverged, Stream, StreamAhead, StreamError, StreamGap
from .roles import Role, State, next_generation
from .stream_lease import TTL_S, Lease
from .stream_reader import Reader, StreamFrame, read_base
from .stream_sink import StreamSink
from .stream_writer import Writer
from .tasks import stop

if TYPE_CHECKING:
    from .node import Node

_PATIENCE_S = 10.0  # for a lease that the predecessor of this process may still hold
_PAUSE_S = 0.3
_FAILURES = (StreamError, ImageDamaged, nats.errors.Error, OSError, TimeoutError)


class StreamLink:
    """See the module. One for each node; of a primary, it has the writer."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.stream: Stream | None = None
        self.writer: Writer | None = None
        self.lease: Lease | None = None
        self._resuming = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the role --------------------------------------------------------------

    async def settle(self) -> None:
        """Come to the role that is wanted, and stay with it. KeeperError."""
        node = self.node
        await self._open()
        if node.options.role is Role.PRIMARY or (
            node.options.role is Role.AUTO and await self._empty()
        ):
            try:
                await self._lead(
                    "it is to be" if node.options.role is Role.PRIMARY else "it is first"
                )
                return
            except KeeperError as failure:
                if node.options.role is Role.PRIMARY:
                    raise
                node.log("decides", lead=False, why=str(failure))
        self.follow()
        node.set_state(State.STANDBY, why="the stream has a primary, or had one")
        if node.options.lease:
            self._keep(asyncio.create_task(self._contend()))

    async def resume(self) -> None:
        """In the place of a helper that died as primary. KeeperError."""
        node = self.node
        self._resuming = True
        await self._open()
        if self.lease is not None:
            self._keep(asyncio.create_task(self.lease.wait()))
        try:
            await node.begin()
        except KeeperError as failure:
            if failure.number != errno.ESTALE:
                raise
            # The context learns it from the shared memory, as it would have.
            self._resuming = False
            await self._lead_fenced(str(failure))
            return
        node.preside("its predecessor was")
        self._resuming = False

    async def _lead_fenced(self, why: str) -> None:
        node, link = self.node, self.node.link
        node.link = None
        try:
            await node.begin()
            node.preside("its predecessor was")
            await node.fence(node.place.generation + 1, why)
        finally:
            node.link = link

    async def _open(self) -> None:
        options = self.node.options
        assert options.stream is not None
        tls = Path(options.tls) if options.tls else None
        try:
            self.stream = await Stream.open(options.stream, tls=tls)
        except StreamError as failure:
            raise KeeperError(errno.EHOSTUNREACH, str(failure)) from failure
        if options.lease:
            self.lease = Lease(self.stream, options.name, ttl=max(options.lease, TTL_S / 2))

    async def _empty(self) -> bool:
        assert self.stream is not None
        return (await self.stream.retry(self.stream.tail, 60)).mark is None

    async def _lead(self, why: str) -> None:
        node, loop = self.node, asyncio.get_running_loop()
        until = loop.time() + _PATIENCE_S
        while self.lease is not None and not await self._acquire(until):
            if loop.time() > until:
                holder = await self.lease.who()
                raise KeeperError(errno.ESTALE, f"{holder} has the lease: start as a standby")
            await asyncio.sleep(_PAUSE_S)
        try:
            await node.begin()
        except BaseException:
            if self.lease is not None:
                await self.lease.release()
            raise
        node.preside(why)

    async def _acquire(self, until: float) -> bool:
        """Try once. A bucket that was made just now has no leader yet: that is no answer."""
        assert self.lease is not None
        try:
            return await self.lease.acquire()
        except (nats.errors.Error, OSError, TimeoutError) as failure:
            if asyncio.get_running_loop().time() > until:
                why = f"the lease cannot be had: {failure}"
                raise KeeperError(errno.EHOSTUNREACH, why) from failure
            return False

    async def _contend(self) -> None:
        """A standby that gets the lease becomes primary."""
        node = self.node
        assert self.lease is not None
        while node.state is State.STANDBY:
            await self.lease.wait()
            node.log("lease", held=True)
            try:
                await node.promote("nobody renewed the lease")
                return
            except KeeperError as failure:
                node.log("promote", error=failure.number, why=str(failure))
                await self.lease.release()
                await asyncio.sleep(_PAUSE_S)

    # -- leading ---------------------------------------------------------------

    async def claim(self, *, promoted: bool = False) -> None:
        """Take what the stream has, and become its owner. KeeperError: ESTALE."""
        node, stream = self.node, self.stream
        assert stream is not None
        while True:
            try:
                generation = node.place.generation
                if not self._resuming:
                    generation = next_generation(generation, promoted=promoted)
                self.writer = await self._claim(generation)
                node.log("claimed", stream=stream.name, generation=self.writer.generation)
                return
            except StreamAhead as failure:
                if self._resuming:
                    raise KeeperError(errno.ESTALE, str(failure)) from failure
                await self._catch_up()
            except (Fenced, Diverged) as failure:
                self.follow_again()
                raise KeeperError(errno.ESTALE, str(failure)) from failure
            except _FAILURES as failure:
                self.follow_again()
                raise KeeperError(errno.EIO, str(failure)) from failure

    async def reclaim(self) -> None:
        """Of a primary whose connection was lost for good: own the stream again, in the
        same generation. Fenced, StreamError and what the client raises."""
        assert self.stream is not None
        if self.stream.client.is_closed:
            options = self.node.options
            assert options.stream is not None
            tls = Path(options.tls) if options.tls else None
            self.stream = await Stream.open(options.stream, tls=tls)
        self.writer = await self._claim(self.node.place.generation)

    async def _claim(self, generation: int) -> Writer:
        assert self.stream is not None
        place = self.node.place
        return await Writer.claim(
            self.stream,
            image=place.uuid,
            generation=generation,
            sequence=place.sequence,
            known=lambda sequence: self._known(place, sequence),
            epoch=place.epoch,
        )

    def _known(self, place: Place, sequence: int) -> str | None:
        try:
            return locate(self.node.options.image, place, sequence)[1] or None
        except Gone:
            return None

    async def _catch_up(self) -> None:
        """Take the frames that are in the stream now."""
        node, stream = self.node, self.stream
        assert stream is not None
        try:
            tail = await stream.retry(stream.tail, 60)
            if tail.mark is None or tail.mark.sequence <= node.place.sequence:
                return
            async with contextlib.aclosing(await self._frames()) as frames:
                async for frame in frames:
                    await self._append(frame)
                    if node.place.sequence >= tail.mark.sequence:
                        break
            node.log("fetched", stream=stream.name, epoch=node.place.epoch)
        except _FAILURES as failure:
            raise KeeperError(errno.ESTALE, str(failure)) from failure

    def sink(self, index: int) -> StreamSink:
        """What sends to the stream, now that it is claimed."""
        if self.lease is not None:
            self._keep(asyncio.create_task(self._watch()))
        return StreamSink(self, index)

    async def _watch(self) -> None:
        """Somebody took the lease: the stream tells soon who is primary, or nobody is."""
        node = self.node
        assert self.lease is not None
        while node.state is State.PRIMARY:
            await self.lease.taken.wait()
            node.log("lease", held=False, why="another node has it")
            await self.lease.wait()
            node.log("lease", held=True)

    # -- following -------------------------------------------------------------

    def follow(self) -> None:
        """Receive, until the node ends the session."""
        self.node.session = asyncio.create_task(self._follow())

    def follow_again(self) -> None:
        if self.node.state is State.STANDBY and self.node.session is None:
            self.follow()

    async def _follow(self) -> None:
        node, said = self.node, ""
        while True:
            try:
                if node.place.blank:
                    await self._take_base()
                async with contextlib.aclosing(await self._frames()) as frames:
                    async for frame in frames:
                        await self._append(frame)
                        node.leader = frame.mark.owner
            except (StreamGap, Diverged) as failure:
                node.log("base", why=str(failure))
                try:
                    await self._take_base()
                except _FAILURES as why:
                    node.log("base", error=str(why))
            except (KeeperError, *_FAILURES) as failure:
                if str(failure) != said:
                    said = str(failure)
                    node.log("follows", stream=str(node.options.stream), error=said)
                if self.stream is not None and self.stream.client.is_closed:
                    await self._reopen()
            await asyncio.sleep(_PAUSE_S)

    async def _reopen(self) -> None:
        assert self.stream is not None
        with contextlib.suppress(KeeperError):
            await self._open()

    async def _frames(self) -> AsyncGenerator[StreamFrame, None]:
        node, stream = self.node, self.stream
        assert stream is not None

        def ask() -> tuple[Place, str]:
            place = node.keeper.place()
            return place, last_check(node.options.image, place)

        node.place, check = await node.change(ask)
        place = node.place
        reader = Reader(stream, sequence=place.sequence, check=check, image=place.uuid)
        return cast("AsyncGenerator[StreamFrame, None]", reader.frames())

    async def _append(self, frame: StreamFrame) -> None:
        node = self.node

        def append() -> Place:
            node.keeper.append(frame.data)
            return node.keeper.place()

        node.place = await node.change(append)
        node.changed.notify()

    async def _take_base(self) -> None:
        """Put the newest base in the place of the image, once there is one."""
        node, stream = self.node, self.stream
        assert stream is not None
        while (base := await stream.retry(stream.newest_base, 60)) is None:
            await asyncio.sleep(_PAUSE_S)
        mark, _ = await stream.message(base.end)
        if not node.place.blank and mark.image != node.place.uuid:
            raise StreamError(
                f"stream {stream.name} is of image {mark.image}, here is {node.place.uuid}"
            )
        incoming = Path(node.options.image).absolute()
        incoming = incoming.with_name(incoming.name + ".incoming")
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        try:
            await read_base(stream, base, incoming)

            def replace() -> Place:
                node.keeper.replace(str(incoming))
                return node.keeper.place()

            before = node.place
            node.place = await node.change(replace)
        finally:
            await asyncio.to_thread(shutil.rmtree, incoming, True)
        node.log(
            "replaced", had_generation=before.generation, had_epoch=before.epoch,
            generation=node.place.generation, epoch=node.place.epoch,
        )  # fmt: skip
        node.changed.notify()

    # -- the end ---------------------------------------------------------------

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await stop(*self._tasks)
        if self.writer is not None:
            await self.writer.close()
        if self.lease is not None:
            await self.lease.release()
        if self.stream is not None:
            await self.stream.close()
