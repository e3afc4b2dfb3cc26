# SPDX-License-Identifier: MIT
"""The journal of one image as a replicated stream of NATS JetStream.

A stream belongs to one image. It is kept by three servers or more, in files, and a
message counts as acknowledged when most of them have it; with ``sync_interval:
always`` in the servers' configuration, on their disks. (A client cannot see that
setting: it is the operator's part.)

**Subjects.** ``hac.NAME.journal`` has the journal's frames, byte for byte, and the
claims; ``hac.NAME.base`` the pieces of bases; ``hac.NAME.end`` says of a base that it
is complete. A frame or base that is larger than a message goes in numbered parts; the
last part makes it valid.

**Places.** A message's place is its sequence in the stream. Whoever writes decides the
place of each message before it sends it, and demands by ``Nats-Expected-Last-Sequence``
that the message gets that place or none. Hence publishing may be repeated at will:
nothing can be there twice, and nothing out of order. Where an acknowledgement was
lost, the message at that place tells whether it arrived.

**Ownership.** A new owner first appends a claim: its generation and a token, at the
place behind the last message that it knows. The old owner then finds another's message
where its own should be: Fenced. But the expected sequence compares places only, and
the old owner may have more under way: its message for the place behind the claim would
be accepted. So a claim is an atomic batch of :data:`WINDOW` + 1 messages, and no writer
has a message under way more than WINDOW places behind the last one acknowledged: all
places that it could still fill are filled by the claim. Each message carries a
:class:`Mark`: who wrote it, and what the journal had come to. So the message at the
last place says all that a claim must know, and the claim is refused if that was not
the last one.

**Retention.** A stream cannot grow for ever. The owner publishes a new base now and
then, between its frames, ends it with a message on ``end``, and then purges what lies
before both the base's first part and the first frame that the base does not hold. A
crash leaves a base without end, which nobody reads, or a purge undone, which the next
base makes up for. A purge that comes late, from somebody fenced, removes nothing that
a reader needs: it lies before a complete base. A new backup takes the newest base that
has an end, and then the frames from there on.
"""

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext, api

from pyhac.errors import Error

from .address import StreamAddress

OLDEST_SERVER = (2, 12)
REPLICAS = 3
CHUNK = 512 * 1024
"""Bytes of a frame or base in one message, where the server allows as many."""
WINDOW = 64
"""Messages that a writer may have under way, and that a claim must outlast."""
_HEADERS = 2048  # room for a message's headers in what the server allows
_REQUEST_S = 2.0
_NO_MESSAGE = 10037
_STREAM_NOT_FOUND = 10059

T = TypeVar("T")


class StreamError(Error):
    """The stream cannot be used; the message says which one and why."""


class StreamGap(StreamError):
    """Frames that are needed are no longer in the stream: a base is needed first."""


class Diverged(StreamError):
    """The image has another frame than the stream at the same place of the journal."""


class StreamAhead(StreamError):
    """The stream has frames that the image lacks: they are to be taken first."""


@dataclass(frozen=True)
class Mark:
    """What every message says beside its bytes, as JSON in the header ``Hac``.

    Attributes:
        kind: "claim", "frame", "base" or "end".
        place: of this message in the stream.
        generation, owner: of the claim under which it was written.
        image: UUID of the image.
        sequence: the frame that comes next in the journal, after this message.
        check: of the frame before that; "" if unknown.
        epoch: the last one that is whole in the frames before that.
        part, parts: which piece of the frame or base this is.
        base: pieces of a base: the place of the first one.
    """

    kind: str
    place: int
    generation: int
    owner: str
    image: str
    sequence: int
    check: str
    epoch: int
    part: int = 0
    parts: int = 1
    base: int = 0

    HEADER = "Hac"

    def headers(self) -> dict[str, str]:
        return {
            self.HEADER: json.dumps(asdict(self), separators=(",", ":")),
            "Nats-Msg-Id": f"{self.owner}-{self.place}",
            "Nats-Expected-Last-Sequence": str(self.place - 1),
        }

    @classmethod
    def of(cls, stream: str, place: int, headers: dict[str, str] | None) -> "Mark":
        """The mark of the message at this place; StreamError if it has none."""
        try:
            mark = cls(**json.loads((headers or {})[cls.HEADER]))
            numbers = [mark.place, mark.generation, mark.sequence, mark.epoch]
            numbers += [mark.part, mark.parts, mark.base]
            texts = (mark.kind, mark.owner, mark.image, mark.check)
            good = all(type(n) is int and n >= 0 for n in numbers)
            good = good and all(type(text) is str for text in texts) and mark.part < mark.parts
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise StreamError(
                f"stream {stream}: message {place} is none of a journal; "
                "nobody else may publish to its subjects"
            )
        if mark.place != place:
            raise StreamError(
                f"stream {stream}: message {place} was meant for place {mark.place}: "
                "the servers did not keep to the expected sequence"
            )
        return mark

    def at(self, place: int, **changes: Any) -> "Mark":
        """The same state at another place."""
        return replace(self, place=place, part=0, parts=1, base=0, **changes)


