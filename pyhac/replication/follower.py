# SPDX-License-Identifier: MIT
"""The receiving side of a primary's connection.

Frames are put together from DATA, appended and synced one after the other, and
acknowledged. Whatever libhac refuses ends the session; the primary connects again,
compares, and goes on from there or sends a base.
"""

import asyncio
import errno
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import standing
from ._keeper import FRAME_HEAD, KeeperError, Place, frame_size
from .frames import last_check
from .incoming import Incoming
from .protocol import FRAME_MAX, Body, Channel, Kind, ProtocolError, number, text
from .roles import State, View
from .status import view_of

if TYPE_CHECKING:
    from .node import Node

BATCH_SECONDS = 0.002
BACKLOG_BYTES = 8 << 20
"""So much may wait for the disk; then nothing is read from the network."""


class Assembler:
    """Whole frames out of bytes that are cut anywhere."""

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self._size = 0  # of all parts
        self._needed = 0

    def _head(self) -> bytes:
        head = b""
        for part in self._parts:
            head += part[: FRAME_HEAD - len(head)]
            if len(head) == FRAME_HEAD:
                break
        return head

    def _cut(self, size: int) -> bytes:
        """The first bytes, in one piece."""
        self._size -= size
        cut: list[memoryview] = []
        while size:
            part = self._parts.popleft()
            if len(part) > size:
                self._parts.appendleft(part[size:])
                part = part[:size]
            cut.append(part)
            size -= len(part)
        return b"".join(cut)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are whole now. KeeperError: this is no frame."""
        self._parts.append(memoryview(data))
        self._size += len(data)
        while True:
            if not self._needed:
                if self._size < FRAME_HEAD:
                    break
                self._needed = frame_size(self._head())
                if self._needed > FRAME_MAX:
                    raise ProtocolError(f"a frame of {self._needed} bytes")
            if self._size < self._needed:
                break
            frame = self._cut(self._needed)
            self._needed = 0
            yield frame


def _refusal(node: "Node", leader: View, body: Body) -> str:
    """Why this node does not follow that one; "": it does."""
    own = node.view()
    if body.get("lease") != node.options.lease:
        return f"its lease is {body.get('lease')!r:.20}, here it is {node.options.lease}"
    if leader.instance == own.instance:
        return "that is this node itself"
    if leader.blank or not own.akin(leader):
        return f"{own.name} holds another image ({own.uuid})"
    if own.state is State.FENCED:
        return f"{own.name} was primary and is fenced; its program has to be opened again"
    if node.leading and own.state is not State.PRIMARY:
        return f"{own.name} is becoming primary"
    return ""


def led_here(node: "Node", generation: int) -> bool:
    return standing.read(node.options.image).led == generation


async def follow(node: "Node", channel: Channel, body: Body) -> None:
    """Serve a connection that began with LEAD."""
    leader = view_of(body)
    own = node.view()
    newest = max(own.progress[0], node.seen_generation)
    fence = ""
    if own.akin(leader) and not leader.blank:
        if leader.generation < newest:
            fence = f"generation {leader.generation} is over"
        elif own.state is State.PRIMARY and leader.generation == own.generation:
            # Two primaries of one number: the same one yields, whoever asks.
            if (own.name, own.instance) < (leader.name, leader.instance):
                fence = f"{own.name} is primary of the same generation"
            else:
                await node.fence(leader.generation, f"{leader.name} is primary, too")
        elif own.state is State.PRIMARY:
            await node.fence(leader.generation, f"{leader.name} leads a newer generation")
        elif leader.generation == own.generation and led_here(node, own.generation):
            fence = (
                f"{own.name} began a generation {own.generation} of its own, with epochs up to "
                f"{own.epoch}: decide which image counts, and remove the other one"
            )
    if fence:
        node.log("fences", peer=leader.name, why=fence)
        answer = {"generation": newest, "epoch": own.epoch, "why": fence}
        await channel.send(Kind.FENCED, answer)
        return
    why = _refusal(node, leader, body)
    if why:
        node.log("refuses", peer=leader.name, why=why)
        await channel.send(Kind.REFUSED, {"why": why})
        return
    node.seen_generation = leader.generation
    # It leads: that is what leave was for.
    node.leave.end(leader.instance)
    await node.end_session()
    if node.leading:
        return
    node.session = asyncio.current_task()
    await Following(node, channel, leader).run()


class Following:
    """One session."""

    def __init__(self, node: "Node", channel: Channel, leader: View) -> None:
        self._node = node
        self._channel = channel
        self._leader = leader
        self._frames: deque[bytes] = deque()
        self._waiting = 0
        self._more, self._less = asyncio.Event(), asyncio.Event()
        self._assembler: Assembler | None = None
        self._incoming: Incoming | None = None
        self._appended = 0

    async def run(self) -> None:
        node, name = self._node, self._leader.name
        node.leader = name
        node.log("follows", primary=name, generation=self._leader.generation)
        tasks = [
            asyncio.create_task(work)
            for work in (self._receive(), self._append(), self._heartbeats())
        ]
        try:
            node.changed.notify()
            await self._say_position()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except KeeperError as failure:
            await self._refused(failure)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._incoming is not None:
                await node.change(self._incoming.discard)
            if node.session is asyncio.current_task():
                node.session = None
                node.leader = ""
                node.log("left", primary=name, epoch=node.place.epoch)
                node.changed.notify()

    async def _refused(self, failure: KeeperError) -> None:
        node = self._node
        node.log("refuses", peer=self._leader.name, error=failure.number, why=str(failure))
        if failure.number == errno.ESTALE:
            place = node.place
            answer = {"generation": place.generation, "epoch": place.epoch, "why": str(failure)}
            await self._channel.send(Kind.FENCED, answer)
        else:
            await self._channel.send(Kind.REFUSED, {"why": str(failure)})

    async def _say_position(self) -> None:
        node = self._node

        def ask() -> tuple[Place, str]:
            place = node.keeper.place()
            return place, last_check(node.options.image, place)

        node.place, check = await node.change(ask)
        place = node.place
        answer = {
            "uuid": place.uuid,
            "blank": place.blank,
            "generation": place.generation,
            "epoch": place.epoch,
            "sequence": place.sequence,
            "check": check,
        }
        await self._channel.send(Kind.POSITION, answer)

    # -- receiving -------------------------------------------------------------

    async def _receive(self) -> None:
        node, channel = self._node, self._channel
        while True:
            kind, body, data = await channel.receive(node.options.silence)
            node.hearing.hear()
            if kind is Kind.DATA:
                await self._take(data)
            elif kind is Kind.HEARTBEAT:
                channel.put(Kind.HEARTBEAT, {"n": number(body, "n")})
            elif kind is Kind.JOURNAL:
                if self._incoming or number(body, "sequence") != node.place.sequence:
                    raise ProtocolError("JOURNAL begins at another place")
                self._assembler = Assembler()
            elif kind in (Kind.BASE, Kind.FILE, Kind.PLACE):
                await self._base(kind, body)
            else:
                raise ProtocolError(f"{kind.name} out of turn")

    async def _take(self, data: bytes) -> None:
        if self._incoming is not None:
            await self._node.change(self._incoming.data, data)
            return
        if self._assembler is None:
            raise ProtocolError("DATA out of turn")
        for frame in self._assembler.feed(data):
            self._frames.append(frame)
            self._waiting += len(frame)
            self._more.set()
        while self._waiting > BACKLOG_BYTES:
            self._less.clear()
            await self._less.wait()

    async def _base(self, kind: Kind, body: Body) -> None:
        node = self._node
        if kind is Kind.BASE:
            if self._assembler is not None or self._incoming is not None:
                raise ProtocolError("BASE out of turn")
            uuid = text(body, "uuid", 36)
            if not node.place.blank and uuid != node.place.uuid:
                raise ProtocolError("a base of another image")
            node.log("base", primary=self._leader.name, bytes=number(body, "bytes"))
            path, size = node.options.image, number(body, "bytes")
            self._incoming = await node.change(Incoming, path, size)
            return
        if self._incoming is None:
            raise ProtocolError(f"{kind.name} out of turn")
        if kind is Kind.FILE:
            await node.change(self._incoming.file, text(body, "name", 40), number(body, "size"))
            return
        await node.change(self._incoming.finish, number(body, "crc"))
        before = node.place
        await node.change(node.keeper.replace, self._incoming.path)
        self._incoming = None
        await self._say_position()
        node.log(
            "replaced", had_generation=before.generation, had_epoch=before.epoch,
            generation=node.place.generation, epoch=node.place.epoch,
        )  # fmt: skip
        node.changed.notify()

    # -- appending -------------------------------------------------------------

    async def _append(self) -> None:
        node = self._node

        def append(frames: deque[bytes]) -> tuple[Place, int, KeeperError | None]:
            """As many as come in a moment, for crossing threads costs more than a frame
            that is synced quickly; but whoever waits for one is not to wait for long."""
            size, end, failure = 0, time.monotonic() + BATCH_SECONDS, None
            try:
                while frames:
                    node.keeper.append(frames[0])
                    size += len(frames.popleft())
                    if time.monotonic() > end:
                        break
            except KeeperError as refused:
                failure = refused
            return node.keeper.place(), size, failure

        while True:
            while not self._frames:
                self._more.clear()
                await self._more.wait()
            place, size, failure = await node.change(append, self._frames)
            node.place = place
            self._waiting -= size
            self._less.set()
            self._appended += size
            self._channel.put(
                Kind.ACK,
                {
                    "generation": place.generation,
                    "sequence": place.sequence,
                    "epoch": place.epoch,
                    "bytes": self._appended,
                    "waiting": len(self._frames),
                },
            )
            if failure is not None:
                raise failure

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._node.options.heartbeat)
            self._channel.put(Kind.HEARTBEAT, {"n": 0})
