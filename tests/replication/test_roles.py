# SPDX-License-Identifier: MIT
"""The decisions, without a network: thousands of made-up clusters."""

import random

from pyhac.replication.roles import (
    CLAIM_SECONDS,
    LEAVE_SECONDS,
    Leave,
    Role,
    State,
    View,
    ahead,
    decide_auto,
    judge_claim,
    newer_elsewhere,
)


def view(dice: random.Random, name: str, **fixed: object) -> View:
    blank = dice.random() < 0.2
    made = View(
        name=dice.choice((name, "same")),
        instance=name,
        uuid="u",
        blank=blank,
        generation=0 if blank else dice.randrange(1, 3),
        epoch=0 if blank else dice.randrange(3),
        sequence=0 if blank else dice.randrange(3),
        wanted=dice.choice(list(Role)),
        state=dice.choice((State.STARTING, State.STANDBY)),
        leader="",
    )
    return made._replace(**fixed)  # type: ignore[arg-type]


def test_of_two_one_outranks_the_other() -> None:
    dice = random.Random(1)
    for _ in range(5000):
        a, b, c = (view(dice, name) for name in "abc")
        assert a.outranks(b) != b.outranks(a)
        if a.outranks(b) and b.outranks(c):
            assert a.outranks(c)


def test_no_two_of_a_cluster_decide_to_lead() -> None:
    dice = random.Random(2)
    led = 0
    for _ in range(5000):
        nodes = [view(dice, name, wanted=Role.AUTO) for name in "abcd"[: dice.randrange(2, 5)]]
        leaders = []
        for node in nodes:
            others = [other for other in nodes if other is not node]
            heard = [None if dice.random() < 0.1 else other for other in others]
            if decide_auto(node, heard, len(others)).lead:
                leaders.append(node)
        assert len(leaders) <= 1
        led += len(leaders)
        if leaders:
            assert leaders[0].progress == max(node.progress for node in nodes)
    assert led > 2000


def test_nobody_leads_beside_a_primary_or_unheard() -> None:
    dice = random.Random(3)
    for _ in range(2000):
        own = view(dice, "a", wanted=Role.AUTO)
        peer = view(dice, "b", state=State.PRIMARY)
        if peer.progress[0] >= own.progress[0]:
            assert not decide_auto(own, [peer], 1).lead
        assert not decide_auto(own, [None], 1).lead
        assert not decide_auto(own, [view(dice, "b"), None], 2).lead
    assert decide_auto(own, [], 0).lead


def test_leave_is_for_one_at_a_time() -> None:
    """Random claims with random delays: whoever relies on leave does so alone."""
    dice = random.Random(4)
    for _ in range(2000):
        leave, now = Leave(), 0.0
        relied: list[tuple[str, float]] = []
        for _ in range(30):
            now += dice.random() * 5
            sent = now - dice.random() * 4  # the message was under way for so long
            who = dice.choice("ab")
            if leave.give(who, now):
                relied.append((who, sent + CLAIM_SECONDS))
                for other, until in relied:
                    assert other == who or until < now + 1e-9
    assert LEAVE_SECONDS > CLAIM_SECONDS


def test_claims() -> None:
    dice = random.Random(5)
    for _ in range(5000):
        own, claimant = view(dice, "a"), view(dice, "b")
        leave = Leave()
        why = judge_claim(own, claimant, leave, 100.0)
        assert (leave.holder(100.0) == "b") == (why == "")
        if own.progress[0] > claimant.progress[0]:
            assert why
        if own.wanted is Role.AUTO and claimant.wanted is Role.AUTO:
            assert bool(why) == own.outranks(claimant)
    following = view(dice, "a", wanted=Role.AUTO, leader="p", blank=True, generation=0)
    assert judge_claim(following, view(dice, "b", wanted=Role.AUTO, generation=0), Leave(), 0)


def test_what_a_primary_must_not_pass_over() -> None:
    dice = random.Random(6)
    for _ in range(2000):
        own, peers = view(dice, "a"), [view(dice, name) for name in "bc"]
        newer, best = newer_elsewhere(own, peers), ahead(own, peers)
        assert (newer is not None) == any(p.progress[0] > own.progress[0] for p in peers)
        if best is not None:
            assert best.progress[0] == own.progress[0]
            assert best.progress > own.progress
    stranger = view(dice, "b", uuid="v", blank=False, generation=9)
    assert newer_elsewhere(view(dice, "a", blank=False), [stranger]) is None
