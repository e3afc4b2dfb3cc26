# SPDX-License-Identifier: MIT
"""The journal in a stream of a real cluster, whose nodes are killed.

HAC_CLUSTER_ROUNDS (2) says how often, HAC_CLUSTER_SEED (1) with which numbers.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="there is no nats-py")

from pyhac.errors import Fenced, ImageDamaged
from pyhac.replication.address import StreamAddress
from pyhac.replication.frame_header import frame_header
from pyhac.replication.jetstream import (
    WINDOW,
    Diverged,
    Mark,
    Stream,
    StreamAhead,
    StreamError,
    StreamGap,
    connect,
)
from pyhac.replication.stream_lease import Lease
from pyhac.replication.stream_reader import Follower, Reader, read_base
from pyhac.replication.stream_writer import Writer
from tests.cluster.cluster import Cluster, leader, wait_current
from tests.cluster.frames import IMAGE, made

ROUNDS = int(os.environ.get("HAC_CLUSTER_ROUNDS", "2"))
SEED = int(os.environ.get("HAC_CLUSTER_SEED", "1"))
ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.timeout(120 + 90 * ROUNDS)


def nothing(sequence: int) -> str | None:
    return None


@contextlib.asynccontextmanager
async def opened(cluster: Cluster, name: str) -> AsyncIterator[Stream]:
    stream = await connect(cluster.text(name))
    try:
        yield stream
    finally:
        await stream.close()


async def claim(stream: Stream, generation: int, sequence: int = 0) -> Writer:
    return await Writer.claim(
        stream, image=IMAGE, generation=generation, sequence=sequence, known=nothing
    )


async def write(writer: Writer, payloads: list[bytes]) -> list[bytes]:
    frames = []
    for payload in payloads:
        frames.append(made(writer.sequence, writer.generation, payload))
        await writer.append(frames[-1], writer.sequence)
    await writer.wait(writer.sequence)
    return frames


async def read(stream: Stream, count: int, sequence: int = 0, check: str = "") -> list[bytes]:
    found: list[bytes] = []
    reader = Reader(stream, sequence=sequence, check=check, image=IMAGE)
    async with asyncio.timeout(30):
        async for frame in reader.frames():
            found.append(frame.data)
            if len(found) == count:
                break
    return found


def test_what_is_appended_is_read(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with opened(cluster, name) as stream:
            writer = await claim(stream, 1)
            payloads = [random.Random(i).randbytes(i * 37) for i in range(300)]
            frames = await write(writer, payloads)
            assert writer.acknowledged.sequence == 300
            assert writer.acknowledged.epoch == 299
            assert await read(stream, 300) == frames
            check = frame_header(frames[122]).check
            assert await read(stream, 177, 123, check) == frames[123:]
            assert await read(stream, 1, 299) == frames[299:]
            with pytest.raises(Diverged, match="different ways"):
                await read(stream, 1, 123, "0" * 16)
            with pytest.raises(Diverged, match="ends with frame 299"):
                await read(stream, 1, 301)
            await writer.close()

    asyncio.run(run())


def test_a_large_frame_goes_in_parts(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with opened(cluster, name) as stream:
            writer = await claim(stream, 1)
            sizes = (5_000_000, 10, stream.chunk - 128, stream.chunk - 127, 2 * stream.chunk - 128)
            frames = await write(writer, [random.Random(n).randbytes(n) for n in sizes])
            assert await read(stream, len(sizes)) == frames
            tail = await stream.tail()
            assert tail.last == WINDOW + 1 + 10 + 1 + 1 + 2 + 2
            # From anywhere, also where the place of a part is the one that is found.
            for start in range(len(sizes)):
                assert await read(stream, len(sizes) - start, start) == frames[start:]
            await writer.close()

    asyncio.run(run())


def test_an_unfinished_frame_is_void(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with opened(cluster, name) as stream:
            writer = await claim(stream, 1)
            first = await write(writer, [b"one"])
            # As if the writer had died between the parts.
            torn = made(1, 1, random.Random(1).randbytes(3 * stream.chunk))
            for part in range(3):
                payload = torn[part * stream.chunk : (part + 1) * stream.chunk]
                writer._enqueue(stream.journal, writer._state, payload, "frame", part, 4)
            await writer.close(10)
            assert writer.acknowledged.sequence == 1

            after = await Writer.claim(stream, image=IMAGE, generation=2, sequence=1, known=nothing)
            second = await write(after, [b"two"])
            assert await read(stream, 2) == first + second
            assert await read(stream, 1, 1, frame_header(first[0]).check) == second
            await after.close()

    asyncio.run(run())


def test_a_late_writer_is_fenced(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with opened(cluster, name) as one, opened(cluster, name) as two:
            old = await claim(one, 1)
            await write(old, [b"a"] * 5)
            with pytest.raises(StreamAhead, match="frames up to 4"):
                await claim(two, 2)
            new = await claim(two, 2, 5)
            with pytest.raises(Fenced, match="generation 2"):
                await write(old, [b"b"] * 100)
            assert isinstance(old.failure, Fenced)
            with pytest.raises(Fenced):
                await old.append(made(old.sequence, 1, b"c"), 0)
            assert old.acknowledged.sequence == 5
            with pytest.raises(Fenced, match="generation 2"):
                await claim(one, 1, 5)
            frames = await write(new, [b"d"] * 3)
            assert await read(one, 3, 5) == frames
            # One that has nothing to write finds out, too.
            idle = await claim(one, 3, 8)
            assert new.failure is None
            with pytest.raises(Fenced, match="generation 3"):
                async with asyncio.timeout(10):
                    await new.progress(new.acknowledged)
            for writer in (old, new, idle):
                await writer.close()

    asyncio.run(run())


def test_another_image_or_history_is_refused(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with opened(cluster, name) as stream:
            writer = await claim(stream, 1)
            frames = await write(writer, [b"a", b"b"])
            other = IMAGE.replace("6c", "7c")
            with pytest.raises(Diverged, match="is of image"):
                await Writer.claim(stream, image=other, generation=2, sequence=2, known=nothing)
            with pytest.raises(Diverged, match="different ways"):
                await Writer.claim(
                    stream, image=IMAGE, generation=2, sequence=2, known=lambda n: "f" * 16
                )
            with pytest.raises(StreamError, match="does not come next"):
                await writer.append(frames[1], 1)
            with pytest.raises(StreamError, match="bytes"):
                await writer.append(made(2, 1, b"more")[:-1], 2)
            with pytest.raises(ImageDamaged):
                await writer.append(b"no frame at all", 2)
            assert writer.failure is None
            await stream.js.publish(stream.journal, b"from somebody else")
            with pytest.raises(StreamError, match="nobody else may publish"):
                await read(stream, 3)
            await writer.close()

    asyncio.run(run())


def test_a_base_replaces_what_is_old(cluster: Cluster, name: str, tmp_path: Path) -> None:
    async def run() -> None:
        numbers = random.Random(7)
        contents = {"layout": numbers.randbytes(300), "base": numbers.randbytes(3_000_000)}
        async with opened(cluster, name) as stream:
            writer = await claim(stream, 1)
            assert await stream.newest_base() is None
            frames = await write(writer, [b"x" * 2000] * 600)
            files = [(each, len(data)) for each, data in contents.items()]
            pieces = iter(list(contents.values()))
            sending = asyncio.create_task(
                writer.publish_base(files, pieces, sequence=300, epoch=299)
            )
            frames += await write(writer, [b"y" * 2000] * 200)  # meanwhile
            await sending
            tail = await stream.tail()
            base = await stream.newest_base()
            assert base is not None
            assert (base.sequence, base.epoch) == (300, 299)
            # It keeps a few places more than are needed.
            assert WINDOW + 300 - 256 <= tail.first <= WINDOW + 301
            assert tail.first == base.keep
            incoming = tmp_path / "incoming"
            incoming.mkdir()
            await read_base(stream, base, incoming)
            assert {p.name: p.read_bytes() for p in incoming.iterdir()} == contents
            assert await read(stream, 500, 300) == frames[300:]
            with pytest.raises(StreamGap, match="frame 0 is no longer there"):
                await read(stream, 1, 0)

            # A base ahead of the frames, and all before it removed.
            pieces = iter(list(contents.values()))
            await writer.publish_base(files, pieces, sequence=900, epoch=899, check="ab" * 8)
            assert writer.sequence == 900
            with pytest.raises(StreamGap):
                await read_base(stream, base, tmp_path)
            with pytest.raises(Diverged):
                await read(stream, 1, 901)
            again = await Writer.claim(
                stream, image=IMAGE, generation=2, sequence=900, known=lambda n: "ab" * 8
            )
            last = await write(again, [b"z"])
            assert await read(stream, 1, 900) == last
            for each in (writer, again):
                await each.close()

    asyncio.run(run())


def test_old_servers_are_refused() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamError, match=r"version 2\.9\.10.*2\.12"):
            await connect(f"nats://127.0.0.1:{port}/orders")
        server.close()

    asyncio.run(run())


def test_nobody_answers() -> None:
    with pytest.raises(StreamError, match="no server within"):
        asyncio.run(connect("nats://127.0.0.1:9/orders", seconds=1))
    with pytest.raises(StreamError, match="only loopback"):
        asyncio.run(connect("nats://192.0.2.1/orders", seconds=1))


def test_a_stream_that_drops_messages_is_refused(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with opened(cluster, "other" + name) as stream:
            await stream.js.add_stream(
                name=name, subjects=[f"hac.{name}.*"], num_replicas=1, max_msgs=100
            )
            with pytest.raises(StreamError, match=r"1 replicas.*drops old messages"):
                await connect(cluster.text(name))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("nats://a:1", "no address of a stream"),
        ("http://a:1/x", "no address of a stream"),
        ("nats://a:1/", "a stream's name"),
        ("nats://a:1/x.y", "a stream's name"),
        ("nats://a:99999/x", "a:99999"),
        ("nats://u:p@a:1/x", "NATS_USER"),
        ("nats://a:1,,b:2/x", "HOST:PORT"),
    ],
)
def test_wrong_addresses(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        StreamAddress.parse(text)


def test_addresses() -> None:
    address = StreamAddress.parse("tls://a,[::1]:5/orders")
    assert address.servers == ("tls://a:4222", "tls://[::1]:5")
    assert str(address) == "tls://a:4222,[::1]:5/orders"
    assert not address.loopback
    assert StreamAddress.parse("nats://localhost,127.0.0.1:5/x").loopback


def test_a_lease_has_one_holder(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with opened(cluster, name) as stream, opened(cluster, name) as other:
            one, two = Lease(stream, "one", ttl=1.0), Lease(other, "two", ttl=1.0)
            assert await one.acquire()
            assert not await two.acquire()
            assert await two.who() == "one"
            waiting = asyncio.create_task(two.wait())
            await asyncio.sleep(2.5)
            assert one.held
            assert not two.held
            assert not waiting.done()
            await one.abandon()
            start = time.monotonic()
            await asyncio.wait_for(waiting, 10)
            assert 0.2 < time.monotonic() - start < 5
            assert two.held
            await two.release()
            assert await one.acquire()
            await one.release()

    asyncio.run(run())


# ------------------------------------------------------------- adversaries --


async def every_message(stream: Stream) -> list[Mark]:
    """The journal's marks, as they lie there: read by no code but the follower's."""
    last = (await stream.tail()).last
    found: list[Mark] = []
    messages = Follower(stream, stream.journal, 1).messages()
    async for mark, _ in messages:
        found.append(mark)
        if mark.place == last:
            break
    return found


def check_order(marks: list[Mark]) -> dict[int, str]:
    """Only the owner wrote, and each frame is there once. Their checks."""
    owner, generation = "", 0
    checks: dict[int, str] = {}
    for mark in marks:
        if mark.kind == "claim":
            assert mark.part > 0 or mark.generation > generation
            assert mark.part == 0 or mark.owner == owner
            owner, generation = mark.owner, mark.generation
            continue
        assert (mark.owner, mark.generation) == (owner, generation)
        if mark.part == mark.parts - 1:
            assert mark.sequence - 1 == len(checks), "in order, nothing lost or doubled"
            checks[mark.sequence - 1] = mark.check
    return checks


async def write_on(writer: Writer, numbers: random.Random, until: asyncio.Event) -> None:
    while not until.is_set():
        size = numbers.choice((10, 500, 500, 500, 500, 500, 500, 30_000, 30_000, 1_200_000))
        payload = numbers.randbytes(size)
        await writer.append(made(writer.sequence, writer.generation, payload), writer.sequence)
        await asyncio.sleep(0.0005)


def test_killing_the_leader_loses_nothing(cluster: Cluster, name: str) -> None:
    numbers = random.Random(SEED)

    async def follow(stream: Stream, found: list[str]) -> None:
        reader = Reader(stream, sequence=0, image=IMAGE)
        async for frame in reader.frames():
            assert frame.sequence == len(found)
            found.append(reader.check)

    async def run() -> None:
        async with opened(cluster, name) as stream, opened(cluster, name) as other:
            writer = await claim(stream, 1)
            found: list[str] = []
            following = asyncio.create_task(follow(other, found))
            outages = []
            for _ in range(ROUNDS):
                over = asyncio.Event()
                writing = asyncio.create_task(write_on(writer, numbers, over))
                await asyncio.sleep(numbers.uniform(0.3, 1.0))
                victim = await leader(stream)
                cluster.kill(victim)
                start = time.monotonic()
                await asyncio.sleep(0.2)  # what was answered already comes in
                before = writer.acknowledged
                await writer.progress(before)
                outages.append(time.monotonic() - start)
                mark = writer.sequence + 64
                while writer.sequence < mark:
                    assert not writing.done(), writing.result()
                    await asyncio.sleep(0.01)
                await writer.wait(mark)
                cluster.start(victim)
                await asyncio.sleep(numbers.uniform(0, 0.5))
                over.set()
                await writing
                await wait_current(stream)
                cluster.wait_ready()
            await writer.wait(writer.sequence)
            while len(found) < writer.sequence:
                assert not following.done(), following.result()
                await asyncio.sleep(0.01)
            following.cancel()
            checks = check_order(await every_message(stream))
            assert list(checks.values()) == found
            assert len(found) == writer.acknowledged.sequence
            await writer.close()
            outages.sort()
            print(
                f"\n{ROUNDS} leaders killed, {len(found)} frames acknowledged, all there once, in "
                f"order; outages: median {outages[len(outages) // 2]:.1f} s, "
                f"longest {outages[-1]:.1f} s"
            )

    asyncio.run(run())


def test_rivals_never_both_write(cluster: Cluster, name: str, tmp_path: Path) -> None:
    numbers = random.Random(SEED)
    outputs = [tmp_path / f"rival{index}" for index in range(2)]
    rivals = []
    try:
        for index, output in enumerate(outputs):
            command = [sys.executable, "-m", "tests.cluster.rival", cluster.text(name), "0.6"]
            with output.open("wb") as out:
                rivals.append(subprocess.Popen([*command, str(SEED + index)], cwd=ROOT, stdout=out))
        time.sleep(3)
        for _ in range(ROUNDS * 8):
            victim = numbers.choice(rivals)
            victim.send_signal(signal.SIGSTOP)
            time.sleep(numbers.uniform(0.1, 2.0))
            victim.send_signal(signal.SIGCONT)
            time.sleep(numbers.uniform(0, 0.5))
            assert all(rival.poll() is None for rival in rivals)
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()

    async def marks() -> list[Mark]:
        async with opened(cluster, name) as stream:
            return await every_message(stream)

    found = asyncio.run(marks())
    checks = check_order(found)
    turns, fenced, acknowledged = [0, 0], 0, 0
    for index, output in enumerate(outputs):
        # The last line may be cut off.
        for line in output.read_text().splitlines(keepends=True):
            words = line.split()
            if not line.endswith("\n"):
                continue
            turns[index] += words[0] == "claim"
            fenced += words[0] == "fenced"
            if words[0] == "ack":
                assert checks[int(words[1])] == words[2]
                acknowledged += 1
    assert min(turns) > 0
    assert acknowledged > 0
    print(f"\n{turns} turns, {fenced} fenced, {len(checks)} frames, {acknowledged} answers checked")
