# SPDX-License-Identifier: MIT
"""The files of an image that a backup without it, or a diverged one, is sent.

They are opened together, so that a compaction meanwhile takes nothing away; the
primary goes on writing behind what was taken.
"""

import os
import zlib
from typing import TYPE_CHECKING

from .frames import Gone, whole

if TYPE_CHECKING:
    from ._keeper import Place
    from .node import Node

_TRIES = 5


class Outgoing:
    """``files``: names and sizes. Read them in that order. ``crc``: of what was read.
    ``place``: what they hold."""

    def __init__(self, place: "Place") -> None:
        self.place = place
        self.files: list[tuple[str, int]] = []
        self._open: list[int] = []
        self._current = 0
        self._offset = 0
        self.crc = 0

    @staticmethod
    def of(node: "Node") -> "Outgoing":
        """Blocks. Raises Gone if the files do not stand still for a moment."""
        for _ in range(_TRIES):
            try:
                place = whole(node.options.image, node.keeper.place())
            except FileNotFoundError:
                continue
            outgoing = Outgoing(place)
            try:
                outgoing._add(node.options.image, "layout")
                outgoing._add(node.options.image, "base")
                for segment in range(place.first_segment, place.segment + 1):
                    end = place.offset if segment == place.segment else None
                    outgoing._add(node.options.image, f"journal.{segment:08d}", end)
            except FileNotFoundError:
                outgoing.close()
                continue
            after = node.keeper.place()
            if (after.base_epoch, after.first_segment) == (place.base_epoch, place.first_segment):
                return outgoing
            outgoing.close()
        raise Gone("the image is being compacted")

    def _add(self, image: str, name: str, end: int | None = None) -> None:
        self._open.append(os.open(os.path.join(image, name), os.O_RDONLY | os.O_CLOEXEC))
        size = os.fstat(self._open[-1]).st_size
        self.files.append((name, size if end is None else min(size, end)))

    @property
    def total(self) -> int:
        return sum(size for _, size in self.files)

    def read(self, most: int) -> bytes:
        """The next bytes of the current file; b"" at its end, and on to the next one."""
        _, size = self.files[self._current]
        most = min(most, size - self._offset)
        data = os.pread(self._open[self._current], most, self._offset) if most else b""
        if not data:
            if most:
                raise Gone("a file became shorter while it was being sent")
            self._current += 1
            self._offset = 0
        self._offset += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return data

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open.clear()
