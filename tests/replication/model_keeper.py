# SPDX-License-Identifier: MIT
"""A model of libhac's keeper, in the place of pyhac.replication._keeper: an image is a
log of frames in one file. For tests of what the network and the roles do; a process
gets it from model_helper.py. The "ring" is a pipe: a line "N SIZE" is N transactions in
a frame of SIZE random bytes.
"""

import fcntl
import hashlib
import json
import os
import select
import struct
import threading
import time
import uuid
from typing import NamedTuple

from pyhac.replication.roles import next_generation

BACKUPS_MAX = 16
FRAME_HEAD = 128
CREATE, RESUME = 1, 2
CODECS = {"none": 0, "zstd": 1, "lz4": 2}

SYNC_SECONDS = float(os.environ.get("HAC_MODEL_SYNC_SECONDS", "0"))
"""So long a frame that is appended takes."""

_MAGIC = b"\x89HACF\r\n\x1a"
_HEADER = struct.Struct("<8sHHBBBBII QQQQQ16sQQ8s16s8s")


class KeeperError(Exception):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(text or os.strerror(number))
        self.number = number


class Place(NamedTuple):
    uuid: str
    next_area_id: int
    generation: int
    parent: int
    branch_epoch: int
    epoch: int
    last_epoch: int
    base_epoch: int
    first_sequence: int
    first_segment: int
    sequence: int
    segment: int
    offset: int
    dropped_bytes: int
    dropped_epoch: int
    durable: int
    synced_segment: int
    synced_offset: int
    pushed_bytes: int

    @property
    def blank(self) -> bool:
        return self.generation == 0


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def frame(sequence: int, generation: int, last: int, payload: bytes, owner: bytes) -> bytes:
    fields = (
        _MAGIC, 1, 128, 0, 0, 3, 0, 0, 0, sequence, generation, 0, last, time.time_ns(), owner,
        len(payload), len(payload), _hash(payload), b"",
    )  # fmt: skip
    head = _HEADER.pack(*fields, b"")[:120]
    return head + _hash(head) + payload


def _decode(data: bytes) -> tuple[int, int, int, int, bytes]:
    """Whole size, sequence, generation, last epoch, hash of the payload."""
    head = bytes(data[:128])
    fields = _HEADER.unpack(head)
    if fields[0] != _MAGIC or _hash(head[:120]) != fields[19]:
        raise KeeperError(74, "a damaged frame")
    return 128 + fields[15], fields[9], fields[10], fields[12], fields[17]


def frame_size(head: bytes) -> int:
    return _decode(head)[0]


