# SPDX-License-Identifier: MIT
"""``hac helper``: the process beside a context that owns its image.

Started by the context (libhac/src/helper.c), which it watches: when the context ends,
the ring is drained, what can be sent is sent, and the helper exits. Until then it holds
the image's lock, so that an opening waits for it.
"""

import argparse
import asyncio
import contextlib
import errno
import os
import signal
import socket
import struct
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ._keeper import KeeperError
from .arguments import add_helper_arguments
from .control import Control, Kind, Message, error_number
from .node import Node
from .options import Options, node_options
from .roles import Role, State
from .server import Server
from .settle import resume, settle, watch_lease

if TYPE_CHECKING:
    from .metrics import Metrics

HELLO_SECONDS = 5.0
"""So long HELLO may be on its way."""


def context_pid(control: int) -> int:
    """Who is at the other end: the process that made the socket, even if a shell or the
    like started this one for it."""
    with socket.socket(fileno=os.dup(control)) as end:
        peer = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("iII", peer)[0]) or os.getppid()


class Helper:
    def __init__(self, node: Node, control: Control, linger: float) -> None:
        self._node = node
        self._control = control
        self._linger = linger
        self._server = Server(node)
        self._metrics: Metrics | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def end(self, orderly: bool) -> None:
        """CLOSE (orderly), or the context is gone."""
        if not self._over.done():
            self._over.set_result(orderly)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() and not self._over.done():
            failure = task.exception()
            assert failure is not None
            self._over.set_exception(failure)

    async def run(self, hello: Message) -> int:
        """From HELLO to the end; the exit code."""
        node, control = self._node, self._control
        resumed = hello.generation != 0
        if resumed:
            node.options.role = Role.PRIMARY
        ready = False
        try:
            node.options.check()
            # Waits for a helper whose context has died to let go of the image.
            await node.open(resume=resumed)
            if resumed:
                await resume(node)
            await self._server.start()
            if node.options.metrics is not None:
                from .metrics import Metrics

                self._metrics = Metrics(node)
                await self._metrics.start()
            self._spawn(self._report())
            self._spawn(self._listen())
            self._spawn(watch_lease(node))
            if not resumed:
                self._spawn(settle(node))
            ready = True
            orderly = await self._over
        except (KeeperError, OSError, ValueError) as failure:
            node.log("failed", error=error_number(failure), why=str(failure))
            await control.failed(error_number(failure), str(failure))
            await self._stop()
            return 1
        finally:
            if not ready:
                await self._stop()
        return await self._finish(orderly)

    async def _report(self) -> None:
        """Tell the context what this node has become."""
        node, control, told = self._node, self._control, State.STARTING
        while True:
            if told is State.STARTING:
                if node.state in (State.PRIMARY, State.FENCED):
                    told = State.PRIMARY
                    await control.ready(Role.PRIMARY, node.place)
                elif node.state is State.STANDBY and not node.place.blank and not node.leading:
                    told = State.STANDBY
                    await control.ready(Role.STANDBY, node.place)
            elif told is State.STANDBY and node.state is State.PRIMARY:
                told = State.PRIMARY
                await control.promoted(node.place)
            await node.changed.wait()

    async def _listen(self) -> None:
        """What the context says. Each takes its time, and CLOSE does not wait."""
        while True:
            message = await self._control.receive()
            if message is None:
                self.end(False)
                return
            match message.kind:
                case Kind.PROMOTE:
                    self._spawn(self._promote())
                case Kind.COMPACT:
                    self._spawn(self._compact())
                case Kind.CLOSE:
                    self.end(True)
                    return
                case _:
                    raise ValueError(f"the context said {message.kind.name}, out of turn")

    async def _promote(self) -> None:
        try:
            await self._node.promote("its program asked for it")
        except KeeperError as failure:
            self._node.log("promote", error=failure.number, why=str(failure))

    async def _compact(self) -> None:
        try:
            await self._node.compact()
        except KeeperError as failure:
            await self._control.done(failure.number, str(failure))
        else:
            await self._control.done()

    async def _finish(self, orderly: bool) -> int:
        node = self._node
        node.log("ends", why="closed" if orderly else "its context is gone")
        error, why = 0, ""
        try:
            await node.drain(self._linger)
        except KeeperError as failure:
            error, why = failure.number, str(failure)
            node.log("drain", error=error, why=why)
        await self._stop()
        if orderly:
            # The lock is free by now: the image can be opened again at once.
            await self._control.done(error, why)
        return 1 if error else 0

    async def _stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._metrics is not None:
            self._metrics.close()
        await self._server.close()
        if hasattr(self._node, "keeper"):
            await self._node.close()


async def _run(options: Options, log: Any, parsed: argparse.Namespace, pidfd: int) -> int:
    control = Control(parsed.control)
    node = Node(options, log)
    helper = Helper(node, control, parsed.linger)
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(pidfd)
        helper.end(False)

    loop.add_reader(pidfd, gone)
    hello = await control.receive()
    # What was wanted of the first helper is wanted of those that come after it, even
    # if the context has become a standby meanwhile.
    if hello is not None and parsed.role is None:
        options.role = hello.role
    if hello is None or hello.kind is not Kind.HELLO:
        log("failed", why="the context did not say HELLO")
        return 1
    return await helper.run(hello)


def serve(parsed: argparse.Namespace) -> int:
    """Be a helper; the exit code."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        pidfd = os.pidfd_open(context_pid(parsed.control))
    except OSError as failure:
        print(f"hac helper: no context is there: {failure.strerror}", file=sys.stderr)
        return 1
    os.set_inheritable(parsed.ring, False)
    try:
        options, log = node_options(parsed)
    except ValueError as failure:
        with contextlib.suppress(OSError):
            asyncio.run(_refuse(parsed.control, str(failure)))
        print(f"hac helper: {failure}", file=sys.stderr)
        return 2
    return asyncio.run(_run(options, log, parsed, pidfd))


async def _refuse(control: int, why: str) -> None:
    end = Control(control)
    # What is not read when the socket is closed would take the answer with it.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(end.receive(), HELLO_SECONDS)
    await end.failed(errno.EINVAL, why)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="hac helper", description="The process beside a context; started by libhac."
    )
    add_helper_arguments(parser)
    return serve(parser.parse_args(arguments))
