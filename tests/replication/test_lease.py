# SPDX-License-Identifier: MIT
"""A lease: a standby takes over by itself, and the two never lead at once."""

import time

import pytest
from nodes import AUTO, FAILED, PRIMARY, PROMOTED, READY, STANDBY, Machine, Make, eventually
from proxy import Proxy


def times(machine: Machine, state: str) -> list[str]:
    return [line["time"] for line in machine.events("state") if line["state"] == state]


def test_a_dead_primary_is_replaced(machines: Make) -> None:
    a, b = machines("a", "b", extra=("--lease", "1"))
    b.start(STANDBY)
    a.start(PRIMARY)
    a.hear()
    b.hear()
    a.push(3)
    eventually(lambda: b.status()["epoch"] == 3)
    a.kill()
    assert b.hear(5).kind == PROMOTED
    # It leads alone until the other one follows.
    time.sleep(1.5)
    assert b.status()["state"] == "primary"
    b.push(1)
    eventually(lambda: b.status()["epoch"] == 4)
    a.start(AUTO)
    assert a.hear().kind == READY
    eventually(lambda: a.status()["epoch"] == 4)


@pytest.mark.parametrize("attempt", range(3))
def test_a_network_that_breaks(machines: Make, attempt: int) -> None:
    a, b = machines("a", "b", extra=("--lease", "1.5"))
    to_b, to_a = Proxy(b.port), Proxy(a.port)
    a.peers, b.peers = [to_b.port], [to_a.port]
    b.start(STANDBY)
    eventually(lambda: b.status()["state"] == "standby")
    a.start(PRIMARY)
    a.hear()
    eventually(lambda: b.status()["leader"] == "a")
    b.hear()
    time.sleep(attempt * 0.11)
    to_a.frozen = to_b.frozen = True
    assert b.hear(5).kind == PROMOTED
    assert a.status()["state"] == "fenced"
    (stopped,) = times(a, "fenced")
    (began,) = times(b, "primary")
    assert stopped < began


def test_losing_the_standby_stops_the_primary(machines: Make) -> None:
    a, b = machines("a", "b", extra=("--lease", "1"))
    b.start(STANDBY)
    a.start(PRIMARY)
    a.hear()
    b.hear()
    eventually(lambda: a.status()["sinks"][0]["connected"])
    b.kill()
    eventually(lambda: a.status()["state"] == "fenced", 3)


def test_a_primary_with_a_lease_waits_for_its_peer(machines: Make) -> None:
    a, b = machines("a", "b", extra=("--lease", "1"))
    a.start(PRIMARY)
    with pytest.raises(TimeoutError):
        a.hear(1.5)
    b.start(STANDBY)
    assert a.hear().role == PRIMARY


def test_a_lease_is_for_a_pair(machines: Make) -> None:
    a, _b, _c = machines("a", "b", "c", extra=("--lease", "1"))
    a.start(PRIMARY)
    said = a.hear()
    assert said.kind == FAILED
    assert "pair" in said.text
