# SPDX-License-Identifier: MIT
"""Helpers whose peer is a stream: roles, following, takeover by the lease."""

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="there is no nats-py")

from tests.cluster.cluster import Cluster
from tests.replication.nodes import (
    PRIMARY,
    PROMOTE,
    PROMOTED,
    READY,
    STANDBY,
    Machine,
    eventually,
)

Maker = Callable[..., list[Machine]]


@pytest.fixture
def machines(cluster: Cluster, tmp_path: Path) -> Iterator[Maker]:
    """Some machines that share a stream."""
    made: list[Machine] = []
    address = cluster.text(f"roles-{uuid.uuid4().hex[:12]}")

    def make(count: int, *extra: str) -> list[Machine]:
        for index in range(count):
            made.append(Machine(tmp_path, "abc"[index]))
            made[-1].extra = ["--peer", address, *extra]
        return made

    yield make
    for machine in made:
        if machine.process is not None and machine.process.poll() is None:
            machine.process.send_signal(signal.SIGCONT)
            machine.kill()


def acknowledged(machine: Machine) -> int:
    return int(machine.status()["sinks"][0]["epoch"])


def pair(machines: Maker, *extra: str) -> list[Machine]:
    """A primary, and a standby that has what it wrote."""
    a, b = machines(2, *extra)
    a.start()
    assert a.hear().role == PRIMARY
    for _ in range(20):
        a.push(3, 1000)
    a.push(1, 3_000_000)
    b.start()
    said = b.hear(30)
    assert (said.kind, said.role) == (READY, STANDBY)
    eventually(lambda: acknowledged(a) == 61)
    eventually(lambda: b.status()["epoch"] == 61)
    return [a, b]


def test_a_standby_follows_the_stream(machines: Maker) -> None:
    a, b = pair(machines)
    for _ in range(50):
        a.push(1, 500)
    eventually(lambda: b.status()["epoch"] == 111)
    assert a.journal() == b.journal()
    # The primary compacts: the standby is not disturbed, a new one gets a base.
    b.kill()
    a.push(5, 100)
    eventually(lambda: acknowledged(a) == 116)
    b.start()
    assert b.hear(30).role == STANDBY
    eventually(lambda: b.status()["epoch"] == 116)
    assert a.journal() == b.journal()


def test_promotion_by_command_fences(machines: Maker) -> None:
    a, b = pair(machines)
    b.say(PROMOTE)
    said = b.hear(30)
    assert (said.kind, said.generation, said.epoch) == (PROMOTED, 1_000_000, 61)
    # It finds out by itself, with nothing to send.
    eventually(lambda: a.status()["state"] == "fenced")
    b.push(4)
    eventually(lambda: acknowledged(b) == 65)
    a.kill()
    a.start()
    assert a.hear(30).role == STANDBY
    eventually(lambda: a.status()["epoch"] == 65)
    assert a.journal() == b.journal()
    a.say(PROMOTE)
    assert a.hear(30).kind == PROMOTED
    eventually(lambda: b.status()["state"] == "fenced")
    b.say(PROMOTE)
    time.sleep(0.5)
    assert (b.status()["state"], a.status()["state"]) == ("fenced", "primary")


def test_the_lease_promotes(machines: Maker) -> None:
    a, b = pair(machines, "--lease", "1.5")
    time.sleep(4)
    assert b.status()["state"] == "standby"
    assert a.process is not None
    a.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    assert b.hear(30).kind == PROMOTED
    took = time.monotonic() - begun
    b.push(4)
    eventually(lambda: acknowledged(b) == 65)
    a.push(7)
    a.process.send_signal(signal.SIGCONT)
    eventually(lambda: a.status()["state"] == "fenced")
    assert acknowledged(a) == 61
    assert b.status()["epoch"] == 65
    # The one that comes back gives up what nobody acknowledged.
    a.kill()
    a.start()
    assert a.hear(30).role == STANDBY
    eventually(lambda: a.status()["epoch"] == 65)
    assert a.status()["generation"] == 1_000_000
    print(f"\ntakeover {took:.1f} s")


def test_a_helper_goes_on_in_its_predecessors_place(machines: Maker) -> None:
    a, b = pair(machines, "--lease", "1.5")
    a.kill()
    a.start(PRIMARY, 1)
    assert a.hear(30).role == PRIMARY
    a.push(2)
    eventually(lambda: acknowledged(a) == 63)
    eventually(lambda: b.status()["epoch"] == 63)
    assert a.journal() == b.journal()
