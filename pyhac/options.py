# SPDX-License-Identifier: MIT
"""What opening a context takes, checked before libhac sees it."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

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
    level: Level | None,
    flush_ms: int | None,
    readonly: bool,
    at: int | None,
    replicated: bool,
) -> None:
    """What makes no sense without an image is a mistake."""
    wrong = {
        f"level={level!r}": level is not None and level > Level.RING,
        "flush_ms": flush_ms is not None,
        "readonly": readonly,
        "at": at is not None,
        "replication": replicated,
    }
    named = [name for name, given in wrong.items() if given]
    if named:
        raise ValueError(f"{', '.join(named)} needs an image: give its path")


ROLES = {"auto": 0, "primary": 1, "standby": 2}
CODECS = {"none": 0, "zstd": 1, "lz4": 2}


@dataclass(frozen=True)
class Coding:
    """How frames are written: enum hac_codec, and where the key is."""

    codec: int
    key_file: bytes | None


@dataclass(frozen=True)
class Replication:
    """As struct hac_replication has it."""

    role: int
    command: tuple[str, ...]
    arguments: tuple[str, ...]


def checked_coding(codec: str | None, key_file: Path | None) -> Coding:
    if codec is not None and codec not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, not {codec!r}")
    return Coding(CODECS[codec or "none"], encoded_path(key_file, "key_file"))


def checked_replication(
    role: str | None,
    listen: str | None,
    peers: Sequence[str],
    tls: Path | None,
    helper_arguments: Sequence[str],
) -> Replication | None:
    """None: nothing of it was asked for."""
    if isinstance(peers, str) or isinstance(helper_arguments, str):
        raise TypeError("peers and helper_arguments are lists of text, not one text")
    words: list[str] = []
    if listen is not None:
        words += ["--listen", listen]
    for peer in peers:
        words += ["--peer", peer]
    folder = encoded_path(tls, "tls")
    if folder is not None:
        words += ["--tls", os.fsdecode(folder)]
    words += helper_arguments
    for word in words:
        if not isinstance(word, str) or "\0" in word:
            raise TypeError(f"listen, peers and helper_arguments must be text, not {word!r}")
    if role is None and not words:
        return None
    if role is not None and role not in ROLES:
        raise ValueError(f"role must be one of {', '.join(ROLES)}, not {role!r}")
    command = (sys.executable, "-m", "pyhac.replication")
    return Replication(ROLES[role or "auto"], command, tuple(words))
