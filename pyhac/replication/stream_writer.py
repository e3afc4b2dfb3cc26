# SPDX-License-Identifier: MIT
"""Writing the journal into a stream; jetstream.py says how that is safe."""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import socket
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import nats.errors
import nats.js.errors

from pyhac.errors import Fenced

from .frame_header import frame_header
from .jetstream import WINDOW, Diverged, Mark, Stream, StreamAhead, StreamError, Tail
from .tasks import stop

WINDOW_BYTES = 8 * 1024 * 1024
_BASE_WINDOW = 4  # parts of a base under way, so that frames need not wait for long
_ANSWER_S = 3.0
_ANSWER_AGAIN_S = 1.0
_LOOK_S = 1.0
_MARK_EVERY = 256
_WRONG_LAST = (10071, 10164)
_IN_PROCESS = 10158


@dataclass(eq=False)
class _Message:
    subject: str
    mark: Mark
    payload: bytes
    task: "asyncio.Task[bool] | None" = field(default=None)


def _owner() -> str:
    """A token that nobody has had before, and that tells people whose it is."""
    host = "".join(c for c in socket.gethostname() if (c.isascii() and c.isalnum()) or c in "-.")
    return f"{host[:40]}.{os.getpid()}.{secrets.token_hex(8)}"


class Writer:
    """The owner of a stream, made by :meth:`claim`.

    Attributes:
        generation: that it claimed.
        failure: why nothing more is written: Fenced or StreamError. None: all is well.
        trouble: why the servers acknowledge nothing at the moment; "" if they do.
    """

    def __init__(self, stream: Stream, mark: Mark) -> None:
        self.stream = stream
        self.generation = mark.generation
        self.failure: Exception | None = None
        self.trouble = ""
        self._state = mark  # of the last message that was given a place
        self._acknowledged = mark
        self._pending: deque[_Message] = deque()
        self._pending_bytes = 0
        self._base_pending = 0
        self._sent = 0  # of the pending ones
        self._marks = [(mark.sequence, mark.place)]
        self._changed = asyncio.Condition()
        self._news = asyncio.Event()
        self._run_task = asyncio.create_task(self._run())

    # ------------------------------------------------------------ claiming --

    @classmethod
    async def claim(
        cls,
        stream: Stream,
        *,
        image: str,
        generation: int,
        sequence: int,
        known: Callable[[int], str | None],
        epoch: int = 0,
    ) -> "Writer":
        """Become the owner: from now on no other one can write.

        Args:
            image: UUID of the image.
            generation: the one that is about to begin (or goes on, in the place of a
                helper that died).
            sequence: the next frame of the image's journal.
            known: the check of the frame before the one of this number, or None if the
                journal does not reach back so far: compared with the stream's.
            epoch: for an empty stream: the last one before ``sequence``.

        Raises:
            Fenced: the stream has frames of a newer generation.
            StreamAhead: it has frames that the image lacks.
            Diverged: it has another frame at the same place, or is another image's.
        """
        owner = _owner()
        while True:
            tail = await stream.retry(stream.tail, 60)
            old = tail.mark
            if old is None:
                check = known(sequence) or ""
                mark = Mark("claim", 1, generation, owner, image, sequence, check, epoch)
            else:
                cls._compare(stream, old, image, generation, sequence, known)
                place = old.place + 1
                mark = old.at(place, kind="claim", generation=generation, owner=owner)
            if await cls._place_claim(stream, mark):
                return cls(stream, mark.at(mark.place + WINDOW))

    @staticmethod
    def _compare(
        stream: Stream,
        old: Mark,
        image: str,
        generation: int,
        sequence: int,
        known: Callable[[int], str | None],
    ) -> None:
        if old.image != image:
            raise Diverged(f"stream {stream.name} is of image {old.image}, not of {image}")
        if old.generation > generation:
            raise FencedBy(
                f"stream {stream.name}: {old.owner} claimed generation {old.generation}; "
                f"this is generation {generation}",
                old.generation,
            )
        if old.sequence > sequence:
            raise StreamAhead(
                f"stream {stream.name} has frames up to {old.sequence - 1} (generation "
                f"{old.generation}, epoch {old.epoch}); the image's journal ends with frame "
                f"{sequence - 1}"
            )
        check = known(old.sequence)
        if old.check and check and check != old.check:
            raise Diverged(
                f"stream {stream.name}: its frame {old.sequence - 1} is {old.check}, that of "
                f"the image is {check}: they went different ways"
            )

    @staticmethod
    async def _place_claim(stream: Stream, mark: Mark) -> bool:
        """False: somebody else's message has that place."""
        marks = [
            replace(mark, place=mark.place + part, part=part, parts=WINDOW + 1)
            for part in range(WINDOW + 1)
        ]
        try:
            await _surely(
                stream, marks[0], lambda: _publish_batch(stream, marks), stream.note_trouble
            )
        except Fenced:
            return False
        return True

    # ------------------------------------------------------------- writing --

    @property
    def sequence(self) -> int:
        """The frame that append() takes next."""
        return self._state.sequence

    @property
    def acknowledged(self) -> Mark:
        """What the journal had come to at the last place that is safe: everything
        before frame ``acknowledged.sequence`` is there, and ``acknowledged.epoch``."""
        return self._acknowledged

    @property
    def outstanding(self) -> tuple[int, int]:
        """Messages, and bytes, that wait for an acknowledgement."""
        return len(self._pending), self._pending_bytes

    async def append(self, frame: bytes, epoch: int) -> None:
        """Send a frame; waits only while too much is under way.

        Args:
            frame: the one numbered :attr:`sequence`.
            epoch: the last one that is whole in the journal up to here.

        Raises:
            Fenced, StreamError: :attr:`failure`.
        """
        header = frame_header(frame)
        if header.size != len(frame):
            raise StreamError(f"frame {header.sequence} has {header.size} bytes, not {len(frame)}")
        if self.failure is not None or not self._room_left():
            await self._wait(self._room_left)
        if header.sequence != self.sequence or header.image != self._state.image:
            raise StreamError(
                f"frame {header.sequence} of image {header.image} does not come next: "
                f"frame {self.sequence} of {self._state.image} does"
            )
        done = replace(
            self._state,
            sequence=header.sequence + 1,
            check=header.check,
            epoch=max(epoch, self._state.epoch),
        )
        if header.sequence >= self._marks[-1][0] + _MARK_EVERY:
            self._marks.append((header.sequence, self._state.place + 1))
        size = self.stream.chunk
        parts = max(1, -(-len(frame) // size))
        for part in range(parts):
            state = done if part == parts - 1 else self._state
            payload = frame[part * size : (part + 1) * size]
            self._enqueue(self.stream.journal, state, payload, "frame", part, parts)

    async def publish_base(
        self,
        files: Sequence[tuple[str, int]],
        pieces: Iterator[bytes],
        *,
        sequence: int,
        epoch: int,
        check: str = "",
    ) -> None:
        """Send a base, between the frames, and purge what it makes superfluous.

        Args:
            files: name and size of each file.
            pieces: their bytes, one file after the other, cut anywhere; taken in a thread.
            sequence: the first frame that the base does not hold. Frames before it need
                no longer be sent: :attr:`sequence` goes at least there.
            epoch: what the base holds.
            check: of the frame before ``sequence``, if known.
        """
        total, begin, index = sum(size for _, size in files), 0, 0
        digest, size = hashlib.blake2b(digest_size=16), self.stream.chunk
        parts = max(1, -(-total // size))
        chunks = _chunks(pieces, total, size)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            digest.update(chunk)
            await self._wait(lambda: self._base_pending < _BASE_WINDOW and self._room_left())
            begin = begin or self._state.place + 1
            self._enqueue(self.stream.base, self._state, chunk, "base", index, parts, begin)
            index += 1
        ahead = sequence >= self.sequence
        keep = begin if ahead else min(begin, await self._place_of(sequence))
        told = {
            "sequence": sequence,
            "epoch": epoch,
            "begin": begin,
            "keep": keep,
            "parts": parts,
            "files": list(files),
            "digest": digest.hexdigest(),
        }
        state = self._state
        if sequence > state.sequence:
            state = replace(state, sequence=sequence, check=check, epoch=max(epoch, state.epoch))
            self._marks.append((sequence, state.place + 1))
        end = self._enqueue(self.stream.end, state, json.dumps(told).encode(), "end")
        await self._wait(lambda: self._acknowledged.place >= end)
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            # The next base makes up for it.
            await self.stream.purge(keep)
        self._marks = [each for each in self._marks if each[1] > keep] or self._marks[-1:]

    async def wait(self, sequence: int) -> None:
        """Until everything before this frame is acknowledged; raises :attr:`failure`."""
        await self._wait(lambda: self._acknowledged.sequence >= sequence)

    async def progress(self, seen: Mark) -> Mark:
        """Until :attr:`acknowledged` is another one than this; raises :attr:`failure`."""
        await self._wait(lambda: self._acknowledged is not seen)
        return self._acknowledged

    async def close(self, seconds: float = 0.0) -> None:
        """Give what is under way so much time, then stop. Nothing is taken back."""
        if seconds > 0 and self.failure is None:
            with contextlib.suppress(TimeoutError, Fenced, StreamError):
                async with asyncio.timeout(seconds):
                    await self._wait(lambda: not self._pending)
        await stop(self._run_task)
        if self.failure is None:
            self.failure = StreamError(f"stream {self.stream.name}: the writer is closed")
        await self._notify()

    # ------------------------------------------------------------- sending --

    async def _place_of(self, sequence: int) -> int:
        """A place at or before which the frame begins."""
        known = bisect_right(self._marks, sequence, key=lambda mark: mark[0])
        if known:
            return self._marks[known - 1][1]
        # A predecessor wrote it: where its readers begin is early enough.
        base = await self.stream.retry(self.stream.newest_base, 60)
        return base.keep if base else 1

    def _enqueue(
        self,
        subject: str,
        state: Mark,
        payload: bytes,
        kind: str,
        part: int = 0,
        parts: int = 1,
        base: int = 0,
    ) -> int:
        place = self._state.place + 1
        self._state = state.at(place)
        mark = replace(self._state, kind=kind, part=part, parts=parts, base=base)
        self._pending.append(_Message(subject, mark, payload))
        self._pending_bytes += len(payload)
        self._base_pending += kind == "base"
        self._news.set()
        return place

    async def _wait(self, ready: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.failure is not None or ready())
        if self.failure is not None:
            raise self.failure

    def _room_left(self) -> bool:
        return len(self._pending) < WINDOW and self._pending_bytes < WINDOW_BYTES

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _run(self) -> None:
        try:
            while True:
                self._send()
                if not self._pending:
                    await self._idle()
                elif self._head_in():
                    await self._notify()
                else:
                    await self._await_head()
        except Fenced as failure:
            self.failure = failure
        except Exception as failure:
            self.failure = (
                failure if isinstance(failure, StreamError) else StreamError(repr(failure))
            )
        finally:
            self._cancel()
            if self.failure is not None:
                await self._notify()

    def _send(self) -> None:
        for message in islice(self._pending, self._sent, WINDOW):
            # Tasks begin in the order in which they are made, and have put their
            # bytes into the client's buffer before they wait for anything.
            message.task = asyncio.create_task(_publish(self.stream, message, _ANSWER_S))
            self._sent += 1

    def _cancel(self) -> None:
        for message in self._pending:
            if message.task is not None:
                message.task.cancel()
                message.task.add_done_callback(_look_away)
            message.task = None
        self._sent = 0

    def _head_in(self) -> bool:
        """Take off what is acknowledged at the head; whether anything was."""
        any_in = False
        while self._pending and (task := self._pending[0].task) is not None:
            if not task.done() or task.cancelled() or task.exception() is not None:
                break
            if not task.result():
                break
            self._take_off()
            any_in = True
        if any_in:
            self.trouble = ""
        return any_in

    def _take_off(self) -> None:
        message = self._pending.popleft()
        self._pending_bytes -= len(message.payload)
        self._base_pending -= message.mark.kind == "base"
        self._sent = max(0, self._sent - 1)
        self._acknowledged = message.mark

    async def _await_head(self) -> None:
        task = self._pending[0].task
        assert task is not None
        if not task.done():
            self._news.clear()
            news = asyncio.create_task(self._news.wait())
            try:
                await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            return
        # Whatever went wrong: the first one is brought in alone, then all is sent anew.
        self._cancel()
        head = self._pending[0]
        await _surely(
            self.stream,
            head.mark,
            lambda: _publish(self.stream, head, _ANSWER_AGAIN_S),
            self._note,
        )
        self._take_off()
        self.trouble = ""
        await self._notify()

    def _note(self, trouble: str) -> None:
        self.trouble = trouble

    async def _idle(self) -> None:
        """Wait for something to send, and see now and then whether one is still owner."""
        self._news.clear()
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._news.wait()
            return
        except TimeoutError:
            pass
        try:
            info = await self.stream.js.stream_info(self.stream.name)
            self.trouble = ""
            if info.state.last_seq > self._state.place and not self._pending:
                other, _ = await self.stream.message(self._state.place + 1)
                raise _fenced(self.stream, self._state, other)
        except (nats.errors.Error, OSError, TimeoutError) as failure:
            self.trouble = str(failure) or type(failure).__name__
            self.stream.check_open()


def _look_away(task: "asyncio.Task[bool]") -> None:
    if not task.cancelled():
        task.exception()


def _chunks(pieces: Iterator[bytes], total: int, size: int) -> Iterator[bytes]:
    """The same bytes in chunks of `size`; at least one. They must be `total`."""
    chunk = bytearray()
    for piece in pieces:
        chunk += piece
        total -= len(piece)
        while len(chunk) >= size:
            yield bytes(chunk[:size])
            del chunk[:size]
    if total:
        raise StreamError(f"the files of a base lack {total} bytes")
    if chunk:
        yield bytes(chunk)


class FencedBy(Fenced):
    """Attributes: generation: the one that was claimed instead."""

    def __init__(self, message: str, generation: int) -> None:
        super().__init__(message)
        self.generation = generation


def _fenced(stream: Stream, mine: Mark, other: Mark) -> FencedBy:
    return FencedBy(
        f"stream {stream.name}: {other.owner} claimed generation {other.generation}; "
        f"this was generation {mine.generation}",
        other.generation,
    )


def _check_place(stream: Stream, mark: Mark, acknowledged: int) -> None:
    if acknowledged != mark.place:
        raise StreamError(
            f"stream {stream.name}: a message for place {mark.place} was put at "
            f"{acknowledged}: the servers do not keep to the expected sequence"
        )


async def _publish(stream: Stream, message: _Message, seconds: float) -> bool:
    """Whether it is certain that the message is at its place."""
    acknowledged = await stream.js.publish(
        message.subject,
        message.payload,
        timeout=seconds,
        stream=stream.name,
        headers=message.mark.headers(),
    )
    if acknowledged.duplicate:
        return False  # it was seen before, which need not mean that it is in
    _check_place(stream, message.mark, acknowledged.seq)
    return True


async def _publish_batch(stream: Stream, marks: Sequence[Mark]) -> bool:
    """The same for messages without payload, all or none."""
    batch = secrets.token_hex(16)
    for number, mark in enumerate(marks, 1):
        headers = {
            Mark.HEADER: mark.headers()[Mark.HEADER],
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(number),
        }
        if number == 1:
            headers["Nats-Expected-Last-Sequence"] = str(mark.place - 1)
        if number < len(marks):
            await stream.client.publish(stream.journal, b"", headers=headers)
    headers["Nats-Batch-Commit"] = "1"
    acknowledged = await stream.js.publish(
        stream.journal, b"", timeout=_ANSWER_AGAIN_S, stream=stream.name, headers=headers
    )
    _check_place(stream, marks[-1], acknowledged.seq)
    return True


async def _surely(
    stream: Stream,
    mark: Mark,
    publish: Callable[[], Awaitable[bool]],
    note: Callable[[str], None],
) -> None:
    """Publish until it is certain that the message has its place, or another one has it.

    What was sent before may still arrive, now or later: at this place or not at all.
    Fenced: another's message is there.
    """
    pause = 0.05
    while True:
        try:
            if await publish():
                return
        except nats.js.errors.APIError as failure:
            if failure.err_code not in (*_WRONG_LAST, _IN_PROCESS):
                note(str(failure))
        except (nats.errors.Error, OSError, TimeoutError) as failure:
            note(str(failure) or type(failure).__name__)
            stream.check_open()
            # Where nobody answers, nobody can be asked.
            await asyncio.sleep(pause)
            continue
        try:
            if await _there(stream, mark):
                return
        except (nats.errors.Error, OSError, TimeoutError) as failure:
            note(str(failure) or type(failure).__name__)
            stream.check_open()
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)


async def _there(stream: Stream, mine: Mark) -> bool:
    """Whether this message is at its place, by the leader's word; Fenced: another is.

    What the leader shows has been agreed on; what it does not show may yet come.
    """
    try:
        found, _ = await stream.message(mine.place)
    except nats.js.errors.NotFoundError:
        tail: Tail = await stream.tail()
        if tail.mark is not None and tail.first > mine.place:
            # Only a later owner purges so far.
            raise _fenced(stream, mine, tail.mark) from None
        return False
    if found.owner != mine.owner:
        raise _fenced(stream, mine, found)
    return True
