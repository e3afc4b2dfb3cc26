# SPDX-License-Identifier: MIT
"""Bytes arrive as they were sent, however they are cut, and no more of them wait than
there is room for."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pyhac.replication.address import parse_address
from pyhac.replication.follower import Assembler
from pyhac.replication.log import Log
from pyhac.replication.protocol import (
    DATA_MAX,
    Channel,
    Kind,
    ProtocolError,
    connect,
)
from pyhac.replication.tls import Security, load_security
from pyhac.replication.wire import BUFFER_BYTES, Wire
from tests.replication.nodes import keys

Talk = Callable[[Channel, Channel], Awaitable[None]]


def over_connection(security: Security, talk: Talk) -> None:
    """Call ``talk`` with both ends of a connection of its own."""

    async def run() -> None:
        accepted: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
        server = await asyncio.get_running_loop().create_server(
            lambda: Wire(accepted.set_result), "127.0.0.1", 0, ssl=security.server
        )
        port = server.sockets[0].getsockname()[1]
        near = await connect(parse_address(f"127.0.0.1:{port}"), security, 5.0)
        far = Channel(await accepted)
        try:
            async with asyncio.timeout(60):
                await talk(near, far)
        finally:
            near.abort()
            far.abort()
            server.close()

    asyncio.run(run())


@pytest.fixture(params=["plain", "tls"])
def security(request: pytest.FixtureRequest, tmp_path: Path) -> Security:
    if request.param == "plain":
        return Security(None, None)
    return load_security(str(keys(tmp_path, "a")), [], Log())


def test_all_arrives_whatever_the_sizes(security: Security) -> None:
    chance = random.Random(5)
    sizes = [1, 7, BUFFER_BYTES, BUFFER_BYTES - 8, BUFFER_BYTES + 1, DATA_MAX]
    sizes += [chance.choice((9, 300, 20_000, 400_000)) + chance.randrange(9) for _ in range(150)]
    messages = [chance.randbytes(size) for size in sizes]

    async def talk(near: Channel, far: Channel) -> None:
        async def send() -> None:
            for i, message in enumerate(messages):
                await near.send_data(message)
                near.put(Kind.HEARTBEAT, {"n": i})

        sending = asyncio.create_task(send())
        for i, message in enumerate(messages):
            if not i % 10:
                await asyncio.sleep(0.02)  # it fills up meanwhile
            assert (await far.receive(5.0))[2] == message
            assert (await far.receive(5.0))[1] == {"n": i}
        await sending
        assert far.received == near.sent

    over_connection(security, talk)


def test_who_does_not_read_is_not_sent_more(security: Security) -> None:
    async def talk(near: Channel, far: Channel) -> None:
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await near.send_data(bytes(100_000))
                sent += 100_000

        sending = asyncio.create_task(send())
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 64 << 20, "nothing holds the sender back"
        for _ in range(sent // 100_000 + 20):
            assert len((await far.receive(5.0))[2]) == 100_000
        assert sent > before, "it does not go on"
        sending.cancel()

    over_connection(security, talk)


def test_the_end_is_told(security: Security) -> None:
    async def talk(near: Channel, far: Channel) -> None:
        await near.send_data(b"last")
        near.close()
        assert (await far.receive(5.0))[2] == b"last"
        with pytest.raises(ConnectionResetError):
            await far.receive(5.0)

    over_connection(security, talk)


def test_a_lost_connection_is_an_error_on_both_sides(security: Security) -> None:
    async def talk(near: Channel, far: Channel) -> None:
        near.abort()
        with pytest.raises(ConnectionResetError):
            await far.receive(5.0)
        await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError):
            await near.send_data(bytes(1000))

    over_connection(security, talk)


def test_silence_ends_it(security: Security) -> None:
    async def talk(near: Channel, far: Channel) -> None:
        near.put(Kind.HEARTBEAT, {"n": 1})
        assert (await far.receive(5.0))[1] == {"n": 1}
        with pytest.raises(ProtocolError, match="silent"):
            await far.receive(0.2)

    over_connection(security, talk)


def test_frames_are_put_together_from_any_pieces(frames: list[bytes]) -> None:
    chance = random.Random(9)
    data = b"".join(frames)
    for most in (1, 50, 127, 128, 129, 5000, len(data)):
        assembler, found, at = Assembler(), list[bytes](), 0
        while at < len(data):
            size = chance.randint(1, most)
            found += assembler.feed(data[at : at + size])
            at += size
        assert found == frames


@pytest.fixture
def frames(tmp_path: Path) -> list[bytes]:
    """Those of a journal, of many sizes."""
    import pyhac
    from pyhac.replication._keeper import FRAME_HEAD, frame_size

    with pyhac.open(tmp_path / "image", engine="compare", level=pyhac.Level.JOURNAL) as context:
        values = context.array("values", 5000, "i8")
        for size in (1, 4000, 3, 700, 2, 1, 5000):
            with context.transaction():
                values[:size] += 1
    journal = b"".join(path.read_bytes() for path in sorted((tmp_path / "image").glob("journal.*")))
    found, at = [], 0
    while at < len(journal):
        size = frame_size(journal[at : at + FRAME_HEAD])
        found.append(journal[at : at + size])
        at += size
    assert len(found) > 5
    return found
