# SPDX-License-Identifier: MIT
"""A trace: the memory of a structure, and the stores that operations then made to it.

The file, little endian: ``HACTRACE``, u32 version, u32 bytes of the area, u32 operations,
u32 0; the area before the first operation; then for each operation u32 number of stores,
and u32 offset in bytes, u32 value for each of them.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

MAGIC, VERSION = b"HACTRACE", 1
HEAD = struct.Struct("<8sIIII")
PAGE = 4096

Numbers = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Trace:
    memory: bytes
    """The area before the first operation, whole pages."""
    counts: Numbers  # (operations,): how many stores each made
    stores: Numbers  # (stores, 2): offset in bytes and value, in order

    def writes(self) -> int:
        return len(self.stores)

    def transactions(self, opt: int) -> int:
        """How many there are with so many operations in each (the last may have fewer)."""
        return -(-len(self.counts) // opt)

    def pages(self, opt: int) -> int:
        """Unique pages written in each transaction, summed up over all."""
        operation = np.repeat(np.arange(len(self.counts), dtype=np.uint64), self.counts)
        pages = (len(self.memory) + PAGE - 1) // PAGE
        return len(np.unique(operation // opt * pages + self.stores[:, 0] // PAGE))

    def save(self, path: Path) -> None:
        ends = np.cumsum(self.counts, dtype=np.int64)
        # The number of stores goes before the pairs of each operation.
        words = np.insert(
            self.stores.astype("<u4").reshape(-1), 2 * (ends - self.counts), self.counts
        )
        with path.open("wb") as file:
            file.write(HEAD.pack(MAGIC, VERSION, len(self.memory), len(self.counts), 0))
            file.write(self.memory)
            file.write(words.astype("<u4").tobytes())

    @staticmethod
    def load(path: Path) -> "Trace":
        """ValueError: the file is no trace."""
        data = path.read_bytes()
        if len(data) < HEAD.size or not data.startswith(MAGIC):
            raise ValueError(f"{path} is no trace: it does not begin with {MAGIC.decode()}")
        _, version, size, operations, zero = HEAD.unpack_from(data)
        if version != VERSION or zero:
            raise ValueError(f"{path} has version {version}; this program reads {VERSION}")
        at = HEAD.size + size
        if at > len(data) or (len(data) - at) % 4:
            raise ValueError(f"{path} is cut off after {len(data)} bytes")
        words = np.frombuffer(data, "<u4", offset=at).astype(np.uint32)
        counts, starts, place = [], [], 0
        for operation in range(operations):
            if place >= len(words) or place + 1 + 2 * int(words[place]) > len(words):
                raise ValueError(f"{path} is cut off in operation {operation} of {operations}")
            starts.append(place)
            counts.append(int(words[place]))
            place += 1 + 2 * counts[-1]
        if place != len(words):
            raise ValueError(f"{path} goes on after its {operations} operations")
        stores = np.delete(words, starts).reshape(-1, 2)
        return Trace(data[HEAD.size : at], np.array(counts, np.uint32), stores)
