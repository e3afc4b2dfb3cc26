# SPDX-License-Identifier: MIT
"""Frames in the journal of one's own image, as far as finding a place in it needs.

Layout of a frame's header: libhac/src/frame.h. What a peer sent is judged by
libhac, never here.
"""

import os
import re
import struct
from typing import NamedTuple

from ._keeper import Place

_FIELDS = struct.Struct("<8sHHBBBBII QQQQQ16sQQ")
_MAGIC = b"\x89HACF\r\n\x1a"
_SEGMENT = re.compile(r"journal\.(\d{8,20})")


class Position(NamedTuple):
    """A place in the journal; they compare."""

    segment: int
    offset: int


class Gone(Exception):
    """The journal does not reach back so far, or holds something else there."""


class Header(NamedTuple):
    size: int
    sequence: int
    generation: int
    last_epoch: int
    check: str


def segment_path(image: str, segment: int) -> str:
    return os.path.join(image, f"journal.{segment:08d}")


def segments(image: str) -> list[int]:
    """The numbers of the image's segments, ascending."""
    found = (_SEGMENT.fullmatch(name) for name in os.listdir(image))
    return sorted(int(match[1]) for match in found if match)


def written(place: Place) -> Position:
    """Up to here whole frames were written."""
    return Position(place.segment, place.offset)


def _header(fd: int, offset: int) -> Header:
    head = os.pread(fd, 4096, offset)
    if len(head) < _FIELDS.size:
        raise Gone("a frame is cut off")
    fields = _FIELDS.unpack_from(head)
    size = fields[2]
    if fields[0] != _MAGIC or not _FIELDS.size + 8 <= size <= len(head):
        raise Gone("no frame where one should be")
    return Header(
        size=size + fields[15],
        sequence=fields[9],
        generation=fields[10],
        last_epoch=fields[12],
        check=head[size - 8 : size].hex(),
    )


def _first_sequences(image: str, place: Place) -> list[tuple[int, int]]:
    """Of each segment that has a frame: number, and its first frame's sequence."""
    found = []
    for segment in segments(image):
        if not place.first_segment <= segment <= place.segment:
            continue
        if segment == place.segment and not place.offset:
            continue
        fd = os.open(segment_path(image, segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size:
                found.append((segment, _header(fd, 0).sequence))
        finally:
            os.close(fd)
    return found


def whole(image: str, place: Place) -> Place:
    """The place where the last whole transaction ends. Parts of a larger one may follow
    it, which whoever opens the image would cut off. Raises Gone."""
    for segment in range(place.segment, place.first_segment - 1, -1):
        fd = os.open(segment_path(image, segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = 0
            limit = place.offset if segment == place.segment else os.fstat(fd).st_size
            while offset < limit:
                header = _header(fd, offset)
                if header.last_epoch > place.epoch:
                    place = place._replace(segment=segment, offset=offset, sequence=header.sequence)
                    break
                offset += header.size
            if offset:
                return place
        finally:
            os.close(fd)
    return place


def locate(image: str, place: Place, sequence: int) -> tuple[Position, str]:
    """Where the frame of this number begins or will begin, and the check of the one
    before it ("": the journal does not hold that). Raises Gone."""
    if not place.first_sequence <= sequence <= place.sequence:
        raise Gone(f"frame {sequence} is not within {place.first_sequence} to {place.sequence}")
    if sequence == place.first_sequence:
        return Position(place.first_segment, 0), ""
    try:
        candidates = [each for each in _first_sequences(image, place) if each[1] < sequence]
        if not candidates:
            raise Gone(f"no segment holds frame {sequence - 1}")
        segment = candidates[-1][0]
        fd = os.open(segment_path(image, segment), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Gone("the segment was removed meanwhile") from None
    try:
        offset = 0
        while True:
            header = _header(fd, offset)
            offset += header.size
            if header.sequence == sequence - 1:
                return Position(segment, offset), header.check
    finally:
        os.close(fd)


def last_check(image: str, place: Place) -> str:
    """The check of the last frame; "" where there is none."""
    try:
        return locate(image, place, place.sequence)[1]
    except Gone:
        return ""


def bytes_between(image: str, start: Position, end: Position) -> int:
    """Bytes of the journal from one place to another; removed segments count nothing."""
    if start.segment >= end.segment:
        return max(0, end.offset - start.offset) if start.segment == end.segment else 0
    total = end.offset - start.offset
    for segment in range(start.segment, end.segment):
        try:
            total += os.stat(segment_path(image, segment)).st_size
        except FileNotFoundError:
            continue
    return max(0, total)


class Reader:
    """Reads the journal's bytes from a position on."""

    def __init__(self, image: str, start: Position) -> None:
        self._image = image
        self._fd = -1
        self.position = start

    def read(self, limit: Position, most: int) -> bytes:
        """The next bytes, at most to ``limit``; b"" if there are none. Raises Gone."""
        while self.position < limit:
            if self._fd < 0:
                path = segment_path(self._image, self.position.segment)
                try:
                    self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    raise Gone(f"{os.path.basename(path)} was removed") from None
            # An older segment is over where its file ends.
            last = self.position.segment == limit.segment
            end = limit.offset if last else os.fstat(self._fd).st_size
            data = os.pread(
                self._fd, max(0, min(most, end - self.position.offset)), self.position.offset
            )
            if data:
                self.position = Position(self.position.segment, self.position.offset + len(data))
                return data
            if last:
                raise Gone("the journal is shorter than it should be")
            self.close()
            self.position = Position(self.position.segment + 1, 0)
        return b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
