# SPDX-License-Identifier: MIT
"""How a node comes to its role when it starts, and an undecided one afterwards."""

import asyncio
import errno
import random
import time
from typing import TYPE_CHECKING

from . import lease, standing
from ._keeper import KeeperError
from .address import Address
from .fetch import fetch
from .protocol import Body, ProtocolError
from .roles import (
    CLAIM_SECONDS,
    LEAVE_SECONDS,
    Role,
    State,
    View,
    ahead,
    decide_auto,
    newer_elsewhere,
)
from .status import ask, view_of

if TYPE_CHECKING:
    from .node import Node
    from .stream_link import StreamLink

GRACE_SECONDS = 1.0
"""A node that hears nobody is a standby after so long."""
PATIENCE_SECONDS = LEAVE_SECONDS + 2.0
"""So long a node with role primary asks again when leave is out to another one."""


class Round:
    """The answers of all peers to one question."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.sent = 0.0
        self.views: dict[Address, View] = {}
        self.denials: list[str] = []
        self.granted = 0

    async def ask(self, *, claim: bool) -> "Round":
        node = self._node
        self.sent = lease.now()
        body: Body = {**node.view()._asdict(), "claim": claim}
        await asyncio.gather(*(self._one(peer, body, claim) for peer in node.options.peers))
        return self

    async def _one(self, peer: Address, body: Body, claim: bool) -> None:
        node = self._node
        try:
            answer = await ask(peer, node.options.security, body)
            view = view_of(answer)
            if view.instance == node.instance:
                return
            self.views[peer] = view
            if not claim:
                return
            if answer.get("granted") is True:
                self.granted += 1
            else:
                self.denials.append(f"{peer}: {answer.get('why')}"[:300])
        except (OSError, TimeoutError) as failure:
            node.log("asked", peer=str(peer), unreachable=str(failure) or "no answer in time")
        except ProtocolError as failure:
            node.log("asked", peer=str(peer), error=str(failure))


async def _claim(node: "Node") -> Round | None:
    """Ask for leave to lead; None: somebody refused, or too few answer."""
    if not node.leave.give(node.instance, time.monotonic()):
        return None
    answers = await Round(node).ask(claim=True)
    forced = node.options.role is Role.PRIMARY and not node.options.lease
    enough = forced or answers.granted == len(node.options.peers)
    if answers.denials or not enough or node.state in (State.PRIMARY, State.FENCED):
        node.leave.end(node.instance)
        if answers.denials:
            node.log("denied", why=answers.denials)
        return None
    return answers


async def _lead(node: "Node", answers: Round, why: str) -> bool:
    """Lead by the leave that was given. Beginning may take longer than leave lasts:
    then it is asked for again before anybody is told."""
    if node.leader or node.leading:
        node.leave.end(node.instance)
        return False
    limit = min(CLAIM_SECONDS, node.options.lease / 4 or CLAIM_SECONDS)
    await node.end_session()
    await node.begin()
    while lease.now() - answers.sent > limit:
        again = await _claim(node)
        if again is None:
            await node.give_up()
            return False
        answers = again
    if node.options.lease:
        node.renewal.renew(answers.sent)
    await node.remember(led=node.place.generation)
    node.preside(why)
    return True


async def start_primary(node: "Node") -> None:
    """Role primary: lead, unless a peer has what this node must not pass over.
    KeeperError: ESTALE."""
    begun = time.monotonic()
    answers = await Round(node).ask(claim=False)
    fenced = (await node.question(standing.read, node.options.image)).fenced
    if fenced > node.place.generation:
        raise KeeperError(
            errno.ESTALE,
            f"this image was fenced by generation {fenced} and has not followed it yet: open it "
            "as a standby",
        )
    while True:
        _refuse_newer(node, answers)
        claimed = await _claim(node)
        if claimed is not None:
            _refuse_newer(node, claimed)
            best = ahead(node.view(), claimed.views.values())
            if best is not None:
                address = next(each for each, view in claimed.views.items() if view == best)
                await fetch(node, address, best)
            if await _lead(node, claimed, "it is to be"):
                return
        heard = bool(answers.views)
        if time.monotonic() - begun > PATIENCE_SECONDS and heard:
            raise KeeperError(errno.ESTALE, "the peers do not let this node lead; see its log")
        await asyncio.sleep(random.uniform(0.2, 0.5))
        answers = await Round(node).ask(claim=False)


def _refuse_newer(node: "Node", answers: Round) -> None:
    own = node.view()
    for address, view in answers.views.items():
        if not own.akin(view):
            raise KeeperError(
                errno.ESTALE, f"{address} ({view.name}) holds another image, {view.uuid}"
            )
    newer = newer_elsewhere(own, answers.views.values())
    if newer is not None:
        address = next(each for each, view in answers.views.items() if view == newer)
        here = "nothing" if own.blank else f"generation {own.generation} up to {own.epoch}"
        raise KeeperError(
            errno.ESTALE,
            f"{address} ({newer.name}) has generation {newer.generation} up to epoch "
            f"{newer.epoch}, here is {here}: start as a standby, it will be brought up to date",
        )


async def elect(node: "Node") -> None:
    """Role auto: ask until this node follows or leads; begin again when it follows
    nobody any more."""
    begun, said = time.monotonic(), ""
    while node.state in (State.STARTING, State.STANDBY):
        if node.leader or node.leading:
            if node.state is State.STARTING and node.leader:
                node.set_state(State.STANDBY, why=f"{node.leader} is primary")
            await asyncio.sleep(0.2)
            continue
        answers = await Round(node).ask(claim=False)
        peers = node.options.peers
        decision = decide_auto(node.view(), [answers.views.get(peer) for peer in peers], len(peers))
        if decision.why != said:
            said = decision.why
            node.log("decides", lead=decision.lead, why=said)
        if decision.lead and not node.leader:
            claimed = await _claim(node)
            if claimed is not None and await _lead(node, claimed, decision.why):
                return
        elif node.state is State.STARTING and (
            answers.views or time.monotonic() - begun > GRACE_SECONDS
        ):
            node.set_state(State.STANDBY, why=decision.why)
        # Two that ask in step would refuse each other in step.
        await asyncio.sleep(random.uniform(0.1, 0.3))


def _stream(node: "Node") -> "StreamLink":
    """The node's link to its stream. KeeperError: there is no nats-py."""
    try:
        from .stream_link import StreamLink
    except ImportError as failure:
        raise KeeperError(
            errno.EOPNOTSUPP,
            f"{node.options.stream}: a stream needs nats-py ({failure}): "
            "pip install 'hac-checkpoint[stream]'",
        ) from failure
    node.link = StreamLink(node)
    return node.link


