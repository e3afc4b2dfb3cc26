# SPDX-License-Identifier: MIT
"""What helpers and backups say to each other.

TCP with TLS 1.3 and certificates on both sides (plain on loopback only). Each
message is a head of 8 bytes, little-endian, and a body::

    u8 kind, u8 flags (0), u16 reserved (0), u32 length of the body

The body of DATA is raw bytes, at most 1 MiB: frames, which have checksums of their own.
Every other body is a CRC-32 of the head and of what follows, and a JSON object, at most
64 KiB in all: an acknowledgement that was damaged on its way must not count. Whatever
is malformed, too long or out of turn ends the connection; the reason is logged. Nobody
allocates for bytes that have not come.

Who connects asks, who listens answers. The first message says what it is about:

ASK      one's own status (see :mod:`.status`), or {} from a program that only wants to
         know. With "claim": true a node that starts asks for leave to lead.
         Answer: STATUS; "granted" answers a claim. Can be repeated.
LEAD     status of a primary, with "lease": it wants to push its journal.
         Answers: POSITION, FENCED or REFUSED. See below.
FETCH    uuid, generation, sequence, check: the peer's journal from there on is wanted.
         Answers: DATA ..., END; or REFUSED.
PROMOTE  {}. Answers: DONE (generation, epoch) once it leads; or REFUSED.

After LEAD::

    primary                                   follower
    LEAD            --->
                    <---  POSITION: uuid, blank, generation, epoch, sequence,
                          check (of the frame before `sequence`; "" if it has none)
    either, if that frame is the primary's, too,
    JOURNAL         --->  sequence: DATA begins with that frame
    or a new base,
    BASE            --->  uuid, bytes: of all files
    FILE, DATA ...  --->  name, size: for each file
    PLACE           --->  crc: all is there; CRC-32 of the files' bytes
                    <---  POSITION: of the base, now in place; on with JOURNAL
    then
    DATA ...        --->  the journal's bytes as they are, cut anywhere
                    <---  ACK: generation, sequence, epoch: all frames before
                          `sequence` are synced; bytes: so many of DATA since JOURNAL;
                          waiting: frames that are there, but not synced yet (pace.py)
    HEARTBEAT       --->  n                     (each 0.5 s)
                    <---  HEARTBEAT n: an answer; n = 0: one's own
    and at any time
                    <---  FENCED: generation, epoch, why: a newer generation exists
                    <---  REFUSED: why

"check" is the last 8 bytes of a frame's header in hexadecimal: a hash of the header,
which holds a hash of the payload, its time and its generation.
"""

import asyncio
import enum
import json
import ssl
import struct
import zlib
from typing import Any

from .address import Address
from .tls import Security
from .wire import Wire

VERSION = 1
HEAD = struct.Struct("<BBHI")
CRC = struct.Struct("<I")
JSON_MAX = 64 << 10
DATA_MAX = 1 << 20
FRAME_MAX = 1 << 30
HANDSHAKE_SECONDS = 5.0

Body = dict[str, Any]


class Kind(enum.IntEnum):
    ASK = 1
    STATUS = 2
    LEAD = 3
    POSITION = 4
    FENCED = 5
    REFUSED = 6
    JOURNAL = 7
    BASE = 8
    FILE = 9
    PLACE = 10
    DATA = 11
    ACK = 12
    HEARTBEAT = 13
    FETCH = 14
    END = 15
    PROMOTE = 16
    DONE = 17


class ProtocolError(Exception):
    """The peer broke the rules, or was silent for too long."""


class Refused(Exception):
    """The peer said REFUSED, and why."""


def number(body: Body, name: str) -> int:
    value = body.get(name)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ProtocolError(f"{name} is {value!r:.40}, not a number of 64 bits")
    return value


def text(body: Body, name: str, most: int = 512) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise ProtocolError(f"{name} is {value!r:.40}, not a line of text")
    return value


def encode(kind: Kind, body: Body | None = None) -> bytes:
    """A message other than DATA."""
    data = json.dumps(body).encode() if body else b""
    head = HEAD.pack(kind, 0, 0, CRC.size + len(data))
    if CRC.size + len(data) > JSON_MAX:
        raise ValueError(f"{kind.name} of {len(data)} bytes is too long to send")
    return head + CRC.pack(zlib.crc32(data, zlib.crc32(head))) + data


