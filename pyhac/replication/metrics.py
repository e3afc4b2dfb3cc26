# SPDX-License-Identifier: MIT
"""Prometheus' text format, over the smallest HTTP that serves it."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .roles import State
from .status import describe

if TYPE_CHECKING:
    from .node import Node

_HEAD_MAX = 8192
_SECONDS = 5.0

_GAUGES = {
    "generation": ("hac_generation", "The newest generation."),
    "epoch": ("hac_epoch", "The last whole epoch in the journal."),
    "durable": ("hac_durable_epoch", "The last epoch that is synced here."),
    "ring_bytes": ("hac_ring_bytes", "Bytes in the ring."),
    "uptime": ("hac_uptime_seconds", "Age of this process."),
}
_SINK = {
    "connected": ("hac_sink_connected", "gauge", "1 if the sink answers."),
    "epoch": ("hac_sink_epoch", "gauge", "The last epoch that it acknowledged."),
    "transactions": ("hac_sink_lag_transactions", "gauge", "Not acknowledged yet."),
    "bytes": ("hac_sink_lag_bytes", "gauge", "Not acknowledged yet."),
    "seconds": ("hac_sink_lag_seconds", "gauge", "Age of what is not acknowledged yet."),
    "sent_bytes": ("hac_sink_sent_bytes_total", "counter", "Bytes sent."),
    "failures": ("hac_sink_failures_total", "counter", "Connections that failed."),
    "pace": ("hac_sink_pace_seconds", "gauge", "Frames are so far apart that it keeps up."),
}


def _label(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def exposition(node: "Node") -> str:
    """The page."""
    return "\n".join(_lines(node)) + "\n"


def _lines(node: "Node") -> Iterator[str]:
    status = describe(node)
    for field, (name, text) in _GAUGES.items():
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} gauge"
        yield f"{name} {status[field]}"
    yield "# HELP hac_journal_bytes_total Bytes written to the journal since it leads."
    yield "# TYPE hac_journal_bytes_total counter"
    yield f"hac_journal_bytes_total {status['journal_bytes']}"
    yield "# HELP hac_state The state of this node."
    yield "# TYPE hac_state gauge"
    for state in State:
        yield f'hac_state{{state="{state}"}} {int(node.state is state)}'
    for field, (name, kind, text) in _SINK.items():
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        for sink in status["sinks"]:
            yield f'{name}{{sink="{_label(sink["name"])}"}} {sink[field] + 0}'


class Metrics:
    def __init__(self, node: "Node") -> None:
        self._node = node
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, if asked to. OSError."""
        address = self._node.options.metrics
        if address is not None:
            self._server = await asyncio.start_server(
                self._answer, address.host, address.port, limit=_HEAD_MAX
            )

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, EOFError, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                request = head.split(b"\r\n", 1)[0].split(b" ")
                found = len(request) == 3 and request[0] == b"GET" and request[1] == b"/metrics"
                body = exposition(self._node).encode() if found else b"GET /metrics\n"
                state = "200 OK" if found else "404 Not Found"
                writer.write(
                    f"HTTP/1.1 {state}\r\nContent-Type: text/plain; version=0.0.4\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()
