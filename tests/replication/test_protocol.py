# SPDX-License-Identifier: MIT
"""Messages that nobody would send who means well."""

import asyncio
import json
import random
import socket
import struct
import time
import zlib

import psutil
import pytest

from pyhac.replication.protocol import (
    DATA_MAX,
    HEAD,
    JSON_MAX,
    Body,
    Channel,
    Kind,
    ProtocolError,
    encode,
    number,
    text,
)
from pyhac.replication.wire import Wire
from tests.replication.nodes import STANDBY, Machine, Make, eventually


def received(data: bytes) -> tuple[Kind, Body, bytes]:
    async def run() -> tuple[Kind, Body, bytes]:
        ours, theirs = socket.socketpair()
        _, wire = await asyncio.get_running_loop().create_connection(Wire, sock=ours)
        with theirs:
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            try:
                return await Channel(wire).receive(1.0)
            finally:
                wire.abort()

    return asyncio.run(run())


def message(kind: int, body: bytes, flags: int = 0, reserved: int = 0) -> bytes:
    head = HEAD.pack(kind, flags, reserved, 4 + len(body))
    return head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


def test_what_is_sent_is_received() -> None:
    body = {"epoch": 2**64 - 1, "name": "ä", "list": [1, None, True]}
    assert received(encode(Kind.STATUS, body)) == (Kind.STATUS, body, b"")
    assert received(encode(Kind.PROMOTE)) == (Kind.PROMOTE, {}, b"")
    data = HEAD.pack(Kind.DATA, 0, 0, 3) + b"abc"
    assert received(data) == (Kind.DATA, {}, b"abc")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (message(99, b"{}"), "unknown kind"),
        (message(0, b"{}"), "unknown kind"),
        (message(Kind.ASK, b"{}", flags=1), "flags"),
        (message(Kind.ASK, b"{}", reserved=1), "flags"),
        (message(Kind.ASK, b"[]"), "no JSON object"),
        (message(Kind.ASK, b"{"), "no JSON"),
        (message(Kind.ASK, b"\xff"), "no JSON"),
        (message(Kind.ASK, b"[" * 60_000), "no JSON"),
        (message(Kind.ASK, b"1" * 60_000), "no JSON"),
        (message(Kind.ASK, b" " * JSON_MAX), "bytes"),
        (HEAD.pack(Kind.ASK, 0, 0, 0), "0 bytes"),
        (HEAD.pack(Kind.ASK, 0, 0, 2**32 - 1), "bytes"),
        (HEAD.pack(Kind.DATA, 0, 0, 0), "DATA of 0"),
        (HEAD.pack(Kind.DATA, 0, 0, DATA_MAX + 1), "DATA of"),
        (encode(Kind.ACK, {"epoch": 1}).replace(b"1", b"2"), "damaged"),
    ],
)
def test_bad_messages(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        received(data)


def test_every_single_bit_counts() -> None:
    good = encode(Kind.ACK, {"generation": 1, "sequence": 10, "epoch": 100, "bytes": 7})
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            kind, _, _ = received(bytes(bad))
        except (ProtocolError, ConnectionResetError):
            continue
        # Only a message that says nothing may be made of it: bytes, which are no frame.
        assert kind is Kind.DATA


def test_cut_anywhere() -> None:
    good = encode(Kind.STATUS, {"a": 1})
    for size in range(len(good)):
        with pytest.raises(ConnectionResetError):
            received(good[:size])


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, "1", True, None, [], {}])
def test_numbers(value: object) -> None:
    with pytest.raises(ProtocolError):
        number({"n": value}, "n")


@pytest.mark.parametrize("value", [1, "a\nb", "x" * 600, None, "\x1b[2J"])
def test_texts(value: object) -> None:
    with pytest.raises(ProtocolError):
        text({"t": value}, "t")


@pytest.fixture
def victim(machines: Make) -> Machine:
    (b,) = machines("b", extra=("--silence", "1"))
    b.start(STANDBY)
    eventually(lambda: b.status()["state"] == "standby")
    return b


