# SPDX-License-Identifier: MIT
"""A primary and its backups: catching up, base, promotion, fencing, restarts."""

import random
import time

import pytest

from tests.replication.nodes import (
    AUTO,
    CLOSE,
    COMPACT,
    DONE,
    FAILED,
    PRIMARY,
    PROMOTE,
    PROMOTED,
    READY,
    STANDBY,
    Machine,
    Make,
    eventually,
)


def pair(machines: Make) -> tuple[Machine, Machine]:
    a, b = machines("a", "b")
    b.start(STANDBY)
    a.start(PRIMARY)
    said = a.hear()
    assert (said.kind, said.role, said.generation) == (READY, PRIMARY, 1)
    said = b.hear()
    assert (said.kind, said.role) == (READY, STANDBY)
    return a, b


def acknowledged(a: Machine) -> int:
    return min(int(sink["epoch"]) for sink in a.status()["sinks"])


def test_the_standby_gets_the_same_bytes(machines: Make) -> None:
    a, b = pair(machines)
    for size in (0, 1, 100, 5000, 3_000_000):
        a.push(7, size)
    eventually(lambda: acknowledged(a) == 35)
    assert a.journal() == b.journal()
    lag = a.status()["sinks"][0]
    assert (lag["transactions"], lag["bytes"], lag["seconds"]) == (0, 0, 0)


def test_a_standby_that_was_away_goes_on_where_it_was(machines: Make) -> None:
    a, b = pair(machines)
    a.push(5)
    eventually(lambda: acknowledged(a) == 5)
    b.kill()
    for _ in range(50):
        a.push(2, 2000)
    eventually(lambda: a.status()["epoch"] == 105)
    assert a.status()["sinks"][0]["transactions"] == 100
    b.start(STANDBY)
    assert b.hear().kind == READY
    eventually(lambda: acknowledged(a) == 105)
    assert a.journal() == b.journal()
    assert len(a.events("based")) == 1  # the first time, when it was empty


def test_a_compacted_primary_sends_a_base_while_it_goes_on(machines: Make) -> None:
    a, b = pair(machines)
    b.kill()
    a.push(5, 100_000)
    eventually(lambda: a.status()["epoch"] == 5)
    a.say(COMPACT)
    assert a.hear().kind == DONE
    a.push(1)
    b.start(STANDBY)
    b.hear()
    for _ in range(20):
        a.push(1)
    eventually(lambda: acknowledged(a) == 26)
    assert len(a.events("based")) == 2
    assert a.journal() == b.journal()


