# SPDX-License-Identifier: MIT
"""``hac backup serve``: a standby without a program, until it is promoted."""

import argparse
import asyncio
import os
import signal
from typing import NoReturn

from ._keeper import Place
from .log import Log
from .metrics import Metrics
from .node import Node
from .options import Options, node_options
from .roles import Role
from .server import Server
from .settle import settle


async def _run(options: Options, log: Log) -> Place | None:
    """Follow until promoted, then what the image has come to; None: asked to stop.
    KeeperError, OSError."""
    node = Node(options, log)
    over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def end(promoted: bool) -> None:
        if not over.done():
            over.set_result(promoted)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, False)
    node.hand_over = lambda: end(True)
    server, metrics = Server(node), Metrics(node)
    await node.open()
    try:
        await server.start()
        await metrics.start()
        await settle(node)
        promoted = await over
        if promoted:
            await server.finish()
        return node.place if promoted else None
    finally:
        metrics.close()
        await server.close()
        await node.close()


def _command(command: str, image: str, place: Place, log: Log) -> NoReturn:
    """Become the command: signals and the exit code are then its own."""
    environment = {
        **os.environ,
        "HAC_IMAGE": os.path.abspath(image),
        "HAC_GENERATION": str(place.generation),
        "HAC_EPOCH": str(place.epoch),
    }
    log("runs", command=command)
    os.execve("/bin/sh", ["sh", "-c", command], environment)


def serve(parsed: argparse.Namespace) -> int:
    """Raises ValueError, KeeperError, OSError; the exit code."""
    options, log = node_options(parsed)
    options.role = Role.STANDBY
    options.check()
    place = asyncio.run(_run(options, log))
    if place is None:
        return 0
    if parsed.on_promote is None:
        log("promoted", why="no --on-promote: the image is free for a program")
        return 0
    _command(parsed.on_promote, parsed.image, place, log)
