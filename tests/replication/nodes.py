# SPDX-License-Identifier: MIT
"""Real helper processes, over the model, with a test in the place of the context."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pyhac.replication.address import Address
from pyhac.replication.status import ask
from pyhac.replication.tls import Security

MESSAGE = struct.Struct("<IiII7Q512s")
HELLO, PROMOTE, COMPACT, CLOSE, READY, PROMOTED, DONE, FAILED = 1, 2, 3, 4, 16, 17, 18, 19
AUTO, PRIMARY, STANDBY = 0, 1, 2
PLAIN = Security(None, None)
SCRIPT = Path(__file__).with_name("model_helper.py")


class Said(NamedTuple):
    """What a helper said to its context."""

    kind: int
    error: int
    role: int
    generation: int
    epoch: int
    text: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_of(port: int, security: Security = PLAIN) -> dict[str, Any]:
    return asyncio.run(ask(Address("127.0.0.1", port), security))


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """The condition comes true; a node that does not answer is not there yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def keys(directory: Path, name: str, host: str = "127.0.0.1") -> Path:
    """A folder of certificates by ``hac keys``."""
    command = [sys.executable, "-m", "pyhac.commands", "keys", str(directory), "--name", name]
    subprocess.run([*command, "--host", host], check=True, stdout=subprocess.DEVNULL)
    return directory / name


class Machine:
    """One node: its image, its port, and the helper that runs there just now."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.image = folder / name
        self.log = folder / f"{name}.log"
        self.port = free_port()
        self.peers: list[int] = []
        self.extra: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ring = -1

    def arguments(self) -> list[str]:
        peers = [part for port in self.peers for part in ("--peer", f"127.0.0.1:{port}")]
        return [
            "--image", str(self.image), "--name", self.name,
            "--listen", f"127.0.0.1:{self.port}", *peers, *self.extra,
        ]  # fmt: skip

    def start(self, role: int = AUTO, generation: int = 0) -> None:
        """Start a helper as a context does. The ring outlives a helper."""
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if self._ring < 0:
            self._ring_end, self._ring = os.pipe()
        self._socket = mine
        command = [sys.executable, str(SCRIPT), "helper", *self.arguments()]
        command += ["--ring", str(self._ring_end), "--control", str(other.fileno())]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, pass_fds=[self._ring_end, other.fileno()], stderr=log
            )
        other.close()
        self.say(HELLO, role, generation)

    def serve(self, *more: str) -> None:
        """Start ``hac backup serve``."""
        with self.log.open("ab") as log:
            command = [sys.executable, str(SCRIPT), "serve", *self.arguments(), *more]
            self.process = subprocess.Popen(command, stderr=log)

    def say(self, kind: int, role: int = 0, generation: int = 0) -> None:
        assert self._socket is not None
        self._socket.send(MESSAGE.pack(kind, 0, role, 0, generation, *[0] * 6, b""))

    def hear(self, seconds: float = 15.0) -> Said:
        assert self._socket is not None
        self._socket.settimeout(seconds)
        data = self._socket.recv(MESSAGE.size + 1)
        assert data, f"the helper is gone; see {self.log.read_text()[-2000:]}"
        f = MESSAGE.unpack(data)
        return Said(f[0], f[1], f[2], f[4], f[7], f[11].rstrip(b"\0").decode())

    def push(self, count: int = 1, size: int = 100) -> None:
        os.write(self._ring, b"%d %d\n" % (count, size))

    def status(self, security: Security = PLAIN) -> dict[str, Any]:
        return status_of(self.port, security)

    def journal(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.image.glob("journal.*")))

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def kill(self) -> None:
        """SIGKILL, as by a power cut."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def leave(self) -> None:
        """The context dies: its end of the socket closes. (The test lives on.)"""
        assert self._socket is not None
        assert self.process is not None
        self._socket.close()
        self._socket = None
        assert self.process.wait(15) == 0


Make = Callable[..., list[Machine]]
"""Names of machines to make, and ``extra``: more arguments for all of them."""
