# SPDX-License-Identifier: MIT
"""The exceptions of pyhac, and which of libhac's answers becomes which.

Arguments that are wrong are ValueError or TypeError, memory that is short is
MemoryError, and what the system refuses (a full disk, a read-only file system)
is OSError with its errno. Everything else is an :class:`Error`.
"""

import errno
import os
from collections.abc import Sequence


class Error(Exception):
    """Base of the exceptions that pyhac defines."""


class EngineUnavailable(Error):
    """The engine that was asked for does not work here; the message says why."""


class LayoutError(Error):
    """An area differs from the one in the image; the message names both layouts."""


class ImageLocked(Error):
    """Another process has the image open for writing; the message names its pid."""


class ImageDamaged(Error):
    """The image cannot be read; the message names file, offset and epoch."""


class TransactionError(Error):
    """The call is not possible at this stage of the transaction, or not here."""


class StrayWrite(Error):
    """A strict context: bytes changed outside a transaction. None are lost."""


class Closed(Error):
    """The context is closed, or has not been opened yet."""


class Forked(Error):
    """The context belongs to the process that forked this one.

    The child reads its own copy of the areas and may write to it; only the
    parent has transactions. A child that needs some opens an image of its own.
    """


class RingFull(Error):
    """The queue to the drainer is full, and the context does not wait for it."""


class Fenced(Error):
    """A newer generation of the image exists: this one may write no more."""


class InDoubt(Error):
    """A level was waited for and not reached.

    The transactions have ended and their state is kept, but how safe they are
    is not known. The context begins no other one until ``Transaction.wait``
    succeeds for them, or it is closed and opened again.

    Attributes:
        epochs: the epochs in doubt, ascending.
    """

    def __init__(self, message: str = "", epochs: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.epochs: tuple[int, ...] = tuple(epochs)


class Abort(Exception):
    """Raise it in a transaction to abort without an error: the outermost block
    puts every byte back and swallows it. Not an :class:`Error`."""


class ImageCut(RuntimeWarning):
    """Opening an image cut its damaged or unfinished end off."""


class NothingChanged(RuntimeWarning):
    """A context opened with ``check=True`` ended a transaction without changes.

    Mostly the trap of ``u = u + 1`` where ``u += 1`` or ``u[:] = u + 1`` was
    meant: the first makes a new array outside the area.
    """


_KINDS: dict[int, type[Exception]] = {
    errno.EINVAL: ValueError,
    errno.ENOMEM: MemoryError,
    errno.EBADF: Closed,
    errno.ECHILD: Forked,
    errno.ENODEV: EngineUnavailable,
    errno.EBUSY: TransactionError,
    errno.EPROTO: TransactionError,
    errno.EOPNOTSUPP: TransactionError,
    errno.EREMCHG: StrayWrite,
    errno.EPROTOTYPE: LayoutError,
    errno.EUSERS: ImageLocked,
    errno.EBADMSG: ImageDamaged,
    errno.EXFULL: RingFull,
    errno.ESTALE: Fenced,
}


def error_for(code: int, detail: str, epochs: Sequence[int] = ()) -> Exception:
    """The exception for a negative result of libhac and its detail message."""
    number = -code
    message = detail or os.strerror(number)
    if number == errno.EUCLEAN:
        return InDoubt(message, epochs)
    kind = _KINDS.get(number)
    return OSError(number, message) if kind is None else kind(message)
