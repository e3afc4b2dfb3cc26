# SPDX-License-Identifier: MIT
"""Two machines, played by two folders: each runs the worker, with its helper process."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Line = dict[str, Any]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def hac(*words: str) -> str:
    """Run the command; its output."""
    command = [sys.executable, "-m", "pyhac.commands", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"hac {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Worker:
    """One life of the worker."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self.helper: int | None = None

    def lines(self) -> Iterator[Line]:
        assert self.process.stdout
        for text in self.process.stdout:
            line: Line = json.loads(text)
            self.helper = line.get("helper") or self.helper
            yield line

    def wait_for(self, *events: str) -> Line:
        for line in self.lines():
            if line["event"] in events:
                return line
        raise SystemExit(f"the worker ended without saying {' or '.join(events)}; {self.end()}")

    def kill(self) -> None:
        """SIGKILL, for it and its helper: the machine is gone."""
        self.process.kill()
        if self.helper:
            with suppress(ProcessLookupError):
                os.kill(self.helper, signal.SIGKILL)
        self.end()

    def stop(self) -> None:
        self.process.terminate()
        self.end()

    def end(self) -> int:
        code = self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self._log.close()
        return code


class Machine:
    def __init__(self, name: str, folder: Path, table: Path, engine: str) -> None:
        self.name = name
        self.image = folder / "flights.hac"
        self.address = free_address()
        self._log = folder / "worker.log"
        self._command = [
            *(sys.executable, str(HERE / "replay.py"), str(table), str(self.image)),
            *("--engine", engine),
        ]
        self._network: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def join(self, other: "Machine", keys: Path) -> None:
        """Replicate to and from the other one, with certificates that are made here."""
        hac("keys", str(keys), "--name", self.name, "--host", "127.0.0.1")
        self.tls = keys / self.name
        self._network = ["--listen", self.address, "--peer", other.address]
        self._network += ["--tls", str(self.tls)]

    def join_stream(self, address: str) -> None:
        """Replicate by a stream; whoever has the lease is primary."""
        self._network = ["--peer", address, "--lease", "1.5"]

    def start(self, role: str | None = None) -> Worker:
        words = ["--role", role, *self._network] if role else []
        return Worker([*self._command, *words], self._log)

    def promote(self) -> None:
        hac("backup", "promote", self.address, "--tls", str(self.tls))