class Keeper:
    def __init__(
        self,
        path: str,
        *,
        flags: int = CREATE,
        codec: str = "none",
        key_file: str | None = None,
        ring: int = -1,
        flush_ms: int = 0,
    ) -> None:
        self.path = path
        self._ring, self._flags = ring, flags
        self._mutex = threading.RLock()
        self._leads = False
        self._ending = threading.Event()
        self._drainer: threading.Thread | None = None
        self._event = -1
        self._pace = 0.0
        os.makedirs(path, exist_ok=True)
        self._lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise KeeperError(87, "another process has it open") from None
        if not os.path.exists(self._file("layout")):
            self._put("layout", str(uuid.uuid4()))
            self._put("base", "[0, 0, 0, 1]")
        self._load()

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _put(self, name: str, text: str) -> None:
        with open(self._file(name), "w") as file:
            file.write(text)

    def _load(self) -> None:
        with open(self._file("layout")) as file:
            self._uuid = file.read()
        with open(self._file("base")) as file:
            self._generation, self._epoch, self._first, self._segment = json.load(file)
        self._base_epoch = self._epoch
        self._first_segment, self._sequence, self._offset = self._segment, self._first, 0
        self._fd = os.open(
            self._file(f"journal.{self._segment:08d}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        )
        size = os.fstat(self._fd).st_size
        while self._offset + 128 <= size:
            length, sequence, generation, last, _ = _decode(os.pread(self._fd, 128, self._offset))
            if self._offset + length > size:
                break
            self._took(sequence, generation, last, length)
        os.ftruncate(self._fd, self._offset)

    def _took(self, sequence: int, generation: int, last: int, length: int) -> None:
        self._sequence, self._generation = sequence + 1, generation
        self._epoch = max(self._epoch, last)
        self._offset += length

    def _write(self, data: bytes) -> None:
        length, sequence, generation, last, _ = _decode(data)
        if os.pwrite(self._fd, data, self._offset) != length:
            raise KeeperError(5, "short write")
        self._took(sequence, generation, last, length)

    def _next(self, generation: int, epoch: int, payload: bytes) -> None:
        owner = uuid.UUID(self._uuid).bytes
        self._write(frame(self._sequence, generation, epoch, payload, owner))

    def close(self) -> None:
        self._leads = False
        os.close(self._lock)

    def place(self) -> Place:
        with self._mutex:
            return Place(
                self._uuid, 1, self._generation, max(0, self._generation - 1), 0, self._epoch,
                self._epoch, self._base_epoch, self._first, self._first_segment, self._sequence,
                self._segment, self._offset, 0, 0, self._epoch, self._segment, self._offset, 0,
            )  # fmt: skip

    def branch(self) -> None:
        with self._mutex:
            self._next(next_generation(self._generation, promoted=True), 0, b"")

    def lead(self, event: int, *, promoted: bool = False) -> None:
        with self._mutex:
            if not self._flags & RESUME:
                self._next(next_generation(self._generation, promoted=promoted), 0, b"")
            self._leads, self._event = True, event
        self._ending.clear()
        self._drainer = threading.Thread(target=self._drain, daemon=True)
        self._drainer.start()

    def _drain(self) -> None:
        rest = b""
        while self._leads:
            if not select.select([self._ring], [], [], 0.01)[0]:
                if self._ending.is_set():
                    return
                continue
            data = os.read(self._ring, 4096)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                count, size = map(int, line.split())
                with self._mutex:
                    if not self._leads:
                        return
                    self._next(self._generation, self._epoch + count, os.urandom(size))
                os.eventfd_write(self._event, 1)
                time.sleep(self._pace)

    def acknowledge(self, index: int, epoch: int) -> None:
        if epoch > self._epoch:
            raise KeeperError(22, "acknowledged what does not exist")

    def pace(self, seconds: float) -> None:
        assert 0 <= seconds <= 10
        self._pace = seconds

    def fence(self, generation: int, why: str) -> None:
        with self._mutex:
            self._leads = False

    def drain(self) -> None:
        """All that is in the pipe by now: its writer has ended, or says nothing more."""
        self._ending.set()
        if self._drainer is not None:
            self._drainer.join()

    def compact(self) -> None:
        with self._mutex:
            old = self._segment
            self._segment = self._first_segment = old + 1
            self._first, self._offset, self._base_epoch = self._sequence, 0, self._epoch
            name = self._file(f"journal.{self._segment:08d}")
            self._fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            base = [self._generation, self._epoch, self._first, self._segment]
            self._put("base", json.dumps(base))
            os.unlink(self._file(f"journal.{old:08d}"))

    def append(self, data: bytes) -> None:
        time.sleep(SYNC_SECONDS)
        _, sequence, generation, _, payload_hash = _decode(data)
        with self._mutex:
            if _hash(data[128:]) != payload_hash:
                raise KeeperError(74, "a damaged payload")
            if generation < self._generation:
                raise KeeperError(116, f"generation {generation} is over")
            if sequence != self._sequence:
                raise KeeperError(74, f"frame {sequence} instead of {self._sequence}")
            self._write(data)

    def replace(self, incoming: str) -> None:
        with self._mutex:
            for name in os.listdir(self.path):
                if name != "lock":
                    os.unlink(self._file(name))
            for name in os.listdir(incoming):
                os.rename(os.path.join(incoming, name), self._file(name))
            os.rmdir(incoming)
            self._load()