async def resume(node: "Node") -> None:
    """In the place of a helper that died as primary: its context goes on meanwhile."""
    if node.options.stream is not None:
        await _stream(node).resume()
        return
    if not node.options.lease:
        await node.begin()
        node.preside("its predecessor was")
        return
    # How long ago the predecessor was last answered is not known.
    while True:
        answers = await Round(node).ask(claim=True)
        newer = newer_elsewhere(node.view(), answers.views.values())
        if newer is not None or answers.granted:
            break
        await asyncio.sleep(0.1)
    await node.begin()
    if newer is None:
        node.renewal.renew(answers.sent)
    node.preside("its predecessor was")
    if newer is not None:
        await node.fence(newer.generation, f"{newer.name} leads by now")


async def settle(node: "Node") -> None:
    """Come to a role, as it is wanted."""
    if node.options.stream is not None:
        await _stream(node).settle()
        return
    match node.options.role:
        case Role.STANDBY:
            node.set_state(State.STANDBY, why="it is to be")
        case Role.PRIMARY:
            await start_primary(node)
        case Role.AUTO:
            await elect(node)


async def watch_lease(node: "Node") -> None:
    """Renewal while primary, hearing while standby; see lease.py."""
    if not node.options.lease or node.options.stream is not None:
        return
    while True:
        pause = node.options.lease / 20
        if node.state is State.PRIMARY:
            left = node.renewal.left()
            if left is not None and left <= 0:
                await node.fence(
                    0,
                    f"the lease is lost: no peer has answered for {node.options.lease / 2:g} s",
                )
            elif left is not None:
                pause = min(pause, left)
        elif node.state is State.STANDBY and not node.leading:
            left = node.hearing.left()
            out = node.leave.holder(time.monotonic())
            if left is not None and left <= 0 and not out and not node.place.blank:
                why = f"nothing was heard from the primary for {node.options.lease:g} s"
                try:
                    await node.promote(why)
                except KeeperError as failure:
                    node.log("promote", error=str(failure))
        await asyncio.sleep(pause)
