# SPDX-License-Identifier: MIT
"""What a stream needs to know of a frame: the fields of its header.

The layout is that of libhac/src/frame.h. Payload and checks are libhac's business:
whoever appends a frame to an image has them verified there.
"""

import struct
from typing import NamedTuple
from uuid import UUID

from pyhac.errors import ImageDamaged

MAGIC = b"\x89HACF\r\n\x1a"
_HEADER_SIZE = struct.Struct("<H")
_FIELDS = struct.Struct("<4Q8x16sQ")
_SMALLEST, _LARGEST = 128, 4096


class FrameHeader(NamedTuple):
    """Some fields of a frame's header.

    Attributes:
        size: bytes of header and payload.
        check: the hash of the header, in hexadecimal. It covers the payload's hash,
            so it tells frames apart.
    """

    size: int
    sequence: int
    generation: int
    first_epoch: int
    last_epoch: int
    image: str
    check: str


def frame_header(data: bytes) -> FrameHeader:
    """The header of the frame that begins with these bytes; ImageDamaged if there is none."""
    if len(data) < _SMALLEST or data[:8] != MAGIC:
        raise ImageDamaged("these bytes begin no frame")
    (size,) = _HEADER_SIZE.unpack_from(data, 10)
    if not _SMALLEST <= size <= _LARGEST or size > len(data):
        raise ImageDamaged(f"a frame's header cannot have {size} bytes")
    sequence, generation, first, last, image, stored = _FIELDS.unpack_from(data, 24)
    check = data[size - 8 : size].hex()
    return FrameHeader(
        size + stored, sequence, generation, first, last, str(UUID(bytes=image)), check
    )
