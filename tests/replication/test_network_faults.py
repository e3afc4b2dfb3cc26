# SPDX-License-Identifier: MIT
"""Whatever the network does, the backup's journal is the primary's, or the start of it."""

import random
import time
from collections.abc import Callable

import pytest
from nodes import PRIMARY, STANDBY, Machine, Make, eventually
from proxy import Proxy


def linked(machines: Make, *extra: str) -> tuple[Machine, Machine, Proxy]:
    """a sends to b through a proxy."""
    a, b = machines("a", "b", extra=("--silence", "1", *extra))
    proxy = Proxy(b.port)
    a.peers = [proxy.port]
    b.peers = []
    b.start(STANDBY)
    eventually(lambda: b.status()["state"] == "standby")
    a.start(PRIMARY)
    a.hear()
    return a, b, proxy


def flip(dice: random.Random, data: bytes) -> bytes | None:
    """One bit of some of what passes."""
    if dice.random() < 0.7:
        return data
    at = dice.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]


def truncate(dice: random.Random, data: bytes) -> bytes | None:
    """Bytes are lost in the middle of the stream."""
    return data if dice.random() < 0.8 else data[: dice.randrange(len(data))]


def cut(dice: random.Random, data: bytes) -> bytes | None:
    return data if dice.random() < 0.9 else None


def repeat(dice: random.Random, data: bytes) -> bytes | None:
    return data if dice.random() < 0.8 else data + data


@pytest.mark.parametrize("fault", [flip, truncate, cut, repeat])
def test_faults(machines: Make, fault: Callable[[random.Random, bytes], bytes | None]) -> None:
    a, b, proxy = linked(machines)
    dice = random.Random(7)
    proxy.damage = lambda data: fault(dice, data)
    end, epoch = time.monotonic() + 6, 0
    while time.monotonic() < end:
        count = dice.randrange(1, 5)
        a.push(count, dice.choice((0, 50, 5000, 200_000)))
        epoch += count
        time.sleep(0.03)
        if epoch % 7 == 0:
            sent = a.journal()
            received = b.journal()
            assert received == sent[: len(received)]
            for sink in a.status()["sinks"]:
                assert sink["epoch"] <= b.status()["epoch"], "acknowledged, and not there"
    proxy.damage = lambda data: data
    eventually(lambda: a.status()["sinks"][0]["epoch"] == epoch, 20)
    assert a.journal() == b.journal()
    assert a.status()["state"] == "primary"


def test_delays(machines: Make) -> None:
    a, b, proxy = linked(machines)
    proxy.delay = 0.1
    for _ in range(40):
        a.push(1, 20_000)
        time.sleep(0.01)
    eventually(lambda: a.status()["sinks"][0]["epoch"] == 40, 30)
    assert a.journal() == b.journal()


def test_a_half_open_connection_is_noticed(machines: Make) -> None:
    a, b, proxy = linked(machines)
    a.push(3)
    eventually(lambda: a.status()["sinks"][0]["epoch"] == 3)
    proxy.frozen = True
    a.push(3, 500_000)
    eventually(lambda: not a.status()["sinks"][0]["connected"], 5)
    eventually(lambda: b.status()["leader"] == "", 5)
    lag = a.status()["sinks"][0]
    assert lag["transactions"] == 3
    assert lag["seconds"] > 0.5
    proxy.frozen = False
    eventually(lambda: a.status()["sinks"][0]["epoch"] == 6)
    assert a.journal() == b.journal()


def test_a_base_that_is_cut_again_and_again(machines: Make) -> None:
    a, b = machines("a", "b", extra=("--silence", "1"))
    proxy = Proxy(b.port)
    a.peers, b.peers = [proxy.port], []
    a.start(PRIMARY)
    a.hear()
    for _ in range(20):
        a.push(1, 1_000_000)
    dice = random.Random(3)
    proxy.damage = lambda data: data if dice.random() < 0.995 else None
    b.start(STANDBY)
    time.sleep(4)
    proxy.damage = lambda data: data
    eventually(lambda: a.status()["sinks"][0]["epoch"] == 20, 20)
    assert a.journal() == b.journal()
    assert not b.image.with_name("b.incoming").exists()