def talk(port: int, *data: bytes) -> None:
    """Send, and wait until the other side hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        try:
            for part in data:
                link.sendall(part)
            link.shutdown(socket.SHUT_WR)
            while link.recv(1 << 16):
                pass
        except OSError:
            pass


def test_noise(victim: Machine) -> None:
    dice = random.Random(11)
    assert victim.process is not None
    process = psutil.Process(victim.process.pid)
    before = process.memory_info().rss
    for _ in range(300):
        kind = dice.choice([*Kind, 0, 200])
        body = dice.choice(
            [dice.randbytes(dice.randrange(60)), b"{}", json.dumps({"uuid": "x"}).encode()]
        )
        raw = dice.choice([message(kind, body), dice.randbytes(40), HEAD.pack(kind, 0, 0, 1 << 30)])
        talk(victim.port, raw, dice.randbytes(dice.randrange(100)))
    assert victim.status()["state"] == "standby"
    assert process.memory_info().rss - before < 32 << 20


def greeting(**more: object) -> Body:
    return {
        "name": "evil", "instance": "e", "uuid": "0" * 36, "blank": False, "generation": 5,
        "epoch": 9, "sequence": 9, "wanted": "primary", "state": "primary", "leader": "",
        "lease": 0.0, **more,
    }  # fmt: skip


def data(body: bytes) -> bytes:
    return HEAD.pack(Kind.DATA, 0, 0, len(body)) + body


@pytest.mark.parametrize(
    "parts",
    [
        [data(b"x" * 1000)],
        [encode(Kind.JOURNAL, {"sequence": 7})],
        [encode(Kind.JOURNAL, {"sequence": 0}), data(b"x" * 1000)],
        [encode(Kind.FILE, {"name": "base", "size": 3})],
        [encode(Kind.PLACE, {"crc": 0})],
        [encode(Kind.BASE, {"uuid": "0" * 36, "bytes": 2**63})],
        [
            encode(Kind.BASE, {"uuid": "0" * 36, "bytes": 10}),
            encode(Kind.FILE, {"name": "../evil", "size": 3}),
        ],
        [
            encode(Kind.BASE, {"uuid": "0" * 36, "bytes": 10}),
            encode(Kind.FILE, {"name": "lock", "size": 3}),
        ],
        [
            encode(Kind.BASE, {"uuid": "0" * 36, "bytes": 10}),
            encode(Kind.FILE, {"name": "base", "size": 11}),
        ],
        [
            encode(Kind.BASE, {"uuid": "0" * 36, "bytes": 10}),
            encode(Kind.FILE, {"name": "base", "size": 3}),
            data(b"abcd"),
        ],
        [
            encode(Kind.BASE, {"uuid": "0" * 36, "bytes": 10}),
            encode(Kind.FILE, {"name": "base", "size": 3}),
            data(b"abc"),
            encode(Kind.PLACE, {"crc": 0}),
        ],
        [encode(Kind.BASE, {"uuid": "0" * 36, "bytes": 1})] * 2,
        [encode(Kind.LEAD, greeting())],
    ],
)
def test_a_leader_that_breaks_the_rules(victim: Machine, parts: list[bytes]) -> None:
    talk(victim.port, encode(Kind.LEAD, greeting()), *parts)
    eventually(lambda: victim.status()["leader"] == "")
    assert victim.status()["blank"]
    eventually(lambda: not victim.image.with_name("b.incoming").exists())
    assert not (victim.image.parent / "evil").exists()


def test_a_connection_that_says_nothing(victim: Machine) -> None:
    with socket.create_connection(("127.0.0.1", victim.port)) as link:
        link.settimeout(10)
        begun = time.monotonic()
        assert link.recv(1) == b""
        assert time.monotonic() - begun < 8


def test_too_many_connections(victim: Machine) -> None:
    links = [socket.create_connection(("127.0.0.1", victim.port)) for _ in range(200)]
    eventually(lambda: bool(victim.events("refuses")))
    for link in links:
        link.close()
    eventually(lambda: victim.status()["state"] == "standby")