class Channel:
    """A connection, by messages. One task receives; any may send."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.received = 0
        self.sent = 0

    @property
    def peer(self) -> str:
        name = self._wire.info("peername")
        return f"{name[0]}:{name[1]}" if name else "?"

    async def _take(self, size: int, silence: float | None) -> bytes:
        """Exactly so many bytes; no pause between them is longer than ``silence``."""
        wire, parts, left = self._wire, list[bytes](), size
        while left:
            if not wire.waiting:
                try:
                    async with asyncio.timeout(silence):
                        goes_on = await wire.more()
                except TimeoutError:
                    raise ProtocolError(f"silent for {silence} s") from None
                if not goes_on:
                    cut = "in the middle of a message" if parts else ""
                    raise ConnectionResetError(f"the peer closed the connection {cut}".strip())
            parts.append(wire.take(left))
            left -= len(parts[-1])
        self.received += size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def receive(self, silence: float | None = None) -> tuple[Kind, Body, bytes]:
        """The next message: its kind, and its JSON or (DATA) its bytes."""
        head = await self._take(HEAD.size, silence)
        kind, flags, reserved, length = HEAD.unpack(head)
        try:
            kind = Kind(kind)
        except ValueError:
            raise ProtocolError(f"a message of unknown kind {kind}") from None
        if flags or reserved:
            raise ProtocolError(f"{kind.name} with unknown flags")
        if kind is Kind.DATA:
            if not 0 < length <= DATA_MAX:
                raise ProtocolError(f"DATA of {length} bytes")
            return kind, {}, await self._take(length, silence)
        if not CRC.size <= length <= JSON_MAX:
            raise ProtocolError(f"{kind.name} of {length} bytes")
        data = await self._take(length, silence)
        if CRC.unpack_from(data)[0] != zlib.crc32(data[CRC.size :], zlib.crc32(head)):
            raise ProtocolError(f"{kind.name} is damaged")
        try:
            body = json.loads(data[CRC.size :]) if length > CRC.size else {}
        except (ValueError, RecursionError) as failure:
            raise ProtocolError(f"{kind.name} is no JSON: {failure}") from None
        if not isinstance(body, dict):
            raise ProtocolError(f"{kind.name} is no JSON object")
        return kind, body, b""

    async def expect(self, *kinds: Kind, silence: float | None = None) -> tuple[Kind, Body]:
        """The next message, which must be of one of these kinds. REFUSED is raised."""
        kind, body, _ = await self.receive(silence)
        if kind is Kind.REFUSED and kind not in kinds:
            raise Refused(text(body, "why", 2000))
        if kind not in kinds:
            raise ProtocolError(f"{kind.name} out of turn")
        return kind, body

    def put(self, kind: Kind, body: Body | None = None) -> None:
        """Send without waiting; for what is small."""
        self._write(encode(kind, body))

    async def send(self, kind: Kind, body: Body | None = None) -> None:
        self.put(kind, body)
        await self._wire.drain()

    async def send_data(self, data: bytes) -> None:
        self._write(HEAD.pack(Kind.DATA, 0, 0, len(data)), data)
        await self._wire.drain()

    def _write(self, *parts: bytes) -> None:
        self._wire.write(parts)
        self.sent += sum(map(len, parts))

    def close(self) -> None:
        self._wire.close()

    def abort(self) -> None:
        """Close without sending what is left: the peer may not be reading."""
        self._wire.abort()

    async def finish(self, seconds: float = 1.0) -> None:
        """Close once everything was sent, but wait no longer than this."""
        self._wire.close()
        try:
            async with asyncio.timeout(seconds):
                await self._wire.wait_closed()
        except TimeoutError:
            self.abort()


async def connect(address: Address, security: Security, seconds: float) -> Channel:
    """Connect; OSError (ssl.SSLError is one) or TimeoutError if that fails."""
    tls: dict[str, Any] = {}
    if security.client is not None:
        tls = {"ssl": security.client, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
    try:
        async with asyncio.timeout(seconds):
            loop = asyncio.get_running_loop()
            _, wire = await loop.create_connection(Wire, address.host, address.port, **tls)
    except ssl.CertificateError as failure:
        raise ConnectionRefusedError(f"certificate of {address}: {failure}") from failure
    return Channel(wire)
