# SPDX-License-Identifier: MIT
"""What a node says of itself: the body of ASK and STATUS, and how to read it.

Fields: those of :class:`~pyhac.replication.roles.View`; parent, branch_epoch,
last_epoch, durable (the last epoch synced here), ring_bytes (in the ring now),
journal_bytes (written since it leads), lease (seconds, 0: none), pid, and sinks, a list
of {name, connected, epoch, transactions, bytes, seconds, sent_bytes, failures, pace (frames
are so many seconds apart for it), trouble}.
"""

import time
from typing import TYPE_CHECKING

from .address import Address
from .protocol import Body, Kind, ProtocolError, Refused, connect, number, text
from .roles import Role, State, View
from .tls import Security

if TYPE_CHECKING:
    from .node import Node

ASK_SECONDS = 2.0


def describe(node: "Node") -> Body:
    """The status of this node."""
    view, place = node.view(), node.place
    sinks = []
    for sink in node.sinks:
        lag, position = sink.lag(), sink.position
        sinks.append(
            {
                "name": sink.name,
                "connected": sink.connected,
                "epoch": position.epoch if position else 0,
                "transactions": lag.transactions,
                "bytes": lag.bytes,
                "seconds": round(lag.seconds, 3),
                "sent_bytes": sink.sent_bytes,
                "failures": sink.failures,
                "pace": round(sink.pace, 4),
                "trouble": sink.trouble[:200],
            }
        )
    return {
        **view._asdict(),
        "parent": place.parent,
        "branch_epoch": place.branch_epoch,
        "last_epoch": place.last_epoch,
        "durable": place.durable,
        "ring_bytes": place.pushed_bytes,
        "journal_bytes": node.journal_bytes,
        "lease": node.options.lease,
        "pid": node.pid,
        "uptime": round(time.monotonic() - node.born, 3),
        "sinks": sinks,
    }


def view_of(body: Body) -> View:
    """What a peer says, checked. Raises ProtocolError."""
    try:
        wanted, state = Role(text(body, "wanted")), State(text(body, "state"))
    except ValueError as failure:
        raise ProtocolError(str(failure)) from None
    blank = body.get("blank")
    if not isinstance(blank, bool):
        raise ProtocolError("blank is neither true nor false")
    return View(
        name=text(body, "name"),
        instance=text(body, "instance"),
        uuid=text(body, "uuid", 36),
        blank=blank,
        generation=number(body, "generation"),
        epoch=number(body, "epoch"),
        sequence=number(body, "sequence"),
        wanted=wanted,
        state=state,
        leader=text(body, "leader"),
    )


async def ask(
    address: Address, security: Security, body: Body | None = None, seconds: float = ASK_SECONDS
) -> Body:
    """The status of the node there. OSError, TimeoutError, ProtocolError."""
    channel = await connect(address, security, seconds)
    try:
        channel.put(Kind.ASK, body)
        try:
            _, answer = await channel.expect(Kind.STATUS, silence=seconds)
        except Refused as failure:
            raise ProtocolError(f"it refuses: {failure}") from None
        return answer
    finally:
        channel.close()


async def promote(address: Address, security: Security, seconds: float = 30.0) -> Body:
    """Make the node there primary. Also raises Refused."""
    channel = await connect(address, security, ASK_SECONDS)
    try:
        channel.put(Kind.PROMOTE)
        return (await channel.expect(Kind.DONE, silence=seconds))[1]
    finally:
        channel.close()
