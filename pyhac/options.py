# SPDX-License-Identifier: MIT
"""What opening a context takes, checked before libhac sees it."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .levels import Level, Role

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_CODECS = {None: 0, "none": 0, "zstd": 1, "lz4": 2}


@dataclass(frozen=True, slots=True)
class Replication:
    """How the helper of a context is started."""

    role: Role
    command: Sequence[bytes] | None
    arguments: Sequence[bytes]


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


def checked_codec(codec: str | None) -> int:
    """The number that libhac knows it by; ValueError."""
    try:
        return _CODECS[codec]
    except (KeyError, TypeError):
        raise ValueError(f'codec must be None, "zstd" or "lz4", not {codec!r}') from None


def checked_replication(
    role: Role | str | None,
    listen: str | None,
    peers: Iterable[str],
    tls: Path | None,
    helper_arguments: Iterable[str],
) -> Replication | None:
    """How to start the helper; None: without replication. ValueError, TypeError."""
    if isinstance(peers, str | bytes) or isinstance(helper_arguments, str | bytes):
        raise TypeError("peers and helper_arguments must be lists of texts, not a text")
    words: list[str | bytes] = [] if listen is None else ["--listen", listen]
    for peer in peers:
        words += ["--peer", peer]
    folder = encoded_path(tls, "tls")
    if folder is not None:
        words += ["--tls", folder]
    words += helper_arguments
    if role is None and not words:
        return None
    try:
        wanted = Role.AUTO if role is None else Role(role)
    except ValueError:
        raise ValueError(
            f'role must be None, "auto", "primary" or "standby", not {role!r}'
        ) from None
    # An interpreter that does not know its own name leaves it to PATH.
    command = None
    if sys.executable:
        command = [os.fsencode(sys.executable), b"-m", b"pyhac.replication"]
    return Replication(wanted, command, [_word(word) for word in words])


def _word(word: object) -> bytes:
    if not isinstance(word, str | bytes):
        raise TypeError(f"an argument of the helper must be a text, not {word!r}")
    encoded = os.fsencode(word)
    if b"\0" in encoded:
        raise ValueError(f"an argument of the helper must not hold NUL: {word!r}")
    return encoded


def refuse_without_path(
    level: Level | None,
    flush_ms: int | None,
    readonly: bool,
    at: int | None,
    replication: Replication | None,
    codec: str | None,
    key_file: Path | None,
) -> None:
    """What makes no sense without an image is a mistake."""
    wrong = {
        "replication (role, listen, peers, tls)": replication is not None,
        "codec": codec is not None,
        "key_file": key_file is not None,
        f"level={level!r}": level is not None and level > Level.RING,
        "flush_ms": flush_ms is not None,
        "readonly": readonly,
        "at": at is not None,
    }
    named = [name for name, given in wrong.items() if given]
    if named:
        raise ValueError(f"{', '.join(named)} needs an image: give its path")
