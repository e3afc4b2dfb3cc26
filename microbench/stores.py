# SPDX-License-Identifier: MIT
"""Stores that replicate, doing one acknowledged write after the other.

redis   a primary with an append-only file that is synced at each write, a replica on
        the same machine, SET and WAIT 1 for each write
etcd    one member, a put for each write (by its HTTP gateway); it syncs its log
"""

import base64
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from microbench.program import Unavailable

Write = Callable[[int], None]
"""Write so many values, each acknowledged before the next."""

START_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"there is no {name}: install the package {package}")
    return found


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(ready: Callable[[], bool], what: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            if ready():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise Unavailable(f"{what} does not start: {log.read_text(errors='replace')[-500:]}")


# -- redis ----------------------------------------------------------------------


class Redis:
    """One connection, with as much of the protocol as is needed here."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers: BinaryIO = self._socket.makefile("rb")

    def send(self, *words: bytes) -> None:
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self._socket.sendall(b"*%d\r\n%s" % (len(words), parts))

    def answer(self) -> bytes:
        line = self._answers.readline().rstrip()
        if line.startswith(b"-"):
            raise Unavailable(line.decode())
        if line.startswith(b"$"):
            return self._answers.read(int(line[1:]) + 2)[:-2]
        return line[1:]

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


@contextmanager
def redis() -> Iterator[Write]:
    program = _program("redis-server", "redis-server")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-")))
        primary, replica = free_port(), free_port()
        for port in (primary, replica):
            home = folder / str(port)
            home.mkdir()
            command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
            command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
            if port == replica:
                command += ["--replicaof", f"127.0.0.1 {primary}"]
            stack.enter_context(_running(command, folder / f"{port}.log"))
        connection: list[Redis] = []

        def replicates() -> bool:
            if not connection:
                connection.append(Redis(primary))
                stack.callback(connection[0].close)
            connection[0].send(b"SET", b"ready", b"1")
            connection[0].answer()
            connection[0].send(b"WAIT", b"1", b"500")
            return int(connection[0].answer()) >= 1

        _until(replicates, "redis", folder / f"{replica}.log")

        def write(count: int) -> None:
            one = connection[0]
            for i in range(count):
                one.send(b"SET", b"key%d" % (i % 8192), b"%08d" % i)
                one.send(b"WAIT", b"1", b"0")
                one.answer()
                if int(one.answer()) < 1:
                    raise Unavailable("a write was not acknowledged by the replica")

        yield write


# -- etcd -----------------------------------------------------------------------


@contextmanager
def etcd() -> Iterator[Write]:
    program = _program("etcd", "etcd-server")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-")))
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        command = [program, "--name", "one", "--data-dir", str(folder / "data")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"one={peer}"]
        stack.enter_context(_running(command, folder / "etcd.log"))
        connection = http.client.HTTPConnection(client.removeprefix("http://"), timeout=30)
        stack.callback(connection.close)

        def put(key: bytes, value: bytes) -> bool:
            body = {
                "key": base64.b64encode(key).decode(),
                "value": base64.b64encode(value).decode(),
            }
            connection.request("POST", "/v3/kv/put", json.dumps(body))
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200

        def ready() -> bool:
            try:
                return put(b"ready", b"1")
            except (OSError, http.client.HTTPException):
                connection.close()
                raise

        _until(ready, "etcd", folder / "etcd.log")

        def write(count: int) -> None:
            for i in range(count):
                if not put(b"key%d" % (i % 8192), b"%08d" % i):
                    raise Unavailable("etcd refused a write")

        yield write


STORES = {"redis, AOF synced, WAIT 1": redis, "etcd, one member": etcd}
