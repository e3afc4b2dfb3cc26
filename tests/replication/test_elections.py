# SPDX-License-Identifier: MIT
"""Starting at the same moment: exactly one leads."""

import random
import time

import pytest
from nodes import AUTO, PRIMARY, PROMOTED, READY, Machine, Make, eventually


def leaders(nodes: list[Machine]) -> list[Machine]:
    return [node for node in nodes if node.status()["state"] == "primary"]


@pytest.mark.parametrize("attempt", range(20))
def test_two_autos(machines: Make, attempt: int) -> None:
    nodes = machines("a", "b")
    dice = random.Random(attempt)
    for node in dice.sample(nodes, 2):
        node.start(AUTO)
        time.sleep(dice.choice((0.0, 0.0, 0.02, 0.1, 0.3)))
    eventually(lambda: len(leaders(nodes)) == 1)
    (leader,) = leaders(nodes)
    (other,) = [node for node in nodes if node is not leader]
    said = leader.hear()
    if said.role != PRIMARY:
        said = leader.hear()
        assert said.kind == PROMOTED
    leader.push(3)
    eventually(lambda: other.status()["epoch"] == 3)
    assert other.hear().kind == READY
    # Whatever happened: only one of them ever led.
    led = [node for node in nodes for line in node.events("state") if line["state"] == "primary"]
    assert led == [leader]
    assert leader.status()["generation"] == 1


def test_three_autos(machines: Make) -> None:
    nodes = machines("a", "b", "c")
    for node in nodes:
        node.start(AUTO)
    eventually(lambda: len(leaders(nodes)) == 1)
    leaders(nodes)[0].push(3)
    eventually(lambda: all(node.status()["epoch"] == 3 for node in nodes))
    led = [node for node in nodes for line in node.events("state") if line["state"] == "primary"]
    assert len(led) == 1


def test_an_auto_alone_waits(machines: Make) -> None:
    a, b = machines("a", "b")
    a.start(AUTO)
    time.sleep(2.5)
    assert a.status()["state"] == "standby"
    b.start(AUTO)
    eventually(lambda: len(leaders([a, b])) == 1)


def test_an_auto_without_peers_leads(machines: Make) -> None:
    (a,) = machines("a")
    a.start(AUTO)
    said = a.hear()
    assert (said.kind, said.role) == (READY, PRIMARY)


def test_losing_the_primary_promotes_nobody(machines: Make) -> None:
    """Two that still see each other cannot know whether the third one is dead."""
    nodes = machines("a", "b", "c")
    for node in nodes:
        node.start(AUTO)
    eventually(lambda: len(leaders(nodes)) == 1)
    (leader,) = leaders(nodes)
    rest = [node for node in nodes if node is not leader]
    eventually(lambda: all(node.status()["leader"] for node in rest))
    leader.kill()
    time.sleep(2)
    assert not leaders(rest)
    leader.start(AUTO)
    eventually(lambda: len(leaders(nodes)) == 1)


def test_two_that_are_both_to_be_primary(machines: Make) -> None:
    nodes = machines("a", "b")
    for node in nodes:
        node.start(PRIMARY)
    said = [node.hear(30) for node in nodes]
    assert sorted(each.kind for each in said) in ([16, 19], [16, 16])
    time.sleep(1)
    alive = [n for n in nodes if n.process is not None and n.process.poll() is None]
    eventually(lambda: len(leaders(alive)) == 1)
