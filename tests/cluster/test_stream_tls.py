# SPDX-License-Identifier: MIT
"""A stream over TLS: who has no certificate of the cluster's CA gets nothing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="there is no nats-py")

from pyhac.replication.jetstream import StreamError, connect
from pyhac.replication.stream_reader import Reader
from pyhac.replication.stream_writer import Writer
from tests.cluster.cluster import Cluster, running
from tests.cluster.frames import IMAGE
from tests.cluster.frames import made as made_frame
from tests.replication.nodes import keys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def own(folder: Path) -> Path:
    return keys(folder, "client")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("secured"), keys(folder, "servers")) as made:
        yield made


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_frames_go_through(secured: Cluster, name: str, own: Path, scheme: str) -> None:
    text = secured.text(name).replace("nats://", f"{scheme}://")

    async def run() -> None:
        stream = await connect(text, tls=own)
        writer = await Writer.claim(
            stream, image=IMAGE, generation=1, sequence=0, known=lambda sequence: None
        )
        frames = [made_frame(sequence, 1, b"x" * 1000) for sequence in range(writer.sequence, 20)]
        for frame in frames:
            await writer.append(frame, writer.sequence)
        await writer.wait(writer.sequence)
        await writer.close()
        reader = Reader(stream, sequence=0, check="", image=IMAGE)
        found = []
        async with asyncio.timeout(30):
            async for one in reader.frames():
                found.append(one.data)
                if len(found) == len(frames):
                    break
        await stream.close()
        assert found == frames

    asyncio.run(run())


def refused(text: str, directory: Path | None) -> str:
    with pytest.raises(StreamError) as caught:
        asyncio.run(connect(text, tls=directory, seconds=4))
    return str(caught.value)


def test_strangers_get_nothing(
    secured: Cluster, cluster: Cluster, name: str, own: Path, tmp_path: Path
) -> None:
    # Another CA's certificate, none, and servers without TLS.
    assert "no server within" in refused(secured.text(name), keys(tmp_path / "others", "client"))
    assert "no server within" in refused(secured.text(name), None)
    assert "speaks no TLS" in refused(cluster.text(name), own)


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_nothing_is_sent_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, own: Path, scheme: str
) -> None:
    """A server, or somebody between, whose greeting does not ask for TLS."""
    monkeypatch.setenv("NATS_USER", "somebody")
    monkeypatch.setenv("NATS_PASSWORD", "secret")
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(
            b'INFO {"server_id":"x","version":"2.12.1","max_payload":1048576,'
            b'"auth_required":true,"tls_available":true}\r\n'
        )
        while line := await reader.readline():
            heard += line
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamError, match="speaks no TLS"):
            await connect(f"{scheme}://127.0.0.1:{port}/orders", tls=own, seconds=3)
        server.close()

    asyncio.run(run())
    assert heard == b""
