# SPDX-License-Identifier: MIT
"""Reading the journal, and bases, out of a stream; jetstream.py says what is in it."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import api

from pyhac.errors import ImageDamaged

from .frame_header import frame_header
from .jetstream import Base, Diverged, Mark, Stream, StreamError, StreamGap

_BATCH = 32  # messages that a server may send before it is asked again
_PULL_S = 30.0
_HEARTBEAT_S = 1.0
_SILENCE_S = 3.0
_FILE = re.compile(r"layout|base|journal\.[0-9]{8,20}")


class StreamFrame(NamedTuple):
    """A whole frame, where its last part lies, and what that says."""

    data: bytes
    sequence: int
    mark: Mark


class Follower:
    """The messages of one subject, from a place on, in order and without end.

    The consumer at the server is disposable: whenever anything is unclear (silence, a
    message missing, a server gone), another one begins behind the last message that
    was given out.
    """

    def __init__(self, stream: Stream, subject: str, start: int) -> None:
        self.place = start - 1
        self._stream = stream
        self._subject = subject
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._expected = 1  # the consumer's number of the next message
        self._left = 0  # of what was asked for

    async def messages(self) -> AsyncIterator[tuple[Mark, bytes]]:
        try:
            while True:
                message = await self._next()
                if message is None:
                    await self._stop()
                    continue
                mark = Mark.of(self._stream.name, self.place, message.headers)
                yield mark, message.data
        finally:
            await self._stop()

    async def _next(self) -> Msg | None:
        """The next message; None: begin anew."""
        try:
            if self._subscription is None:
                await self._start()
            assert self._subscription is not None
            while True:
                if not self._left:
                    await self._ask()
                message = await self._subscription.next_msg(timeout=_SILENCE_S)
                status = (message.headers or {}).get("Status")
                if status in ("404", "408"):
                    self._left = 0
                elif status not in (None, "100"):
                    return None
                elif status is None:
                    return self._take(message)
        except (nats.errors.Error, OSError, TimeoutError) as failure:
            self._stream.check_open()
            self._stream.trouble = str(failure) or type(failure).__name__
            await asyncio.sleep(0.1)
            return None

    def _take(self, message: Msg) -> Msg | None:
        numbers = message.metadata.sequence
        if numbers.consumer != self._expected or numbers.stream <= self.place:
            return None
        self._expected += 1
        self._left -= 1
        self.place = numbers.stream
        self._stream.trouble = ""
        return message

    async def _start(self) -> None:
        name = self._stream.client._nuid.next().decode()
        config = api.ConsumerConfig(
            name=name,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.place + 1,
            ack_policy=api.AckPolicy.NONE,
            filter_subject=self._subject,
            inactive_threshold=_PULL_S * 2,
            num_replicas=1,
            mem_storage=True,
        )
        await self._stream.js.add_consumer(self._stream.name, config)
        self._consumer = name
        self._subscription = await self._stream.client.subscribe(self._stream.client.new_inbox())
        self._expected, self._left = 1, 0

    async def _ask(self) -> None:
        assert self._subscription is not None
        told = {
            "batch": _BATCH,
            "expires": int(_PULL_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        await self._stream.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream.name}.{self._consumer}",
            json.dumps(told).encode(),
            reply=self._subscription.subject,
        )
        self._left = _BATCH

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await subscription.unsubscribe()
            # It goes by itself, too, after a while.
            async with asyncio.timeout(1):
                await self._stream.js.delete_consumer(self._stream.name, self._consumer)


class Reader:
    """The journal's frames, from one on.

    Attributes:
        sequence, check: of the frame that comes next, and the check of the one before.
        generation: the newest one that was claimed, as far as it was read.
        owner: who claimed it.
    """

    def __init__(self, stream: Stream, *, sequence: int, check: str = "", image: str = "") -> None:
        self.sequence = sequence
        self.check = check
        self.generation = 0
        self.owner = ""
        self._stream = stream
        self._image = image
        self._parts: list[bytes] = []
        self._first = True

    async def frames(self) -> AsyncIterator[StreamFrame]:
        """Frames, in order, as they come; never ends by itself.

        Raises:
            StreamGap: the next frame is no longer there.
            Diverged: the frame before the first one is another one here, or the
                stream ends before it, or is of another image.
        """
        start = await self._stream.retry(self._find, 60)
        messages = Follower(self._stream, self._stream.journal, start).messages()
        try:
            async for mark, data in messages:
                frame = self._take(mark, data)
                if frame is not None:
                    yield frame
        finally:
            await messages.aclose()  # type: ignore[attr-defined]

    async def _find(self) -> int:
        """The place at which to begin: behind the first message that says that the
        frame before `sequence` is in. What messages say only ever grows."""
        tail = await self._stream.tail()
        if tail.mark is None:
            return 1
        self._compare_image(tail.mark)
        if tail.mark.sequence < self.sequence:
            raise Diverged(
                f"stream {self._stream.name} ends with frame {tail.mark.sequence - 1}; "
                f"the image has frames up to {self.sequence - 1}"
            )
        low, high = tail.first, tail.last
        while low < high:
            middle = (low + high) // 2
            mark, _ = await self._stream.message(middle)
            if mark.sequence < self.sequence:
                low = middle + 1
            else:
                high = middle
        mark, _ = await self._stream.message(low)
        if mark.sequence != self.sequence:
            return low
        self._compare_check(mark.check)
        # The rest of an unfinished frame may follow, or a claim.
        return low if mark.kind == "frame" and mark.part < mark.parts - 1 else low + 1

    def _compare_image(self, mark: Mark) -> None:
        if self._image and mark.image != self._image:
            raise Diverged(
                f"stream {self._stream.name} is of image {mark.image}, not of {self._image}"
            )

    def _compare_check(self, check: str) -> None:
        if check and self.check and check != self.check:
            raise Diverged(
                f"stream {self._stream.name}: its frame {self.sequence - 1} is {check}, that of "
                f"the image is {self.check}: they went different ways"
            )

    def _take(self, mark: Mark, data: bytes) -> StreamFrame | None:
        """A message; the frame that it completes."""
        first, self._first = self._first, False
        self._compare_image(mark)
        if mark.generation < self.generation or (
            mark.kind != "claim" and self.owner and mark.owner != self.owner
        ):
            raise StreamError(
                f"stream {self._stream.name}: message {mark.place} is of {mark.owner}, "
                f"generation {mark.generation}, after {self.owner} claimed {self.generation}"
            )
        self.generation, self.owner = mark.generation, mark.owner
        if mark.kind == "claim":
            # Whatever its predecessor had not finished is void.
            self._parts.clear()
            return None
        if mark.part != len(self._parts):
            if first and mark.part:
                raise self._gap(mark)
            raise StreamError(
                f"stream {self._stream.name}: message {mark.place} is part {mark.part} of a "
                f"frame, where part {len(self._parts)} belongs"
            )
        self._parts.append(data)
        if len(self._parts) < mark.parts:
            return None
        frame = b"".join(self._parts)
        self._parts.clear()
        return self._whole(mark, frame)

    def _whole(self, mark: Mark, data: bytes) -> StreamFrame | None:
        header = frame_header(data)
        if header.size != len(data) or header.sequence + 1 != mark.sequence:
            raise ImageDamaged(
                f"stream {self._stream.name}: message {mark.place} does not end the frame "
                f"{header.sequence} of {header.size} bytes that it should"
            )
        if header.sequence > self.sequence:
            raise self._gap(mark)
        if header.sequence == self.sequence - 1:
            self._compare_check(header.check)
        if header.sequence < self.sequence:
            return None
        self.sequence, self.check = header.sequence + 1, header.check
        return StreamFrame(data, header.sequence, mark)

    def _gap(self, mark: Mark) -> StreamGap:
        return StreamGap(
            f"stream {self._stream.name} goes on with frame {mark.sequence - 1}; frame "
            f"{self.sequence} is no longer there: a base is needed first"
        )


async def read_base(stream: Stream, base: Base, directory: Path) -> None:
    """Write the files of a base into a directory, synced.

    Raises:
        StreamGap: it was purged meanwhile, for there is a newer one.
        ImageDamaged: it is not what its end says.
    """
    for name, _ in base.files:
        if not _FILE.fullmatch(name):
            raise ImageDamaged(f"stream {stream.name}: a base has no file {name!r}")
    sizes = [size for _, size in base.files]
    digest, part = hashlib.blake2b(digest_size=16), 0
    spool = directory / "incoming.part"
    messages = Follower(stream, stream.base, base.begin).messages()
    try:
        with spool.open("w+b") as file:
            async for mark, data in messages:
                if mark.place > base.end or (mark.base == base.begin and mark.part != part):
                    raise StreamGap(
                        f"stream {stream.name}: part {part} of the base at {base.begin} is gone"
                    )
                if mark.base != base.begin:
                    continue
                digest.update(data)
                await asyncio.to_thread(file.write, data)
                part += 1
                if part == base.parts:
                    break
            if digest.hexdigest() != base.digest or file.tell() != sum(sizes):
                raise ImageDamaged(
                    f"stream {stream.name}: the base at {base.begin} is damaged: {asdict(base)}"
                )
            file.flush()
            await asyncio.to_thread(_split, file.fileno(), base, directory)
    finally:
        await messages.aclose()  # type: ignore[attr-defined]
        spool.unlink(missing_ok=True)


def _split(spool: int, base: Base, directory: Path) -> None:
    offset = 0
    for name, size in base.files:
        with (directory / name).open("xb") as file:
            end = offset + size
            while offset < end:
                data = os.pread(spool, min(1 << 20, end - offset), offset)
                if not data:
                    raise ImageDamaged(f"a base is shorter than its file {name} says")
                offset += file.write(data)
            file.flush()
            os.fsync(file.fileno())
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