@dataclass(frozen=True)
class Tail:
    """How a stream ends. ``mark`` is that of the last message; None: there is none."""

    first: int
    last: int
    bytes: int
    mark: Mark | None


@dataclass(frozen=True)
class Base:
    """A base that is complete in the stream, as its end describes it.

    Attributes:
        sequence: the first frame that it does not hold.
        epoch: what it holds.
        begin, end: the places of its first part and of its end.
        keep: where a reader of the frames begins.
        files: names and sizes; the parts are these files one after the other.
        digest: blake2b of all bytes, 16 bytes in hexadecimal.
    """

    sequence: int
    epoch: int
    begin: int
    end: int
    keep: int
    parts: int
    files: tuple[tuple[str, int], ...]
    digest: str


def _tls(directory: Path | None) -> ssl.SSLContext | None:
    if directory is None:
        return None
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


def _credentials() -> dict[str, str]:
    """As the program nats takes them from the environment."""
    names = {
        "NATS_CREDS": "user_credentials",
        "NATS_NKEY": "nkeys_seed",
        "NATS_USER": "user",
        "NATS_PASSWORD": "password",
        "NATS_TOKEN": "token",
    }
    return {option: os.environ[name] for name, option in names.items() if os.environ.get(name)}


class _SecureClient(Client):
    """nats-py speaks TLS where the server's greeting asks for it. Whoever takes that out of
    the greeting would be sent name, password and frames, at the first connection or a later
    one: so it is looked at before anything is sent."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            raise StreamError("the server speaks no TLS: configure it there, or give no --tls here")
        await super()._process_info(info, initial_connection)


class Stream:
    """A connection to the servers of one stream. Its calls belong to one event loop."""

    def __init__(self, address: StreamAddress, *, secure: bool) -> None:
        self.address = address
        self.name = address.name
        self.journal = f"hac.{self.name}.journal"
        self.base = f"hac.{self.name}.base"
        self.end = f"hac.{self.name}.end"
        self.trouble = ""
        self.client = _SecureClient() if secure else Client()
        self.js: JetStreamContext = self.client.jetstream(timeout=_REQUEST_S)
        self.chunk = CHUNK
        self._refusal: StreamError | None = None

    @classmethod
    async def open(
        cls, address: StreamAddress, *, tls: Path | None = None, seconds: float = 30.0
    ) -> "Stream":
        """Connect, and make the stream where there is none.

        Args:
            tls: directory with ca.pem, cert.pem and key.pem. Without it, and without
                ``tls://``, only servers on this machine are accepted.
            seconds: to try for.

        Raises:
            StreamError: no server answers, one is older than 2.12, or the stream's
                configuration would lose something.
        """
        secure = tls is not None or address.servers[0].startswith("tls:")
        stream = cls(address, secure=secure)
        if not secure and not address.loopback:
            raise StreamError(f"{address}: give --tls DIR; without TLS only loopback is allowed")
        try:
            async with asyncio.timeout(seconds):
                await stream._connect(tls)
            await stream.retry(stream._ready, seconds)
        except TimeoutError:
            await stream.close()
            why = stream.trouble or "no answer"
            raise StreamError(f"{address}: no server within {seconds:g} s: {why}") from None
        except BaseException:
            await stream.close()
            raise
        return stream

    async def _connect(self, tls: Path | None) -> None:
        async def on_error(failure: Exception) -> None:
            self.trouble = str(failure) or type(failure).__name__

        async def on_reconnect() -> None:
            self.trouble = ""
            try:
                self._accept()
            except StreamError as refusal:
                # Whoever waits for an answer finds the connection closed, and why.
                self._refusal = refusal
                await self.client.close()

        options: dict[str, Any] = dict(_credentials())
        context = _tls(tls)
        if context is not None:
            options["tls"] = context
        await self.client.connect(
            servers=list(self.address.servers),
            name="hac",
            error_cb=on_error,
            reconnected_cb=on_reconnect,
            connect_timeout=2,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            ping_interval=3,
            max_outstanding_pings=2,
            pending_size=64 * 1024 * 1024,
            **options,
        )
        self._accept()

    def _accept(self) -> None:
        """Is this a server that keeps what is promised here?"""
        version = self.client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            raise StreamError(
                f"{self.address}: the NATS server is of version "
                f"{version.major}.{version.minor}.{version.patch}; "
                "2.12 is the oldest one that keeps the order of a fenced stream: update it"
            )
        self.chunk = min(CHUNK, self.client.max_payload - _HEADERS)
        if self.chunk < 1024:
            raise StreamError(f"{self.address}: a max_payload of 64 KB is the least to work with")

    async def _ready(self) -> None:
        """The stream is there, and is what it must be."""
        try:
            info = await self.js.stream_info(self.name)
        except nats.js.errors.NotFoundError:
            info = await self.js.add_stream(
                name=self.name,
                subjects=[f"hac.{self.name}.*"],
                storage=api.StorageType.FILE,
                num_replicas=REPLICAS,
                retention=api.RetentionPolicy.LIMITS,
                discard=api.DiscardPolicy.NEW,
                deny_delete=True,
                allow_atomic=True,
            )
        config = info.config
        wrong = []
        if config.subjects != [f"hac.{self.name}.*"]:
            wrong.append(f"its subjects are {config.subjects}")
        if config.storage != api.StorageType.FILE:
            wrong.append("it is not stored in files")
        if (config.num_replicas or 1) < REPLICAS:
            wrong.append(f"it has {config.num_replicas} replicas, fewer than {REPLICAS}")
        if config.retention != api.RetentionPolicy.LIMITS:
            wrong.append(f"its retention is {config.retention}")
        limits = [config.max_age or 0, config.max_msgs or 0, config.max_bytes or 0]
        limits.append(config.max_msgs_per_subject)
        # A stream that refuses what is too much loses nothing; one that drops does.
        if limits[0] > 0 or (config.discard != api.DiscardPolicy.NEW and max(limits) > 0):
            wrong.append("it drops old messages by itself (max_age, max_msgs, max_bytes)")
        if config.mirror or config.sources or config.subject_transform or config.sealed:
            wrong.append("it is a mirror, has sources or a transform, or is sealed")
        if not config.allow_atomic:
            wrong.append("it allows no atomic batches (allow_atomic)")
        if config.persist_mode not in (None, "default"):
            wrong.append("it does not wait for the disk (persist_mode)")
        if wrong:
            raise StreamError(f"stream {self.name} cannot hold a journal: {'; '.join(wrong)}")

    @property
    def connected(self) -> bool:
        return bool(self.client.is_connected)

    async def close(self) -> None:
        # What is left unsent was never acknowledged.
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.client.close()

    def check_open(self) -> None:
        """StreamError once the connection is closed for good."""
        if self._refusal is not None:
            raise self._refusal
        if self.client.is_closed:
            raise StreamError(f"{self.address}: the connection is closed")

    def note_trouble(self, trouble: str) -> None:
        self.trouble = trouble

    async def retry(self, ask: Callable[[], Awaitable[T]], seconds: float) -> T:
        """Ask until there is an answer: a cluster that elects a leader has none.

        TimeoutError after so many seconds; StreamError at once.
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + seconds, 0.05
        while True:
            try:
                return await ask()
            except (nats.errors.Error, OSError, TimeoutError) as failure:
                self.trouble = str(failure) or type(failure).__name__
                self.check_open()
            if loop.time() + pause > until:
                raise TimeoutError(self.trouble)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    async def message(self, place: int) -> tuple[Mark, bytes]:
        """The message at a place, from the leader. NotFoundError if there is none."""
        raw = await self.js.get_msg(self.name, seq=place)
        return Mark.of(self.name, place, raw.headers), raw.data or b""

    async def tail(self) -> Tail:
        """How the stream ends now, or did a moment ago: only a claim decides."""
        info = await self.js.stream_info(self.name)
        state = info.state
        if state.messages == 0:
            if state.last_seq:
                raise StreamError(
                    f"stream {self.name}: everything was removed from it; delete it, so that "
                    "it is made anew"
                )
            return Tail(state.first_seq, 0, 0, None)
        mark, _ = await self.message(state.last_seq)
        return Tail(state.first_seq, state.last_seq, state.bytes, mark)

    async def newest_base(self) -> Base | None:
        """The last base that is complete."""
        try:
            raw = await self.js.get_msg(self.name, subject=self.end)
        except nats.js.errors.NotFoundError as failure:
            if failure.err_code == _NO_MESSAGE:
                return None
            raise
        place = raw.seq or 0
        Mark.of(self.name, place, raw.headers)
        try:
            told = json.loads(raw.data or b"")
            told["files"] = tuple((str(name), int(size)) for name, size in told["files"])
            return Base(**told, end=place)
        except (TypeError, ValueError, KeyError):
            raise StreamError(f"stream {self.name}: message {place} ends no base") from None

    async def purge(self, keep: int) -> None:
        """Remove what lies before this place."""
        if keep > 1:
            await self.js.purge_stream(self.name, seq=keep)


async def connect(text: str, *, tls: Path | None = None, seconds: float = 30.0) -> Stream:
    """Stream.open() for an address as it is written."""
    return await Stream.open(StreamAddress.parse(text), tls=tls, seconds=seconds)
