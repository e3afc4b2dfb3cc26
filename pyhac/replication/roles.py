# SPDX-License-Identifier: MIT
"""Who leads: decisions, without any network.

A node that starts asks its peers. Of nodes that are undecided the one of the highest
*rank* leads: the newest generation, then the newest epoch. It needs *leave*, of all its
peers: who does not answer may be primary. (Only role primary, a decision of whoever
starts it, leads without those that do not answer.) A node gives leave to one claimant at
a time, and while it is out it does not lead itself. The claimant may rely on it for
CLAIM_SECONDS from when it asked, the giver keeps to it for LEAVE_SECONDS from when it
answered: so however long messages take, no two lead by the leave of the same node.
"""

import enum
from collections.abc import Iterable
from typing import NamedTuple

CLAIM_SECONDS = 3.0
LEAVE_SECONDS = 10.0


class Role(enum.StrEnum):
    AUTO = "auto"
    PRIMARY = "primary"
    STANDBY = "standby"


class State(enum.StrEnum):
    STARTING = "starting"
    STANDBY = "standby"
    PRIMARY = "primary"
    FENCED = "fenced"


class View(NamedTuple):
    """What a node says of itself, as far as roles depend on it."""

    name: str
    instance: str  # of this process: unique
    uuid: str
    blank: bool  # holds no image yet
    generation: int
    epoch: int
    sequence: int
    wanted: Role
    state: State
    leader: str  # the primary that it follows, or ""

    @property
    def progress(self) -> tuple[int, int, int]:
        return (0, 0, 0) if self.blank else (self.generation, self.epoch, self.sequence)

    def outranks(self, other: "View") -> bool:
        """Never both ways, never neither way: instances differ."""
        mine, theirs = self.wanted is Role.PRIMARY, other.wanted is Role.PRIMARY
        if mine != theirs:
            return mine
        if self.progress != other.progress:
            return self.progress > other.progress
        # The smaller name leads.
        return (self.name, self.instance) < (other.name, other.instance)

    def akin(self, other: "View") -> bool:
        """Of the same image, as far as one can say."""
        return self.blank or other.blank or self.uuid == other.uuid


class Decision(NamedTuple):
    lead: bool
    why: str


def decide_auto(own: View, peers: Iterable[View | None], configured: int) -> Decision:
    """Should this undecided node claim to lead? ``peers``: None did not answer."""
    heard = [peer for peer in peers if peer is not None]
    if not configured:
        return Decision(True, "there are no peers")
    if not heard:
        return Decision(False, "no peer answers: waiting for one, or to be promoted")
    for peer in heard:
        if not own.akin(peer):
            return Decision(False, f"{peer.name} holds another image ({peer.uuid})")
        stale = peer.progress[0] < own.progress[0]
        if peer.state is State.PRIMARY and not stale:
            return Decision(False, f"{peer.name} is primary")
        if peer.state is State.STANDBY and peer.leader and not stale:
            return Decision(False, f"{peer.name} follows {peer.leader}")
        if peer.state is State.FENCED:
            if peer.progress[0] > own.progress[0]:
                return Decision(False, f"{peer.name} is ahead, and fenced")
        elif peer.wanted is Role.STANDBY:
            if peer.progress > own.progress:
                return Decision(False, f"{peer.name} is ahead, and to be a standby: promote it")
        elif peer.state is not State.PRIMARY and peer.outranks(own):
            return Decision(False, f"{peer.name} comes first")
    if len(heard) < configured:
        return Decision(False, f"only {len(heard)} of {configured} peers answer: waiting")
    return Decision(True, "it comes first")


def newer_elsewhere(own: View, peers: Iterable[View]) -> View | None:
    """The peer that a node with role primary must not pass over."""
    newer = [peer for peer in peers if own.akin(peer) and peer.progress[0] > own.progress[0]]
    return max(newer, key=lambda peer: peer.progress, default=None)


def ahead(own: View, peers: Iterable[View]) -> View | None:
    """The peer of the same generation that has the most of what this node lacks."""
    more = [
        peer
        for peer in peers
        if own.akin(peer) and peer.progress[0] == own.progress[0] and peer.progress > own.progress
    ]
    return max(more, key=lambda peer: peer.progress, default=None)


class Leave:
    """To whom this node has given leave to lead."""

    def __init__(self) -> None:
        self._to = ""
        self._until = 0.0

    def holder(self, now: float) -> str:
        return self._to if now < self._until else ""

    def give(self, instance: str, now: float) -> bool:
        """To this one; no, if another one has it."""
        if self.holder(now) not in ("", instance):
            return False
        self._to, self._until = instance, now + LEAVE_SECONDS
        return True

    def end(self, instance: str) -> None:
        if self._to == instance:
            self._until = 0.0


def judge_claim(own: View, claimant: View, leave: Leave, now: float) -> str:
    """Give leave to a claimant: "", or why not. A primary of an older generation, or
    one that is taken over from, has to be fenced first by the caller."""
    if not own.akin(claimant):
        return f"{own.name} holds another image ({own.uuid})"
    if own.progress[0] > claimant.progress[0]:
        return f"{own.name} has generation {own.generation}, a newer one"
    if own.state is State.PRIMARY:
        return f"{own.name} is primary"
    forced = claimant.wanted is Role.PRIMARY
    if own.leader and not forced and claimant.progress[0] <= own.progress[0]:
        return f"{own.name} follows {own.leader}"
    undecided = own.state is State.STARTING or own.wanted is Role.AUTO
    if undecided and own.state is not State.FENCED and own.outranks(claimant):
        return f"{own.name} comes first"
    if not leave.give(claimant.instance, now):
        return f"{own.name} has given leave to another one"
    return ""


def next_generation(newest: int, *, promoted: bool) -> int:
    """What lead() will begin; see HAC_KEEPER_PROMOTED in hac_helper.h."""
    return (newest // 1_000_000 + 1) * 1_000_000 if promoted else newest + 1
