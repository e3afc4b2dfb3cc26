# SPDX-License-Identifier: MIT
"""Frames that look like a journal's, for tests that keep no image."""

import hashlib
import struct
from uuid import UUID

from pyhac.replication.frame_header import MAGIC

IMAGE = "6c7ab1f0-4f0c-4a39-9c52-6d1c7a3cfe01"


def made(sequence: int, generation: int, payload: bytes, image: str = IMAGE) -> bytes:
    """The frame of that number; its epoch is its number, too."""
    head = MAGIC + struct.pack("<HHBBBBII", 1, 128, 0, 0, 3, 0, 0, 0)
    head += struct.pack("<QQQQQ", sequence, generation, sequence, sequence, 1)
    head += UUID(image).bytes
    hashed = hashlib.blake2b(payload, digest_size=8).digest()
    head += struct.pack("<QQ8s16x", len(payload), len(payload), hashed)
    return head + hashlib.blake2b(head, digest_size=8).digest() + payload
