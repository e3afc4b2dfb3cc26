# SPDX-License-Identifier: MIT
"""Buffers that users pass in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

import numpy as np

from . import _native

if TYPE_CHECKING:
    from typing_extensions import Buffer as _Buffer

# numpy's stubs make arrays buffers only from Python 3.12 on.
Buffer: TypeAlias = Union["_Buffer", "np.ndarray[Any, Any]"]
"""Whatever has the buffer protocol."""


def contiguous(what: str, buffer: Buffer) -> tuple[object, int, int]:
    """A writable contiguous buffer as (what keeps it, address, size)."""
    if isinstance(buffer, np.ndarray):
        if not buffer.flags.c_contiguous:
            raise ValueError(f"{what}: the array is not C-contiguous; take a copy, or its base")
        if not buffer.flags.writeable:
            raise ValueError(f"{what}: the array is read-only")
        # As bytes, since not every dtype can be exported (datetime64 cannot).
        buffer = buffer.reshape(-1).view(np.uint8) if buffer.size else bytearray()
    try:
        view = memoryview(cast(bytearray, buffer))
    except TypeError:
        raise TypeError(
            f"{what}: needs a writable buffer (numpy array, bytearray, ctypes, mmap, ...), "
            f"not {type(buffer).__name__}"
        ) from None
    if view.readonly:
        raise ValueError(f"{what}: the buffer is read-only")
    if not view.c_contiguous:
        raise ValueError(f"{what}: the buffer is not C-contiguous")
    return _native.buffer_range(buffer)
