# SPDX-License-Identifier: MIT
"""A base that a primary sends: files in a directory beside the image, PATH.incoming.

They become the image only when all are there and synced, by hac_keeper_replace().
"""

import os
import re
import zlib

from .protocol import ProtocolError

_NAME = re.compile(r"layout|base|journal\.[0-9]{8,20}")
_FILES_MAX = 1 << 16
_SPARE = 16 << 20


def _remove(path: str) -> None:
    """What an earlier attempt left."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    for name in names:
        os.unlink(os.path.join(path, name))
    os.rmdir(path)


class Incoming:
    """Receives the files. Every method blocks as long as a disk does."""

    def __init__(self, image: str, size: int) -> None:
        self.path = os.path.abspath(image) + ".incoming"
        self._left = size
        self._fd = -1
        self._file_left = 0
        self._files = 0
        self._crc = 0
        parent = os.path.dirname(self.path)
        room = os.statvfs(parent)
        if size + _SPARE > room.f_bavail * room.f_frsize:
            raise ProtocolError(f"a base of {size} bytes, and no room for it in {parent}")
        _remove(self.path)
        os.mkdir(self.path)

    def file(self, name: str, size: int) -> None:
        """The next file begins."""
        self._end_file()
        self._files += 1
        if not _NAME.fullmatch(name) or self._files > _FILES_MAX or size > self._left:
            raise ProtocolError(f"a file {name!r:.40} of {size} bytes does not belong to a base")
        self._left -= size
        self._file_left = size
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(os.path.join(self.path, name), flags, 0o666)

    def data(self, data: bytes) -> None:
        if self._fd < 0 or len(data) > self._file_left:
            raise ProtocolError("more bytes than the file was said to have")
        self._file_left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def finish(self, crc: int) -> None:
        """All is there: make it last. ``crc``: of the files as they were sent."""
        self._end_file()
        if crc != self._crc:
            raise ProtocolError("the base was damaged on its way")
        if self._left:
            raise ProtocolError(f"{self._left} bytes of the base are missing")
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _end_file(self) -> None:
        if self._fd < 0:
            return
        if self._file_left:
            raise ProtocolError(f"a file ends {self._file_left} bytes early")
        fd, self._fd = self._fd, -1
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _remove(self.path)
