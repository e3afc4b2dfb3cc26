# SPDX-License-Identifier: MIT
"""What opening a context takes, checked before libhac sees it."""

import os

from .levels import Level

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def encoded_path(path: Path | None, parameter: str) -> bytes | None:
    if path is None:
        return None
    try:
        encoded = os.fsencode(path)
    except TypeError:
        raise TypeError(f"{parameter} must be a path, not {path!r}") from None
    if not encoded or b"\0" in encoded:
        raise ValueError(f"{parameter} must be a path without NUL, not {path!r}")
    return encoded


def checked_number(value: int | None, parameter: str, limit: int) -> int:
    """An optional number, as libhac's options have it: 0 is the default."""
    if value is None:
        return 0
    if not isinstance(value, int):
        raise TypeError(f"{parameter} must be a whole number, not {value!r}")
    if not 0 <= value < limit:
        raise ValueError(f"{parameter} must be between 0 and {limit - 1}, not {value}")
    return value


def refuse_without_path(
    level: Level | None, flush_ms: int | None, readonly: bool, at: int | None
) -> None:
    """What makes no sense without an image is a mistake."""
    wrong = {
        f"level={level!r}": level is not None and level > Level.RING,
        "flush_ms": flush_ms is not None,
        "readonly": readonly,
        "at": at is not None,
    }
    named = [name for name, given in wrong.items() if given]
    if named:
        raise ValueError(f"{', '.join(named)} needs an image: give its path")