def test_frames_come_as_the_backup_takes_them(
    machines: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pace() -> float:
        return float(a.status()["sinks"][0]["pace"])

    def wait_for(epoch: int) -> None:
        eventually(lambda: acknowledged(a) == epoch)

    monkeypatch.setenv("HAC_MODEL_SYNC_SECONDS", "0.005")
    a, _ = pair(machines)
    for _ in range(300):
        a.push()
    eventually(lambda: pace() > 0)
    wait_for(300)
    # None waits where there is one at a time.
    for epoch in range(301, 401):
        a.push()
        wait_for(epoch)
        if pace() == 0:
            break
    assert pace() == 0


def test_promotion_fences_the_old_primary(machines: Make) -> None:
    a, b = pair(machines)
    a.push(5)
    eventually(lambda: acknowledged(a) == 5)
    b.say(PROMOTE)
    said = b.hear()
    assert (said.kind, said.role, said.generation, said.epoch) == (PROMOTED, PRIMARY, 1_000_000, 5)
    eventually(lambda: a.status()["state"] == "fenced")
    before = a.journal()
    a.push(5)
    time.sleep(0.2)
    assert a.journal() == before
    b.push(3)
    eventually(lambda: b.status()["epoch"] == 8)


def test_an_old_primary_that_comes_back(machines: Make) -> None:
    a, b = pair(machines)
    a.push(5)
    eventually(lambda: acknowledged(a) == 5)
    a.kill()
    b.say(PROMOTE)
    assert b.hear().kind == PROMOTED
    a.start(PRIMARY)
    said = a.hear()
    assert said.kind == FAILED
    assert said.error == -116
    assert "generation 1000000" in said.text
    a.start(AUTO)
    said = a.hear()
    assert (said.kind, said.role) == (READY, STANDBY)
    b.push(3)
    eventually(lambda: acknowledged(b) == 8)
    assert a.journal() == b.journal()


def test_a_restarted_primary_takes_what_its_peer_has(machines: Make) -> None:
    a, _b = pair(machines)
    for _ in range(9):
        a.push(1)
    eventually(lambda: acknowledged(a) == 9)
    a.kill()
    # Its disk loses the end: what was sent before it was synced.
    (segment,) = a.image.glob("journal.*")
    whole = segment.read_bytes()
    segment.write_bytes(whole[: len(whole) - 3 * 228])
    a.start(PRIMARY)
    said = a.hear()
    assert (said.kind, said.role, said.generation, said.epoch) == (READY, PRIMARY, 2, 9), said
    assert a.journal()[: len(whole)] == whole


def test_of_two_autos_the_one_that_is_ahead_leads(machines: Make) -> None:
    a, b = pair(machines)
    a.push(9)
    eventually(lambda: acknowledged(a) == 9)
    for machine in (a, b):
        machine.kill()
    (segment,) = a.image.glob("journal.*")
    segment.write_bytes(segment.read_bytes()[:-1])
    a.start(AUTO)
    b.start(AUTO)
    eventually(lambda: b.status()["state"] == "primary")
    eventually(lambda: a.status()["epoch"] == 9)
    eventually(lambda: a.status()["state"] == "standby")


def test_a_diverged_standby_gets_a_base(machines: Make) -> None:
    a, b = pair(machines)
    a.push(9)
    eventually(lambda: acknowledged(a) == 9)
    for machine in (a, b):
        machine.kill()
    # Nobody can ask b; so a begins a generation without its end.
    (segment,) = a.image.glob("journal.*")
    segment.write_bytes(segment.read_bytes()[:-1])
    a.start(PRIMARY)
    a.hear()
    a.push(2)
    b.start(STANDBY)
    eventually(lambda: acknowledged(a) == a.status()["epoch"] == 2)
    assert a.journal() == b.journal()
    assert b.events("replaced")[-1]["had_epoch"] == 9


def test_an_image_of_another_name_is_never_replaced(machines: Make) -> None:
    a, b = machines("a", "b")
    for machine in (a, b):
        machine.peers = []
        machine.start(PRIMARY)
        machine.hear()
        machine.push(4)
        eventually(lambda machine=machine: machine.status()["epoch"] == 4)  # type: ignore[misc]
        machine.kill()
    before = b.journal()
    a.peers = [b.port]
    b.start(STANDBY)
    b.hear()
    a.start(PRIMARY)
    said = a.hear()
    assert said.kind == FAILED
    assert "another image" in said.text
    assert b.journal() == before


def test_a_new_helper_takes_the_place_of_one_that_died(machines: Make) -> None:
    a, b = pair(machines)
    a.push(4)
    eventually(lambda: acknowledged(a) == 4)
    a.kill()
    a.start(PRIMARY, generation=1)
    said = a.hear()
    assert (said.kind, said.role, said.generation, said.epoch) == (READY, PRIMARY, 1, 4)
    a.push(4)
    eventually(lambda: acknowledged(a) == 8)
    assert a.journal() == b.journal()


def test_closing_sends_the_rest(machines: Make) -> None:
    a, b = pair(machines)
    for _ in range(200):
        a.push(1, 20_000)
    a.say(CLOSE)
    said = a.hear()
    assert (said.kind, said.error) == (DONE, 0)
    assert a.process is not None
    assert a.process.wait(10) == 0
    assert a.journal() == b.journal()


def test_a_helper_whose_context_dies_ends(machines: Make) -> None:
    a, b = pair(machines)
    for _ in range(100):
        a.push(1, 20_000)
    a.leave()
    assert a.journal() == b.journal()
    b.leave()


def test_killing_at_random(machines: Make) -> None:
    """Whatever was acknowledged is in the standby that is promoted in the end."""
    a, b = pair(machines)
    dice = random.Random(4)
    for _ in range(12):
        for _ in range(dice.randrange(1, 30)):
            a.push(1, dice.choice((10, 1000, 300_000)))
        time.sleep(dice.random() * 0.2)
        if dice.random() < 0.5:
            b.kill()
            b.start(STANDBY)
            assert b.hear().kind == READY
        else:
            a.kill()
            a.start(PRIMARY, generation=1)
            assert a.hear().kind == READY
    time.sleep(0.2)
    safe = acknowledged(a)
    whole = a.journal()
    a.kill()
    eventually(lambda: b.status()["leader"] == "")
    b.say(PROMOTE)
    assert b.hear().kind == PROMOTED
    assert b.status()["epoch"] >= safe > 0
    mine = b.journal()
    common = min(len(whole), len(mine) - 128)
    assert mine[:common] == whole[:common]
