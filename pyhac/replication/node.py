# SPDX-License-Identifier: MIT
"""A node: one image with its keeper, its role, and whoever it talks to.

All of it runs in one event loop. The keeper's calls run in threads: those that change
the image in one of their own, one after the other, so that whoever has been cancelled
is certainly out of the image when the next one begins; questions in others.
"""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from . import lease, standing
from ._keeper import CREATE, RESUME, Keeper, KeeperError, Place
from .frames import bytes_between, written
from .log import Log
from .options import Options
from .peer import PeerSink
from .roles import Leave, State, View
from .sink import Ages, Sink
from .tasks import stop

if TYPE_CHECKING:
    from .stream_link import StreamLink

T = TypeVar("T")


class Signal:
    """Wakes whoever waits; there is no state in it. Look first, then wait: between the
    two no other task runs."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def notify(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()


class Node:
    """See the module. ``changed`` tells of a new state or place of a standby, ``moved``
    of frames that this primary has written."""

    keeper: Keeper
    place: Place

    def __init__(self, options: Options, log: Log) -> None:
        self.options = options
        self.log = log
        self.pid = os.getpid()
        self.born = time.monotonic()
        self.instance = os.urandom(8).hex()
        self.state = State.STARTING
        self.leading = False
        self.leader = ""
        self.seen_generation = 0
        self.session: asyncio.Task[None] | None = None
        self.leave = Leave()
        self.changed, self.moved = Signal(), Signal()
        self.ages = Ages()
        self.sinks: list[Sink] = []
        self.link: StreamLink | None = None
        self.journal_bytes = 0
        self._pace = 0.0
        self.renewal = lease.Renewal(options.lease)
        self.hearing = lease.Hearing(options.lease)
        # What to do instead of leading when there is no ring: `hac backup serve`.
        self.hand_over: Callable[[], None] | None = None
        self.compacting = asyncio.Lock()
        self._promoting = asyncio.Lock()
        self._changes = ThreadPoolExecutor(1, "keeper")
        self._questions = ThreadPoolExecutor(2, "question")
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._kept: set[asyncio.Task[None]] = set()

    # -- the keeper ------------------------------------------------------------

    async def change(self, call: Callable[..., T], *arguments: object) -> T:
        """A call that changes the image: after those that were made before."""
        return await asyncio.get_running_loop().run_in_executor(self._changes, call, *arguments)

    async def question(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._questions, call, *arguments)

    async def open(self, *, resume: bool = False) -> None:
        """Lock the image and survey it. KeeperError."""
        options = self.options

        def opened() -> tuple[Keeper, Place]:
            keeper = Keeper(
                options.image,
                flags=RESUME if resume else CREATE,
                codec=options.codec,
                key_file=options.key_file,
                ring=options.ring,
                flush_ms=options.flush_ms,
            )
            return keeper, keeper.place()

        self.keeper, self.place = await self.change(opened)

    def view(self) -> View:
        """This node as its peers are to see it."""
        place = self.place
        return View(
            name=self.options.name,
            instance=self.instance,
            uuid=place.uuid,
            blank=place.blank,
            generation=place.generation,
            epoch=place.epoch,
            sequence=place.sequence,
            wanted=self.options.role,
            state=self.state,
            leader=self.leader,
        )

    def set_state(self, state: State, **why: object) -> None:
        if state is not self.state:
            self.state = state
            place = self.place
            self.log("state", state=state, generation=place.generation, epoch=place.epoch, **why)
        self.changed.notify()

    # -- leading ---------------------------------------------------------------

    async def begin(self, *, promoted: bool = False) -> None:
        """Begin a generation (or resume one) and drain the ring. Nobody is told yet."""
        self.leading = True
        try:
            if self.link is not None:
                await self.link.claim(promoted=promoted)
            await self.change(lambda: self.keeper.lead(self._event, promoted=promoted))
            self.place = await self.question(self.keeper.place)
        except BaseException:
            self.leading = False
            raise
        asyncio.get_running_loop().add_reader(self._event, self._on_event)

    async def remember(self, *, led: int = 0, fenced: int = 0) -> None:
        image = self.options.image
        await self.question(lambda: standing.note(image, led=led, fenced=fenced))

    async def give_up(self) -> None:
        """Lead no more, after begin(): somebody else was faster."""
        asyncio.get_running_loop().remove_reader(self._event)
        await self.change(self.keeper.drain)
        self.place = await self.question(self.keeper.place)
        self.leading = False

    def preside(self, why: str) -> None:
        """This node is primary: say so, and send to the peers."""
        self.set_state(State.PRIMARY, why=why)
        sinks: list[Sink] = [
            PeerSink(self, index, address) for index, address in enumerate(self.options.peers)
        ]
        if self.link is not None:
            sinks.append(self.link.sink(len(sinks)))
        self.sinks += sinks
        for sink in sinks:
            sink.start()

    def _on_event(self) -> None:
        """A frame was written, or synced."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        try:
            # In this thread: it takes no lock that is held for long, and another
            # thread would cost many times as much, for each frame.
            place = self.keeper.place()
        except KeeperError as failure:
            self.log("place", error=str(failure))
            return
        self.journal_bytes += bytes_between(self.options.image, written(self.place), written(place))
        self.place = place
        self.ages.note(time.monotonic(), place.epoch)
        self.moved.notify()

    def keep_pace(self) -> None:
        """Frames come as the slowest sink that is there can take them."""
        pace = max((sink.pace for sink in self.sinks if sink.connected), default=0.0)
        if pace != self._pace:
            self._pace = pace
            # In this thread: it takes no lock. A sink that ends last finds it closed.
            with contextlib.suppress(KeeperError):
                self.keeper.pace(pace)

    async def compact(self) -> None:
        """Write a new base. No sink opens files meanwhile."""
        async with self.compacting:
            await self.change(self.keeper.compact)
            self.place = await self.question(self.keeper.place)

    async def fence(self, generation: int, why: str) -> None:
        """This primary may write no more. Generation 0: it has lost its lease."""
        if self.state is not State.PRIMARY:
            return
        try:
            # In this thread: nobody is to be told before it is so, nor in between.
            self.keeper.fence(generation, why)
        except KeeperError as failure:
            self.log("fence", error=str(failure))
        self.set_state(State.FENCED, why=why, by=generation)
        if generation > self.place.generation:
            await self.remember(fenced=generation)
        for sink in self.sinks:
            # A sink may be who tells: it cannot wait for its own end.
            self._later(sink.close(0))

    def _later(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    # -- following -------------------------------------------------------------

    async def end_session(self) -> None:
        """Stop receiving; the image is nobody's when this returns."""
        session, self.session = self.session, None
        if session is not None and session is not asyncio.current_task():
            await stop(session)
        self.leader = ""
        self.place = await self.change(self.keeper.place)

    async def promote(self, why: str) -> None:
        """A standby becomes primary. KeeperError."""
        async with self._promoting:
            if self.state is State.PRIMARY:
                return
            if self.state is State.FENCED:
                raise KeeperError(errno.ESTALE, "it is fenced: a newer generation exists")
            if self.leading:
                raise KeeperError(errno.EBUSY, "it is becoming primary already")
            if self.place.blank:
                raise KeeperError(errno.ENODATA, "it has not received an image yet")
            # Nobody may begin a session from here on.
            self.leading = True
            try:
                await self.end_session()
                if self.hand_over is not None:
                    await self.change(self.keeper.branch)
                    self.place = await self.question(self.keeper.place)
                    await self.remember(led=self.place.generation)
                    self.set_state(State.PRIMARY, why=why)
                    self.hand_over()
                    return
                await self.begin(promoted=True)
                await self.remember(led=self.place.generation)
            except BaseException:
                self.leading = False
                raise
            self.preside(why)

    # -- the end ---------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Everything into the journal; then send for at most so long."""
        if self.leading:
            await self.change(self.keeper.drain)
            self.place = await self.question(self.keeper.place)
            self.moved.notify()
        await asyncio.gather(*(sink.close(seconds) for sink in self.sinks))

    async def close(self) -> None:
        """Let go of the image."""
        await self.end_session()
        for sink in self.sinks:
            await sink.close(0)
        if self.link is not None:
            await self.link.close()
        asyncio.get_running_loop().remove_reader(self._event)
        await self.change(self.keeper.close)
        self._changes.shutdown(wait=False)
        self._questions.shutdown(wait=False)
