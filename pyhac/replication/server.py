# SPDX-License-Identifier: MIT
"""The listener: who connects, and what for."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from ._keeper import KeeperError
from .fetch import serve_fetch
from .follower import follow
from .protocol import (
    HANDSHAKE_SECONDS,
    Body,
    Channel,
    Kind,
    ProtocolError,
)
from .roles import Role, State, judge_claim
from .status import describe, view_of
from .wire import Wire

if TYPE_CHECKING:
    from .node import Node

CONNECTIONS_MAX = 64


class Server:
    def __init__(self, node: "Node") -> None:
        self._node = node
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. OSError."""
        address, security = self._node.options.listen, self._node.options.security
        if address is None:
            return
        tls: dict[str, Any] = {}
        if security.server is not None:
            tls = {"ssl": security.server, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Wire(self._accepted), address.host, address.port, **tls
        )
        self._node.log("listens", address=str(address), tls=bool(tls))

    async def finish(self, seconds: float = 1.0) -> None:
        """Listen no more, but let answers out that are on their way."""
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accepted(self, wire: Wire) -> None:
        channel = Channel(wire)
        if len(self._tasks) >= CONNECTIONS_MAX:
            self._node.log("refuses", peer=channel.peer, why="too many connections")
            channel.abort()
            return
        task = asyncio.get_running_loop().create_task(self._talk(channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _talk(self, channel: Channel) -> None:
        try:
            await self._serve(channel)
            await channel.finish()
        except (ProtocolError, KeeperError) as failure:
            self._node.log("dropped", peer=channel.peer, why=str(failure))
        except (OSError, TimeoutError) as failure:
            self._node.log("lost", peer=channel.peer, why=str(failure))
        except asyncio.CancelledError:
            # A newer session takes its place, or this is the end.
            pass
        finally:
            channel.abort()

    async def _serve(self, channel: Channel) -> None:
        node = self._node
        kind, body, _ = await channel.receive(HANDSHAKE_SECONDS)
        while kind is Kind.ASK:
            await channel.send(Kind.STATUS, await self._status(body))
            try:
                kind, body, _ = await channel.receive(60.0)
            except ConnectionResetError:
                return
        if kind is Kind.LEAD:
            await follow(node, channel, body)
        elif kind is Kind.FETCH:
            await serve_fetch(node, channel, body)
        elif kind is Kind.PROMOTE:
            await self._promote(channel)
        else:
            raise ProtocolError(f"{kind.name} out of turn")

    async def _status(self, body: Body) -> Body:
        node = self._node
        if body.get("claim") is not True:
            return describe(node)
        claimant = view_of(body)
        own = node.view()
        newer = claimant.generation > own.generation
        forced = claimant.wanted is Role.PRIMARY and claimant.generation == own.generation
        related = own.akin(claimant) and not claimant.blank
        if own.state is State.PRIMARY and related and (newer or forced):
            await node.fence(claimant.generation, f"{claimant.name} takes over")
        why = judge_claim(node.view(), claimant, node.leave, time.monotonic())
        if node.leading and node.state is not State.PRIMARY and node.state is not State.FENCED:
            why = why or f"{own.name} is becoming primary"
        if not why:
            # It may rely on that, as on an answer to a heartbeat.
            node.hearing.again()
        node.log("claim", by=claimant.name, granted=not why, why=why)
        return {**describe(node), "granted": not why, "why": why}

    async def _promote(self, channel: Channel) -> None:
        node = self._node
        try:
            await node.promote(f"asked to by {channel.peer}")
        except KeeperError as failure:
            node.log("refuses", peer=channel.peer, why=str(failure))
            await channel.send(Kind.REFUSED, {"why": str(failure)})
            return
        place = node.place
        with contextlib.suppress(OSError):
            await channel.send(Kind.DONE, {"generation": place.generation, "epoch": place.epoch})
