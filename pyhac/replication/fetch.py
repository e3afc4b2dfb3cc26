# SPDX-License-Identifier: MIT
"""A starting primary takes the frames that a peer has and it has not."""

import asyncio
import errno
from typing import TYPE_CHECKING

from ._keeper import KeeperError, Place
from .address import Address
from .follower import Assembler
from .frames import Gone, Position, Reader, last_check, locate, written
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
from .roles import View

if TYPE_CHECKING:
    from .node import Node


async def fetch(node: "Node", address: Address, peer: View) -> None:
    """Append what the peer has behind our journal. KeeperError: it cannot be had."""
    try:
        channel = await connect(address, node.options.security, node.options.silence)
        try:
            await _take(node, channel)
        finally:
            channel.abort()
    except (OSError, TimeoutError, ProtocolError, Refused) as failure:
        raise KeeperError(
            errno.ESTALE,
            f"{address} ({peer.name}) has generation {peer.generation} up to epoch "
            f"{peer.epoch}, here is {node.place.epoch}; what is missing cannot be had: {failure}",
        ) from failure
    node.log("fetched", peer=str(address), epoch=node.place.epoch)


async def _take(node: "Node", channel: Channel) -> None:
    check = await node.change(last_check, node.options.image, node.place)
    wanted: Body = {
        "uuid": node.place.uuid,
        "generation": node.place.generation,
        "sequence": node.place.sequence,
        "check": check,
    }
    await channel.send(Kind.FETCH, wanted)
    assembler = Assembler()

    def append(frame: bytes) -> Place:
        node.keeper.append(frame)
        return node.keeper.place()

    while True:
        kind, body, data = await channel.receive(node.options.silence)
        if kind is Kind.REFUSED:
            raise Refused(text(body, "why", 2000))
        if kind is Kind.END:
            break
        if kind is not Kind.DATA:
            raise ProtocolError(f"{kind.name} out of turn")
        for frame in assembler.feed(data):
            node.place = await node.change(append, frame)
    if number(body, "sequence") != node.place.sequence:
        raise ProtocolError("frames are missing at the end")


def _start(node: "Node", body: Body) -> tuple[Place, Position]:
    place = node.keeper.place()
    if text(body, "uuid", 36) != place.uuid:
        raise Gone("another image")
    sequence, check = number(body, "sequence"), text(body, "check", 16)
    position, own = locate(node.options.image, place, sequence)
    if not own or own != check:
        raise Gone(f"frame {sequence - 1} is another one here, or it is in the base already")
    return place, position


async def serve_fetch(node: "Node", channel: Channel, body: Body) -> None:
    """Send what was asked for, up to where the journal ends now."""
    try:
        place, position = await node.question(_start, node, body)
    except Gone as why:
        await channel.send(Kind.REFUSED, {"why": str(why)})
        return
    reader = Reader(node.options.image, position)
    try:
        while data := await node.question(reader.read, written(place), DATA_MAX):
            async with asyncio.timeout(node.options.silence):
                await channel.send_data(data)
    finally:
        reader.close()
    await channel.send(Kind.END, {"sequence": place.sequence})
